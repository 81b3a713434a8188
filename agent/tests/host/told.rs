//! How the issuer is found again, and told what it didn't take.

use certwell_proto::v1;

use super::{
    issuer::eventually,
    world::{leaf, world},
};

#[tokio::test]
async fn a_report_that_was_not_taken_is_told_again_though_nothing_changes() {
    let mut world = world().await;
    world.host.start_nginx().await;
    world.offer(&world.bundle(1));
    world.issuer.memory.lock().unwrap().busy = u32::MAX;
    world.host.start_agent();
    let refused = || {
        let log = world.host.agent_log();
        let (_, later) = log.split_once("served on every listener")?;
        (later.matches("didn't take the report").count() >= 2).then_some(())
    };
    eventually("the last report is refused", || async { refused() }).await;
    world.issuer.memory.lock().unwrap().busy = 0;
    world.outcome(1, v1::Outcome::Converged).await;
}

#[tokio::test]
async fn endpoints_that_lead_nowhere_leave_those_of_the_enrollment() {
    let mut world = world().await;
    world.host.start_nginx().await;
    world
        .issuer
        .desired
        .send_modify(|desired| desired.endpoints = vec!["127.0.0.1:9".into()]);
    world.offer(&world.bundle(1));
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    world.issuer.stop();
    let second = world.bundle(2);
    world.offer(&second);
    world.issuer.restart().await;
    world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&second)));
}
