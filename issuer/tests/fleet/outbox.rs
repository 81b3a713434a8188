//! Alerts on their way: receivers that refuse, a store that fails, and a stop in the middle.

use std::time::Duration;

use certwell_proto::v1::{self, EventKind};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::{
    ear::{BROKEN, Ear, FINE, LATER},
    world::World,
};

/// Everything that isn't told of in a test is quick; nobody looks from outside, where these hosts aren't.
const QUICK: &str = "[probe]\nenabled = false\n[alerts]\nevery = \"200ms\"\nsettle = \"200ms\"\n";

fn declare(world: &World, name: &str, text: &str) {
    let directory = world.config.with_file_name("conf.d");
    let new = directory.join("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, directory.join(name)).unwrap();
}

/// Alerts go to these, in this order.
fn tell(world: &World, ears: &[&Ear], settings: &str) {
    let notifiers: String = ears.iter().map(|ear| ear.declared()).collect();
    declare(
        world,
        "alerts.toml",
        &format!("{QUICK}{settings}{notifiers}"),
    );
}

/// As soon as somebody is declared who is told of it.
async fn drill(world: &mut World) -> v1::Alert {
    let began = Instant::now();
    loop {
        match world.admin.drill(v1::DrillRequest {}).await {
            Ok(made) => return made.into_inner().alert.unwrap(),
            Err(refused) => assert!(began.elapsed() < Duration::from_secs(60), "{refused}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn open(world: &mut World) -> Vec<v1::Alert> {
    let request = v1::ListAlertsRequest { all: false };
    let listed = world.admin.list_alerts(request).await.unwrap();
    listed.into_inner().alerts
}

fn of(class: &'static str) -> impl Fn(&Value) -> bool {
    move |message| message["class"] == class
}

#[tokio::test]
async fn who_refuses_is_left_alone_for_longer_each_time_and_as_long_as_he_asks_for() {
    let mut world = World::start().await;
    let works = Ear::listen("a-works").await;
    let broken = Ear::listen("b-broken").await;
    let later = Ear::listen("c-later").await;
    broken.answer(BROKEN);
    later.answer(LATER);
    tell(
        &world,
        &[&works, &broken, &later],
        "escalate-after = \"200ms\"\nrepeat-first = \"1s\"\nrepeat-min = \"1s\"\n",
    );
    let began = Instant::now();
    drill(&mut world).await;
    works
        .hears("the seventh message", |heard| heard["number"] == 7)
        .await;
    // At least half a second apart in the end, and three before that.
    let tries = broken.numbers("drill").len() as u64;
    let halves = began.elapsed().as_secs() * 2 + 2;
    assert!(tries <= halves + 4, "{tries} in {halves} half seconds");
    broken.hears_more(2).await;
    let told = works.hears("who is broken", of("notifier-failing")).await;
    works.hears_more(2).await;
    // Of the other alert neither.
    assert_eq!(later.heard().len(), 1, "{:#?}", later.heard());
    assert_eq!(told["subject"], "b-broken");
    world.app.stop().await;
}

#[tokio::test]
async fn a_notifier_that_accepts_nothing_costs_the_next_one_no_wait() {
    let mut world = World::start().await;
    let broken = Ear::listen("a-broken").await;
    let works = Ear::listen("b-works").await;
    broken.answer(BROKEN);
    tell(&world, &[&broken, &works], "escalate-after = \"10m\"\n");
    drill(&mut world).await;
    works.hears("the drill", of("drill")).await;
    world.app.stop().await;
}

#[tokio::test]
async fn a_test_that_is_accepted_ends_the_alert_about_its_notifier_and_refused_ones_begin_it() {
    let mut world = World::start().await;
    let ear = Ear::listen("only").await;
    ear.answer(LATER);
    tell(&world, &[&ear], "");
    drill(&mut world).await;
    ear.hears("the drill", of("drill")).await;
    let test = async |world: &mut World| {
        let request = v1::TestNotifiersRequest::default();
        let answers = world.admin.test_notifiers(request).await.unwrap();
        answers.into_inner().answers[0].accepted
    };
    // After the refused drill it isn't tried again, so that only tests count.
    for _ in 0..2 {
        assert!(!test(&mut world).await);
    }
    let began = world
        .event(|event| {
            event
                .text
                .contains("was raised (warning): the notifier only")
        })
        .await;
    assert_eq!(began.kind(), EventKind::Alert);
    ear.answer(FINE);
    assert!(test(&mut world).await);
    world
        .event(|event| event.text.contains("is over: the notifier only"))
        .await;
    let open = open(&mut world).await;
    assert_eq!(open.len(), 1, "the drill: {open:?}");
    // Nor is it left alone any longer.
    ear.hears_again("drill", 2).await;
    world.app.stop().await;
}

#[tokio::test]
async fn what_is_on_its_way_is_sent_once_also_when_the_issuer_stops_meanwhile() {
    let mut world = World::start().await;
    let ear = Ear::listen("slow").await;
    tell(&world, &[&ear], "");
    ear.hold();
    let id = drill(&mut world).await.id;
    ear.hears("the drill", of("drill")).await;
    // Evaluated many times meanwhile, and asked for by people.
    for _ in 0..20 {
        assert_eq!(open(&mut world).await.len(), 1);
    }
    let restarted = async {
        let restarted = world.restart();
        tokio::pin!(restarted);
        // It waits for the answer.
        let early = timeout(Duration::from_millis(500), &mut restarted).await;
        assert!(early.is_err(), "it stopped without the answer");
        ear.let_go();
        restarted.await
    };
    let mut world = restarted.await;
    let request = v1::AcknowledgeAlertRequest {
        id,
        for_seconds: 60,
        note: String::new(),
    };
    world.admin.acknowledge_alert(request).await.unwrap();
    let end = |heard: &Value| heard["class"] == "drill" && heard["state"] == "resolved";
    ear.hears("the end", end).await;
    assert_eq!(ear.numbers("drill"), [1, 2]);
    world.app.stop().await;
}

#[tokio::test]
async fn a_changed_configuration_counts_at_once() {
    let mut world = World::start().await;
    let ear = Ear::listen("new").await;
    let began = Instant::now();
    let text = format!("[alerts]\nevery = \"10m\"\n{}", ear.declared());
    declare(&world, "alerts.toml", &text);
    drill(&mut world).await;
    ear.hears("the drill", of("drill")).await;
    // By default it is evaluated every half minute.
    assert!(began.elapsed() < Duration::from_secs(15));
    world.app.stop().await;
}

#[tokio::test]
async fn a_notifier_whose_url_has_changed_is_sent_to_there_alone() {
    let mut world = World::start().await;
    let (before, after) = (Ear::listen("hook").await, Ear::listen("hook").await);
    let often = "repeat-first = \"200ms\"\nrepeat-min = \"200ms\"\n";
    tell(&world, &[&before], often);
    drill(&mut world).await;
    before.hears_more(1).await;
    tell(&world, &[&after], often);
    after.hears_more(1).await;
    let count = before.heard().len();
    after.hears_more(5).await;
    // One may have been on its way.
    assert!(before.heard().len() <= count + 1);
    world.app.stop().await;
}

#[tokio::test]
async fn what_was_accepted_is_stored_before_anything_else_is_told_of_it() {
    let mut world = World::start().await;
    let ear = Ear::listen("hook").await;
    let outside = Ear::listen("outside").await;
    let heartbeat = format!(
        "repeat-first = \"200ms\"\nrepeat-min = \"200ms\"\nheartbeat-url = {:?}\nheartbeat-every = \"200ms\"\n",
        outside.url()
    );
    tell(&world, &[&ear], &heartbeat);
    outside.hears_more(2).await;
    world.store.fail_at(Some("put_delivery"));
    drill(&mut world).await;
    ear.hears("the drill", of("drill")).await;
    world.store.fails_again(5).await;
    assert_eq!(ear.numbers("drill"), [1], "it isn't known to have come");
    world.store.fail_at(None);
    ear.hears("the second", |heard| heard["number"] == 2).await;
    world.app.stop().await;
}

#[tokio::test]
async fn a_store_that_fails_silences_nobody_but_the_heartbeat() {
    let mut world = World::start().await;
    let ear = Ear::listen("hook").await;
    let outside = Ear::listen("outside").await;
    let heartbeat = format!(
        "heartbeat-url = {:?}\nheartbeat-every = \"200ms\"\n",
        outside.url()
    );
    tell(&world, &[&ear], &heartbeat);
    outside.hears_more(2).await;
    world.store.fail_at(Some("put_alerts"));
    declare(
        &world,
        "wrong.toml",
        "[certificate.\"x.example\"]\nhots = 1\n",
    );
    let told = ear.hears("the refused edit", of("config-refused")).await;
    assert_eq!(
        (&told["id"], &told["acknowledge"]),
        (&0.into(), &Value::Null)
    );
    let before = outside.heard().len();
    world.store.fails_again(5).await;
    // One may have been on its way.
    assert!(outside.heard().len() <= before + 1);
    let refused = world.admin.drill(v1::DrillRequest {}).await;
    assert!(refused.is_err(), "a drill that isn't kept is none");
    world.store.fail_at(None);
    outside.hears_more(2).await;
    let open = open(&mut world).await;
    let kept = open.iter().find(|alert| alert.class == "config-refused");
    assert!(kept.is_some_and(|alert| alert.id > 0), "{open:?}");
    assert_eq!(ear.numbers("config-refused"), [1]);
    world.app.stop().await;
}

#[tokio::test]
async fn the_heartbeat_comes_no_more_often_than_it_is_wanted() {
    let mut world = World::start().await;
    let ear = Ear::listen("hook").await;
    let outside = Ear::listen("outside").await;
    let heartbeat = format!(
        "repeat-first = \"300ms\"\nrepeat-min = \"300ms\"\nheartbeat-url = {:?}\nheartbeat-every = \"10m\"\n",
        outside.url()
    );
    tell(&world, &[&ear], &heartbeat);
    outside.hears_more(1).await;
    drill(&mut world).await;
    ear.hears("the sixth message", |heard| heard["number"] == 6)
        .await;
    assert_eq!(outside.heard().len(), 1);
    world.app.stop().await;
}
