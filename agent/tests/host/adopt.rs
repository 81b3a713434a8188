//! A lineage of certbot's is taken over, and given back.

use std::{fs, os::unix::fs::symlink, process::Command};

use certwell_proto::v1;

use super::{
    faults::reloaded,
    fleet::self_signed,
    host::NAME,
    issuer::eventually,
    lineage::{Adopting, adopting, lay_out, said, server, tree},
    world::leaf,
};

#[tokio::test]
async fn a_lineage_is_taken_over_beside_the_running_agent_and_given_back() {
    let mut host = adopting(NAME).await;
    let before = tree(&host.certbot());
    let config = fs::read(host.world.host.path("nginx.conf")).unwrap();
    host.world.host.start_agent();

    let (code, told) = host.adopt(&[NAME]).await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(host.served(), Some(host.ours));
    assert!(
        told.contains("1 listener and name serve it") && told.contains("generation 1"),
        "{told}"
    );
    // The agent knows of the listener at once, not at its next slow check.
    let port = host.port.to_string();
    let of_port = |report: &v1::CertificateReport| -> Option<v1::ListenerState> {
        let listeners = &report.served.as_ref()?.listeners;
        let mut found = listeners.iter().filter(|listener| listener.address == port);
        found.next().map(v1::Listener::state)
    };
    let current = |report: &v1::CertificateReport| {
        of_port(report) == Some(v1::ListenerState::Current)
            && report.outcome() == v1::Outcome::Converged
    };
    host.world
        .issuer
        .told("the adopted listener is current", NAME, current)
        .await;
    assert_eq!(
        fs::read_link(host.lineage()).unwrap(),
        host.world.host.live()
    );
    assert!(!host.conf("").exists());
    // All of certbot's is there, byte for byte; its links lead where they did.
    let after = tree(&host.certbot());
    let moved = |path: &std::path::Path| {
        let text = path.display().to_string();
        text.replace(&format!("/.{NAME}.before-certwell"), &format!("/{NAME}"))
            .replace(".conf.before-certwell", ".conf")
    };
    let back: std::collections::BTreeMap<String, String> = after
        .iter()
        .filter(|(path, _)| **path != host.lineage())
        .map(|(path, what)| (moved(path), what.clone()))
        .collect();
    let wanted = before
        .iter()
        .map(|(path, what)| (path.display().to_string(), what.clone()))
        .collect();
    assert_eq!(back, wanted);
    assert!(fs::metadata(host.aside().join("fullchain.pem")).is_ok());

    let (code, told) = host.adopt(&[NAME]).await;
    assert!(code == 0 && told.contains("adopted already"), "{told}");

    // The next generation is served through the adopted path, and the agent knows it.
    let second = host.world.bundle(2);
    host.world.offer(&second);
    let report = host.world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(host.served(), Some(leaf(&second)));
    assert_eq!(of_port(&report), Some(v1::ListenerState::Current));

    let (code, told) = host.adopt(&[NAME, "--undo"]).await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(host.served(), Some(host.theirs));
    assert_eq!(tree(&host.certbot()), before);
    host.world
        .issuer
        .told("the listener is certbot's again", NAME, |report| {
            of_port(report).is_none() && report.outcome() == v1::Outcome::Converged
        })
        .await;
    assert_eq!(
        fs::read(host.world.host.path("nginx.conf")).unwrap(),
        config
    );
    let (code, told) = host.adopt(&[NAME, "--undo"]).await;
    assert!(code == 7 && told.contains("not adopted"), "{told}");
    // certwell's own goes on beside.
    let third = host.world.bundle(3);
    host.world.offer(&third);
    host.world.outcome(3, v1::Outcome::Converged).await;
    assert_eq!(host.served(), Some(host.theirs));
}

/// Nothing of certbot's is touched, nor is anything noted.
pub(crate) async fn refused(host: &Adopting, arguments: &[&str], code: i32, words: &[&str]) {
    let before = tree(&host.certbot());
    let (found, told) = host.adopt(arguments).await;
    assert_eq!(found, code, "{arguments:?}: {told}");
    for word in words {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert_eq!(tree(&host.certbot()), before, "{arguments:?}");
    assert!(
        !host.world.host.path("state/adopted.json").exists()
            || !fs::read_to_string(host.world.host.path("state/adopted.json"))
                .unwrap()
                .contains(NAME)
    );
    assert_eq!(host.served(), Some(host.theirs));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_anything_is_touched() {
    let host = adopting(NAME).await;
    let live = host.world.host.path("live");
    refused(&host, &["nobody.example.org"], 7, &["has no lineage"]).await;
    refused(&host, &["../x"], 2, &["lineage's name"]).await;
    refused(&host, &["a\u{1b}[2J"], 2, &["lineage's name"]).await;
    refused(
        &host,
        &[NAME, "--undo"],
        7,
        &["not adopted", "nothing to undo"],
    )
    .await;
    refused(
        &host,
        &[NAME, "--as", "other.example.org"],
        8,
        &["has no certificate other.example.org", "--as"],
    )
    .await;

    // Of another hand.
    symlink("/nonexistent", live.join("foreign.example.org")).unwrap();
    let other = ["--as", "foreign.example.org", NAME];
    refused(&host, &other, 8, &["not of this agent"]).await;

    // The placeholder.
    let store = host.world.host.path("state/store/new.example.org/0");
    fs::create_dir_all(&store).unwrap();
    for file in ["fullchain.pem", "privkey.pem"] {
        fs::copy(host.world.host.live().join(file), store.join(file)).unwrap();
    }
    symlink(&store, live.join("new.example.org")).unwrap();
    let new = [NAME, "--as", "new.example.org"];
    refused(&host, &new, 8, &["placeholder", "until it is issued"]).await;
    fs::remove_file(store.join("fullchain.pem")).unwrap();
    refused(&host, &new, 8, &["generation 0", "can't be read"]).await;

    // nginx's own mistakes are told first.
    let path = host.world.host.path("nginx.conf");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("server_name", "serwer_name")).unwrap();
    refused(&host, &[NAME], 9, &["nothing was touched", "serwer_name"]).await;
    fs::write(&path, text).unwrap();

    // Something of somebody's where certbot's directory would be kept.
    fs::create_dir(host.aside()).unwrap();
    let aside = format!("{} is a directory, not what", host.aside().display());
    refused(&host, &[NAME], 8, &[&aside]).await;
    fs::remove_dir(host.aside()).unwrap();
    fs::write(host.conf(".before-certwell"), "x").unwrap();
    refused(&host, &[NAME], 8, &["beside the one that was put aside"]).await;
}

#[tokio::test]
async fn names_that_nginx_serves_and_certwell_does_not_cover_are_told() {
    let host = adopting(NAME).await;
    let directory = host.certbot();
    let key = rcgen::KeyPair::generate().unwrap();
    let names = ["a.example.org", "b.example.org", "c.example.org"];
    let certificate = rcgen::CertificateParams::new(names.map(str::to_owned).to_vec())
        .unwrap()
        .self_signed(&key)
        .unwrap();
    lay_out(&directory, "many", &certificate.pem(), &key.serialize_pem());
    let live = directory.join("live");
    let extra = [
        server(host.port, NAME, &live.join(NAME)),
        server(host.port, "b.example.org other.org", &live.join("many")),
    ]
    .concat();
    host.world.host.write_nginx(true, &extra);
    refused(
        &host,
        &["many", "--as", NAME],
        8,
        &["doesn't cover b.example.org, which nginx serves"],
    )
    .await;
}

#[tokio::test]
async fn certbot_at_work_is_not_disturbed() {
    let host = adopting(NAME).await;
    let path = host.certbot().join(".certbot.lock");
    // As certbot itself locks it.
    let script = format!(
        "import fcntl,os,sys\nfd=os.open({path:?},os.O_CREAT|os.O_WRONLY,0o600)\n\
         fcntl.lockf(fd,fcntl.LOCK_EX|fcntl.LOCK_NB)\nprint('locked',flush=True)\nsys.stdin.read()\nos.remove({path:?})\n"
    );
    let mut certbot = Command::new("python3")
        .args(["-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 6];
    std::io::Read::read_exact(certbot.stdout.as_mut().unwrap(), &mut line).unwrap();
    refused(&host, &[NAME], 8, &["certbot", "is at work"]).await;
    drop(certbot.stdin.take());
    certbot.wait().unwrap();
    let (code, told) = host.adopt(&[NAME]).await;
    assert_eq!(code, 0, "{told}");
    assert!(
        !path.exists(),
        "certbot's lock file is left as certbot leaves it"
    );
}

#[tokio::test]
async fn what_nginx_refuses_after_the_exchange_goes_back() {
    let host = adopting(NAME).await;
    // A file that only certbot's directory has.
    fs::copy(
        host.lineage().join("chain.pem"),
        host.lineage().join("extra.pem"),
    )
    .unwrap();
    let path = host.world.host.path("nginx.conf");
    let text = fs::read_to_string(&path).unwrap();
    let trusted = format!(
        "ssl_trusted_certificate {}/extra.pem;",
        host.lineage().display()
    );
    fs::write(
        &path,
        text.replacen("server_name", &format!("{trusted} server_name"), 1),
    )
    .unwrap();
    reloaded(&host.world.host).await;
    refused(&host, &[NAME], 9, &["was put back", "extra.pem"]).await;
    assert!(host.nginx_takes_it());
}

#[tokio::test]
async fn an_nginx_that_does_not_run_tests_it_and_is_not_started() {
    let mut host = adopting(NAME).await;
    host.world.host.stop_nginx();
    let (code, told) = host.adopt(&[NAME]).await;
    assert!(code == 0 && told.contains("not running"), "{told}");
    assert_eq!(host.served(), None);
    host.world.host.start_nginx().await;
    assert_eq!(host.served(), Some(host.ours));
}

#[tokio::test]
async fn undo_leaves_what_somebody_else_put_there() {
    let host = adopting(NAME).await;
    let (code, told) = host.adopt(&[NAME]).await;
    assert_eq!(code, 0, "{told}");
    let elsewhere = host.world.host.path("elsewhere");
    fs::rename(host.lineage(), host.world.host.path("link")).unwrap();
    symlink(&elsewhere, host.lineage()).unwrap();
    let before = tree(&host.certbot());
    let (code, told) = host.adopt(&[NAME, "--undo"]).await;
    let live = format!(
        "{} is a link to {}, not what certwell puts there",
        host.lineage().display(),
        elsewhere.display()
    );
    assert!(code == 8 && told.contains(&live), "{told}");
    assert_eq!(tree(&host.certbot()), before);
    fs::remove_file(host.lineage()).unwrap();
    fs::rename(host.world.host.path("link"), host.lineage()).unwrap();
    // A configuration that certbot made meanwhile is not written over; the empty one that it leaves is.
    fs::write(host.conf(""), "version = 2.1.0\n").unwrap();
    let (code, told) = host.adopt(&[NAME, "--undo"]).await;
    assert!(
        code == 8 && told.contains("new renewal configuration"),
        "{told}"
    );
    fs::write(host.conf(""), "").unwrap();
    let (code, told) = host.adopt(&[NAME, "--undo"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(
        fs::read_to_string(host.conf(""))
            .unwrap()
            .contains("renewalparams")
    );
}

#[tokio::test]
async fn a_broken_lineage_stays_adopted_when_it_is_to_be_given_back() {
    let host = adopting(NAME).await;
    let (code, told) = host.adopt(&[NAME]).await;
    assert_eq!(code, 0, "{told}");
    let adopted = tree(&host.certbot().join("live"));
    fs::remove_file(host.certbot().join(format!("archive/{NAME}/privkey1.pem"))).unwrap();
    let (code, told) = host.adopt(&[NAME, "--undo"]).await;
    assert!(
        code == 9 && told.contains("stays adopted") && told.contains("privkey.pem"),
        "{told}"
    );
    assert_eq!(tree(&host.certbot().join("live")), adopted);
    assert_eq!(host.served(), Some(host.ours));
    let (code, told) = host.adopt(&[NAME]).await;
    assert!(code == 0 && told.contains("adopted already"), "{told}");
}

#[tokio::test]
async fn a_broken_lineage_that_nginx_refuses_is_mended_by_adopting_it() {
    let host = adopting(NAME).await;
    let key = host.certbot().join(format!("archive/{NAME}/privkey1.pem"));
    fs::rename(&key, host.world.host.path("key")).unwrap();
    assert!(!host.nginx_takes_it());
    let (code, told) = host.adopt(&[NAME]).await;
    assert!(code == 0 && told.contains("1 listener and name"), "{told}");
    assert_eq!(host.served(), Some(host.ours));
    assert!(host.nginx_takes_it());
    fs::rename(host.world.host.path("key"), &key).unwrap();
    let (code, told) = host.adopt(&[NAME, "--undo"]).await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(host.served(), Some(host.theirs));
}

#[tokio::test]
async fn another_certificate_takes_the_place_of_a_lineage_by_as() {
    let host = adopting(NAME).await;
    let (certificate, key) = self_signed(NAME, (-3_600, 86_400));
    lay_out(&host.certbot(), "second-0001", &certificate, &key);
    let (code, told) = host.adopt(&["second-0001", "--as", NAME]).await;
    assert!(code == 0 && told.contains("no server block"), "{told}");
    let (code, told) = host.adopt(&["second-0001", "--undo"]).await;
    assert_eq!(code, 0, "{told}");
}

/// A lower layer of an overlay, in a mount namespace of its own.
#[tokio::test]
async fn a_file_system_that_cannot_exchange_is_refused_with_a_remedy_that_helps() {
    let mut host = adopting(NAME).await;
    host.world.host.stop_nginx();
    let before = tree(&host.certbot());
    for sub in ["upper", "work"] {
        fs::create_dir(host.world.host.path(sub)).unwrap();
    }
    let agent = host.world.host.agent_command(&["adopt", NAME]);
    let words: Vec<String> = std::iter::once(agent.get_program())
        .chain(agent.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let (adopt, root) = (words.join(" "), host.world.host.root().display());
    let (certbot, live) = (host.certbot(), host.lineage());
    let (certbot, live) = (certbot.display(), live.display());
    let script = format!(
        "exec 2>&1\nmount --make-rprivate / && mount -t tmpfs none {root}/upper && mkdir {root}/upper/u {root}/upper/w && \
         mount -t overlay -o lowerdir={certbot},upperdir={root}/upper/u,workdir={root}/upper/w none {certbot} || exit 99\n\
         {adopt}; echo \"first $?\"; ls -A {certbot}/live {certbot}/renewal; echo listed\n\
         mv {live} {live}.moved && mv {live}.moved {live}\n{adopt}; echo \"second $?\"; readlink {live}\n"
    );
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "/bin/sh", "-c", &script]);
    let output = tokio::task::spawn_blocking(move || shell.output().unwrap())
        .await
        .unwrap();
    let told = said(&output);
    if output.status.code() == Some(99) || told.contains("unshare failed") {
        crate::world::skipped(&format!("no overlay can be mounted here: {told}"));
        return;
    }
    assert!(told.contains("first 8"), "{told}");
    assert!(
        told.contains("EXDEV") && told.contains(&format!("mv {live} {live}.moved")),
        "{told}"
    );
    // Between the two runs nothing of ours lay there.
    let (listed, _) = told.split_once("listed\n").unwrap();
    assert!(!listed.contains(".before-certwell\n"), "{told}");
    assert!(listed.contains(&format!("{NAME}.conf\n")), "{told}");
    assert!(told.contains("second 0"), "the remedy: {told}");
    assert_eq!(tree(&host.certbot()), before, "below the overlay");
}

#[tokio::test]
async fn the_inventory_knows_whose_each_certificate_is() {
    let host = adopting(NAME).await;
    let list = async |expected: i32| -> serde_json::Value {
        let (code, told) = host.verb(&["inventory", "--json"]).await;
        assert_eq!(code, expected, "{told}");
        serde_json::from_str(&told).unwrap()
    };
    let row = |document: &serde_json::Value, file: &std::path::Path| -> serde_json::Value {
        let rows = document["certificates"].as_array().unwrap();
        let wanted = file.join("fullchain.pem").display().to_string();
        let uses = |row: &serde_json::Value| {
            row["source"] == wanted.as_str()
                || row["used_by"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|used| used["file"] == wanted.as_str())
        };
        let mut found = rows.iter().filter(|row| uses(row));
        let first = found.next().cloned().unwrap();
        assert!(found.next().is_none(), "{document:#}");
        first
    };
    let found = list(0).await;
    assert_eq!(found["nginx"]["state"], "running");
    let (theirs, ours) = (
        row(&found, &host.lineage()),
        row(&found, &host.world.host.live()),
    );
    assert_eq!(theirs["managed_by"]["kind"], "certbot");
    assert_eq!(theirs["served"], "yes");
    assert_eq!(theirs["fingerprint"], host.theirs.to_string());
    assert_eq!(theirs["used_by"][0]["listeners"][0], host.port.to_string());
    assert_eq!(ours["managed_by"]["kind"], "certwell");
    assert_eq!(ours["managed_by"]["generation"], 1);
    assert_eq!(ours["served"], "yes");

    // On disk, and not loaded yet: certwell's by name, and not what that listener serves.
    fs::rename(host.lineage(), host.aside()).unwrap();
    symlink(host.world.host.live(), host.lineage()).unwrap();
    let found = list(0).await;
    let both = row(&found, &host.lineage());
    assert_eq!(both["managed_by"]["kind"], "certwell");
    assert_eq!(both["managed_by"]["adopted"][0], NAME);
    assert_eq!(both["served"], "no");
    host.world.host.reload_nginx();
    eventually("it is served", || async {
        (host.served() == Some(host.ours)).then_some(())
    })
    .await;
    // An old worker may answer once more.
    let live = host.lineage();
    eventually("the inventory sees it", || async {
        (row(&list(0).await, &live)["served"] == "yes").then_some(())
    })
    .await;

    let (code, told) = host.verb(&["inventory"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(!told.contains("PRIVATE"), "{told}");
    let head = told.lines().next().unwrap();
    assert!(head.starts_with("NAMES") && head.len() <= 80, "{told}");
    assert!(
        told.contains(&format!("adopted from certbot: {NAME}")),
        "{told}"
    );

    // What nginx refuses hides nothing of the rest.
    let path = host.world.host.path("nginx.conf");
    fs::write(&path, "nonsense;").unwrap();
    let found = list(9).await;
    assert_eq!(found["nginx"]["state"], "refused");
    assert_eq!(found["certificates"].as_array().unwrap().len(), 1);
}
