//! Certificates by variable: nginx's workers read them, with their own rights, at each handshake.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use certwell_proto::v1;

use super::{
    host::NAME,
    world::{World, leaf, world},
};

/// nginx's workers are of www-data, and open what is asked for; everybody may come as far as the agent's own.
fn by_variable(world: &World) {
    let path = world.host.path("nginx.conf");
    let text = fs::read_to_string(&path).unwrap();
    let live = world.host.live();
    let written = world.host.path("live/$ssl_server_name");
    let text = text
        .replace("user root;", "user www-data;")
        .replace(&live.display().to_string(), &written.display().to_string());
    assert!(text.contains("live/$ssl_server_name/fullchain.pem"));
    fs::write(path, text).unwrap();
    fs::set_permissions(world.host.root(), fs::Permissions::from_mode(0o755)).unwrap();
}

fn set_file_group(world: &World) {
    let path = world.host.path("agent.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, format!("file-group = \"www-data\"\n{text}")).unwrap();
}

fn modes(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn what_workers_could_not_read_any_more_is_held_until_they_may() {
    let mut world = world().await;
    by_variable(&world);
    world.host.start_nginx().await;
    let old = world.host.served();
    assert!(old.is_some(), "www-data reads what is there");
    let first = world.bundle(1);
    world.offer(&first);
    world.host.start_agent();
    let report = world.outcome(1, v1::Outcome::Held).await;
    let staged = world
        .host
        .path("state/store")
        .join(NAME)
        .join("1/fullchain.pem");
    let state = world.host.path("state");
    let expected = [
        format!(
            "generation 1: nginx's workers (user www-data) can't read {}",
            staged.display()
        ),
        format!("{} is closed to them", state.display()),
        "set file-group = \"www-data\" in agent.toml".to_owned(),
    ];
    for words in expected {
        assert!(report.problem.contains(&words), "{}", report.problem);
    }
    assert_eq!(world.host.activations(NAME, 1), 0);
    assert_eq!(world.host.served(), old, "goes on as it was");

    world.host.end_agent().await;
    set_file_group(&world);
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&first)));
    assert_eq!(modes(&staged), 0o640);
    assert_eq!(modes(&state), 0o750);
}

#[tokio::test]
async fn where_nothing_can_get_worse_it_is_installed_and_what_is_in_the_way_is_said() {
    let mut world = world().await;
    by_variable(&world);
    fs::remove_dir_all(world.host.live()).unwrap();
    world.host.start_nginx().await;
    assert_eq!(world.host.served(), None);
    let first = world.bundle(1);
    world.offer(&first);
    world.host.start_agent();
    let report = world.outcome(1, v1::Outcome::NotApplied).await;
    assert!(
        report
            .problem
            .contains("nginx's workers (user www-data) can't read")
            && report.problem.contains("set file-group"),
        "{}",
        report.problem
    );
    let served = report.served.unwrap();
    assert_eq!(served.listeners[0].state(), v1::ListenerState::Down);

    world.host.end_agent().await;
    set_file_group(&world);
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&first)));
}
