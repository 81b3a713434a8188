//! What a status is made of: the facts of each host, what is said of certificates, hosts and the issuer.

use certwell_issuer::plan::{
    facts::FleetFacts,
    status::{hosts, status},
};
use certwell_proto::v1;

use crate::fleet::{MEDIA, configure, days, fleet, host, media, minutes, noon, sally_host};

#[test]
fn facts_that_have_not_happened_are_absent() {
    let now = noon();
    let mut facts = fleet(now);
    let on_sally = |facts: &FleetFacts| {
        let status = status(facts, now);
        status.certificates[0]
            .hosts
            .iter()
            .find(|h| h.host == "sally")
            .unwrap()
            .clone()
    };
    let whole = on_sally(&facts);
    assert_eq!(whole.desired.unwrap().generation, 2);
    assert_eq!(whole.served.unwrap().generation, Some(2));
    assert_eq!(whole.seen, None);
    assert_eq!(
        whole.served_not_after,
        Some((now + days(80) + minutes(5)).as_second())
    );

    *media(&mut facts, MEDIA) = Default::default();
    let bare = on_sally(&facts);
    let absent = [
        bare.desired,
        bare.fetched,
        bare.installed,
        bare.tested,
        bare.reloaded,
    ];
    assert_eq!(absent, [None; 5]);
    assert_eq!((bare.served, bare.seen), (None, None));
    assert_eq!(bare.host, "sally");
}

#[test]
fn a_certificate_says_when_it_is_renewed_and_what_is_in_the_way() {
    let now = noon();
    let mut facts = fleet(now);
    let plain = status(&facts, now).certificates.remove(0);
    assert!(
        plain
            .renew_at_ms
            .is_some_and(|at| at > now.as_millisecond())
    );
    assert_eq!(
        (plain.generation, plain.problem.as_str(), plain.paused),
        (2, "", false)
    );

    media(&mut facts, MEDIA).paused = true;
    let paused = status(&facts, now).certificates.remove(0);
    assert_eq!(paused.renew_at_ms, None);
    assert!(
        paused.paused
            && paused
                .problem
                .contains("certwell resume media.hachyderm.io")
    );

    media(&mut facts, MEDIA).paused = false;
    media(&mut facts, MEDIA).issued.as_mut().unwrap().not_after = now - days(1);
    media(&mut facts, MEDIA).order.problem = Some("letsencrypt can't be reached".into());
    let expired = status(&facts, now).certificates.remove(0);
    assert!(
        expired
            .problem
            .contains("generation 2 of media.hachyderm.io expired 24 hours ago")
    );
    assert!(expired.problem.contains("letsencrypt can't be reached"));
}

#[test]
fn the_issuer_says_what_is_in_its_own_way() {
    let now = noon();
    let mut facts = fleet(now);
    assert!(status(&facts, now).problems.is_empty());
    facts.paused = true;
    facts.config_problem = Some("conf.d/media.toml:3:1: unknown key \"hots\"".into());
    let problems = status(&facts, now).problems;
    assert_eq!(problems.len(), 2);
    assert!(problems[0].contains("conf.d/media.toml:3:1"));
    assert!(problems[1].contains("`certwell resume`"));
}

#[test]
fn hosts_are_told_with_their_life_identity_and_certificates() {
    let now = noon();
    let mut facts = fleet(now);
    configure(&mut facts, |config| {
        config.hosts.insert(host("spare"), Default::default());
        config.hosts.get_mut(&host("sally")).unwrap().labels = vec!["cdn".into()];
    });
    sally_host(&mut facts).record.as_mut().unwrap().revoked = Some(now);
    let told = hosts(&facts, now).hosts;
    let find = |name: &str| told.iter().find(|h| h.name == name).unwrap();
    assert_eq!(told.len(), 5);

    let esme = find("esme");
    assert_eq!(
        (esme.life(), esme.connected),
        (v1::HostLife::Enrolled, true)
    );
    assert_eq!(esme.identity_not_after, Some((now + days(6)).as_second()));
    assert_eq!(
        (esme.certificates.as_slice(), esme.problem.as_str()),
        (&[MEDIA.to_owned()][..], "")
    );
    assert_eq!(esme.info.as_ref().unwrap().nginx_version, "1.22.1");

    let sally = find("sally");
    assert_eq!(
        (sally.life(), sally.labels.as_slice()),
        (v1::HostLife::Revoked, &["cdn".to_owned()][..])
    );
    assert!(sally.problem.contains("revoked"));

    let spare = find("spare");
    assert_eq!(
        (spare.life(), spare.last_seen_ms),
        (v1::HostLife::Declared, None)
    );
    assert!(spare.certificates.is_empty() && spare.problem.contains("never joined"));

    let intruder = certwell_issuer::plan::facts::Intruder {
        why: "revoked".into(),
        first: now,
        last: now,
        calls: 3,
    };
    facts.intruders.insert(host("sally"), intruder);
    let used = hosts(&facts, now).hosts;
    let sally = used.iter().find(|h| h.name == "sally").unwrap();
    assert!(
        sally.problem.contains("revoked") && sally.problem.ends_with("was used 3 times, last now"),
        "{}",
        sally.problem
    );

    let later = hosts(&facts, now + days(7)).hosts;
    let esme = later.iter().find(|h| h.name == "esme").unwrap();
    assert!(
        esme.problem
            .contains("the identity of esme expired 24 hours ago"),
        "{}",
        esme.problem
    );
}
