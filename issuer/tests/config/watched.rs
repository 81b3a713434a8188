//! Reloading on change, with real files and the real inotify.

use std::{fs, sync::Arc, time::Duration};

use certwell_issuer::config::{Config, Current, Roots, watch};
use tokio::{sync::watch::Receiver, task::JoinHandle, time::timeout};

use super::files::{AUTHORITY, Files, ISSUER, root_pem};

fn start(files: &Files) -> (Receiver<Current>, JoinHandle<()>) {
    let initial = Arc::new(files.load().unwrap());
    let (receiver, task) = watch(files.main(), initial).unwrap();
    (receiver, tokio::spawn(task))
}

/// Waits until what is in force is like this.
async fn until(
    current: &mut Receiver<Current>,
    what: &str,
    like: impl Fn(&Current) -> bool,
) -> Current {
    let found = timeout(Duration::from_secs(10), current.wait_for(like))
        .await
        .map(|found| found.unwrap().clone());
    found.unwrap_or_else(|_| panic!("not within 10 s: {what}; in force: {:?}", *current.borrow()))
}

fn hosts(config: &Config) -> Vec<String> {
    config.hosts.keys().map(ToString::to_string).collect()
}

#[tokio::test]
async fn an_edit_of_the_main_file_is_taken_up() {
    let files = Files::new(ISSUER);
    let (mut current, _task) = start(&files);
    files.write("issuer.toml", &format!("{ISSUER}[host.sally]\n"));
    until(&mut current, "renamed into place", |now| {
        hosts(&now.config) == ["sally"]
    })
    .await;
    fs::write(files.main(), format!("{ISSUER}[host.esme]\n")).unwrap();
    until(&mut current, "written in place", |now| {
        hosts(&now.config) == ["esme"]
    })
    .await;
}

#[tokio::test]
async fn further_files_come_change_and_go_even_in_a_new_directory() {
    let files = Files::new(ISSUER);
    let (mut current, _task) = start(&files);
    files.write("conf.d/a.toml", "[host.sally]\n");
    until(&mut current, "conf.d made", |now| {
        hosts(&now.config) == ["sally"]
    })
    .await;
    files.write("conf.d/b.toml", "[host.esme]\n");
    until(&mut current, "a second file", |now| {
        hosts(&now.config) == ["esme", "sally"]
    })
    .await;
    fs::remove_file(files.directory.path().join("conf.d/a.toml")).unwrap();
    until(&mut current, "one removed", |now| {
        hosts(&now.config) == ["esme"]
    })
    .await;
    fs::remove_dir_all(files.directory.path().join("conf.d")).unwrap();
    until(&mut current, "all removed", |now| {
        hosts(&now.config).is_empty()
    })
    .await;
    files.write("conf.d/c.toml", "[host.paul]\n");
    until(&mut current, "made again", |now| {
        hosts(&now.config) == ["paul"]
    })
    .await;
}

#[tokio::test]
async fn a_bad_edit_keeps_the_last_good_and_is_told_until_it_is_right() {
    let files = Files::new(&format!("{ISSUER}[host.sally]\n"));
    let (mut current, _task) = start(&files);
    files.write("issuer.toml", &format!("{ISSUER}[hosst.esme]\n"));
    let bad = until(&mut current, "told", |now| now.problem.is_some()).await;
    let problem = bad.problem.unwrap();
    assert!(
        problem.contains("issuer.toml:4:2: unknown table or key") && problem.lines().count() == 1,
        "{problem}"
    );
    assert_eq!(hosts(&bad.config), ["sally"]);

    files.write("issuer.toml", &format!("{ISSUER}[host.esme]\n"));
    let good = until(&mut current, "right again", |now| now.problem.is_none()).await;
    assert_eq!(hosts(&good.config), ["esme"]);
}

#[tokio::test]
async fn a_changed_issuer_section_keeps_the_running_one_and_asks_for_a_restart() {
    let files = Files::new(ISSUER);
    let (mut current, _task) = start(&files);
    let running = current.borrow().config.issuer.clone();
    files.write(
        "issuer.toml",
        &format!("{ISSUER}listen = [\"127.0.0.1:9\"]\nadmin-group = \"x\"\n[host.sally]\n"),
    );
    let now = until(&mut current, "told", |now| now.problem.is_some()).await;
    let problem = now.problem.unwrap();
    assert!(
        problem.contains("listen, admin-group in [issuer] changed; restart"),
        "{problem}"
    );
    assert_eq!(now.config.issuer, running);
    assert_eq!(hosts(&now.config), ["sally"], "the rest is taken up");
}

#[tokio::test]
async fn new_root_certificates_are_taken_up_wherever_they_lie() {
    let elsewhere = tempfile::tempdir().unwrap();
    let roots = elsewhere.path().join("roots.pem");
    fs::write(&roots, root_pem()).unwrap();
    let files = Files::new(&format!("{ISSUER}{AUTHORITY}roots = {roots:?}\n"));
    let (mut current, _task) = start(&files);
    let count = |config: &Config| match &config.authorities["letsencrypt"].roots {
        Roots::File { certificates, .. } => certificates.len(),
        Roots::System => 0,
    };
    assert_eq!(count(&current.borrow().config), 1);
    fs::write(&roots, root_pem() + &root_pem()).unwrap();
    until(&mut current, "two roots", |now| count(&now.config) == 2).await;
}

#[tokio::test]
async fn an_edit_between_reading_and_watching_is_not_missed() {
    let files = Files::new(ISSUER);
    let initial = Arc::new(files.load().unwrap());
    files.write("issuer.toml", &format!("{ISSUER}[host.sally]\n"));
    let (mut current, task) = watch(files.main(), initial).unwrap();
    let _task = tokio::spawn(task);
    until(&mut current, "taken up at once", |now| {
        hosts(&now.config) == ["sally"]
    })
    .await;
}

#[tokio::test]
async fn writing_other_files_in_the_directory_tells_nobody() {
    let files = Files::new(ISSUER);
    files.write("noise.log", "");
    let (mut current, _task) = start(&files);
    current.mark_unchanged();
    fs::write(files.directory.path().join("noise.log"), "x").unwrap();
    fs::write(files.main(), ISSUER).unwrap();
    let changed = timeout(Duration::from_millis(500), current.changed()).await;
    assert!(changed.is_err(), "nothing is different");
}

#[tokio::test]
async fn the_task_ends_when_nobody_listens() {
    let files = Files::new(ISSUER);
    let (current, task) = start(&files);
    drop(current);
    timeout(Duration::from_secs(5), task)
        .await
        .unwrap()
        .unwrap();
}
