//! Adopting, and giving back, killed before each call that changes something on disk.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, Output},
};

use certwell_proto::{Fingerprint, pem};

use super::{
    host::NAME,
    lineage::{Adopting, Tree, adopting, said, tree},
};

/// Every call by which the steps change something, or force it to disk.
const CALLS: [&str; 10] = [
    "rename",
    "renameat",
    "renameat2",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "fsync",
    "write",
    "fchmod",
];

#[tokio::test]
async fn killed_anywhere_the_old_pair_or_the_new_is_whole_and_the_next_run_ends_it() {
    let mut host = adopting(NAME).await;
    // The steps on disk are the same with nginx stopped, and there are many runs to come.
    host.world.host.stop_nginx();
    let before = tree(&host.certbot());
    let mut points = 0;
    for back in [false, true] {
        for call in CALLS {
            let mut n = 0;
            loop {
                n += 1;
                start(&host, &before, back).await;
                let output = killed(&host, call, n, back);
                if output.status.code() == Some(0) {
                    break;
                }
                let point = format!("{call} {n}, back: {back}: {}", said(&output));
                assert_eq!(
                    output.status.code().or(output.status.signal()),
                    Some(9),
                    "{point}"
                );
                points += 1;
                check_whole(&host, &point);
                // Onwards and back by turns.
                let undo = points % 2 == 0;
                let (code, told) = if undo {
                    host.adopt(&[NAME, "--undo"]).await
                } else {
                    host.adopt(&[NAME]).await
                };
                // Before anything was noted there is nothing to undo.
                let nothing = undo && code == 7 && tree(&host.certbot()) == before;
                assert!(code == 0 || nothing, "{point}\n{told}");
                check_whole(&host, &point);
                if undo {
                    assert_eq!(without_lock(&host), before, "{point}");
                } else {
                    assert_eq!(served_from_disk(&host), Some(host.ours), "{point}");
                    assert!(host.conf(".before-certwell").exists(), "{point}");
                    assert!(!host.conf("").exists(), "{point}");
                }
            }
        }
    }
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "adopt: killed at {points} points");
    assert!(points >= 30, "{points}");
}

/// certbot's own lock file stays behind where a run was killed, as certbot's would.
fn without_lock(host: &Adopting) -> Tree {
    let mut found = tree(&host.certbot());
    found.remove(&host.certbot().join(".certbot.lock"));
    found
}

/// As before the first step of this direction.
async fn start(host: &Adopting, before: &Tree, back: bool) {
    let (_, told) = host.adopt(&[NAME, "--undo"]).await;
    assert_eq!(&without_lock(host), before, "{told}");
    if back {
        let (code, told) = host.adopt(&[NAME]).await;
        assert_eq!(code, 0, "{told}");
    }
}

fn killed(host: &Adopting, call: &str, n: u32, back: bool) -> Output {
    let arguments: &[&str] = if back {
        &["adopt", NAME, "--undo"]
    } else {
        &["adopt", NAME]
    };
    let agent = host.world.host.agent_command(arguments);
    Command::new("strace")
        .args(["-o", "/dev/null", "-e"])
        .arg(format!("trace={call}"))
        .arg("-e")
        .arg(format!("inject={call}:signal=KILL:when={n}"))
        .arg(agent.get_program())
        .args(agent.get_args())
        .output()
        .unwrap()
}

/// What nginx would read: a leaf and the key that fits it.
fn check_whole(host: &Adopting, point: &str) {
    assert!(host.nginx_takes_it(), "{point}");
    let served = served_from_disk(host);
    assert!(
        served == Some(host.ours) || served == Some(host.theirs),
        "{point}"
    );
    let key = fs::read_to_string(host.lineage().join("privkey.pem")).unwrap();
    let key = rcgen::KeyPair::from_pem(&key).unwrap();
    let leaf = fs::read(host.lineage().join("cert.pem")).unwrap();
    let leaf = &pem::read_certificates(&leaf).unwrap()[0];
    let public = rcgen::PublicKeyData::der_bytes(&key);
    assert!(
        leaf.windows(public.len()).any(|window| window == public),
        "the key doesn't fit: {point}"
    );
    // certbot sees the lineage only while the directory is its own.
    let is_certbots = !host.lineage().is_symlink();
    assert!(is_certbots || !host.conf("").exists(), "{point}");
}

fn served_from_disk(host: &Adopting) -> Option<Fingerprint> {
    leaf_in(&host.lineage())
}

fn leaf_in(directory: &Path) -> Option<Fingerprint> {
    let text = fs::read(directory.join("fullchain.pem")).ok()?;
    Some(Fingerprint::of(
        pem::read_certificates(&text).ok()?.first()?,
    ))
}

#[tokio::test]
async fn killed_before_nginx_was_told_the_next_run_tells_it() {
    let host = adopting(NAME).await;
    let output = killed(&host, "kill", 1, false);
    assert_eq!(output.status.signal(), Some(9), "{}", said(&output));
    assert_eq!(host.served(), Some(host.theirs));
    assert_eq!(served_from_disk(&host), Some(host.ours));
    let (code, told) = host.adopt(&[NAME]).await;
    assert!(code == 0 && !told.contains("already"), "{told}");
    assert_eq!(host.served(), Some(host.ours));
    let output = killed(&host, "kill", 1, true);
    assert_eq!(output.status.signal(), Some(9), "{}", said(&output));
    assert_eq!(host.served(), Some(host.ours));
    assert_eq!(served_from_disk(&host), Some(host.theirs));
    let (code, told) = host.adopt(&[NAME, "--undo"]).await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(host.served(), Some(host.theirs));
}
