//! What the issuer keeps, and what it lets go of.

use std::time::Duration;

use certwell_issuer::store::Store as _;
use certwell_proto::JoinToken;
use tokio::time::{Instant, sleep};

use crate::world::World;

#[tokio::test]
async fn tokens_that_expired_long_ago_are_removed_and_others_stay() {
    let mut world = World::start().await;
    let hash = |token: &JoinToken| JoinToken::secret_hash(token.secret.expose());
    let old = hash(&world.token("sally").await);
    let fresh = hash(&world.token("esme").await);
    let world = world
        .restart_after("UPDATE token SET expires = 1 WHERE host = 'sally'")
        .await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while world.store.token(&old).await.unwrap().is_some() {
        assert!(Instant::now() < deadline, "the old token stays");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(world.store.token(&fresh).await.unwrap().is_some());
    world.app.stop().await;
}
