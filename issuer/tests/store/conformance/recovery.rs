//! What a restore begins.

use certwell_issuer::store::{Observation, Recovery};
use certwell_proto::{Generation, Lineage};
use jiff::Timestamp;
use uuid::Uuid;

use super::super::records::*;
use super::{Any, is_conflict, issue, with_memory, with_sqlite};

behaviours! {
    a_recovery_begins_a_later_lineage_and_voids_unused_tokens
    a_recovery_ends_once_and_may_begin_again
    what_hosts_told_is_kept_until_the_next_recovery_begins
    a_raised_generation_is_never_lowered_and_the_next_one_is_higher
    an_order_that_ends_after_a_higher_generation_was_told_lowers_nothing
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn after(lineage: Lineage, ms: i64) -> Lineage {
    Lineage {
        id: Uuid::from_u128(77),
        started_ms: lineage.started_ms + ms,
    }
}

async fn a_recovery_begins_a_later_lineage_and_voids_unused_tokens(store: Any) {
    assert_eq!(store.recovery().await.unwrap(), None);
    for token in [token("used", "sally"), token("unused", "esme")] {
        store.put_token(&token).await.unwrap();
    }
    store
        .enroll(&token("used", "sally").hash, &enrolled("sally", 1))
        .await
        .unwrap();
    for early in [-1, 0] {
        is_conflict(store.begin_recovery(after(lineage(), early), at(9)).await);
    }
    assert_eq!(store.lineage().await.unwrap(), lineage());
    assert_eq!(store.recovery().await.unwrap(), None);

    let next = after(lineage(), 1);
    store.begin_recovery(next, at(9)).await.unwrap();
    assert_eq!(store.lineage().await.unwrap(), next);
    let recovery = Recovery {
        began: at(9),
        ended: None,
    };
    assert_eq!(store.recovery().await.unwrap(), Some(recovery));
    for (secret, host, void) in [("used", "sally", false), ("unused", "esme", true)] {
        let found = store.token(&token(secret, host).hash).await.unwrap();
        assert_eq!(found.unwrap().void, void, "{secret}");
    }
}

async fn a_recovery_ends_once_and_may_begin_again(store: Any) {
    store.end_recovery(at(1)).await.unwrap();
    assert_eq!(store.recovery().await.unwrap(), None);
    for round in [1, 2] {
        let next = after(lineage(), round);
        store.begin_recovery(next, at(10 * round)).await.unwrap();
        assert_eq!(store.recovery().await.unwrap().unwrap().ended, None);
        for end in [5, 6] {
            store.end_recovery(at(10 * round + end)).await.unwrap();
        }
        let recovery = Recovery {
            began: at(10 * round),
            ended: Some(at(10 * round + 5)),
        };
        assert_eq!(store.recovery().await.unwrap(), Some(recovery));
    }
}

async fn what_hosts_told_is_kept_until_the_next_recovery_begins(store: Any) {
    let begin = async |round| {
        let next = after(lineage(), round);
        store.begin_recovery(next, at(9)).await.unwrap();
    };
    let seen = |host, told: Option<u64>| Observation {
        told: told.map(Generation),
        ..observation(host, "a.example", 1)
    };
    begin(1).await;
    let told = [seen("esme", Some(0)), seen("sally", Some(4))];
    store.put_observations(&told).await.unwrap();
    store.end_recovery(at(10)).await.unwrap();
    assert_eq!(store.observations().await.unwrap(), told);
    let again = seen("sally", Some(5));
    let put = store.put_observations(std::slice::from_ref(&again)).await;
    put.unwrap();
    assert_eq!(store.observations().await.unwrap()[1], again);

    begin(2).await;
    let anew = [seen("esme", None), seen("sally", None)];
    assert_eq!(store.observations().await.unwrap(), anew);
}

async fn a_raised_generation_is_never_lowered_and_the_next_one_is_higher(store: Any) {
    issue(&store, "a.example", 2).await;
    let highest = async || store.highest_generations().await.unwrap();
    assert_eq!(highest().await, [(name("a.example"), Generation(2))]);
    for raised in [6, 4] {
        let (a, b) = (name("a.example"), name("b.example"));
        store
            .raise_generation(&a, Generation(raised))
            .await
            .unwrap();
        store.raise_generation(&b, Generation(1)).await.unwrap();
    }
    let expected = [
        (name("a.example"), Generation(6)),
        (name("b.example"), Generation(1)),
    ];
    assert_eq!(highest().await, expected);
    assert_eq!(
        store.newest_issued().await.unwrap(),
        [issued("a.example", 2)],
        "what is stored of it stays"
    );
    is_conflict(store.begin_order(&intent("a.example", 6)).await);
    issue(&store, "a.example", 7).await;
    assert_eq!(highest().await[0].1, Generation(7));
}

async fn an_order_that_ends_after_a_higher_generation_was_told_lowers_nothing(store: Any) {
    let a = name("a.example");
    store.begin_order(&intent("a.example", 3)).await.unwrap();
    store.raise_generation(&a, Generation(6)).await.unwrap();
    store.finish_order(&issued("a.example", 3)).await.unwrap();
    assert_eq!(
        store.highest_generations().await.unwrap(),
        [(a, Generation(6))]
    );
    is_conflict(store.begin_order(&intent("a.example", 6)).await);
}
