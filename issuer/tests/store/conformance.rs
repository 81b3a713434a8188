//! One test for each behaviour that the trait promises, run against each store.

use std::{future::Future, sync::Arc};

use certwell_issuer::store::{
    Store, StoreError,
    keys::{Kek, RecoveryKey},
    memory::MemoryStore,
    sqlite::SqliteStore,
};
use certwell_proto::Generation;

use super::records::*;

type Any = Arc<dyn Store>;

async fn with_memory<F: Future<Output = ()>>(test: fn(Any) -> F) {
    test(Arc::new(MemoryStore::new(lineage(), fleet_ca()))).await;
}

async fn with_sqlite<F: Future<Output = ()>>(test: fn(Any) -> F) {
    let parent = tempfile::tempdir().unwrap();
    let (kek, recovery) = (Kek::generate().unwrap(), RecoveryKey::generate().unwrap());
    let directory = parent.path().join("state");
    let store = SqliteStore::create(&directory, &kek, &recovery, lineage(), &fleet_ca())
        .await
        .unwrap();
    test(Arc::new(store)).await;
}

macro_rules! behaviours {
    ($($name:ident)*) => {
        mod memory {
            $(#[tokio::test] async fn $name() { super::with_memory(super::$name).await; })*
        }
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::with_sqlite(super::$name).await; })*
        }
    };
}

behaviours! {
    lineage_and_fleet_ca_are_what_the_store_began_with
    an_account_is_stored_with_its_key_alone_then_with_its_url
    an_intent_comes_back_whole
    a_second_order_of_one_certificate_is_refused
    an_order_can_not_begin_at_or_below_an_issued_generation
    pruned_generations_still_count
    an_order_has_one_url_until_it_fails
    a_failed_order_keeps_its_intent_and_counts_its_failures
    failures_of_more_than_a_day_before_the_newest_are_dropped
    the_newest_hundred_failures_of_each_certificate_are_kept
    a_failure_is_counted_with_an_order_and_without_one_and_leaves_its_url
    an_abandoned_order_is_gone_and_its_failures_stay_until_the_certificate_is_issued
    steps_of_an_order_that_is_not_under_way_are_refused
    finishing_stores_the_bundle_with_the_key_of_its_intent_and_ends_the_order
    the_newest_generation_of_each_certificate_is_found
    pruning_keeps_the_newest_generations_of_each_certificate
    the_end_of_every_stored_generation_is_known
    a_token_voids_the_older_unused_ones_of_its_host_only
    a_token_is_never_stored_twice
    a_token_lets_one_bound_key_in_as_often_as_it_asks
    void_unknown_and_foreign_tokens_let_nobody_in
    voiding_tokens_counts_the_unused_ones
    a_host_is_replaced_whole
    a_revocation_or_retirement_is_never_taken_back
    what_a_host_says_of_itself_changes_nothing_else
    observations_are_replaced_and_forgotten_by_host
    events_are_numbered_upwards_and_found_by_certificate
    event_numbers_are_not_given_twice
    pauses_are_set_and_cleared
}

fn is_conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Conflict(sentence)) => sentence,
        other => panic!("a conflict was due, not {other:?}"),
    }
}

async fn issue(store: &Any, certificate: &str, generation: u64) {
    store
        .begin_order(&intent(certificate, generation))
        .await
        .unwrap();
    store
        .finish_order(&issued(certificate, generation))
        .await
        .unwrap();
}

async fn lineage_and_fleet_ca_are_what_the_store_began_with(store: Any) {
    assert_eq!(store.lineage().await.unwrap(), lineage());
    let ca = store.fleet_ca().await.unwrap();
    assert_eq!(ca.fleet.as_str(), "hachyderm");
    assert_eq!(ca.certificate, fleet_ca().certificate);
    assert_eq!(ca.key.expose(), CA_KEY);
}

async fn an_account_is_stored_with_its_key_alone_then_with_its_url(store: Any) {
    assert_eq!(store.account("https://a/").await.unwrap(), None);
    let begun = account("https://a/", None);
    store.put_account(&begun).await.unwrap();
    assert_eq!(store.account("https://a/").await.unwrap(), Some(begun));

    let made = account("https://a/", Some("https://a/acct/1"));
    store.put_account(&made).await.unwrap();
    let other = account("https://b/", None);
    store.put_account(&other).await.unwrap();
    assert_eq!(store.accounts().await.unwrap(), [made, other]);
}

async fn an_intent_comes_back_whole(store: Any) {
    store.begin_order(&intent("b.example", 1)).await.unwrap();
    store.begin_order(&intent("a.example", 3)).await.unwrap();
    let pending = store.pending_orders().await.unwrap();
    assert_eq!(pending.len(), 2);
    assert_eq!(pending[0].intent, intent("a.example", 3));
    assert_eq!(pending[1].intent, intent("b.example", 1));
    assert!(pending.iter().all(|order| order.url.is_none()));
}

async fn a_second_order_of_one_certificate_is_refused(store: Any) {
    store.begin_order(&intent("a.example", 1)).await.unwrap();
    for generation in [1, 2] {
        let sentence = is_conflict(store.begin_order(&intent("a.example", generation)).await);
        assert!(
            sentence.contains("a.example") && sentence.contains("generation 1 is unfinished"),
            "{sentence}"
        );
    }
    assert_eq!(
        store.pending_orders().await.unwrap()[0].intent,
        intent("a.example", 1)
    );
}

async fn an_order_can_not_begin_at_or_below_an_issued_generation(store: Any) {
    is_conflict(store.begin_order(&intent("a.example", 0)).await);
    issue(&store, "a.example", 5).await;
    for generation in [0, 1, 4, 5] {
        is_conflict(store.begin_order(&intent("a.example", generation)).await);
    }
    store.begin_order(&intent("a.example", 6)).await.unwrap();
    store.begin_order(&intent("b.example", 1)).await.unwrap();
}

async fn pruned_generations_still_count(store: Any) {
    issue(&store, "a.example", 5).await;
    assert_eq!(store.prune_bundles(0).await.unwrap(), 1);
    is_conflict(store.begin_order(&intent("a.example", 5)).await);
    store.begin_order(&intent("a.example", 6)).await.unwrap();
}

async fn an_order_has_one_url_until_it_fails(store: Any) {
    let (a, one) = (name("a.example"), Generation(1));
    store.begin_order(&intent("a.example", 1)).await.unwrap();
    store
        .order_placed(&a, one, "https://ca/order/1")
        .await
        .unwrap();
    store
        .order_placed(&a, one, "https://ca/order/1")
        .await
        .unwrap();
    is_conflict(store.order_placed(&a, one, "https://ca/order/2").await);
    assert_eq!(
        store.pending_orders().await.unwrap()[0].url.as_deref(),
        Some("https://ca/order/1")
    );

    store
        .order_failed(&a, one, &failure(1, "invalid"))
        .await
        .unwrap();
    store
        .order_placed(&a, one, "https://ca/order/2")
        .await
        .unwrap();
    assert_eq!(
        store.pending_orders().await.unwrap()[0].url.as_deref(),
        Some("https://ca/order/2")
    );
}

async fn a_failed_order_keeps_its_intent_and_counts_its_failures(store: Any) {
    let (a, one) = (name("a.example"), Generation(1));
    store.begin_order(&intent("a.example", 1)).await.unwrap();
    store
        .order_placed(&a, one, "https://ca/order/1")
        .await
        .unwrap();
    store
        .order_failed(&a, one, &failure(2, "first"))
        .await
        .unwrap();
    store
        .order_failed(&a, one, &failure(7, "second"))
        .await
        .unwrap();

    let pending = store.pending_orders().await.unwrap();
    assert_eq!(pending[0].intent, intent("a.example", 1));
    assert_eq!(pending[0].url, None);
    assert_eq!(
        store.failures().await.unwrap(),
        [(a.clone(), failure(2, "first")), (a, failure(7, "second"))]
    );
}

async fn failures_of_more_than_a_day_before_the_newest_are_dropped(store: Any) {
    let (a, b) = (name("a.example"), name("b.example"));
    let day = 24 * 60;
    store.record_failure(&b, &failure(0, "b")).await.unwrap();
    // One that comes late is judged by the newest too.
    for (minutes, problem) in [(0, "old"), (1, "a day ago"), (day + 1, "new"), (0, "late")] {
        store
            .record_failure(&a, &failure(minutes, problem))
            .await
            .unwrap();
    }
    assert_eq!(
        store.failures().await.unwrap(),
        [
            (b, failure(0, "b")),
            (a.clone(), failure(1, "a day ago")),
            (a, failure(day + 1, "new"))
        ]
    );
}

async fn the_newest_hundred_failures_of_each_certificate_are_kept(store: Any) {
    let (a, b) = (name("a.example"), name("b.example"));
    store.record_failure(&b, &failure(0, "b")).await.unwrap();
    for minutes in 0..103 {
        store
            .record_failure(&a, &failure(minutes, "x"))
            .await
            .unwrap();
    }
    let failures = store.failures().await.unwrap();
    let minutes = |minutes: std::ops::Range<i64>| minutes.map(|at| (a.clone(), failure(at, "x")));
    let expected: Vec<_> = std::iter::once((b, failure(0, "b")))
        .chain(minutes(3..103))
        .collect();
    assert_eq!(failures, expected);
}

async fn a_failure_is_counted_with_an_order_and_without_one_and_leaves_its_url(store: Any) {
    let (a, one) = (name("a.example"), Generation(1));
    store
        .record_failure(&a, &failure(1, "before"))
        .await
        .unwrap();
    store.begin_order(&intent("a.example", 1)).await.unwrap();
    store
        .order_placed(&a, one, "https://ca/order/1")
        .await
        .unwrap();
    store
        .record_failure(&a, &failure(2, "under way"))
        .await
        .unwrap();
    assert_eq!(
        store.pending_orders().await.unwrap()[0].url.as_deref(),
        Some("https://ca/order/1")
    );
    assert_eq!(
        store.failures().await.unwrap(),
        [
            (a.clone(), failure(1, "before")),
            (a, failure(2, "under way"))
        ]
    );
}

async fn an_abandoned_order_is_gone_and_its_failures_stay_until_the_certificate_is_issued(
    store: Any,
) {
    let (a, b, one) = (name("a.example"), name("b.example"), Generation(1));
    store.record_failure(&b, &failure(3, "b")).await.unwrap();
    store.begin_order(&intent("a.example", 1)).await.unwrap();
    store.order_failed(&a, one, &failure(1, "x")).await.unwrap();
    store.abandon_order(&a, one).await.unwrap();
    assert_eq!(store.pending_orders().await.unwrap(), []);
    assert_eq!(store.newest_issued().await.unwrap(), []);
    let both = [(a.clone(), failure(1, "x")), (b.clone(), failure(3, "b"))];
    assert_eq!(store.failures().await.unwrap(), both);

    store.begin_order(&intent("a.example", 1)).await.unwrap();
    assert_eq!(store.failures().await.unwrap(), both);
    store.finish_order(&issued("a.example", 1)).await.unwrap();
    assert_eq!(store.failures().await.unwrap(), [(b, failure(3, "b"))]);
}

async fn steps_of_an_order_that_is_not_under_way_are_refused(store: Any) {
    let a = name("a.example");
    store.begin_order(&intent("a.example", 2)).await.unwrap();
    for generation in [Generation(1), Generation(3)] {
        is_conflict(
            store
                .order_placed(&a, generation, "https://ca/order/1")
                .await,
        );
        is_conflict(store.order_failed(&a, generation, &failure(1, "x")).await);
        is_conflict(store.abandon_order(&a, generation).await);
        is_conflict(store.finish_order(&issued("a.example", generation.0)).await);
    }
    is_conflict(store.finish_order(&issued("b.example", 2)).await);
    let pending = store.pending_orders().await.unwrap();
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].url, None);
    assert_eq!(store.failures().await.unwrap(), []);
    assert_eq!(store.newest_issued().await.unwrap(), []);
}

async fn finishing_stores_the_bundle_with_the_key_of_its_intent_and_ends_the_order(store: Any) {
    let (a, one) = (name("a.example"), Generation(1));
    store.begin_order(&intent("a.example", 1)).await.unwrap();
    store.order_failed(&a, one, &failure(1, "x")).await.unwrap();
    store
        .order_placed(&a, one, "https://ca/order/1")
        .await
        .unwrap();
    assert_eq!(store.bundle(&a, one).await.unwrap(), None);

    store.finish_order(&issued("a.example", 1)).await.unwrap();

    assert_eq!(store.pending_orders().await.unwrap(), []);
    assert_eq!(
        store.newest_issued().await.unwrap(),
        [issued("a.example", 1)]
    );
    let bundle = store.bundle(&a, one).await.unwrap().unwrap();
    assert_eq!((&bundle.certificate, bundle.generation), (&a, one));
    assert_eq!(bundle.key_pairs.len(), 1);
    assert_eq!(
        bundle.key_pairs[0].fullchain,
        issued("a.example", 1).fullchain
    );
    assert_eq!(
        bundle.key_pairs[0].private_key,
        intent("a.example", 1).private_key
    );
    is_conflict(store.finish_order(&issued("a.example", 1)).await);
}

async fn the_newest_generation_of_each_certificate_is_found(store: Any) {
    for generation in [1, 2, 9, 10] {
        issue(&store, "a.example", generation).await;
    }
    issue(&store, "b.example", 2).await;
    assert_eq!(
        store.newest_issued().await.unwrap(),
        [issued("a.example", 10), issued("b.example", 2)]
    );
    let older = store
        .bundle(&name("a.example"), Generation(9))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        older.key_pairs[0].private_key,
        intent("a.example", 9).private_key
    );
    assert_eq!(
        store
            .bundle(&name("a.example"), Generation(3))
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        store
            .bundle(&name("c.example"), Generation(1))
            .await
            .unwrap(),
        None
    );
}

async fn pruning_keeps_the_newest_generations_of_each_certificate(store: Any) {
    for generation in 1..=5 {
        issue(&store, "a.example", generation).await;
    }
    issue(&store, "b.example", 1).await;
    assert_eq!(store.prune_bundles(3).await.unwrap(), 2);
    assert_eq!(store.prune_bundles(3).await.unwrap(), 0);
    for generation in 1..=5 {
        let there = store
            .bundle(&name("a.example"), Generation(generation))
            .await
            .unwrap()
            .is_some();
        assert_eq!(there, generation >= 3, "generation {generation}");
    }
    assert_eq!(store.newest_issued().await.unwrap().len(), 2);
}

async fn the_end_of_every_stored_generation_is_known(store: Any) {
    let a_month_longer = |certificate, generation| {
        let mut issued = issued(certificate, generation);
        issued.not_after += jiff::SignedDuration::from_hours(30 * 24);
        issued
    };
    for generation in [2, 10] {
        store
            .begin_order(&intent("b.example", generation))
            .await
            .unwrap();
        store
            .finish_order(&a_month_longer("b.example", generation))
            .await
            .unwrap();
    }
    issue(&store, "a.example", 1).await;
    // What is only ordered doesn't end.
    store.begin_order(&intent("c.example", 1)).await.unwrap();
    let end = |of: certwell_issuer::store::Issued| (of.certificate, of.generation, of.not_after);
    assert_eq!(
        store.ends().await.unwrap(),
        [
            end(issued("a.example", 1)),
            end(a_month_longer("b.example", 2)),
            end(a_month_longer("b.example", 10)),
        ]
    );
    store.prune_bundles(1).await.unwrap();
    assert_eq!(
        store.ends().await.unwrap(),
        [
            end(issued("a.example", 1)),
            end(a_month_longer("b.example", 10)),
        ]
    );
}

async fn a_token_voids_the_older_unused_ones_of_its_host_only(store: Any) {
    for token in [token("used", "sally"), token("other", "esme")] {
        store.put_token(&token).await.unwrap();
    }
    store
        .enroll(&token("used", "sally").hash, &enrolled("sally", 1))
        .await
        .unwrap();
    store.put_token(&token("second", "sally")).await.unwrap();
    store.put_token(&token("third", "sally")).await.unwrap();

    for (secret, void) in [
        ("used", false),
        ("other", false),
        ("second", true),
        ("third", false),
    ] {
        let found = store
            .token(&token(secret, "sally").hash)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(found.void, void, "{secret}");
    }
    assert_eq!(
        store.token(&token("third", "sally").hash).await.unwrap(),
        Some(token("third", "sally"))
    );
    assert_eq!(store.token(&[0; 32]).await.unwrap(), None);
}

async fn a_token_is_never_stored_twice(store: Any) {
    store.put_token(&token("one", "sally")).await.unwrap();
    store
        .enroll(&token("one", "sally").hash, &enrolled("sally", 1))
        .await
        .unwrap();
    is_conflict(store.put_token(&token("one", "sally")).await);
    let found = store
        .token(&token("one", "sally").hash)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.used_by, Some([1; 32]));
}

async fn a_token_lets_one_bound_key_in_as_often_as_it_asks(store: Any) {
    let hash = token("one", "sally").hash;
    store.put_token(&token("one", "sally")).await.unwrap();
    store.enroll(&hash, &enrolled("sally", 1)).await.unwrap();
    let mut again = enrolled("sally", 1);
    again.host.identity = vec![77; 10];
    store.enroll(&hash, &again).await.unwrap();

    let sentence = is_conflict(store.enroll(&hash, &enrolled("sally", 2)).await);
    assert!(
        sentence.contains("sally") && sentence.contains("another machine"),
        "{sentence}"
    );
    assert_eq!(store.hosts().await.unwrap(), [again.host]);
    assert_eq!(
        store.token(&hash).await.unwrap().unwrap().used_by,
        Some([1; 32])
    );
}

async fn void_unknown_and_foreign_tokens_let_nobody_in(store: Any) {
    store.put_token(&token("old", "sally")).await.unwrap();
    store.put_token(&token("new", "sally")).await.unwrap();
    for (secret, of) in [("old", "sally"), ("unknown", "sally"), ("new", "esme")] {
        is_conflict(
            store
                .enroll(&token(secret, of).hash, &enrolled(of, 1))
                .await,
        );
    }
    assert_eq!(store.hosts().await.unwrap(), []);
    assert_eq!(
        store
            .token(&token("new", "sally").hash)
            .await
            .unwrap()
            .unwrap()
            .used_by,
        None
    );
}

async fn voiding_tokens_counts_the_unused_ones(store: Any) {
    store.put_token(&token("used", "sally")).await.unwrap();
    store
        .enroll(&token("used", "sally").hash, &enrolled("sally", 1))
        .await
        .unwrap();
    store.put_token(&token("unused", "sally")).await.unwrap();
    assert_eq!(store.void_tokens(&host("sally")).await.unwrap(), 1);
    assert_eq!(store.void_tokens(&host("sally")).await.unwrap(), 0);
    assert_eq!(store.void_tokens(&host("esme")).await.unwrap(), 0);
    is_conflict(
        store
            .enroll(&token("unused", "sally").hash, &enrolled("sally", 1))
            .await,
    );
}

async fn a_host_is_replaced_whole(store: Any) {
    store.put_host(&host_record("sally")).await.unwrap();
    store.put_host(&host_record("esme")).await.unwrap();
    let mut revoked = host_record("sally");
    revoked.revoked = Some(minute(9));
    revoked.retired = true;
    revoked.last_seen = None;
    revoked.identity_key = [7; 32];
    store.put_host(&revoked).await.unwrap();
    assert_eq!(store.hosts().await.unwrap(), [host_record("esme"), revoked]);
}

async fn a_revocation_or_retirement_is_never_taken_back(store: Any) {
    let mut revoked = host_record("sally");
    revoked.revoked = Some(minute(9));
    revoked.retired = true;
    store.put_host(&revoked).await.unwrap();
    // A record that was read before, written after.
    store.put_host(&host_record("sally")).await.unwrap();
    let kept = store.hosts().await.unwrap();
    assert_eq!((kept[0].revoked, kept[0].retired), (Some(minute(9)), true));
    revoked.revoked = Some(minute(11));
    store.put_host(&revoked).await.unwrap();
    assert_eq!(store.hosts().await.unwrap()[0].revoked, Some(minute(11)));
}

async fn what_a_host_says_of_itself_changes_nothing_else(store: Any) {
    store.put_host(&host_record("sally")).await.unwrap();
    let info = certwell_proto::v1::HostInfo {
        hostname: "sally.lan".into(),
        ..Default::default()
    };
    store
        .host_seen(&host("sally"), minute(30), &info)
        .await
        .unwrap();
    store
        .host_seen(&host("nobody"), minute(30), &info)
        .await
        .unwrap();
    let mut expected = host_record("sally");
    expected.last_seen = Some(minute(30));
    expected.info = info;
    assert_eq!(store.hosts().await.unwrap(), [expected]);
}

async fn observations_are_replaced_and_forgotten_by_host(store: Any) {
    store.put_observations(&[]).await.unwrap();
    let first = [
        observation("esme", "a.example", 1),
        observation("sally", "a.example", 1),
        observation("sally", "b.example", 1),
    ];
    store.put_observations(&first).await.unwrap();
    store
        .put_observations(&[observation("sally", "a.example", 2)])
        .await
        .unwrap();
    let now = [
        first[0].clone(),
        observation("sally", "a.example", 2),
        first[2].clone(),
    ];
    assert_eq!(store.observations().await.unwrap(), now);

    store.forget_host(&host("sally")).await.unwrap();
    assert_eq!(store.observations().await.unwrap(), [first[0].clone()]);
}

async fn events_are_numbered_upwards_and_found_by_certificate(store: Any) {
    let events = [
        event(1, Some("a.example"), "one"),
        event(2, None, "two"),
        event(3, Some("a.example"), "three"),
        event(4, Some("b.example"), "four"),
    ];
    let mut ids = Vec::new();
    for event in &events {
        ids.push(store.add_event(event).await.unwrap());
    }
    assert!(ids[0] > 0 && ids.is_sorted() && ids.windows(2).all(|pair| pair[0] < pair[1]));

    let texts = |found: Vec<certwell_issuer::store::EventRecord>| {
        found
            .into_iter()
            .map(|event| event.text)
            .collect::<Vec<_>>()
    };
    let a = name("a.example");
    let all = store.events(0, None, None).await.unwrap();
    assert_eq!(
        all[1],
        certwell_issuer::store::EventRecord {
            id: ids[1],
            ..events[1].clone()
        }
    );
    assert_eq!(texts(all), ["one", "two", "three", "four"]);
    assert_eq!(
        texts(store.events(ids[1], None, None).await.unwrap()),
        ["three", "four"]
    );
    assert_eq!(
        texts(store.events(0, Some(&a), None).await.unwrap()),
        ["one", "three"]
    );
    assert_eq!(
        texts(store.events(0, None, Some(3)).await.unwrap()),
        ["two", "three", "four"]
    );
    assert_eq!(
        texts(store.events(0, Some(&a), Some(1)).await.unwrap()),
        ["three"]
    );
    assert_eq!(
        texts(store.events(0, None, Some(0)).await.unwrap()),
        Vec::<String>::new()
    );
    assert_eq!(
        texts(store.events(u64::MAX, None, None).await.unwrap()),
        Vec::<String>::new()
    );
}

async fn event_numbers_are_not_given_twice(store: Any) {
    let first = store.add_event(&event(1, None, "one")).await.unwrap();
    let second = store.add_event(&event(2, None, "two")).await.unwrap();
    assert_eq!(store.prune_events(minute(2)).await.unwrap(), 1);
    assert_eq!(store.events(0, None, None).await.unwrap()[0].id, second);
    assert_eq!(store.prune_events(minute(3)).await.unwrap(), 1);
    let third = store.add_event(&event(3, None, "three")).await.unwrap();
    assert!(first < second && second < third);
}

async fn pauses_are_set_and_cleared(store: Any) {
    let a = name("a.example");
    store.set_paused(Some(&a), false).await.unwrap();
    for _ in 0..2 {
        store.set_paused(Some(&a), true).await.unwrap();
        store.set_paused(None, true).await.unwrap();
    }
    assert_eq!(store.paused().await.unwrap(), [None, Some(a.clone())]);
    store.set_paused(None, false).await.unwrap();
    assert_eq!(store.paused().await.unwrap(), [Some(a.clone())]);
    store.set_paused(Some(&a), false).await.unwrap();
    assert_eq!(store.paused().await.unwrap(), []);
}
