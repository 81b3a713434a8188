//! Every mistake: where it is told, and what it says to do.

use super::files::{AUTHORITY, Files, ISSUER};

/// Lines behind a right beginning of 7 lines: `[issuer]`, an authority, two hosts.
fn with(more: &str) -> Files {
    Files::new(&format!(
        "{ISSUER}{AUTHORITY}[host.sally]\nlabels = [\"cdn\"]\n[host.esme]\n{more}"
    ))
}

/// What is told of a file has each of these, and is about one mistake alone.
#[track_caller]
fn tells(files: &Files, parts: &[&str]) {
    let told = files.told();
    for part in parts {
        assert!(told.contains(part), "{part:?} is missing in:\n{told}");
    }
    assert_eq!(
        files.load().unwrap_err().mistakes.len(),
        1,
        "one mistake, not more:\n{told}"
    );
}

#[test]
fn a_mistake_is_shown_with_path_line_column_caret_and_advice() {
    let files = with("[certificate.\"a.example.org\"]\nhosts = [\"label:cdn\", \"sallly\"]\n");
    let expected = "\
issuer.toml:10:23: no host is declared by the name \"sallly\"
   |
10 | hosts = [\"label:cdn\", \"sallly\"]
   |                       ^^^^^^^^
   = did you mean \"sally\"? declared: esme, sally";
    assert_eq!(files.told(), expected);
}

#[test]
fn all_mistakes_of_all_files_are_told_at_once_in_order() {
    let files = Files::new(
        "[issuer]\nfleet = \"Hachyderm\"\nendpoints = [\"nowhere\"]\nlisten = [\"0.0.0.0:0\"]\ncolour = 1\n\
         [renewal]\nat-fraction = 2\nretry-first = \"soon\"\n",
    );
    files.write(
        "conf.d/a.toml",
        "[authority.ca]\ndirectory = \"http://ca.example\"\n[host.SALLY]\n",
    );
    files.write(
        "conf.d/b.toml",
        "[certificate.\"a.example.org\"]\nhosts = [\"nobody\"]\nidentifiers = [\"*.example.org\"]\nauthorities = [\"x\"]\n",
    );
    let places: Vec<String> = files
        .load()
        .unwrap_err()
        .mistakes
        .iter()
        .map(|mistake| {
            let name = mistake
                .path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let excerpt = mistake.excerpt.as_ref().unwrap();
            format!("{name}:{}:{}", excerpt.line, excerpt.column)
        })
        .collect();
    let expected = [
        "issuer.toml:2:9",
        "issuer.toml:3:14",
        "issuer.toml:4:11",
        "issuer.toml:5:1",
        "issuer.toml:7:15",
        "issuer.toml:8:15",
        "a.toml:2:13",
        "a.toml:3:7",
        "b.toml:2:10",
        "b.toml:3:16",
        "b.toml:4:16",
    ];
    assert_eq!(places, expected, "{}", files.told());
}

#[test]
fn the_summary_is_one_line() {
    let files = Files::new("[issuer]\nfleet = \"X\"\nendpoints = []\n");
    let summary = files.load().unwrap_err().summary();
    assert!(
        summary.contains("issuer.toml:2:9: ") && summary.ends_with("(and one more mistake)"),
        "{summary}"
    );
    assert!(!summary.contains('\n'));
}

#[test]
fn syntax_is_told_and_references_into_a_broken_file_are_not_blamed() {
    let files = with("[certificate.\"a.example.org\"]\nhosts = [\"frankfurt\"]\n");
    files.write("conf.d/hosts.toml", "[host.frankfurt\n");
    tells(&files, &["conf.d/hosts.toml:1:16:"]);
}

#[test]
fn several_syntax_errors_of_one_file_are_all_told() {
    let files = with("");
    files.write(
        "conf.d/a.toml",
        "[host.a]\nlabels = [\"x\"\n[host.b]\nlabels = nope\n",
    );
    assert!(
        files.load().unwrap_err().mistakes.len() >= 2,
        "{}",
        files.told()
    );
}

#[test]
fn unknown_keys_and_tables_are_refused_with_the_nearest_known() {
    tells(
        &with("[certificate.\"a.example.org\"]\nhost = [\"sally\"]\nhosts = [\"sally\"]\n"),
        &[
            "10:1: unknown key \"host\" in [certificate.a.example.org]",
            "did you mean hosts?",
        ],
    );
    tells(
        &with("[certificat.x]\n"),
        &[
            "9:2: unknown table or key \"certificat\"",
            "did you mean certificate?",
        ],
    );
    tells(
        &with("[renewal]\nspeed = 1\n"),
        &[
            "unknown key \"speed\" in [renewal]",
            "known here: at-fraction,",
        ],
    );
    tells(
        &with("[host.x]\nlabel = []\n"),
        &["unknown key \"label\" in [host.x]", "did you mean labels?"],
    );
    tells(
        &Files::new(&format!("{ISSUER}state_directory = \"/x\"\n")),
        &["did you mean state-directory?"],
    );
}

#[test]
fn two_of_one_name_in_two_files_are_refused_with_both_places() {
    let certificate = "[certificate.\"a.example.org\"]\nhosts = [\"sally\"]\n";
    let files = with(certificate);
    files.write("conf.d/b.toml", certificate);
    tells(
        &files,
        &[
            "conf.d/b.toml:1:14: two certificates of one name, \"a.example.org\"",
            "issuer.toml:9;",
        ],
    );

    let files = with("");
    files.write("conf.d/b.toml", "[host.sally]\n");
    tells(&files, &["two hosts of one name", "issuer.toml:6;"]);
    files.write("conf.d/b.toml", AUTHORITY);
    tells(&files, &["two authorities of one name", "issuer.toml:4;"]);
}

#[test]
fn two_of_one_name_in_one_file_are_refused() {
    let certificate = "[certificate.\"a.example.org\"]\nhosts = [\"sally\"]\n";
    let told = with(&format!("{certificate}{certificate}")).told();
    assert!(
        told.contains("issuer.toml:11:") && told.contains("duplicate"),
        "{told}"
    );
}

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
fn hosts_labels_and_authorities_that_nobody_has_are_told_with_what_exists() {
    let files = |line: &str| with(&format!("[certificate.\"a.example.org\"]\n{line}\n"));
    tells(
        &files("hosts = [\"paul\"]"),
        &[
            "10:10: no host is declared by the name \"paul\"",
            "declared: esme, sally",
        ],
    );
    tells(
        &files("hosts = [\"label:web\"]"),
        &["no host has the label \"web\"", "declared: cdn"],
    );
    tells(
        &files("hosts = [\"cdn\"]"),
        &[
            "no host is declared by the name \"cdn\"",
            "did you mean \"label:cdn\"?",
        ],
    );
    tells(
        &files("hosts = [\"sally\"]\nchallenge-hosts = [\"paul\"]"),
        &["11:20: no host is declared"],
    );
    tells(
        &files("hosts = [\"sally\"]\nauthorities = [\"zerossl\"]"),
        &["no authority is declared", "declared: letsencrypt"],
    );
    tells(
        &files("hosts = [\"sally\"]\nauthorities = [\"letsencrypt\", \"letsencrypt\"]"),
        &["listed twice"],
    );
    tells(&files("hosts = []"), &["10:9: hosts is empty"]);
    tells(
        &files("hosts = [\"sally\"]\nauthorities = []"),
        &["authorities is empty"],
    );
    tells(
        &files("key-type = \"ecdsa-p256\""),
        &["9:14: [certificate.a.example.org] lacks hosts"],
    );
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
fn an_authority_needs_an_https_directory_and_roots_that_can_be_read() {
    let files = |lines: &str| Files::new(&format!("{ISSUER}[authority.ca]\n{lines}\n"));
    for directory in [
        "http://ca.example/",
        "ca.example",
        "https://",
        "",
        "ftp://x",
    ] {
        tells(
            &files(&format!("directory = {directory:?}")),
            &["5:13:", "is no https URL"],
        );
    }
    tells(
        &files("contact = []"),
        &["4:12: [authority.ca] lacks directory"],
    );
    let right = "directory = \"https://ca.example/\"";
    tells(
        &files(&format!("{right}\ncontact = [\"ops@example.org\"]")),
        &["6:12:", "is no mailto: URL"],
    );
    tells(
        &files(&format!("{right}\nhttp-01-port = 0")),
        &["6:16: http-01-port must be a port number"],
    );
    tells(
        &files(&format!("{right}\nhttp-01-port = 65536")),
        &["must be a port number"],
    );

    let files = files(&format!("{right}\nroots = \"ca.pem\""));
    tells(&files, &["6:9: can't read ", "ca.pem: No such file"]);
    for (text, problem) in [
        ("", "ca.pem holds no certificate"),
        ("no PEM at all\n", "ca.pem holds no certificate"),
        (
            "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
            "ca.pem is damaged",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "certificate 1 in it is damaged",
        ),
    ] {
        files.write("ca.pem", text);
        tells(&files, &["6:9:", problem]);
    }
}

#[test]
fn addresses_and_endpoints_need_hosts_and_ports() {
    let endpoints =
        |list: &str| Files::new(&format!("[issuer]\nfleet = \"a\"\nendpoints = {list}\n"));
    for endpoint in [
        "issuer.example.org",
        "issuer:0",
        "issuer:x",
        ":7443",
        "2001:db8::1:7443",
        "a b:7443",
        "*.a.org:1",
    ] {
        tells(
            &endpoints(&format!("[{endpoint:?}]")),
            &["3:14:", "write HOST:PORT"],
        );
    }
    tells(&endpoints("[]"), &["3:13: endpoints is empty"]);
    tells(
        &Files::new("[issuer]\nfleet = \"a\"\n"),
        &["1:2: [issuer] lacks endpoints"],
    );
    let listen = |list: &str| Files::new(&format!("{ISSUER}listen = {list}\n"));
    tells(
        &listen("[\"0.0.0.0:0\"]"),
        &["4:11: port 0 is no port to listen on"],
    );
    tells(
        &listen("[\"issuer.example.org:7443\"]"),
        &["is no address to listen on"],
    );
    tells(&listen("[]"), &["4:10: listen is empty"]);
    tells(
        &Files::new(&format!("{ISSUER}admin-socket = \"\"\n")),
        &["4:16: admin-socket is empty"],
    );
}

#[test]
fn renewal_settings_out_of_range_are_refused() {
    let files = |line: &str| Files::new(&format!("{ISSUER}[renewal]\n{line}\n"));
    for fraction in ["0", "0.05", "0.95", "1", "nan", "-0.5", "1e300"] {
        tells(
            &files(&format!("at-fraction = {fraction}")),
            &["5:15: at-fraction must lie between 0.1 and 0.9"],
        );
    }
    tells(
        &files("at-fraction = \"0.5\""),
        &["at-fraction must be a number, not a string"],
    );
    tells(
        &files("retry-first = \"30\""),
        &["5:15: \"30\" is no duration"],
    );
    tells(
        &files("retry-first = \"0s\""),
        &["retry-first must be longer than nothing"],
    );
    tells(&files("retry-first = 30"), &["retry-first takes strings"]);
    tells(
        &files("retry-first = \"7h\""),
        &["retry-first must not be longer than retry-max"],
    );
    for line in [
        "retry-first = \"999ms\"",
        "retry-first = \"1s\"\nretry-max = \"500ms\"",
        "preflight-wait = \"1ms\"",
    ] {
        let told = files(line).told();
        assert!(
            told.contains("is shorter than a second") && told.contains("write \"1s\" or more"),
            "{told}"
        );
    }
    for line in [
        "retry-first = \"1s\"\nretry-max = \"1s\"",
        "preflight-wait = \"1s\"",
    ] {
        assert!(files(line).load().is_ok(), "{line}");
    }
}

#[test]
fn the_main_tables_do_not_belong_into_further_files() {
    let files = with("");
    files.write("conf.d/a.toml", ISSUER);
    tells(
        &files,
        &[
            "conf.d/a.toml:1:2: [issuer] is not allowed in conf.d",
            "move it to",
        ],
    );
}

#[test]
fn a_missing_file_or_table_is_told() {
    let files = Files::new("");
    tells(&files, &["issuer.toml: the table [issuer] is missing"]);
    std::fs::remove_file(files.main()).unwrap();
    tells(
        &files,
        &[
            "issuer.toml: can't be read: No such file",
            "certwell-issuer init",
        ],
    );
    std::fs::write(files.main(), b"\xff\xfe").unwrap();
    tells(&files, &["issuer.toml: can't be read: ", "UTF-8"]);
    let issuer = Files::new("[issuer]\nendpoints = [\"a:1\"]\n");
    tells(&issuer, &["1:2: [issuer] lacks fleet"]);
    tells(
        &Files::new("issuer = 3\n"),
        &["issuer must be a table, not a whole number"],
    );
    tells(&with("[[host]]\n"), &["9"]);
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

#[test]
fn one_wrong_value_does_not_drag_others_along() {
    let certificate = "[host.sally]\n[certificate.\"a.example.org\"]\nhosts = [\"sally\"]\nauthorities = [\"ca\"]\n";
    let files = Files::new(&format!(
        "{ISSUER}[authority.ca]\ndirectory = \"http://x\"\n{certificate}"
    ));
    tells(&files, &["is no https URL"]);
    let files = Files::new(&format!(
        "[issuer]\nfleet = 1\nendpoints = [2]\n{AUTHORITY}"
    ));
    assert_eq!(
        files.load().unwrap_err().mistakes.len(),
        2,
        "{}",
        files.told()
    );
}

#[test]
fn without_the_main_file_further_files_are_still_judged() {
    let files = Files::new("");
    std::fs::remove_file(files.main()).unwrap();
    files.write("conf.d/a.toml", "[host.A]\n[issuer]\n");
    let told = files.told();
    for part in [
        "issuer.toml: can't be read",
        "\"A\" is no host name",
        "[issuer] is not allowed in conf.d",
    ] {
        assert!(told.contains(part), "{told}");
    }
}
