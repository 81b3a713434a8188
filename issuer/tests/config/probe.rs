//! How the edges are looked at from outside.

use std::time::Duration;

use super::{
    files::{AUTHORITY, Files, ISSUER},
    mistakes::{tells, with},
};

const MEDIA: &str = "[certificate.\"media.example.org\"]\nhosts = [\"sally\"]\n";

#[test]
fn everything_about_probes_is_read_from_any_file() {
    let files = Files::new(&format!(
        "{ISSUER}{AUTHORITY}[host.sally]\naddresses = [\"192.0.2.13:443\", \"[2001:db8::13]:443\"]\nprobe = true\n"
    ));
    files.write(
        "conf.d/probe.toml",
        "[probe]\nevery = \"90s\"\nresolvers = [\"192.0.2.53:53\"]\nport = 8443\nenabled = false\n",
    );
    files.write(
        "conf.d/media.toml",
        &format!(
            "{MEDIA}probe-url = {{ url = \"https://Media.example.org/health.png\", status = 204, content-type = \
             \"Image/\" }}\n"
        ),
    );
    let config = files.load().unwrap();
    assert_eq!(config.probe.every, Duration::from_secs(90));
    assert_eq!(config.probe.resolvers, ["192.0.2.53:53".parse().unwrap()]);
    assert_eq!((config.probe.port, config.probe.enabled), (8443, false));
    let sally = config.hosts.values().next().unwrap();
    assert!(sally.probe);
    assert_eq!(sally.addresses.len(), 2);
    let url = config
        .certificates
        .values()
        .next()
        .unwrap()
        .probe_url
        .clone()
        .unwrap();
    assert_eq!(url.url, "https://Media.example.org/health.png");
    assert_eq!(
        (url.name.as_str(), url.status, url.content_type.as_str()),
        ("media.example.org", 204, "image/")
    );
}

#[test]
fn left_out_the_issuer_looks_every_five_minutes_and_no_host_does() {
    let config = with(MEDIA).load().unwrap();
    assert_eq!(config.probe, certwell_issuer::config::Probe::default());
    assert_eq!(config.probe.every, Duration::from_secs(300));
    assert!(config.probe.enabled && config.hosts.values().all(|host| !host.probe));
    let media = config.certificates.values().next().unwrap();
    assert_eq!((&media.probe_url, media.probe_dns), (&None, true));
}

#[test]
fn where_dns_leads_is_left_out_for_a_certificate_that_says_so_and_has_a_name() {
    let probe_dns = |text: &str| {
        let config = with(&format!("{MEDIA}{text}\n")).load().unwrap();
        config.certificates.values().next().unwrap().probe_dns
    };
    assert!(!probe_dns("probe-dns = false"));
    assert!(probe_dns("probe-dns = true"));
    let mixed = "identifiers = [\"192.0.2.1\", \"media.example.org\"]\nprobe-dns = false";
    assert!(!probe_dns(mixed));
    for (text, place, words) in [
        (
            "identifiers = [\"192.0.2.1\"]\nprobe-dns = false",
            "12:13",
            "probe-dns is about names, and the certificate has none",
        ),
        (
            "probe-dns = \"no\"",
            "11:13",
            "probe-dns must be true or false, not a string",
        ),
        ("probe-dn = false", "11:1", "did you mean probe-dns?"),
    ] {
        tells(
            &with(&format!("{MEDIA}{text}\n")),
            &[&format!("issuer.toml:{place}: "), words, "^"],
        );
    }
}

#[test]
fn each_mistake_is_told_where_it_is() {
    for (text, place, words) in [
        (
            "[probe]\nevery = \"10ms\"\n",
            "10:9",
            "every is shorter than a second",
        ),
        (
            "[probe]\nresolvers = [\"192.0.2.53\"]\n",
            "10:14",
            "no IP address with a port",
        ),
        ("[probe]\nport = 0\n", "10:8", "port must be a port number"),
        (
            "[probe]\nenabled = \"yes\"\n",
            "10:11",
            "enabled must be true or false, not a string",
        ),
        (
            "[probe]\nsalary = 1\n",
            "10:1",
            "unknown key \"salary\" in [probe]",
        ),
        (
            "probe = 1\n",
            "9:9",
            "probe must be true or false, not a whole number",
        ),
        (
            "addresses = [\"0.0.0.0:443\"]\n",
            "9:14",
            "nothing can be reached at",
        ),
        (
            "addresses = [\"[::2]:1\", \"[::2]:1\"]\n",
            "9:25",
            "listed twice",
        ),
        (
            "addresses = [\"media.example.org:443\"]\n",
            "9:14",
            "write \"192.0.2.13:443\"",
        ),
    ] {
        let text = text.to_owned();
        let place = match text.starts_with("probe") {
            true => "9:9".to_owned(),
            false => place.to_owned(),
        };
        tells(
            &with(&text),
            &[&format!("issuer.toml:{place}: "), words, "^"],
        );
    }
}

#[test]
fn a_url_that_can_not_be_got_from_the_certificate_s_edges_is_a_mistake() {
    for (url, words) in [
        (
            "\"https://media.example.org/\"",
            "probe-url must be a table, not a string",
        ),
        ("{ status = 200 }", "probe-url lacks url"),
        ("{ url = \"http://media.example.org/\" }", "is no https URL"),
        (
            "{ url = \"https://me@media.example.org/\" }",
            "has a user name",
        ),
        (
            "{ url = \"https://other.example.org/\" }",
            "doesn't cover other.example.org",
        ),
        (
            "{ url = \"https://media.example.org/\", status = 99 }",
            "must be an HTTP status",
        ),
        (
            "{ url = \"https://media.example.org/\", follow = true }",
            "unknown key \"follow\" in probe-url",
        ),
    ] {
        tells(
            &with(&format!("{MEDIA}probe-url = {url}\n")),
            &["issuer.toml:11:", words, "^"],
        );
    }
}

#[test]
fn two_tables_for_it_are_told_with_both_places() {
    let files = with("[probe]\nport = 443\n");
    files.write("conf.d/more.toml", "[probe]\nport = 8443\n");
    tells(
        &files,
        &["more.toml:1:2: two tables [probe]", "issuer.toml:9;"],
    );
}
