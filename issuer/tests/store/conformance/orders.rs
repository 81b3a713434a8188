//! Orders, their failures, and the bundles that they end in.

use certwell_issuer::store::StoredLeaf;
use certwell_proto::{Fingerprint, Generation};

use super::super::records::*;
use super::{Any, is_conflict, issue, with_memory, with_sqlite};

behaviours! {
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
    let leaf = |of: certwell_issuer::store::Issued| {
        let leaf = StoredLeaf {
            fingerprint: Fingerprint::of(&of.fullchain[0]),
            not_before: of.not_before,
            not_after: of.not_after,
        };
        (of.certificate, of.generation, leaf)
    };
    assert_eq!(
        store.leaves().await.unwrap(),
        [
            leaf(issued("a.example", 1)),
            leaf(a_month_longer("b.example", 2)),
            leaf(a_month_longer("b.example", 10)),
        ]
    );
    store.prune_bundles(1).await.unwrap();
    assert_eq!(
        store.leaves().await.unwrap(),
        [
            leaf(issued("a.example", 1)),
            leaf(a_month_longer("b.example", 10)),
        ]
    );
}
