//! Mistakes about certificates: names, identifiers, and what one host can take.

use super::{
    files::{AUTHORITY, Files, ISSUER},
    mistakes::{tells, with},
};

#[test]
fn names_of_the_wrong_form_are_refused() {
    tells(&with("[host.a_b]\n"), &["9:7: \"a_b\" is no host name"]);
    tells(
        &with("[certificate.\"../x\"]\nhosts = [\"sally\"]\n"),
        &["9:14: \"../x\" is no certificate name"],
    );
    tells(
        &with("[authority.\"A\"]\ndirectory = \"https://a.example\"\n"),
        &["\"A\" is no authority name"],
    );
    tells(
        &with("[host.a]\nlabels = [\"ok\", \"not ok\"]\n"),
        &["10:17: \"not ok\" is no label"],
    );
    tells(
        &Files::new("[issuer]\nfleet = \"a b\"\nendpoints = [\"a:1\"]\n"),
        &["2:9: \"a b\" is no fleet name"],
    );
}

#[test]
fn identifiers_that_no_ca_can_certify_are_refused() {
    let files = |identifiers: &str| {
        with(&format!(
            "[certificate.web]\nhosts = [\"sally\"]\nidentifiers = {identifiers}\n"
        ))
    };
    tells(
        &files("[\"a.example.org\", \"no spaces.org\"]"),
        &["11:33: \"no spaces.org\""],
    );
    tells(&files("[\"999.1.1.1\"]"), &["\"999.1.1.1\""]);
    tells(&files("[]"), &["11:15: identifiers is empty"]);
    tells(
        &files("[\"a.example.org\", \"A.example.org\"]"),
        &["11:33: a.example.org is listed twice"],
    );
    tells(
        &files("[\"*.example.org\"]"),
        &["wildcards need dns-01, which this version doesn't do"],
    );
    tells(
        &files("\"a.example.org\""),
        &["identifiers must be a list of strings, not a string"],
    );
    tells(
        &files("[1]"),
        &["identifiers takes strings, in quotation marks, not a whole number"],
    );
    let many: Vec<_> = (0..101).map(|n| format!("\"n{n}.example.org\"")).collect();
    tells(
        &files(&format!("[{}]", many.join(","))),
        &["101 identifiers, at most 100"],
    );
}

#[test]
fn a_name_that_stands_for_its_identifier_must_be_one() {
    let files = with("[certificate.web]\nhosts = [\"sally\"]\n");
    tells(&files, &["9:14: \"web\"", "add identifiers = "]);
}

#[test]
fn certificates_without_any_authority_are_told_how_to_declare_one() {
    let files = Files::new(&format!(
        "{ISSUER}[host.sally]\n[certificate.\"a.example.org\"]\nhosts = [\"sally\"]\n"
    ));
    tells(
        &files,
        &["no authority to issue it", "add [authority.letsencrypt]"],
    );
}

#[test]
fn challenge_and_key_type_must_be_known() {
    let files = |line: &str| {
        with(&format!(
            "[certificate.\"a.example.org\"]\nhosts = [\"sally\"]\n{line}\n"
        ))
    };
    tells(
        &files("challenge = \"dns-01\""),
        &["11:13: challenge \"dns-01\" is not one that this version does"],
    );
    tells(
        &files("key-type = \"ed25519\""),
        &[
            "11:12: unknown key-type",
            "ecdsa-p256, ecdsa-p384, rsa-2048",
        ],
    );
}

#[test]
fn too_many_certificates_for_a_host_are_refused_at_the_host() {
    let mut text = format!("{ISSUER}{AUTHORITY}[host.sally]\n");
    for n in 0..2_001 {
        text.push_str(&format!(
            "[certificate.\"c{n}.example.org\"]\nhosts = [\"sally\"]\n"
        ));
    }
    tells(
        &Files::new(&text),
        &["6:7: 2001 certificates are assigned to sally, at most 2000"],
    );
}

#[test]
fn more_names_than_one_message_to_a_host_holds_are_refused_at_the_host() {
    let fleet = |certificates: usize| {
        let mut text = format!("{ISSUER}{AUTHORITY}[host.sally]\n[host.esme]\n");
        let host = |n| if n % 2 == 0 { "sally" } else { "esme" };
        for n in 0..certificates {
            let names: Vec<String> = (0..100)
                .map(|id| format!("\"{}{id:02}.c{n:04}.example.org\"", "a".repeat(38)))
                .collect();
            text.push_str(&format!(
                "[certificate.\"c{n:04}.example.org\"]\nhosts = [\"{}\"]\nchallenge-hosts = [\"sally\"]\n\
                 identifiers = [{}]\n",
                host(n),
                names.join(", ")
            ));
        }
        Files::new(&text)
    };
    // Each takes 2 * (17 + 100 * 58 + 100 + 40 * 100) bytes; sally answers the challenges of all of them.
    assert!(fleet(211).load().is_ok());
    tells(
        &fleet(212),
        &[
            "6:7: the certificates of sally have too many names",
            "a message holds 4194304",
            "assign some certificates to other hosts",
        ],
    );
}

#[test]
fn a_name_that_one_host_would_answer_for_two_authorities_is_refused_at_the_second() {
    let two = |first: &str, second: &str| {
        with(&format!(
            "[authority.other]\ndirectory = \"https://other.example/directory\"\n\
             [certificate.\"a.example.org\"]\nhosts = [\"label:cdn\"]\n{first}\n\
             [certificate.\"b.example.org\"]\nhosts = [\"sally\", \"esme\"]\n\
             identifiers = [\"b.example.org\", \"a.example.org\"]\n{second}\n"
        ))
    };
    let authorities = |list: &str| format!("authorities = [{list}]");
    let (one, other) = (authorities("\"letsencrypt\""), authorities("\"other\""));
    let both = authorities("\"letsencrypt\", \"other\"");
    for (first, second) in [(&one, &other), (&one, &both), (&other, &both)] {
        tells(
            &two(first, second),
            &[
                "14:14: sally can't answer challenges for a.example.org for a.example.org and for b.example.org",
                "the same authorities in the same order, or different challenge-hosts",
            ],
        );
    }
    assert!(two(&both, &both).load().is_ok());
    assert!(
        two(&one, &format!("{other}\nchallenge-hosts = [\"esme\"]"))
            .load()
            .is_ok()
    );
}
