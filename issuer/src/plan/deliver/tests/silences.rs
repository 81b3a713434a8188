//! Which alerts a silence is of, and until when.

use super::*;

fn until(alert: &Alert, silences: &[SilenceRecord]) -> Option<i64> {
    let until = silenced_until(alert, silences, at(0))?;
    Some(until.duration_since(at(0)).as_secs())
}

fn of_certificate(name: &str) -> SilenceRecord {
    SilenceRecord {
        certificate: Some(name.parse().unwrap()),
        ..silence(None, None, DAY)
    }
}

#[test]
fn every_page_but_that_of_an_expiry_can_be_silenced() {
    let silences = [silence(Some("sally"), None, DAY)];
    for class in Class::ALL {
        let page = found(*class, Severity::Page, &["sally"]);
        let of_an_expiry = [Class::Expiry, Class::UnmanagedExpiring].contains(class);
        let held = (!of_an_expiry).then_some(DAY);
        assert_eq!(until(&page, &silences), held, "{class:?}");
    }
}

#[test]
fn a_silence_is_of_what_it_names_and_of_nothing_else() {
    let alert = warning(&["sally"]);
    for (silence, held) in [
        (silence(Some("sally"), None, DAY), true),
        (silence(Some("esme"), None, DAY), false),
        (silence(None, Some(Class::InstallFailing), DAY), true),
        (silence(None, Some(Class::HostSilent), DAY), false),
        (
            silence(Some("sally"), Some(Class::InstallFailing), DAY),
            true,
        ),
        (silence(Some("sally"), Some(Class::HostSilent), DAY), false),
        (
            silence(Some("esme"), Some(Class::InstallFailing), DAY),
            false,
        ),
        (of_certificate("media.example"), true),
        (of_certificate("www.example"), false),
    ] {
        assert_eq!(
            until(&alert, std::slice::from_ref(&silence)).is_some(),
            held,
            "{silence:?}"
        );
    }
    // Of a CA's trouble the certificates are members; of another alert the certificate is the subject alone.
    let mut by_member = alert.clone();
    by_member.key.subject = "letsencrypt".into();
    assert!(until(&by_member, &[of_certificate("media.example")]).is_some());
    let mut by_subject = alert.clone();
    by_subject.members.clear();
    assert!(until(&by_subject, &[of_certificate("media.example")]).is_some());
    assert!(until(&by_subject, &[silence(Some("sally"), None, DAY)]).is_none());
}

#[test]
fn of_two_silences_the_longer_holds_and_of_two_hosts_the_shorter() {
    let one = warning(&["sally"]);
    let two = warning(&["esme", "sally"]);
    let of = |host, end| silence(Some(host), None, end);
    assert_eq!(until(&one, &[of("sally", 60), of("sally", 600)]), Some(600));
    assert_eq!(until(&two, &[of("sally", 60), of("esme", 600)]), Some(60));
    assert_eq!(until(&two, &[of("sally", 60)]), None);
}
