//! What `certwell-agent doctor --fix-include` and `--undo` tell a script.

use std::fs;

use serde_json::{Value, json};

use super::sites::{INCLUDE, Sites};
use crate::{lineage::tree, scripted::script};

const PLAIN: &[u8] =
    b"server {\n  listen ADDRESS;\n  server_name plain.org;\n  return 301 https://$host;\n}\n";

async fn fix(sites: &Sites, arguments: &[&str]) -> (i32, Option<Value>, String) {
    let port = sites.host.http.port().to_string();
    let words = [&["doctor", "--port", &port], arguments].concat();
    script(&sites.host, &words).await
}

fn of_plain(sites: &Sites) -> String {
    format!(
        "--- {path}\n+++ {path}\n@@ -1,4 +1,5 @@\n server {{\n+  {INCLUDE}\n   listen {};\n   server_name plain.org;\n   return 301 https://$host;\n",
        sites.host.http,
        path = sites.path("plain.org").display(),
    )
}

#[tokio::test]
async fn a_script_is_shown_the_difference_and_told_what_was_put_in_and_taken_out() {
    let sites = Sites::started(&[("plain.org", PLAIN)]).await;
    let before = tree(&sites.host.path("sites-available"));
    let (code, document, said) = fix(&sites, &["--fix-include"]).await;
    let sentence = said.strip_prefix("certwell-agent: ").unwrap();
    // Whether there is a terminal doesn't matter.
    assert!(
        sentence.contains("nobody is asked") && sentence.contains("--yes"),
        "{sentence}"
    );
    let shown = json!({
        "version": 1,
        "changed": false,
        "files": [],
        "servers": 0,
        "diff": of_plain(&sites),
        "nginx": null,
        "problem": sentence,
    });
    assert_eq!((code, document), (2, Some(shown.clone())));
    assert_eq!(tree(&sites.host.path("sites-available")), before);

    let done = async |arguments: &[&str]| {
        let (code, document, said) = fix(&sites, arguments).await;
        assert_eq!((code, said.as_str()), (0, ""), "{arguments:?}");
        document.unwrap()
    };
    let mut put = shown;
    put["changed"] = true.into();
    put["files"] = json!([sites.path("plain.org")]);
    put["servers"] = 1.into();
    put["nginx"] = "not-reloaded".into();
    put["problem"] = Value::Null;
    let put_in = ["--fix-include", "--yes", "--no-reload"];
    assert_eq!(done(&put_in).await, put);
    assert!(sites.read("plain.org").contains(INCLUDE));
    for (field, nothing) in [
        ("changed", json!(false)),
        ("files", json!([])),
        ("servers", json!(0)),
        ("diff", json!("")),
        ("nginx", Value::Null),
    ] {
        put[field] = nothing;
    }
    assert_eq!(done(&put_in).await, put);

    let out = json!({
        "version": 1,
        "changed": true,
        "files": [sites.path("plain.org")],
        "servers": null,
        "diff": null,
        "nginx": "reloaded",
        "problem": null,
    });
    assert_eq!(done(&["--undo"]).await, out);
    assert_eq!(tree(&sites.host.path("sites-available")), before);
    let (code, document, said) = fix(&sites, &["--undo"]).await;
    assert_eq!((code, document), (8, None));
    assert!(said.contains("nothing to take out"), "{said}");
}

#[tokio::test]
async fn a_script_is_told_why_what_was_shown_was_put_back() {
    let sites = Sites::started(&[("plain.org", PLAIN)]).await;
    // Nobody includes it yet, so nginx doesn't mind.
    let config = sites.host.path("nginx.conf");
    let text = fs::read_to_string(&config).unwrap();
    let snippet = sites.host.path("snippets/certwell-acme.conf");
    let include = format!("include {};", snippet.display());
    fs::write(&config, text.replace(&include, "return 404;")).unwrap();
    let ours = fs::read_to_string(&snippet).unwrap();
    fs::write(&snippet, format!("frobnicate on;\n{ours}")).unwrap();
    let before = tree(&sites.host.path("sites-available"));
    let (code, document, said) = fix(&sites, &["--fix-include", "--yes"]).await;
    assert_eq!(code, 9, "{said}");
    let document = document.unwrap();
    let diff = document["diff"].as_str().unwrap();
    assert!(diff.contains(&of_plain(&sites)), "{diff}");
    assert_eq!(
        (&document["changed"], &document["files"], &document["nginx"]),
        (&json!(false), &json!([]), &Value::Null)
    );
    let problem = document["problem"].as_str().unwrap();
    assert!(
        problem.contains("frobnicate") && problem.contains("all was put back"),
        "{problem}"
    );
    assert_eq!(tree(&sites.host.path("sites-available")), before);
}
