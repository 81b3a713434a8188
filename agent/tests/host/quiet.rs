//! What costs nothing: an agent that has nothing to do, or waits for its host or its issuer, looks now and then and
//! never without a pause.

use std::{fs, time::Duration};

use certwell_proto::v1;

use super::{
    fleet::now_second,
    host::{Host, NAME},
    issuer::eventually,
    world::{NAMES, World, serving, world},
};

/// For so long the agent is watched.
const WATCHED: Duration = Duration::from_secs(3);
/// An agent that waits makes some passes in that time; one that loops makes hundreds.
const FEW: usize = 12;

/// Until nothing that was begun comes to an end any more.
pub(crate) async fn settled(host: &Host) {
    let mut before = usize::MAX;
    eventually("the agent has come to rest", || {
        let now = host.passes();
        let rests = before == now;
        before = now;
        async move {
            tokio::time::sleep(Duration::from_millis(700)).await;
            rests.then_some(())
        }
    })
    .await;
}

async fn passes_while_watched(host: &Host) -> usize {
    let before = host.passes();
    tokio::time::sleep(WATCHED).await;
    host.passes() - before
}

/// News from the issuer that change nothing for this host.
fn nudge(world: &World) {
    world
        .issuer
        .desired
        .send_modify(|desired| desired.reconnect_window_ms += 1);
}

#[tokio::test]
async fn an_agent_that_has_all_it_wants_makes_no_pass() {
    let (world, _) = serving().await;
    settled(&world.host).await;
    assert_eq!(passes_while_watched(&world.host).await, 0);
}

#[tokio::test]
async fn a_host_without_nginx_is_looked_at_now_and_then() {
    let mut world = world().await;
    let text = fs::read_to_string(world.host.path("agent.toml")).unwrap();
    // What the agent itself writes doesn't lie beside nginx's configuration.
    let text = text.replace("\"nginx.conf\"", "\"etc/nginx.conf\"");
    fs::write(world.host.path("agent.toml"), text).unwrap();
    world.host.set_agent("binary = \"no-such-nginx\"");
    world.offer(&world.bundle(1));
    world.host.start_agent();
    let report = world.outcome(1, v1::Outcome::Held).await;
    assert!(
        report.problem.contains("nginx is absent")
            && report.problem.contains("installed all the same"),
        "{}",
        report.problem
    );
    let passes = passes_while_watched(&world.host).await;
    assert!((1..=FEW).contains(&passes), "{passes} passes");
    assert_eq!(world.host.activations(NAME, 1), 1);
}

#[tokio::test]
async fn a_stopped_nginx_is_waited_for_without_testing_it_again() {
    let mut world = world().await;
    world.offer(&world.bundle(1));
    world.host.begin_map();
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Held).await;
    let tests = world.host.tests_of_nginx();
    let passes = passes_while_watched(&world.host).await;
    assert!((1..=FEW).contains(&passes), "{passes} passes");
    // Its retry is put off, not forgotten and then made at the next occasion.
    for _ in 0..2 {
        let before = world.host.passes();
        nudge(&world);
        eventually("a pass", || async {
            (world.host.passes() > before).then_some(())
        })
        .await;
    }
    settled(&world.host).await;
    assert_eq!(world.host.tests_of_nginx(), tests);
}

#[tokio::test]
async fn an_edit_in_progress_is_waited_for_without_testing_anything_and_then_all_is_quiet() {
    let (world, _) = serving().await;
    world.host.workers_are_older_than_edits().await;
    world.host.write_nginx(true, "# half an edit");
    world.offer(&world.bundle(2));
    world.outcome(2, v1::Outcome::Held).await;
    let tests = world.host.tests_of_nginx();
    let passes = passes_while_watched(&world.host).await;
    assert!((1..=FEW).contains(&passes), "{passes} passes");
    assert_eq!(world.host.tests_of_nginx(), tests);
    // It is over without an event that tells so.
    world.host.reload_nginx();
    world.outcome(2, v1::Outcome::Converged).await;
    // And once more, so short that the first look at it is past when it is over.
    world.host.workers_are_older_than_edits().await;
    world.host.write_nginx(true, "# another one");
    world.offer(&world.bundle(3));
    world.outcome(3, v1::Outcome::Held).await;
    world.host.reload_nginx();
    world.outcome(3, v1::Outcome::Converged).await;
    settled(&world.host).await;
    assert_eq!(passes_while_watched(&world.host).await, 0);
}

#[tokio::test]
async fn listeners_of_an_edit_are_looked_at_when_it_is_loaded() {
    let mut world = world().await;
    world.host.start_nginx().await;
    world.offer(&world.bundle(1));
    world.host.start_agent();
    let report = world.outcome(1, v1::Outcome::Converged).await;
    let before = report.served.unwrap().listeners.len();
    world.host.workers_are_older_than_edits().await;
    let live = world.host.live();
    let (port, live) = (super::host::free_port(), live.display());
    world.host.write_nginx(
        true,
        &format!(
            "server {{ listen {port} ssl; server_name {NAME}; ssl_certificate {live}/fullchain.pem; \
             ssl_certificate_key {live}/privkey.pem; }}"
        ),
    );
    // Not before: what isn't loaded yet would look as if it were down.
    let passes = passes_while_watched(&world.host).await;
    assert!((1..=FEW).contains(&passes), "{passes} passes");
    let tests = world.host.tests_of_nginx();
    let workers = world.host.settled_workers().await;
    let told = world.issuer.memory.lock().unwrap().reports[NAME].clone();
    assert_eq!(told.served.as_ref().unwrap().listeners.len(), before);
    assert_eq!(told.outcome(), v1::Outcome::Converged);
    world.host.reload_nginx();
    world
        .issuer
        .told("the new listener", NAME, |report| {
            let served = report.served.as_ref();
            served.is_some_and(|served| {
                served.listeners.len() > before && served.generation == Some(1)
            })
        })
        .await;
    assert_eq!(world.host.tests_of_nginx(), tests, "nothing was in doubt");
    assert_ne!(world.host.workers(), workers, "the operator's own reload");
    settled(&world.host).await;
    assert_eq!(passes_while_watched(&world.host).await, 0);
}

#[tokio::test]
async fn a_map_that_a_broken_host_refuses_is_not_tried_all_the_time() {
    let mut world = world().await;
    world.host.set_agent("edit-hold = \"0s\"");
    world.host.start_nginx().await;
    world.host.start_agent();
    eventually("the agent is at work", || async {
        world.host.agent_log().contains("connected").then_some(())
    })
    .await;
    world.host.write_nginx(true, "sssl on;");
    world.issuer.desired.send_modify(|desired| {
        desired.challenges = vec![v1::Challenge {
            names: vec![NAME.into()],
            thumbprint: "A".repeat(43),
        }];
    });
    eventually("it is told", || async {
        let told = world.issuer.memory.lock().unwrap().host_problem.clone();
        told.contains("not ours").then_some(())
    })
    .await;
    let passes = passes_while_watched(&world.host).await;
    assert!((1..=FEW).contains(&passes), "{passes} passes");
}

#[tokio::test]
async fn short_lives_are_looked_at_again_though_nothing_seems_to_change() {
    let mut world = world().await;
    world.host.start_nginx().await;
    let bundle = world.authority.bundle_living(NAME, 1, NAMES, (-1, 90));
    world.offer(&bundle);
    world.host.start_agent();
    let report = world.outcome(1, v1::Outcome::Converged).await;
    let looked = report.served.unwrap().agent_at_ms;
    let begun = now_second();
    let before = world.host.passes();
    world
        .issuer
        .told("a later look", NAME, |report| {
            let served = report.served.as_ref();
            served.is_some_and(|served| served.agent_at_ms > looked + 5_000)
        })
        .await;
    assert!(now_second() - begun >= 5);
    let passes = world.host.passes() - before;
    assert!(passes <= FEW, "{passes} passes");
    // Nor after it.
    let passes = passes_while_watched(&world.host).await;
    assert!(passes <= 2, "{passes} passes");
}

#[tokio::test]
async fn what_fails_again_and_again_is_tried_less_and_less_often() {
    let mut world = world().await;
    world.host.start_nginx().await;
    world.offer(&world.bundle(1));
    world.issuer.memory.lock().unwrap().bundles.clear();
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Held).await;
    // After 1 to 2 seconds, then 2 to 4, then 4 to 8.
    tokio::time::sleep(3 * WATCHED).await;
    let tried = world.issuer.memory.lock().unwrap().fetches.len();
    assert!((3..=4).contains(&tried), "{tried} times");
}

#[tokio::test]
async fn an_issuer_that_is_away_is_dialled_again_and_again_with_pauses() {
    let (mut world, _) = serving().await;
    // What can't be drawn meanwhile wakes nobody without end.
    world.issuer.hold_offers();
    world.offer(&world.bundle(2));
    world.issuer.memory.lock().unwrap().bundles.clear();
    world.issuer.release_offers();
    world.outcome(2, v1::Outcome::Held).await;
    world.issuer.stop();
    let lost = |host: &Host| {
        host.agent_log()
            .matches("no connection to the issuer")
            .count()
    };
    eventually("two failures", || async {
        (lost(&world.host) >= 2).then_some(())
    })
    .await;
    let before = lost(&world.host);
    let passes = passes_while_watched(&world.host).await;
    let dialled = lost(&world.host) - before;
    assert!(dialled <= FEW, "{dialled} attempts");
    assert!(passes <= FEW, "{passes} passes");
}

#[tokio::test]
async fn what_changes_during_the_first_pass_of_an_agent_is_noticed_after_it() {
    let (mut world, _) = serving().await;
    const OTHER: &str = "other.example.org";
    let other = world.authority.bundle(OTHER, 1, &[OTHER]);
    world.issuer.offer(&world.authority, &other, &[OTHER]);
    let link = world.host.path("live").join(OTHER);
    eventually("the other is active", || async {
        link.join("fullchain.pem").exists().then_some(())
    })
    .await;
    world.host.end_agent().await;
    // A reload that lasts until it may go on.
    let (begun, may_go_on) = (world.host.path("run/begun"), world.host.path("run/may"));
    world.host.set_agent(&format!(
        "reload = \"echo >> {}; while ! test -e {}; do sleep 0.05; done; kill -HUP $(cat {})\"",
        begun.display(),
        may_go_on.display(),
        world.host.path("run/nginx.pid").display()
    ));
    let reloads = |count: usize| {
        let begun = begun.clone();
        eventually("a reload has begun", move || {
            let text = fs::read_to_string(&begun).unwrap_or_default();
            async move { (text.lines().count() == count).then_some(()) }
        })
    };
    let desired = world.host.path("state/desired.bin");
    let kept = || fs::read(&desired).unwrap();
    let first = kept();
    let second = world.bundle(2);
    world.offer(&second);
    world.host.start_agent();
    reloads(1).await;
    eventually("what is wanted is kept", || async {
        (kept() != first).then_some(())
    })
    .await;
    world.host.kill_agent();
    // It begins with what is not served yet.
    world.host.start_agent();
    reloads(2).await;
    fs::remove_file(&link).unwrap();
    fs::write(&may_go_on, "").unwrap();
    eventually("the link is put back", || async {
        link.is_symlink().then_some(())
    })
    .await;
}
