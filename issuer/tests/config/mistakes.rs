//! Every mistake: where it is told, and what it says to do.

use super::files::{AUTHORITY, Files, ISSUER};

/// Lines behind a right beginning of 7 lines: `[issuer]`, an authority, two hosts.
pub(crate) fn with(more: &str) -> Files {
    Files::new(&format!(
        "{ISSUER}{AUTHORITY}[host.sally]\nlabels = [\"cdn\"]\n[host.esme]\n{more}"
    ))
}

/// What is told of a file has each of these, and is about one mistake alone.
#[track_caller]
pub(crate) fn tells(files: &Files, parts: &[&str]) {
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
