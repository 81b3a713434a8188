//! An outlook from the wire, checked at the door.

use std::time::Duration;

use certwell_probe::{
    Outlook,
    outlook::{ADDRESSES, LOOKS},
};
use certwell_proto::v1;

fn outlook() -> v1::Outlook {
    v1::Outlook {
        looks: vec![v1::Look {
            certificate: "media.example.org".into(),
            name: "media.example.org".into(),
            host: "sally".into(),
            addresses: vec!["192.0.2.1:443".into()],
            port: 443,
            url: Some(v1::LookUrl {
                url: "https://media.example.org/health.png".into(),
                status: 200,
                content_type: "image/".into(),
            }),
        }],
        every_ms: 300_000,
        resolvers: vec!["192.0.2.53:53".into()],
        roots: Vec::new(),
    }
}

#[test]
fn what_can_t_be_looked_at_is_refused_by_the_name_of_its_field() {
    let read = Outlook::from_wire(outlook()).unwrap();
    assert_eq!(read.looks[0].to_wire(), outlook().looks[0]);
    type Change = fn(&mut v1::Outlook);
    let cases: [(&str, Change); 12] = [
        ("looks[0].name", |o| {
            o.looks[0].name = "*.example.org".into()
        }),
        ("looks[0].name", |o| o.looks[0].name = "a b".into()),
        ("looks[0].certificate", |o| {
            o.looks[0].certificate = "../x".into();
        }),
        ("looks[0].host", |o| o.looks[0].host = "not a host".into()),
        // Addresses of nobody, and a host without any.
        ("looks[0].addresses", |o| o.looks[0].host.clear()),
        ("looks[0].addresses", |o| o.looks[0].addresses.clear()),
        ("looks[0].addresses", |o| {
            o.looks[0].addresses = vec!["192.0.2.1:443".into(); ADDRESSES + 1];
        }),
        ("looks[0].port", |o| o.looks[0].port = 0),
        ("looks[0].url.url", |o| {
            o.looks[0].url.as_mut().unwrap().url = "http://media.example.org/".into();
        }),
        ("looks[0].url.status", |o| {
            o.looks[0].url.as_mut().unwrap().status = 70_000;
        }),
        ("resolvers[0]", |o| o.resolvers = vec!["dns".into()]),
        ("looks", |o| o.looks = vec![o.looks[0].clone(); LOOKS + 1]),
    ];
    for (field, change) in cases {
        let mut wrong = outlook();
        change(&mut wrong);
        let refused = Outlook::from_wire(wrong).unwrap_err().to_string();
        assert!(refused.contains(field), "{field}: {refused}");
    }
}

#[test]
fn rounds_have_a_shortest_pause_whatever_is_asked_for() {
    let often = v1::Outlook {
        every_ms: 0,
        ..outlook()
    };
    let read = Outlook::from_wire(often).unwrap();
    assert!(read.every >= Duration::from_millis(100), "{:?}", read.every);
}
