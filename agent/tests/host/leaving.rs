//! A host leaves its fleet, serves on, and joins another.

use std::{fs, path::Path};

use certwell_proto::v1;

use super::{
    host::{Host, NAME},
    issuer::{TestIssuer, eventually},
    lineage::{adopting, said},
    world::{NAMES, World, leaf, serving},
};

/// A verb without keeping the issuer from answering.
async fn verb(host: &Host, arguments: &[&str]) -> (i32, String) {
    let mut command = host.agent_command(arguments);
    command.stdin(std::process::Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    (output.status.code().unwrap(), said(&output))
}

/// Another issuer, begun before the first.
async fn an_older_issuer() -> TestIssuer {
    let issuer = TestIssuer::start().await;
    issuer.desired.send_modify(|desired| {
        desired.lineage = Some(v1::Lineage {
            id: vec![8; 16],
            started_ms: 500,
        });
    });
    issuer
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The host's nginx takes what lies there, and serves it when somebody reloads it.
async fn serves_after_a_reload(host: &Host, wanted: certwell_proto::Fingerprint) {
    host.assert_nginx_takes_its_configuration();
    let before = host.settled_workers().await;
    host.reload_nginx();
    eventually("nginx has new workers", || async {
        let workers = host.workers();
        (!workers.is_empty() && workers.iter().all(|pid| !before.contains(pid))).then_some(())
    })
    .await;
    eventually("it serves that", || async {
        (host.served() == Some(wanted)).then_some(())
    })
    .await;
}

/// Fleets count from 1 each: the second one's generation 1 has other bytes, begins before the first one's, and may end
/// before it.
#[tokio::test]
async fn a_host_that_left_serves_on_and_what_another_fleet_offers_takes_its_place() {
    for life in [(-60, 3_000), (-60, 7_200)] {
        let (mut world, first) = serving().await;
        world.host.end_agent().await;
        let (code, told) = verb(&world.host, &["leave"]).await;
        assert_eq!(code, 0, "{told}");
        for words in [
            "sally has left fleet hachyderm",
            "certwell hosts retire sally",
            &format!("{NAME} ends 2"),
        ] {
            assert!(told.contains(words), "{words}: {told}");
        }
        assert!(files(&world.host.path("state/identity")).is_empty());
        for file in ["ledger.json", "desired.bin", "state.json"] {
            assert!(!world.host.path("state").join(file).exists(), "{file}");
        }
        serves_after_a_reload(&world.host, leaf(&first)).await;
        let (code, told) = verb(&world.host, &["leave"]).await;
        assert_eq!(code, 7, "{told}");
        assert!(told.contains("nothing to leave"), "{told}");

        let issuer = an_older_issuer().await;
        let mut other = World { issuer, ..world };
        let (code, told) = verb(&other.host, &["enroll", &other.issuer.token()]).await;
        assert_eq!(code, 0, "{told}");
        let second = other.authority.bundle_living(NAME, 1, NAMES, life);
        other.offer(&second);
        other.host.start_agent();
        other.outcome(1, v1::Outcome::Converged).await;
        assert_eq!(other.host.served(), Some(leaf(&second)), "{life:?}");
        let link = fs::read_link(other.host.live()).unwrap();
        assert!(link.ends_with(format!("{NAME}/1")), "{}", link.display());
    }
}

#[tokio::test]
async fn a_fleet_is_left_before_another_is_joined() {
    let (mut world, _) = serving().await;
    world.host.end_agent().await;
    let other = an_older_issuer().await;
    let before = fs::read(world.host.path("state/identity/identity.pem")).unwrap();
    let (code, told) = verb(&world.host, &["enroll", "--again", &other.token()]).await;
    assert_eq!(code, 8, "{told}");
    assert!(told.contains("certwell-agent leave"), "{told}");
    assert_eq!(
        fs::read(world.host.path("state/identity/identity.pem")).unwrap(),
        before
    );
    assert!(!other.memory.lock().unwrap().token_used);
}

#[tokio::test]
async fn nothing_is_left_while_an_agent_runs_that_is_no_units() {
    let (world, first) = serving().await;
    let ledger = fs::read(world.host.path("state/ledger.json")).unwrap();
    let link = fs::read_link(world.host.live()).unwrap();
    let (code, told) = verb(&world.host, &["leave", "--yes"]).await;
    assert_eq!(code, 8, "{told}");
    assert!(told.contains("stop it first"), "{told}");
    assert!(world.host.path("state/identity/identity.pem").exists());
    assert_eq!(
        fs::read(world.host.path("state/ledger.json")).unwrap(),
        ledger
    );
    assert_eq!(fs::read_link(world.host.live()).unwrap(), link);
    assert_eq!(world.host.served(), Some(leaf(&first)));
}

/// Each file gone already, as after a run that was cut off.
#[tokio::test]
async fn leaving_goes_on_where_it_was_cut_off() {
    let issuer = TestIssuer::start().await;
    let host = Host::new();
    let (code, told) = verb(&host, &["leave"]).await;
    assert_eq!(code, 7, "{told}");
    for gone in ["identity.pem", "identity.key", "fleet.json"] {
        issuer.memory.lock().unwrap().token_used = false;
        host.enroll(&issuer).await;
        fs::remove_file(host.path("state/identity").join(gone)).unwrap();
        let (code, told) = verb(&host, &["leave"]).await;
        assert_eq!(code, 0, "{gone}: {told}");
        assert!(files(&host.path("state/identity")).is_empty(), "{gone}");
    }
}

#[tokio::test]
async fn an_adopted_lineage_is_given_back_after_leaving() {
    let mut host = adopting(NAME).await;
    let (code, told) = host.adopt(&[NAME]).await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(host.served(), Some(host.ours));
    host.world.host.end_agent().await;
    let (code, told) = host.verb(&["leave"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(
        told.contains(&format!("certwell-agent adopt --undo {NAME}")),
        "{told}"
    );
    serves_after_a_reload(&host.world.host, leaf_of(&host.world)).await;
    assert_eq!(host.served(), Some(host.ours));
    let (code, told) = host.adopt(&[NAME, "--undo"]).await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(host.served(), Some(host.theirs));
}

fn leaf_of(world: &World) -> certwell_proto::Fingerprint {
    let memory = world.issuer.memory.lock().unwrap();
    leaf(&memory.bundles[&(NAME.to_owned(), 1)])
}

/// What is asked at a terminal, by `script`, and answered with no.
#[tokio::test]
async fn leaving_asks_at_a_terminal() {
    let issuer = TestIssuer::start().await;
    let host = Host::new();
    host.enroll(&issuer).await;
    let agent = host.agent_command(&["leave"]);
    let line: Vec<String> = std::iter::once(agent.get_program())
        .chain(agent.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let asked = |answer: &str| {
        use std::io::Write as _;
        let mut child = std::process::Command::new("script")
            .args(["--quiet", "--return", "--command"])
            .arg(line.join(" "))
            .arg("/dev/null")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(answer.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code().unwrap(), said(&output))
    };
    let (code, told) = asked("n\n");
    assert_eq!(code, 6, "{told}");
    assert!(told.contains("nothing was changed"), "{told}");
    assert!(host.path("state/identity/identity.pem").exists());
    let (code, told) = asked("y\n");
    assert_eq!(code, 0, "{told}");
    assert!(!host.path("state/identity/identity.pem").exists());
}

/// With the key pinned in nginx's configuration the other fleet's pair can't be loaded: the way back is what stayed,
/// though both are generation 1.
#[tokio::test]
async fn what_nginx_refuses_of_another_fleet_leaves_what_stayed() {
    let (mut world, first) = serving().await;
    let pinned = world.host.path("pinned.pem");
    fs::copy(world.host.live().join("privkey.pem"), &pinned).unwrap();
    let fullchain = fs::read(world.host.live().join("fullchain.pem")).unwrap();
    world.host.end_agent().await;
    world.host.pin_key(&pinned);
    world.host.reload_nginx();
    let (code, told) = verb(&world.host, &["leave"]).await;
    assert_eq!(code, 0, "{told}");

    let issuer = an_older_issuer().await;
    let mut other = World { issuer, ..world };
    let (code, told) = verb(&other.host, &["enroll", &other.issuer.token()]).await;
    assert_eq!(code, 0, "{told}");
    other.offer(&other.bundle(1));
    other.host.start_agent();
    let refused = |report: &v1::CertificateReport| {
        matches!(
            report.outcome(),
            v1::Outcome::Regressed | v1::Outcome::Rejected
        )
    };
    other.issuer.told("it is refused", NAME, refused).await;
    other.host.assert_nginx_takes_its_configuration();
    assert_eq!(
        fs::read(other.host.live().join("fullchain.pem")).unwrap(),
        fullchain
    );
    assert_eq!(other.host.served(), Some(leaf(&first)));
}
