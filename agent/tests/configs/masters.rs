//! Several masters on one machine: ours is the one that our pid file names, and nobody else's.

use std::fs;

use certwell_agent::{
    clock,
    nginx::{Nginx, Settings},
};

use crate::host::Host;

const SITE: (&str, &str) = ("a", "server { listen ADDRESS:8080; return 204; }\n");

#[tokio::test]
async fn each_pid_file_leads_to_its_own_master_and_configuration() {
    let (mut one, other) = (Host::started(&[SITE]).await, Host::started(&[SITE]).await);
    let pid = |host: &Host| host.master().pid;
    assert_ne!(pid(&one), pid(&other));
    for host in [&one, &other] {
        let found = host.nginx();
        assert_eq!(found.invocation.config, Some(host.path("nginx.conf")));
        assert_eq!(found.master.unwrap().active().count(), 1);
        let at = host.parsed().servers[0].at.file.clone();
        assert_eq!(at, host.path("sites/a"));
    }

    // Our settings, another's pid file: what that master reads is what counts.
    let mixed = Settings {
        pid_file: other.settings().pid_file,
        ..one.settings()
    };
    let found = Nginx::find(&mixed, clock::now()).unwrap();
    assert_eq!(found.invocation.config, Some(other.path("nginx.conf")));

    // Ours ended, its file left behind: the other is none of ours.
    let (settings, stale) = (one.settings(), fs::read(one.settings().pid_file).unwrap());
    one.stop();
    fs::write(&settings.pid_file, stale).unwrap();
    assert_eq!(Nginx::find(&settings, clock::now()).unwrap().master, None);
}

#[tokio::test]
async fn a_pid_file_that_names_a_worker_or_another_program_names_no_master() {
    let host = Host::started(&[SITE]).await;
    let settings = host.settings();
    let worker = host.master().workers[0].pid;
    for text in [
        worker.to_string(),
        std::process::id().to_string(),
        "1".into(),
        "-5".into(),
        "99999999999".into(),
        String::new(),
    ] {
        fs::write(&settings.pid_file, &text).unwrap();
        let found = Nginx::find(&settings, clock::now()).unwrap();
        assert_eq!(found.master, None, "{text:?}");
        assert_eq!(found.invocation.config, Some(host.path("nginx.conf")));
    }
}
