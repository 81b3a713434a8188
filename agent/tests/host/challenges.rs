//! The map that nginx answers HTTP-01 from.

use std::{fs, os::unix::fs::MetadataExt as _};

use certwell_proto::v1;

use super::{
    host::NAME,
    issuer::eventually,
    world::{World, world},
};

pub(crate) fn get(address: std::net::SocketAddr, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut tcp = std::net::TcpStream::connect(address).unwrap();
    write!(
        tcp,
        "GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut reply = String::new();
    tcp.read_to_string(&mut reply).unwrap();
    reply
}

#[tokio::test]
async fn a_map_that_nginx_does_not_read_is_told_until_it_is_included() {
    let mut world = world().await;
    world.host.start_nginx().await;
    world.issuer.desired.send_modify(|desired| {
        desired.challenges = vec![v1::Challenge {
            names: vec![NAME.into()],
            thumbprint: "A".repeat(43),
        }];
    });
    world.offer(&world.bundle(1));
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    let whole = fs::read_to_string(world.host.path("nginx.conf")).unwrap();
    let without = whole.replace("/conf.d/*.conf", "/conf.d/*.none").replace(
        &format!("include {}/snippets", world.host.root().display()),
        "#",
    );
    for (text, told) in [(without, true), (whole, false)] {
        world.host.replace("nginx.conf", text);
        world.host.reload_nginx();
        eventually("the map is told of, or no longer", || async {
            let memory = world.issuer.memory.lock().unwrap();
            (memory.host_problem.contains("doesn't include") == told).then_some(())
        })
        .await;
    }
}

/// What the issuer wants answered, by the first character of the thumbprint.
fn want_answers(world: &World, thumbprint: &str) {
    let thumbprint = thumbprint.repeat(43);
    world.issuer.desired.send_modify(|desired| {
        desired.challenges = vec![v1::Challenge {
            names: vec![NAME.into()],
            thumbprint,
        }];
    });
}

async fn answers(world: &World, thumbprint: &str) {
    let path = world.host.path("conf.d/certwell-acme.conf");
    eventually(&format!("{thumbprint} is answered"), || async {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let wanted = text.contains(&thumbprint.repeat(43));
        let told = world.issuer.memory.lock().unwrap().host_problem.clone();
        (wanted && told.is_empty()).then_some(())
    })
    .await;
}

async fn host_problem(world: &World, words: &str) {
    eventually(words, || async {
        let told = world.issuer.memory.lock().unwrap().host_problem.clone();
        told.contains(words).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_new_map_is_not_even_written_while_an_edit_is_in_progress() {
    let mut world = world().await;
    world.host.start_nginx().await;
    want_answers(&world, "A");
    world.offer(&world.bundle(1));
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    answers(&world, "A").await;
    let path = world.host.path("conf.d/certwell-acme.conf");
    let before = fs::read_to_string(&path).unwrap();
    world.host.workers_are_older_than_edits().await;
    world.host.write_nginx(true, "# half an edit");
    let workers = world.host.settled_workers().await;
    want_answers(&world, "B");
    host_problem(&world, "an edit seems to be in progress").await;
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
    assert_eq!(world.host.workers(), workers);
    world.host.reload_nginx();
    answers(&world, "B").await;
}

#[tokio::test]
async fn a_broken_host_keeps_its_map_until_it_is_mended() {
    let mut world = world().await;
    world.host.set_agent("edit-hold = \"0s\"");
    world.host.start_nginx().await;
    want_answers(&world, "A");
    world.offer(&world.bundle(1));
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    answers(&world, "A").await;
    let path = world.host.path("conf.d/certwell-acme.conf");
    let before = fs::read_to_string(&path).unwrap();
    world.host.write_nginx(true, "sssl on;");
    want_answers(&world, "B");
    host_problem(&world, "the host's own config (not ours)").await;
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
    world.host.write_nginx(true, "");
    answers(&world, "B").await;
    // Wanted no more before it could be loaded: the present one is right again, and nothing is told.
    world.host.write_nginx(true, "sssl on;");
    want_answers(&world, "C");
    host_problem(&world, "the host's own config (not ours)").await;
    want_answers(&world, "B");
    world.host.write_nginx(true, "");
    answers(&world, "B").await;
}

#[tokio::test]
async fn a_map_that_is_right_is_left_alone_at_a_start() {
    let mut world = world().await;
    world.host.start_nginx().await;
    want_answers(&world, "A");
    world.offer(&world.bundle(1));
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    answers(&world, "A").await;
    world.host.end_agent().await;
    let path = world.host.path("conf.d/certwell-acme.conf");
    let inode = fs::metadata(&path).unwrap().ino();
    let workers = world.host.settled_workers().await;
    world.issuer.memory.lock().unwrap().reports.clear();
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    answers(&world, "A").await;
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    assert_eq!(world.host.workers(), workers, "no reload");
}

#[tokio::test]
async fn a_map_that_nginx_has_not_loaded_is_told_of_and_loaded_when_that_can_be() {
    let mut world = world().await;
    world.host.set_agent("edit-hold = \"0s\"");
    world.host.start_nginx().await;
    want_answers(&world, "A");
    world.offer(&world.bundle(1));
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    answers(&world, "A").await;
    // The test passes, and nginx can't bind: its old workers stay.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    world
        .host
        .write_nginx(true, &format!("server {{ listen {port}; }}"));
    want_answers(&world, "B");
    host_problem(&world, "keeps its old workers").await;
    let token = "a-token-of-the-test-0123456789";
    let path = format!("/.well-known/acme-challenge/{token}");
    let answered = || get(world.host.http, &path);
    assert!(answered().ends_with(&format!("{token}.{}", "A".repeat(43))));
    drop(taken);
    answers(&world, "B").await;
    eventually("the old workers are gone", || async {
        answered()
            .ends_with(&format!("{token}.{}", "B".repeat(43)))
            .then_some(())
    })
    .await;
}

/// As a crash between writing the map and the reload leaves it: newer than the workers.
async fn map_is_newer_than_the_workers(world: &World) {
    world.host.workers_are_older_than_edits().await;
    let path = world.host.path("conf.d/certwell-acme.conf");
    let text = fs::read(&path).unwrap();
    fs::write(&path, text).unwrap();
}

#[tokio::test]
async fn a_map_that_a_crash_left_unloaded_is_loaded_at_the_next_start() {
    let mut world = world().await;
    world.host.start_nginx().await;
    want_answers(&world, "A");
    world.offer(&world.bundle(1));
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    answers(&world, "A").await;
    world.host.end_agent().await;
    map_is_newer_than_the_workers(&world).await;
    let workers = world.host.settled_workers().await;
    world.host.start_agent();
    eventually("new workers", || async {
        let now = world.host.workers();
        (!now.is_empty() && !now.iter().any(|worker| workers.contains(worker))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_agent_s_own_map_is_no_edit_to_wait_for() {
    let mut world = world().await;
    world.host.start_nginx().await;
    want_answers(&world, "A");
    world.offer(&world.bundle(1));
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    answers(&world, "A").await;
    map_is_newer_than_the_workers(&world).await;
    world.offer(&world.bundle(2));
    world.outcome(2, v1::Outcome::Converged).await;
    assert!(!world.host.agent_log().contains("step=Hold"));
}

#[tokio::test]
async fn a_map_that_another_hand_emptied_or_removed_is_put_back_and_answers() {
    let mut world = world().await;
    world.host.start_nginx().await;
    want_answers(&world, "A");
    world.offer(&world.bundle(1));
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    answers(&world, "A").await;
    let path = world.host.path("conf.d/certwell-acme.conf");
    let whole = fs::read_to_string(&path).unwrap();
    let token = "certwell-test-token-0001";
    let question = format!("/.well-known/acme-challenge/{token}");
    let answer = format!("{token}.{}", "A".repeat(43));
    let answered = |what: &'static str| {
        let (path, whole, http) = (path.clone(), whole.clone(), world.host.http);
        let (question, answer) = (question.clone(), answer.clone());
        async move {
            eventually(what, || async {
                let back = fs::read_to_string(&path).is_ok_and(|text| text == whole);
                (back && get(http, &question).contains(&answer)).then_some(())
            })
            .await;
        }
    };
    answered("answered at first").await;

    fs::write(
        &path,
        "map \"$host $uri\" $certwell_acme_reply { default \"\"; }\n",
    )
    .unwrap();
    world.host.reload_nginx();
    answered("answered after it was emptied").await;

    fs::remove_file(&path).unwrap();
    answered("answered after it was removed").await;
    // And an install goes on as ever.
    world.offer(&world.bundle(2));
    world.outcome(2, v1::Outcome::Converged).await;
}

#[tokio::test]
async fn a_removed_map_is_put_back_on_a_broken_host_too() {
    let mut world = world().await;
    world.host.set_agent("edit-hold = \"0s\"");
    world.host.start_nginx().await;
    want_answers(&world, "A");
    world.offer(&world.bundle(1));
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    answers(&world, "A").await;
    let path = world.host.path("conf.d/certwell-acme.conf");
    let whole = fs::read_to_string(&path).unwrap();
    world.host.write_nginx(true, "sssl on;");
    fs::remove_file(&path).unwrap();
    host_problem(&world, "the host's own config (not ours)").await;
    assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    world.host.write_nginx(true, "");
    answers(&world, "A").await;
}
