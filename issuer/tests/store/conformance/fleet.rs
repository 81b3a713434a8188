//! Tokens, hosts, observations and pauses.

use super::super::records::*;
use super::{Any, is_conflict, with_memory, with_sqlite};

behaviours! {
    a_token_voids_the_older_unused_ones_of_its_host_only
    a_token_is_never_stored_twice
    a_token_lets_one_bound_key_in_as_often_as_it_asks
    void_unknown_and_foreign_tokens_let_nobody_in
    voiding_tokens_counts_the_unused_ones
    tokens_that_expired_long_ago_go_used_or_not
    a_host_is_replaced_whole
    a_revocation_or_retirement_is_never_taken_back
    what_a_host_says_of_itself_changes_nothing_else
    observations_are_replaced_and_forgotten_by_host
    an_inventory_is_replaced_and_goes_with_its_host
    pauses_are_set_and_cleared
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

async fn tokens_that_expired_long_ago_go_used_or_not(store: Any) {
    let expires = |secret, at| certwell_issuer::store::TokenRecord {
        expires: minute(at),
        ..token(secret, secret)
    };
    for token in [
        expires("used", 1),
        expires("unused", 2),
        expires("later", 3),
    ] {
        store.put_token(&token).await.unwrap();
    }
    let used = enrolled("used", 1);
    store
        .enroll(&token("used", "used").hash, &used)
        .await
        .unwrap();
    assert_eq!(store.prune_tokens(minute(3)).await.unwrap(), 2);
    for (secret, kept) in [("used", false), ("unused", false), ("later", true)] {
        let found = store.token(&token(secret, secret).hash).await.unwrap();
        assert_eq!(found.is_some(), kept, "{secret}");
    }
    assert_eq!(store.prune_tokens(minute(3)).await.unwrap(), 0);
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

async fn an_inventory_is_replaced_and_goes_with_its_host(store: Any) {
    assert_eq!(store.inventories().await.unwrap(), []);
    for told in [
        inventory("sally", 1),
        inventory("esme", 2),
        inventory("sally", 3),
    ] {
        store.put_inventory(&told).await.unwrap();
    }
    let both = [inventory("esme", 2), inventory("sally", 3)];
    assert_eq!(store.inventories().await.unwrap(), both);
    store.forget_host(&host("sally")).await.unwrap();
    assert_eq!(store.inventories().await.unwrap(), [inventory("esme", 2)]);
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
