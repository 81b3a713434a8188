//! What a probe tells, checked at the door, and how it is told on.

use certwell_issuer::plan::seen::wire::{SIGHTINGS, told as read};

use super::*;

fn sighting() -> v1::Sighting {
    v1::Sighting {
        certificate: MEDIA.into(),
        name: MEDIA.into(),
        host: "sally".into(),
        address: "192.0.2.13:443".into(),
        key: v1::KeyAlgorithm::Rsa.into(),
        state: v1::SightingState::Leaf.into(),
        fingerprint: fingerprint(MEDIA, 2),
        not_before: 1,
        not_after: 2,
        covers: vec![MEDIA.into()],
        tls_version: "TLSv1.3".into(),
        at_ms: noon().as_millisecond(),
        ..v1::Sighting::default()
    }
}

#[test]
fn what_can_t_be_is_refused_by_the_name_of_its_field() {
    assert!(read(vec![sighting()]).is_ok());
    type Change = fn(&mut v1::Sighting);
    let cases: [(&str, Change); 13] = [
        ("key", |s| s.key = 0),
        ("state", |s| s.state = 0),
        ("host", |s| s.host = "not a host".into()),
        ("address", |s| s.address = "somewhere".into()),
        // Without an address nobody can have shown a leaf.
        ("address", |s| s.address.clear()),
        ("certificate", |s| s.certificate = "../x".into()),
        ("name", |s| s.name = "a b".into()),
        ("fingerprint", |s| s.fingerprint.truncate(31)),
        ("covers", |s| s.covers = vec!["a b".into()]),
        ("covers", |s| s.covers = vec![MEDIA.into(); 1_000]),
        ("tls_version", |s| s.tls_version = "x".repeat(257)),
        ("not_after", |s| s.not_after = i64::MAX),
        ("url.status", |s| {
            s.url = Some(v1::UrlAnswer {
                status: 70_000,
                ..v1::UrlAnswer::default()
            });
        }),
    ];
    for (field, change) in cases {
        let mut wrong = sighting();
        change(&mut wrong);
        let refused = read(vec![sighting(), wrong]).unwrap_err().to_string();
        let expected = format!("sightings[1].{field}");
        assert!(refused.contains(&expected), "{expected}: {refused}");
    }
    let many = vec![sighting(); SIGHTINGS + 1];
    assert!(read(many).unwrap_err().to_string().contains("sightings"));
}

#[test]
fn what_is_the_probe_s_own_fault_stays_so_from_wire_to_wire() {
    let no_route = v1::Sighting {
        state: v1::SightingState::Down.into(),
        detail: "unreachable".into(),
        own_fault: true,
        ..sighting()
    };
    let shown = |wire| read(vec![wire]).unwrap().remove(0).shown;
    assert_eq!(
        shown(no_route.clone()),
        Shown::NoRoute("unreachable".into())
    );
    let down = v1::Sighting {
        own_fault: false,
        ..no_route.clone()
    };
    assert_eq!(shown(down), Shown::Down("unreachable".into()));
    // An edge with an address of that family that is reached, and one that isn't.
    let mut facts = outside();
    let reached = Spot {
        address: Some("192.0.2.14:443".parse().unwrap()),
        ..at_host("sally")
    };
    let told = vec![
        told(reached, generation(2)),
        read(vec![no_route]).unwrap().remove(0),
    ];
    see(&mut facts, None, told, noon());
    let status = status(&facts, noon());
    let hosts = &status.certificates[0].hosts;
    let sally = hosts.iter().find(|on| on.host == "sally").unwrap();
    let down: Vec<_> = sally.sightings.iter().filter(|s| s.own_fault).collect();
    assert_eq!(down.len(), 1);
    assert_eq!(down[0].state(), v1::SightingState::Down);
}

#[test]
fn whose_an_address_is_to_which_dns_led_is_not_the_probe_s_to_say() {
    let by_dns = v1::Sighting {
        by_dns: true,
        ..sighting()
    };
    let told = read(vec![by_dns]).unwrap();
    assert_eq!(told[0].spot.host, None);
    assert_eq!(told[0].spot.key, Key::Rsa);
    let nowhere = v1::Sighting {
        by_dns: true,
        address: String::new(),
        state: v1::SightingState::Unresolved.into(),
        detail: "the name doesn't exist".into(),
        ..sighting()
    };
    let told = read(vec![nowhere.clone()]).unwrap();
    assert_eq!(told[0].spot.address, None);
    let why = Shown::Unresolved("the name doesn't exist".into());
    assert_eq!(told[0].shown, why);
    let silent = v1::Sighting {
        own_fault: true,
        ..nowhere
    };
    let why = Shown::NoAnswer("the name doesn't exist".into());
    assert_eq!(read(vec![silent]).unwrap()[0].shown, why);
}

#[test]
fn each_kind_of_key_is_told_apart_with_its_state() {
    let mut all = all_well();
    let at = |key| Spot {
        key,
        ..at_host("sally")
    };
    all.push(told(at(Key::Rsa), Shown::Rejects));
    let facts = seen(all.clone());
    let status = status(&facts, noon());
    let hosts = &status.certificates[0].hosts;
    let sally = hosts.iter().find(|one| one.host == "sally").unwrap();
    let mut told_on: Vec<_> = sally
        .sightings
        .iter()
        .map(|one| (one.key(), one.state()))
        .collect();
    told_on.sort_unstable();
    let mut expected = [
        (v1::KeyAlgorithm::Ecdsa, v1::SightingState::Leaf),
        (v1::KeyAlgorithm::Rsa, v1::SightingState::Rejects),
    ];
    expected.sort_unstable();
    assert_eq!(told_on, expected);
}

#[test]
fn what_has_expired_is_told_so_at_its_address_and_kind_of_key() {
    let mut all = all_well();
    let expired = SeenLeaf {
        not_after: noon() - minutes(1),
        ..shown(&leaf(MEDIA, 2), MEDIA)
    };
    let rsa = Spot {
        key: Key::Rsa,
        ..at_host("sally")
    };
    all.push(told(rsa, Shown::Leaf(expired)));
    let sentences = explain(&seen(all), &certificate(MEDIA), noon())
        .unwrap()
        .join("\n");
    for words in [
        "192.0.2.13:443 ECDSA: 80 days (88%) left",
        "192.0.2.13:443 RSA: EXPIRED, TLSv1.3",
    ] {
        assert!(sentences.contains(words), "{words}: {sentences}");
    }
}
