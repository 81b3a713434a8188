//! What is in the way of the agent itself.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
    time::Duration,
};

use super::{Told, command, doctor, is_root, run};
use crate::{
    host::{Host, NAME, copy_program, free_port},
    world::{World, world},
};

/// An enrolled host with nginx; no agent runs.
async fn enrolled() -> World {
    let mut world = world().await;
    world.host.start_nginx().await;
    world
}

#[tokio::test]
async fn mistakes_of_the_configuration_come_first_and_the_rest_is_told_all_the_same() {
    let mut host = Host::new();
    host.start_nginx().await;
    let path = host.path("agent.toml");
    let right = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{right}edit-hold = \"soon\"\n[colours]\n")).unwrap();
    let told = doctor(&host).await;
    assert_eq!(told.code, 4);
    assert_eq!(
        told.in_the_way(),
        [
            "configuration-mistake",
            "configuration-mistake",
            "not-enrolled"
        ]
    );
    let lines = right.matches('\n').count() as u64;
    for (at, (line, needle)) in [(lines + 1, "^^^^^^"), (lines + 2, "unknown key colours")]
        .into_iter()
        .enumerate()
    {
        let found = &told.in_the_way[at];
        assert_eq!(found["line"].as_u64(), Some(line), "{found}");
        assert_eq!(found["file"].as_str(), path.to_str());
        assert!(
            found["sentence"].as_str().unwrap().contains(needle),
            "{found}"
        );
    }
    fs::write(&path, format!("file-group = \"nobody-has-it\"\n{right}")).unwrap();
    let told = doctor(&host).await;
    assert_eq!(told.in_the_way(), ["file-group-unknown", "not-enrolled"]);
    assert_eq!(told.code, 3);
    told.says("file-group-unknown", &["groupadd --system nobody-has-it"]);
    fs::remove_file(&path).unwrap();
    let told = doctor(&host).await;
    assert_eq!(told.in_the_way()[0], "configuration-unreadable");
    assert_eq!(told.code, 4);
    told.says(
        "configuration-unreadable",
        &["agent.toml", "an empty file will do", "--config"],
    );
}

#[tokio::test]
async fn rights_that_are_lacking_are_named() {
    if !is_root() {
        return;
    }
    let world = enrolled().await;
    let host = &world.host;
    let agent = command(host);
    let mut without = Command::new("setpriv");
    without
        .args([
            "--bounding-set",
            "-kill,-chown",
            "--inh-caps",
            "-kill,-chown",
        ])
        .arg(agent.get_program())
        .args(agent.get_args());
    let told = run(without).await;
    assert_eq!(told.in_the_way(), ["capabilities-missing"]);
    told.says(
        "capabilities-missing",
        &["CAP_CHOWN, CAP_KILL", "CapabilityBoundingSet"],
    );

    fs::set_permissions(host.root(), fs::Permissions::from_mode(0o755)).unwrap();
    // Where the built one lies may be out of others' reach.
    let copy = host.path("certwell-agent");
    copy_program(Path::new(agent.get_program()), &copy);
    let mut stranger = Command::new(&copy);
    stranger
        .args(agent.get_args())
        .uid(65_534)
        .gid(65_534)
        .current_dir("/");
    let told = run(stranger).await;
    assert_eq!(told.in_the_way()[0], "not-root", "{:#?}", told.in_the_way);
    told.says("not-root", &["user 65534", "as root"]);
    assert!(!told.in_the_way().contains(&"not-enrolled"), "nobody knows");

    let mut stranger = Command::new(&copy);
    stranger
        .args(
            host.agent_command(&["doctor", "--fix-include", "--yes"])
                .get_args(),
        )
        .uid(65_534)
        .gid(65_534)
        .current_dir("/");
    let output = stranger.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("run this as root"), "{said}");
}

/// Under another clock.
async fn at(host: &Host, library: &Path, time: &str) -> Told {
    let mut faked = command(host);
    faked.env("LD_PRELOAD", library).env("FAKETIME", time);
    run(faked).await
}

#[tokio::test]
async fn a_clock_that_is_wrong_and_an_identity_that_has_ended_are_told_apart() {
    let world = enrolled().await;
    let host = &world.host;
    assert_eq!(doctor(host).await.in_the_way(), [""; 0]);
    let Some(library) = crate::faults::clock::library() else {
        return;
    };
    let told = at(host, &library, "@2019-12-31 12:00:00").await;
    assert_eq!(told.in_the_way(), ["clock-wrong"]);
    told.says("clock-wrong", &["before 2020", "timedatectl"]);
    let told = at(host, &library, "-2d").await;
    assert_eq!(told.in_the_way(), ["clock-wrong"]);
    told.says("clock-wrong", &["its identity is valid from"]);
    let told = at(host, &library, "+2d").await;
    assert_eq!(told.in_the_way(), ["identity-expired"]);
    told.says(
        "identity-expired",
        &["enroll --again", "is this machine's clock right"],
    );

    let later = host.path("state/desired.bin");
    let file = fs::File::create(&later).unwrap();
    let then = fs::metadata(&later).unwrap().modified().unwrap() + Duration::from_secs(86_400);
    file.set_modified(then).unwrap();
    let told = doctor(host).await;
    assert_eq!(told.in_the_way(), ["clock-wrong"]);
    told.says("clock-wrong", &["desired.bin was written at"]);
}

#[tokio::test]
async fn an_identity_that_cannot_be_used_is_told_of_and_left_as_it_is() {
    let world = enrolled().await;
    let host = &world.host;
    let key = host.path("state/identity/identity.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let told = doctor(host).await;
    assert_eq!(told.in_the_way(), ["identity-exposed"]);
    told.says("identity-exposed", &["has mode 0644", "chmod 0600"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    // As a kill in the middle of a renewal leaves it: the next start ends it, looking doesn't.
    let (present, pending) = (
        host.path("state/identity/identity.pem"),
        host.path("state/identity/pending.pem"),
    );
    fs::copy(&present, &pending).unwrap();
    let told = doctor(host).await;
    assert_eq!(told.in_the_way(), [""; 0]);
    told.says("agent-not-running", &["systemctl"]);
    assert!(pending.exists());
    fs::remove_file(&pending).unwrap();

    let fleet = host.path("state/identity/fleet.json");
    fs::write(&fleet, "{}").unwrap();
    let told = doctor(host).await;
    assert_eq!(told.in_the_way(), ["identity-unusable"]);
    told.says(
        "identity-unusable",
        &["fleet.json can't be used", "enroll --again TOKEN"],
    );
}

#[tokio::test]
async fn an_issuer_that_is_not_reached_is_told_of_by_how_far_it_came() {
    let mut world = enrolled().await;
    let fleet = world.host.path("state/identity/fleet.json");
    let text = fs::read_to_string(&fleet).unwrap();
    let own = world.issuer.address.to_string();
    // One that answers is enough.
    fs::write(
        &fleet,
        text.replace(&own, &format!("{}\", \"{own}", free_port())),
    )
    .unwrap();
    assert_eq!(doctor(&world.host).await.in_the_way(), [""; 0]);
    fs::write(&fleet, text.replace(&own, "issuer.invalid:7443")).unwrap();
    let told = doctor(&world.host).await;
    assert_eq!(told.in_the_way(), ["issuer-unresolved"]);
    told.says("issuer-unresolved", &["issuer.invalid:7443", "resolver"]);

    // Another server has its address.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = listener.local_addr().unwrap().to_string();
    let answering = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    fs::write(&fleet, text.replace(&own, &other)).unwrap();
    let told = doctor(&world.host).await;
    answering.join().unwrap();
    assert_eq!(told.in_the_way(), ["issuer-refuses"]);
    told.says("issuer-refuses", &[&other, "hosts list"]);

    fs::write(&fleet, &text).unwrap();
    world.issuer.stop();
    let told = doctor(&world.host).await;
    assert_eq!(told.in_the_way(), ["issuer-unreachable"]);
    told.says(
        "issuer-unreachable",
        &[&own, "refused", "is certwell-issuer running there"],
    );
}

#[tokio::test]
async fn what_is_held_by_hand_is_noted_and_lapses() {
    let host = Host::new();
    let until = certwell_agent::clock::now() + Duration::from_secs(3_600);
    let past = certwell_agent::clock::now() - Duration::from_secs(3_600);
    let hold = |name: &str, until: jiff::Timestamp| {
        format!(
            "\"{name}\":{{\"since\":\"2026-01-01T00:00:00Z\",\"until\":\"{until}\",\"note\":null}}"
        )
    };
    let text = format!(
        "{{\"version\":1,\"certificates\":{{{},{}}}}}",
        hold(NAME, until),
        hold("over.example.org", past)
    );
    fs::write(host.path("state/holds.json"), text).unwrap();
    let told = doctor(&host).await;
    told.says("held-by-hand", &[NAME, "--release"]);
    assert_eq!(
        told.notes()
            .iter()
            .filter(|what| **what == "held-by-hand")
            .count(),
        1
    );
}

#[tokio::test]
async fn a_server_that_is_not_nginx_is_known_by_its_commands_and_addresses() {
    let host = Host::new();
    let silent = free_port();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let heard = listener.local_addr().unwrap();
    let exec = |test: &str, address: &str| {
        fs::write(
            host.path("agent.toml"),
            format!(
                "state-directory = \"state\"\nlive-directory = \"live\"\n[exec]\ntest = \"{test}\"\nreload = \"true\"\n\
                 addresses = [{address}]\n"
            ),
        )
        .unwrap();
    };
    exec("true", &format!("\"{heard}\""));
    assert_eq!(
        doctor(&host).await.in_the_way(),
        ["not-enrolled"],
        "nothing about nginx"
    );
    exec(
        "echo the port is missing >&2; exit 7",
        &format!("\"{silent}\", \"192.0.2.77:443\""),
    );
    let told = doctor(&host).await;
    assert_eq!(
        told.in_the_way(),
        ["not-enrolled", "exec-test-fails", "server-silent"]
    );
    told.says("exec-test-fails", &["exit code 7", "the port is missing"]);
    told.says("server-silent", &[&silent.to_string()]);
    told.says("address-elsewhere", &["192.0.2.77:443"]);
}
