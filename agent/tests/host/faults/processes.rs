//! nginx itself: stopped between two of our steps, absent, replaced by a package, and upgraded while it runs (USR2).

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use certwell_proto::v1;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    faults::{
        gate::{Gate, STEPS},
        serves, status_says,
        witness::Witness,
    },
    host::{Host, NAME, copy_program},
    issuer::eventually,
    world::{World, leaf, world},
};

#[tokio::test]
async fn an_nginx_that_is_stopped_between_any_two_steps_stays_so_and_serves_the_new_leaf_when_started()
 {
    let mut world = world().await;
    world.host.start_nginx().await;
    let gate = Gate::start_agent(&mut world.host);
    world.offer(&world.bundle(1));
    world.outcome(1, v1::Outcome::Converged).await;
    for (generation, step) in (2..).zip(STEPS) {
        gate.arm(step);
        let next = world.bundle(generation);
        world.offer(&next);
        gate.held(step).await;
        world.host.stop_nginx();
        gate.open();
        let stopped = |report: &v1::CertificateReport| {
            report.outcome_generation == generation
                && report.outcome() == v1::Outcome::Held
                && report.problem.contains("nginx is not running")
                && report
                    .served
                    .as_ref()
                    .is_none_or(|served| served.generation.is_none())
        };
        world.issuer.told("it is stopped", NAME, stopped).await;
        let words = format!("generation {generation} is installed and tested, and is served when");
        status_says(&world.host, &["nginx is not running", &words]).await;
        assert_eq!(world.host.served(), None, "nobody starts it");
        world.host.start_nginx().await;
        // At once, and not when the agent has looked.
        serves(&world, &next).await;
        world.outcome(generation, v1::Outcome::Converged).await;
    }
}

fn pid(host: &Host, file: &str) -> Option<i32> {
    let text = fs::read_to_string(host.path("run").join(file)).ok()?;
    text.trim().parse().ok()
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// Whatever master the pid file names ends with the test.
struct EndsWithTheTest(PathBuf);

impl Drop for EndsWithTheTest {
    fn drop(&mut self) {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        if let Ok(pid) = text.trim().parse() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}

/// As Debian's unit starts it: a master in the background is the only one that can be upgraded. Generation 1 is served.
async fn in_the_background() -> (World, v1::Bundle, EndsWithTheTest) {
    let mut world = world().await;
    world.host.begin_map();
    let started = nginx("/usr/sbin/nginx".as_ref(), &world.host)
        .status()
        .unwrap();
    assert!(started.success());
    let ends = EndsWithTheTest(world.host.path("run/nginx.pid"));
    let first = world.bundle(1);
    world.offer(&first);
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    eventually("the old workers are gone", || async {
        (workers(pid(&world.host, "nginx.pid")?).len() == 1).then_some(())
    })
    .await;
    (world, first, ends)
}

fn workers(master: i32) -> Vec<String> {
    let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
    let children = children.unwrap_or_default();
    children.split_whitespace().map(str::to_owned).collect()
}

fn nginx(binary: &Path, host: &Host) -> Command {
    let mut command = Command::new(binary);
    command
        .arg("-c")
        .arg(host.path("nginx.conf"))
        .arg("-p")
        .arg(host.root())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Has the running master begin a new one beside it; the process ids of both, the old one first.
async fn upgraded(host: &Host) -> (i32, i32) {
    let old = pid(host, "nginx.pid").unwrap();
    signal(old, Signal::SIGUSR2);
    let new = eventually("a new master runs beside the old one", || async {
        pid(host, "nginx.pid")
            .filter(|new| *new != old && pid(host, "nginx.pid.oldbin") == Some(old))
    })
    .await;
    eventually("the new one has workers", || async {
        (!workers(new).is_empty()).then_some(())
    })
    .await;
    (old, new)
}

fn reloads(host: &Host) -> usize {
    host.agent_log().matches("step done=Reload ").count()
}

/// Generation 2 comes while both answer; returns when the agent has told the new master.
async fn installed_beside(world: &World) -> v1::Bundle {
    let told = reloads(&world.host);
    let second = world.bundle(2);
    world.offer(&second);
    eventually("the new master is told", || async {
        (reloads(&world.host) > told).then_some(())
    })
    .await;
    second
}

#[tokio::test]
async fn an_upgrade_of_the_running_nginx_is_followed_to_the_new_master_without_a_gap() {
    let (world, first, _ends) = in_the_background().await;
    let witness = Witness::of(world.host.https);
    let (old, _) = upgraded(&world.host).await;
    let second = installed_beside(&world).await;
    signal(old, Signal::SIGQUIT);
    eventually("the old master is gone", || async {
        (!world.host.path("run/nginx.pid.oldbin").exists()).then_some(())
    })
    .await;
    world.outcome(2, v1::Outcome::Converged).await;
    serves(&world, &second).await;
    let third = world.bundle(3);
    world.offer(&third);
    world.outcome(3, v1::Outcome::Converged).await;
    witness.is_told();
    serves(&world, &third).await;
    witness.saw_no_gap(&[&first, &second, &third]);
    assert!(!world.host.agent_log().contains("rolled back"));
}

#[tokio::test]
async fn an_upgrade_that_is_given_up_leaves_the_old_master_with_the_new_leaf() {
    let (world, first, _ends) = in_the_background().await;
    let witness = Witness::of(world.host.https);
    let (old, new) = upgraded(&world.host).await;
    let second = installed_beside(&world).await;
    world
        .issuer
        .told("it is told how it went", NAME, |report| {
            report.outcome_generation == 2
                && matches!(
                    report.outcome(),
                    v1::Outcome::Converged | v1::Outcome::NotApplied
                )
        })
        .await;
    signal(new, Signal::SIGQUIT);
    eventually("the old master is the only one", || async {
        (pid(&world.host, "nginx.pid") == Some(old)).then_some(())
    })
    .await;
    // It has never been told of generation 2.
    eventually("it is told now", || async {
        let all_new = (0..8).all(|_| world.host.served() == Some(leaf(&second)));
        (workers(old).len() == 1 && all_new).then_some(())
    })
    .await;
    world.outcome(2, v1::Outcome::Converged).await;
    serves(&world, &second).await;
    witness.saw_no_gap(&[&first, &second]);
}

/// An nginx of the host's own, which a package can replace.
struct Packaged {
    binary: PathBuf,
    child: Option<Child>,
}

impl Packaged {
    fn on(host: &Host) -> Self {
        let packaged = Self {
            binary: host.path("nginx-of-a-package"),
            child: None,
        };
        packaged.unpack();
        packaged
    }

    /// As dpkg does it: a new file takes the place of the old one.
    fn unpack(&self) {
        let new = self.binary.with_extension("dpkg-new");
        copy_program(Path::new("/usr/sbin/nginx"), &new);
        fs::rename(new, &self.binary).unwrap();
    }

    async fn start(&mut self, host: &Host) {
        let child = nginx(&self.binary, host)
            .args(["-g", "daemon off;"])
            .spawn();
        self.child = Some(child.unwrap());
        eventually("nginx answers", || async {
            host.served().filter(|_| pid(host, "nginx.pid").is_some())
        })
        .await;
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
            let _ = child.wait();
        }
    }
}

impl Drop for Packaged {
    fn drop(&mut self) {
        self.stop();
    }
}

#[tokio::test]
async fn a_package_that_replaces_or_removes_nginx_leaves_the_running_one_in_our_care() {
    let mut world = world().await;
    let mut packaged = Packaged::on(&world.host);
    let binary = format!("binary = \"{}\"", packaged.binary.display());
    world.host.set_agent(&binary);
    world.host.begin_map();
    packaged.start(&world.host).await;
    let first = world.bundle(1);
    world.offer(&first);
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    let witness = Witness::of(world.host.https);
    packaged.unpack();
    let second = world.bundle(2);
    world.offer(&second);
    world.outcome(2, v1::Outcome::Converged).await;
    serves(&world, &second).await;
    fs::remove_file(&packaged.binary).unwrap();
    let third = world.bundle(3);
    world.offer(&third);
    world.outcome(3, v1::Outcome::Converged).await;
    serves(&world, &third).await;
    witness.is_told();
    witness.saw_no_gap(&[&first, &second, &third]);

    // Now it is absent altogether: what is in place stays, and is no worse than it was.
    packaged.stop();
    let fourth = world.bundle(4);
    world.offer(&fourth);
    world.outcome(4, v1::Outcome::Held).await;
    let words = [
        "nginx is absent: ",
        "nginx-of-a-package; install nginx, or set nginx.binary",
        "certificate left at generation 3",
    ];
    status_says(&world.host, &words).await;
    assert_eq!(world.host.activations(NAME, 4), 0);
    packaged.unpack();
    packaged.start(&world.host).await;
    world.outcome(4, v1::Outcome::Converged).await;
    serves(&world, &fourth).await;
}
