//! Masters, workers, tests and reloads.

use std::{
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use certwell_agent::{
    clock,
    exec::CommandError,
    nginx::{
        Nginx, Reload, Tested, edits,
        master::MasterError,
        reload::{ReloadError, Waited, reload, wait_for_new_workers},
        run,
    },
};
use tokio::time::Instant;

use crate::host::{Host, PATIENCE, wait_until};

const PLAIN: (&str, &str) = ("a", "server { listen ADDRESS:8080; return 204; }\n");

#[tokio::test]
async fn the_running_master_is_found_with_its_own_arguments() {
    let host = Host::started(&[PLAIN]).await;
    let found = host.nginx();
    let master = found.master.unwrap();
    let pid: i32 = fs::read_to_string(host.path("nginx.pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert_eq!(master.pid, pid);
    assert!(!master.replaced);
    assert_eq!(
        found.invocation.binary,
        fs::canonicalize("/usr/sbin/nginx").unwrap()
    );
    assert_eq!(found.invocation.config, Some(host.path("nginx.conf")));
    assert_eq!(
        found.invocation.prefix,
        Some(host.path("")).map(|path| path.components().collect())
    );
    assert_eq!(found.invocation.globals, ["daemon off; master_process on;"]);
    assert_eq!(master.active().count(), 1);
    let age = clock::now().duration_since(master.serving_since().unwrap());
    assert!(age.as_secs() < 60 && age.as_millis() > -100, "{age}");
}

#[test]
fn without_a_master_the_settings_are_used_and_an_absent_binary_is_said() {
    let host = Host::new(&[PLAIN]);
    let mut settings = host.settings();
    let found = Nginx::find(&settings, clock::now()).unwrap();
    assert_eq!(found.master, None);
    assert_eq!(found.invocation.config, Some(host.path("nginx.conf")));

    // A stale pid file that names a process of another kind.
    fs::write(&settings.pid_file, format!("{}\n", std::process::id())).unwrap();
    assert_eq!(Nginx::find(&settings, clock::now()).unwrap().master, None);
    fs::write(&settings.pid_file, "none\n").unwrap();
    assert_eq!(Nginx::find(&settings, clock::now()).unwrap().master, None);

    settings.binary = "/nonexistent/nginx".into();
    let error = Nginx::find(&settings, clock::now()).unwrap_err();
    assert!(
        matches!(&error, MasterError::Absent { binary, .. } if binary == Path::new("/nonexistent/nginx"))
    );
}

#[tokio::test]
async fn a_test_passes_or_quotes_emerg_with_file_and_line() {
    let host = Host::started(&[PLAIN]).await;
    let invocation = host.nginx().invocation;
    let Tested::Passed { took } = run::test(&invocation, PATIENCE).await.unwrap() else {
        panic!("refused")
    };
    assert!(!took.is_zero());
    host.site("b", "server {\n  sssl on;\n}\n");
    let Tested::Refused { words } = run::test(&invocation, PATIENCE).await.unwrap() else {
        panic!("passed")
    };
    assert_eq!(
        words,
        format!(
            "[emerg] unknown directive \"sssl\" in {}:2",
            host.path("sites/b").display()
        )
    );
    assert!(
        run::version(&invocation, PATIENCE)
            .await
            .unwrap()
            .starts_with("1.")
    );
}

#[tokio::test]
async fn a_reload_by_signal_or_command_brings_new_workers() {
    let host = Host::started(&[PLAIN]).await;
    let mut settings = host.settings();
    for how in [
        Reload::Signal,
        Reload::Command(format!("kill -HUP $(cat {})", settings.pid_file.display())),
    ] {
        settings.reload = how;
        let before = host.master();
        reload(&settings, &before, PATIENCE).await.unwrap();
        let waited = wait_for_new_workers(&settings, &before, Instant::now() + PATIENCE)
            .await
            .unwrap();
        let Waited::New(after) = waited else {
            panic!("{waited:?}")
        };
        assert_eq!(after.pid, before.pid);
        assert!(after.has_new_workers(&before));
        wait_until("the old worker is gone", async || {
            host.master().workers.len() == 1
        })
        .await;
        assert_ne!(host.master().workers, before.workers);
    }
}

#[tokio::test]
async fn a_failing_reload_command_is_quoted() {
    let host = Host::started(&[PLAIN]).await;
    let mut settings = host.settings();
    settings.reload = Reload::Command("echo Unit nginx.service not found. >&2; exit 5".into());
    let error = reload(&settings, &host.master(), PATIENCE)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ReloadError::Command(CommandError::Failed { words, .. }) if words == "Unit nginx.service not found."),
        "{error}"
    );
}

#[tokio::test]
async fn a_taken_port_keeps_the_old_workers_though_the_test_passes() {
    let host = Host::started(&[PLAIN]).await;
    let taken = TcpListener::bind(host.socket(8081)).unwrap();
    host.site("b", "server { listen ADDRESS:8081; return 204; }\n");
    let Nginx {
        invocation,
        master: Some(before),
    } = host.nginx()
    else {
        panic!("no master")
    };
    assert!(matches!(
        run::test(&invocation, PATIENCE).await.unwrap(),
        Tested::Passed { .. }
    ));
    reload(&host.settings(), &before, PATIENCE).await.unwrap();
    // nginx tries for two and a half seconds, then gives the reload up.
    let deadline = Instant::now() + Duration::from_secs(4);
    let waited = wait_for_new_workers(&host.settings(), &before, deadline)
        .await
        .unwrap();
    assert_eq!(waited, Waited::Old);
    assert_eq!(host.master().workers, before.workers);
    drop(taken);
}

#[tokio::test]
async fn a_worker_that_finishes_old_connections_is_draining() {
    let host = Host::started(&[PLAIN]).await;
    let before = host.master();
    let open = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let (worker, idle) = (before.workers[0].pid, open(before.workers[0].pid));
    let mut slow = TcpStream::connect(host.socket(8080)).unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n").unwrap();
    wait_until("the worker has taken the connection", async || {
        open(worker) > idle
    })
    .await;
    reload(&host.settings(), &before, PATIENCE).await.unwrap();
    wait_until("old and new side by side", async || {
        let master = host.master();
        master.workers.len() == 2 && master.active().count() == 1
    })
    .await;
    let after = host.master();
    let draining: Vec<_> = after
        .workers
        .iter()
        .filter(|worker| worker.draining)
        .map(|worker| worker.pid)
        .collect();
    assert_eq!(draining, [before.workers[0].pid]);
    drop(slow);
    wait_until("the old worker goes", async || {
        host.master().workers.len() == 1
    })
    .await;
}

#[tokio::test]
async fn a_stopped_master_is_gone() {
    let mut host = Host::started(&[PLAIN]).await;
    let (settings, before) = (host.settings(), host.master());
    host.stop();
    let waited = wait_for_new_workers(&settings, &before, Instant::now() + PATIENCE)
        .await
        .unwrap();
    assert_eq!(waited, Waited::Gone);
}

#[tokio::test]
async fn an_edit_after_the_workers_started_is_newer_than_they_are() {
    let host = Host::started(&[PLAIN]).await;
    let serving = host.master().serving_since().unwrap();
    let files = host.parsed().files;
    // The edits below are dated half a minute ahead.
    let now = clock::now() + Duration::from_secs(60);
    let since = |ours: &[&Path]| {
        edits::newest_change(&files, ours, now)
            .filter(|edit| edit.at.duration_since(serving) > jiff::SignedDuration::from_secs(1))
    };
    let map = host.settings().challenge_map;
    assert!(files.contains(&map) && files.contains(&host.path("sites/a")));
    assert_eq!(since(&[]), None, "written before nginx started");

    let later = clock::now() + Duration::from_secs(30);
    let change = |path: &Path| {
        fs::File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(
                UNIX_EPOCH + Duration::from_millis(u64::try_from(later.as_millisecond()).unwrap()),
            )
            .unwrap();
    };
    change(&map);
    assert_eq!(since(&[&map]), None, "the agent's own file is no edit");
    change(&host.path("sites/a"));
    assert_eq!(since(&[&map]).unwrap().file, host.path("sites/a"));
}
