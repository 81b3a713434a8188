//! `[page]`: what is served where nothing is said, and what must be said where others can come.

use super::{
    files::{AUTHORITY, Files, ISSUER},
    mistakes::tells,
};

fn with(page: &str) -> Files {
    Files::new(&format!("{ISSUER}{AUTHORITY}{page}"))
}

#[test]
fn the_page_is_on_loopback_unless_said_otherwise() {
    let page = with("").load().unwrap().page;
    assert_eq!(page.listen.unwrap().to_string(), "127.0.0.1:7480");
    assert!(page.is_default && page.token_file.is_none() && page.origin.is_none());
    let page = with("[page]\nlisten = \"\"\n").load().unwrap().page;
    assert_eq!(page.listen, None);
    let files = with("[page]\nlisten = \"[::1]:8080\"\ntoken-file = \"page.token\"\n");
    let page = files.load().unwrap().page;
    assert_eq!(page.listen.unwrap().to_string(), "[::1]:8080");
    assert!(!page.is_default);
    let beside = files.directory.path().join("page.token");
    assert_eq!(page.token_file, Some(beside));
}

#[test]
fn whoever_can_come_from_elsewhere_needs_a_token() {
    for address in ["0.0.0.0:7480", "[::]:7480", "192.0.2.1:7480"] {
        tells(
            &with(&format!("[page]\nlisten = \"{address}\"\n")),
            &[
                "issuer.toml:7:10",
                "can be reached from elsewhere",
                "^^^^^^",
                "= add token-file = ",
                "openssl rand",
            ],
        );
        let with_token = format!("[page]\nlisten = \"{address}\"\ntoken-file = \"t\"\n");
        with(&with_token).load().unwrap();
    }
    tells(
        &with("[page]\norigin = \"https://certwell.example.org\"\n"),
        &["issuer.toml:7:10", "behind a proxy", "token-file"],
    );
}

#[test]
fn mistakes_in_the_pages_table_are_told() {
    for (page, parts) in [
        ("listen = \"127.0.0.1\"", &["no address to listen on"][..]),
        ("listen = \"127.0.0.1:0\"", &["port 0"]),
        ("token-file = \"\"", &["token-file is empty"]),
        (
            "token-file = \"t\"\norigin = \"certwell.example.org\"",
            &["neither https:// nor http://", "as a browser shows it"],
        ),
        (
            "lisen = \"\"",
            &["unknown key \"lisen\"", "did you mean listen?"],
        ),
    ] {
        tells(&with(&format!("[page]\n{page}\n")), parts);
    }
    let files = with("");
    files.write("conf.d/page.toml", "[page]\nlisten = \"\"\n");
    tells(&files, &["[page] is not allowed in conf.d", "move it to"]);
}
