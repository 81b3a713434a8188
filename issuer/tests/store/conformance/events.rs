//! Events: numbered, found by what they are about, removed when they are old.

use certwell_issuer::store::{EventFilter, EventRecord};

use super::super::records::*;
use super::{Any, with_memory, with_sqlite};

const ALL: u32 = 100;

behaviours! {
    events_are_numbered_upwards_and_found_by_certificate
    the_newest_events_are_found_from_their_end
    a_host_s_events_are_found_among_any_number_of_others
    event_numbers_are_not_given_twice
}

fn every() -> EventFilter {
    EventFilter::default()
}

fn of(certificate: &str) -> EventFilter {
    EventFilter {
        certificate: Some(name(certificate)),
        host: None,
    }
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

    let texts = |found: Vec<EventRecord>| {
        found
            .into_iter()
            .map(|event| event.text)
            .collect::<Vec<_>>()
    };
    let all = store.events(0, &every(), ALL).await.unwrap();
    assert_eq!(
        all[1],
        EventRecord {
            id: ids[1],
            ..events[1].clone()
        }
    );
    assert_eq!(texts(all), ["one", "two", "three", "four"]);
    assert_eq!(
        texts(store.events(ids[1], &every(), ALL).await.unwrap()),
        ["three", "four"]
    );
    assert_eq!(
        texts(store.events(0, &of("a.example"), ALL).await.unwrap()),
        ["one", "three"]
    );
    assert_eq!(
        texts(store.events(0, &every(), 3).await.unwrap()),
        ["one", "two", "three"]
    );
    assert_eq!(
        texts(store.events(0, &of("a.example"), 1).await.unwrap()),
        ["one"]
    );
    assert!(store.events(0, &every(), 0).await.unwrap().is_empty());
    assert_eq!(
        texts(store.events(u64::MAX, &every(), ALL).await.unwrap()),
        Vec::<String>::new()
    );
}

async fn the_newest_events_are_found_from_their_end(store: Any) {
    let mut ids = vec![0];
    for (at, of) in [(1, "a.example"), (2, "b.example"), (3, "a.example")] {
        let event = event(at, Some(of), "one of them");
        ids.push(store.add_event(&event).await.unwrap());
    }
    for (after, of, last, before) in [
        (0, every(), 1, ids[2]),
        (0, every(), 2, ids[1]),
        (0, every(), 3, 0),
        (0, every(), u32::MAX, 0),
        (0, every(), 0, ids[3]),
        (0, of("a.example"), 1, ids[1]),
        (0, of("a.example"), 2, 0),
        (ids[2], every(), 1, ids[2]),
        (ids[2], every(), 2, ids[2]),
        (u64::MAX, every(), 1, u64::MAX),
    ] {
        let found = store.before_newest_events(after, &of, last).await;
        assert_eq!(found.unwrap(), before, "{after} {of:?} {last}");
    }
}

async fn a_host_s_events_are_found_among_any_number_of_others(store: Any) {
    let about = |certificate: Option<&str>, on: Option<&str>, text: String| EventRecord {
        host: on.map(host),
        ..event(1, certificate, &text)
    };
    let a = Some("a.example");
    let mut events = vec![
        about(a, Some("sally"), "first".into()),
        about(None, Some("sally"), "second".into()),
        about(a, Some("sally"), "third".into()),
    ];
    events.extend((0..2_000).map(|number| {
        let on = [None, Some("esme")][number % 2];
        about(a, on, format!("other {number}"))
    }));
    let ids = store.add_events(&events).await.unwrap();
    let sally = |certificate: Option<&str>| EventFilter {
        certificate: certificate.map(name),
        host: Some(host("sally")),
    };
    for (of, after, texts) in [
        (sally(None), 0, &["first", "second", "third"][..]),
        (sally(None), ids[0], &["second", "third"]),
        (sally(a), 0, &["first", "third"]),
        (sally(Some("b.example")), 0, &[]),
    ] {
        let found = store.events(after, &of, ALL).await.unwrap();
        let found: Vec<&str> = found.iter().map(|event| event.text.as_str()).collect();
        assert_eq!(found, texts, "{of:?}");
        assert!(texts.len() < 2 || store.events(after, &of, 1).await.unwrap().len() == 1);
    }
    for (of, after, last, before) in [
        (sally(None), 0, 1, ids[1]),
        (sally(None), 0, 2, ids[0]),
        (sally(None), 0, 3, 0),
        (sally(None), ids[0], 9, ids[0]),
        (sally(a), 0, 1, ids[0]),
        (sally(Some("b.example")), 0, 1, 0),
    ] {
        let found = store.before_newest_events(after, &of, last).await;
        assert_eq!(found.unwrap(), before, "{of:?} {after} {last}");
    }
}

async fn event_numbers_are_not_given_twice(store: Any) {
    let first = store.add_event(&event(1, None, "one")).await.unwrap();
    let second = store.add_event(&event(2, None, "two")).await.unwrap();
    assert_eq!(store.prune_events(minute(2)).await.unwrap(), 1);
    assert_eq!(store.events(0, &every(), ALL).await.unwrap()[0].id, second);
    assert_eq!(store.prune_events(minute(3)).await.unwrap(), 1);
    let third = store.add_event(&event(3, None, "three")).await.unwrap();
    assert!(first < second && second < third);
}
