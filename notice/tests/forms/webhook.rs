//! The generic webhook's JSON.

use certwell_notice::{json, sign};
use jiff::Timestamp;
use serde_json::Value;

use super::{crowd, golden_json, message};

#[test]
fn the_shape_is_stable() {
    golden_json("webhook.json", &json::body(&message()));
    golden_json("webhook-text.json", &json::text_body("Inventory", "a\nb\n"));
}

#[test]
fn members_that_are_left_out_are_counted() {
    let value: Value = serde_json::from_slice(&json::body(&crowd(1_234, 1))).unwrap();
    assert_eq!(value["members"].as_array().unwrap().len(), json::MEMBERS);
    assert_eq!(value["more"], 234);
}

/// The example for receivers in `docs/cli.md`, as it stands there, by Python.
#[test]
fn the_documented_receiver_accepts_what_is_signed_and_nothing_else() {
    let docs = include_str!("../../../docs/cli.md");
    let (_, rest) = docs.split_once("## What a webhook is sent").unwrap();
    let (_, rest) = rest.split_once("```python\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let body = json::body(&message());
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let (time, signature) = sign::sign(b"secret", now, &body);
    let body = String::from_utf8(body).unwrap();
    let ask = |secret: &str, time: &str, signature: &str, now: &str, body: &str| {
        let script = format!(
            "{example}\nimport sys\nclass Clock:\n    def time(self): return float(sys.argv[4])\ntime = Clock()\n\
             headers = {{'certwell-timestamp': sys.argv[2], 'certwell-signature': sys.argv[3]}}\n\
             print(is_genuine(sys.argv[1].encode(), headers, sys.stdin.buffer.read()))"
        );
        let mut child = std::process::Command::new("python3")
            .args(["-c", &script, secret, time, signature, now])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        use std::io::Write as _;
        child
            .stdin
            .take()
            .unwrap()
            .write_all(body.as_bytes())
            .unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    assert_eq!(
        ask("secret", &time, &signature, "1700000010", &body),
        "True\n"
    );
    assert_eq!(
        ask("other", &time, &signature, "1700000010", &body),
        "False\n"
    );
    assert_eq!(
        ask("secret", "1700000001", &signature, "1700000010", &body),
        "False\n"
    );
    assert_eq!(
        ask("secret", &time, &signature, "1700000301", &body),
        "False\n",
        "too old"
    );
    assert_eq!(
        ask(
            "secret",
            &time,
            &signature,
            "1700000010",
            &format!("{body} ")
        ),
        "False\n"
    );
}
