//! After a reload: old workers that still answer, a master that takes its time, and listeners that fail, for a reason of
//! ours or not.

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    path::Path,
};

use certwell_proto::{Fingerprint, v1};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustls::ClientConnection;
use rustls_pki_types::ServerName;

use crate::{
    faults::{reloaded, serves, status_says, witness::Witness},
    host::{Host, NAME, free_port},
    issuer::eventually,
    world::{NAMES, World, leaf, serving},
};

fn reloads(host: &Host) -> usize {
    host.agent_log().matches("step done=Reload ").count()
}

/// A visitor who has said half of what he has to say.
struct Begun {
    tcp: TcpStream,
    tls: ClientConnection,
    rest: Vec<u8>,
}

impl Begun {
    /// Returns when a worker has taken the connection.
    async fn with(host: &Host) -> Self {
        let [worker] = host.settled_workers().await[..] else {
            panic!("one worker");
        };
        let open = format!("/proc/{worker}/fd");
        let count = || fs::read_dir(&open).unwrap().count();
        let before = count();
        let config = certwell_probe::config(None, false).unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let mut tls = ClientConnection::new(config, name).unwrap();
        let mut hello = Vec::new();
        tls.write_tls(&mut hello).unwrap();
        let rest = hello.split_off(hello.len() / 2);
        let mut tcp = TcpStream::connect(host.https).unwrap();
        tcp.write_all(&hello).unwrap();
        eventually("a worker has taken it", || async {
            (count() > before).then_some(())
        })
        .await;
        Self { tcp, tls, rest }
    }

    /// Says the rest; the leaf that he is shown.
    fn end(mut self) -> Fingerprint {
        self.tcp.write_all(&self.rest).unwrap();
        while self.tls.is_handshaking() {
            self.tls.complete_io(&mut self.tcp).unwrap();
        }
        Fingerprint::of(&self.tls.peer_certificates().unwrap()[0])
    }
}

#[tokio::test]
async fn an_old_worker_that_drains_and_still_answers_the_old_leaf_holds_up_nothing() {
    let (world, first) = serving().await;
    let host = &world.host;
    let (begun, second) = (Begun::with(host).await, world.bundle(2));
    let (old, told) = (host.workers(), reloads(host));
    world.offer(&second);
    world.outcome(2, v1::Outcome::Converged).await;
    let now = host.workers();
    assert!(
        now.len() == 2 && now.contains(&old[0]),
        "it drains: {now:?}"
    );
    serves(&world, &second).await;
    assert_eq!(begun.end(), leaf(&first), "the old worker answers him");
    let left = host.settled_workers().await;
    assert!(!left.contains(&old[0]));
    assert_eq!(reloads(host), told + 1);
    assert!(!host.agent_log().contains("not served yet"));
}

/// A master that hears of a reload and doesn't come to it until this is dropped, at the latest with its test.
struct Busy(Pid);

impl Busy {
    fn master_of(host: &Host) -> Self {
        let text = fs::read_to_string(host.path("run/nginx.pid")).unwrap();
        let master = Pid::from_raw(text.trim().parse().unwrap());
        kill(master, Signal::SIGSTOP).unwrap();
        Self(master)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

#[tokio::test]
async fn an_old_leaf_before_the_deadline_means_to_wait() {
    let (world, first) = serving().await;
    let host = &world.host;
    host.settled_workers().await;
    let told = reloads(host);
    let busy = Busy::master_of(host);
    let witness = Witness::of(host.https);
    let second = world.bundle(2);
    world.offer(&second);
    eventually("it is asked for", || async {
        (reloads(host) > told).then_some(())
    })
    .await;
    witness.sees_more(200).await;
    assert_eq!(host.served(), Some(leaf(&first)));
    drop(busy);
    world.outcome(2, v1::Outcome::Converged).await;
    witness.is_told();
    serves(&world, &second).await;
    witness.saw_change(&first, &second);
    assert_eq!(reloads(host), told + 1);
    for impatience in ["not served yet", "rolled back"] {
        assert!(!host.agent_log().contains(impatience), "{impatience}");
    }
}

#[tokio::test]
async fn an_old_leaf_after_the_deadline_is_not_applied_and_what_nginx_does_later_counts() {
    let (world, first) = serving().await;
    let host = &world.host;
    host.settled_workers().await;
    let busy = Busy::master_of(host);
    let witness = Witness::of(host.https);
    let second = world.bundle(2);
    world.offer(&second);
    world.outcome(2, v1::Outcome::NotApplied).await;
    assert_eq!(host.served(), Some(leaf(&first)));
    assert_eq!(host.active(), "2");
    drop(busy);
    world.outcome(2, v1::Outcome::Converged).await;
    witness.is_told();
    serves(&world, &second).await;
    witness.saw_change(&first, &second);
    assert_eq!(host.activations(NAME, 2), 1);
}

/// The same certificate on a listener more, where only keys of one kind can sign.
async fn another_listener(world: &World, algorithms: &str) -> SocketAddr {
    let (port, live) = (free_port(), world.host.live());
    let shown = live.display();
    let server = format!(
        "server {{ listen {port} ssl; server_name {NAME}; ssl_certificate {shown}/fullchain.pem; \
         ssl_certificate_key {shown}/privkey.pem; ssl_conf_command SignatureAlgorithms {algorithms}; }}"
    );
    fs::write(extra_file(&world.host), server).unwrap();
    reloaded(&world.host).await;
    port
}

fn extra_file(host: &Host) -> std::path::PathBuf {
    Path::new(&host.path("conf.d")).join("extra.conf")
}

#[tokio::test]
async fn a_listener_of_two_that_fails_now_takes_the_generation_back_and_the_other_has_no_gap() {
    let (world, first) = serving().await;
    let failing = another_listener(&world, "ecdsa_secp256r1_sha256").await;
    assert_eq!(crate::host::served_at(failing), Some(leaf(&first)));
    let witness = Witness::of(world.host.https);
    let second = world.authority.rsa_bundle(NAME, 2, NAMES);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::Regressed).await;
    assert!(
        report
            .problem
            .contains(&format!("{failing} ({NAME}) fails: ")),
        "{}",
        report.problem
    );
    serves(&world, &first).await;
    eventually("its visitors are back, too", || async {
        (crate::host::served_at(failing) == Some(leaf(&first))).then_some(())
    })
    .await;
    world.host.settled_workers().await;
    witness.sees_more(10).await;
    witness.saw_no_gap(&[&second, &first]);
}

#[tokio::test]
async fn a_listener_that_failed_before_us_is_named_and_takes_nothing_back() {
    let (world, first) = serving().await;
    // RSA alone can sign here, and ours is ECDSA.
    let failing = another_listener(&world, "rsa_pss_rsae_sha256").await;
    assert_eq!(crate::host::served_at(failing), None);
    let witness = Witness::of(world.host.https);
    let second = world.bundle(2);
    world.offer(&second);
    world.outcome(2, v1::Outcome::NotApplied).await;
    status_says(&world.host, &[&format!("{failing} ({NAME}) fails: ")]).await;
    assert_eq!(world.host.active(), "2");
    serves(&world, &second).await;
    fs::remove_file(extra_file(&world.host)).unwrap();
    world.host.reload_nginx();
    world.outcome(2, v1::Outcome::Converged).await;
    witness.is_told();
    witness.saw_change(&first, &second);
    assert!(!world.host.agent_log().contains("rolled back"));
}
