//! The agent's own alarm: the issuer is away, and what is served gets old.

use certwell_proto::v1;

use super::{
    fleet::now_second,
    host::{Host, NAME},
    issuer::eventually,
    world::{NAMES, World, world},
};

const ALARM: &str = "less than a quarter of the life of what is served is left";

/// nginx serves generation 1 of a hundred seconds' life, and the second at which its last quarter begins: in a while.
async fn serving() -> (World, i64) {
    let mut world = world().await;
    world.host.start_nginx().await;
    let made = now_second();
    let bundle = world.authority.bundle_living(NAME, 1, NAMES, (-62, 38));
    world.offer(&bundle);
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    (world, made + 38 - 25)
}

fn alarms(host: &Host) -> usize {
    host.agent_log().matches(ALARM).count()
}

#[tokio::test]
async fn without_the_issuer_the_last_quarter_is_told_when_it_begins_and_the_issuers_return_ends_it()
{
    let (mut world, begins) = serving().await;
    world.issuer.stop();
    assert_eq!(alarms(&world.host), 0);
    eventually("the alarm", || async {
        (alarms(&world.host) > 0).then_some(())
    })
    .await;
    let late = now_second() - begins;
    assert!(late >= -1, "{} s before it began", -late);
    let status = world.host.verb(&["status"]);
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(status.status.code(), Some(3), "{said}");
    assert!(said.contains("see to the issuer"), "{said}");
    eventually("it is told again", || async {
        (alarms(&world.host) > 1).then_some(())
    })
    .await;
    world.issuer.restart().await;
    eventually("the end of it", || async {
        let log = world.host.agent_log();
        log.contains("the issuer is reached again").then_some(())
    })
    .await;
}

#[tokio::test]
async fn while_the_issuer_is_there_an_old_certificate_is_no_alarm_of_the_agents() {
    let (mut world, begins) = serving().await;
    eventually("its last quarter", || async {
        (now_second() > begins).then_some(())
    })
    .await;
    let passes = world.host.passes();
    eventually("a look at it", || async {
        (world.host.passes() > passes).then_some(())
    })
    .await;
    assert_eq!(alarms(&world.host), 0, "{}", world.host.agent_log());
    let _ = world.host.end_agent().await;
}
