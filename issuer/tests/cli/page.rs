//! `certwell page`.

use certwell_issuer::clock;

use crate::{fleet::fleet, server::Issuer};

#[test]
fn the_page_is_told_with_its_tokens_file_and_the_token_only_where_it_is_asked_for() {
    let issuer = Issuer::of(fleet(clock::now()));
    let told = issuer.run(&["page"]);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.out.starts_with("http://127.0.0.1:7480/\n"), "{told:?}");
    for words in [
        "/var/lib/certwell-issuer/page.token",
        "certwell page --token",
    ] {
        assert!(told.out.contains(words), "{told:?}");
    }
    let json = issuer.run(&["page", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        document,
        serde_json::json!({
            "version": 1,
            "url": "http://127.0.0.1:7480/",
            "token_file": "/var/lib/certwell-issuer/page.token",
            "reading_needs_token": false,
        })
    );
    assert_eq!(issuer.known.calls(), ["page false", "page false"]);
    let token = issuer.run(&["page", "--token"]);
    assert_eq!(token.out, "the-token-of-the-page\n");
    assert_eq!(issuer.run(&["page", "--token", "--json"]).code, 2);
}
