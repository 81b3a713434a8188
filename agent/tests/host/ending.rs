//! The agent's end by the service manager.

use std::{
    fs,
    os::unix::{fs::OpenOptionsExt as _, net::UnixDatagram},
    sync::{Arc, Mutex},
};

use nix::{
    fcntl::OFlag,
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};

use super::{
    issuer::eventually,
    world::{leaf, serving, serving_as, world},
};

#[tokio::test]
async fn an_install_is_ended_before_the_agent_is_and_the_watchdog_stays_quiet_meanwhile() {
    let mut world = world().await;
    let host = &mut world.host;
    let (reloading, go) = (host.path("run/reloading"), host.path("run/go"));
    host.set_agent(&format!(
        "reload = \"touch {} && until test -e {}; do sleep 0.05; done && kill -HUP $(cat {})\"",
        reloading.display(),
        go.display(),
        host.path("run/nginx.pid").display()
    ));
    fs::write(&go, "").unwrap();
    let heard = service_manager(&host.path("run/notify"));
    let socket = host.path("run/notify").display().to_string();
    host.environment.push(("NOTIFY_SOCKET", socket));
    host.environment.push(("WATCHDOG_USEC", "300000".into()));
    let (mut world, _) = serving_as(world).await;
    fs::remove_file(&reloading).unwrap();
    fs::remove_file(&go).unwrap();

    let second = world.bundle(2);
    world.offer(&second);
    eventually("it reloads", || async { reloading.exists().then_some(()) }).await;
    let beats_while_it_ends = || {
        let heard = heard.lock().unwrap();
        let mut rest = heard.iter().skip_while(|said| *said != "STOPPING=1");
        rest.next()
            .map(|_| rest.filter(|said| *said == "WATCHDOG=1").count())
    };
    let quiet = async {
        eventually("the watchdog hears of an agent that ends", || async {
            beats_while_it_ends().filter(|beats| *beats >= 4)
        })
        .await;
        fs::write(&go, "").unwrap();
    };
    let (code, ()) = tokio::join!(world.host.end_agent(), quiet);
    assert_eq!(code, Some(0));
    assert_eq!(world.host.served(), Some(leaf(&second)));
}

/// As by a restart of its service right after a start.
#[tokio::test]
async fn an_agent_that_is_told_to_end_while_it_starts_ends_in_good_order() {
    let (mut world, _) = serving().await;
    assert_eq!(world.host.end_agent().await, Some(0));
    let host = &mut world.host;
    // It reads what was wanted last before it looks at anything else, and there waits for whoever writes.
    let kept = host.path("state/desired.bin");
    fs::remove_file(&kept).unwrap();
    mkfifo(&kept, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    host.start_agent();
    eventually("it begins", || async {
        (host.agent_log().matches("certwell-agent 0").count() == 2).then_some(())
    })
    .await;
    kill(Pid::from_raw(host.agent_pid() as i32), Signal::SIGTERM).unwrap();
    eventually("it still reads", || async {
        let mut pipe = fs::OpenOptions::new();
        pipe.write(true).custom_flags(OFlag::O_NONBLOCK.bits());
        pipe.open(&kept).ok()
    })
    .await;
    assert_eq!(host.end_agent().await, Some(0));
}

/// What is said to it, as it comes: a socket that nobody reads holds the one up who writes.
fn service_manager(path: &std::path::Path) -> Arc<Mutex<Vec<String>>> {
    let socket = UnixDatagram::bind(path).unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let all = heard.clone();
    std::thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok(length) = socket.recv(&mut message) {
            let said = String::from_utf8_lossy(&message[..length]);
            all.lock().unwrap().extend(said.lines().map(str::to_owned));
        }
    });
    heard
}
