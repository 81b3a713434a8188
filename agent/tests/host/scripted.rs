//! What verbs that change something tell a script: one document on standard output, and nothing else there.

use std::process::{Command, Stdio};

use certwell_proto::{Fingerprint, pem};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    host::{Host, NAME},
    issuer::TestIssuer,
    lineage::adopting,
    world::serving,
};

/// How it ended, its document if it told one, and what it said to people.
pub(crate) async fn script(host: &Host, arguments: &[&str]) -> (i32, Option<Value>, String) {
    let mut command = host.agent_command(arguments);
    command.arg("--json").stdin(Stdio::null());
    ended(command).await
}

/// The same of a command that is made otherwise.
pub(crate) async fn ended(mut command: Command) -> (i32, Option<Value>, String) {
    // The test's issuer answers on this thread.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    // What is waited for is told on a slow machine.
    let said = said.lines().filter(|line| !line.ends_with(" …"));
    let said = said.collect::<Vec<_>>().join("\n");
    let document = match output.stdout.is_empty() {
        true => None,
        false => Some(serde_json::from_slice(&output.stdout).unwrap()),
    };
    (output.status.code().unwrap(), document, said)
}

/// The document of one that went well, and said nothing to people.
async fn done(host: &Host, arguments: &[&str]) -> Value {
    let (code, document, said) = script(host, arguments).await;
    assert_eq!((code, said.as_str()), (0, ""), "{arguments:?}");
    document.unwrap()
}

fn instant(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn hold_tells_a_script_until_when_and_whether_anything_changed() {
    let (mut world, _) = serving().await;
    let host = &world.host;
    let held = done(host, &["hold", NAME, "--for", "4h", "--note", "moving"]).await;
    let (since, until) = (
        instant(&held["hold"]["since"]),
        instant(&held["hold"]["until"]),
    );
    assert_eq!(until.duration_since(since).as_secs(), 4 * 3_600);
    let row = json!({
        "certificate": NAME,
        "since": held["hold"]["since"],
        "until": held["hold"]["until"],
        "note": "moving",
    });
    let wanted = json!({
        "version": 1, "certificate": NAME, "hold": row, "changed": true, "running": true,
    });
    assert_eq!(held, wanted);
    assert_eq!(
        done(host, &["hold"]).await,
        json!({"version": 1, "holds": [row]})
    );

    world.host.end_agent().await;
    let release = ["hold", NAME, "--release"];
    let mut wanted = json!({
        "version": 1, "certificate": NAME, "hold": null, "changed": true, "running": false,
    });
    assert_eq!(done(&world.host, &release).await, wanted);
    wanted["changed"] = false.into();
    assert_eq!(done(&world.host, &release).await, wanted);

    let (code, document, said) =
        script(&world.host, &["hold", "nobody.example.org", "--for", "1h"]).await;
    assert_eq!((code, document), (7, None));
    assert!(said.contains("no certificate of this host"), "{said}");
}

#[tokio::test]
async fn enroll_tells_a_script_who_it_became_and_who_sees_to_the_agent() {
    let issuer = TestIssuer::start().await;
    let host = Host::new();
    let token = issuer.token();
    let told = done(&host, &["enroll", &token]).await;
    let identity = std::fs::read(host.path("state/identity/identity.pem")).unwrap();
    let identity = Fingerprint::of(&pem::read_certificates(&identity).unwrap()[0]);
    let wanted = json!({
        "version": 1,
        "host": "sally",
        "fleet": "hachyderm",
        "fingerprint": identity.to_string(),
        "unit": "none",
        "problem": null,
        "left_to_do": null,
    });
    assert_eq!(told, wanted);
    let (code, document, said) = script(&host, &["enroll", &token]).await;
    assert_eq!((code, document), (8, None));
    assert!(said.contains("already enrolled as sally"), "{said}");
}

#[tokio::test]
async fn leave_asks_no_script_and_tells_it_what_stays() {
    let (mut world, first) = serving().await;
    world.host.end_agent().await;
    let host = &world.host;
    let (code, document, said) = script(host, &["leave"]).await;
    assert_eq!((code, document), (2, None), "{said}");
    assert!(said.contains("--yes"), "{said}");
    assert!(host.path("state/identity/identity.key").exists());

    let told = done(host, &["leave", "--yes"]).await;
    let wanted = json!({
        "version": 1,
        "host": "sally",
        "fleet": "hachyderm",
        "unit_stopped": false,
        "live_directory": host.path("live"),
        "certificates": [{"certificate": NAME, "not_after": ends(&first.key_pairs[0].fullchain[0])}],
        "challenge_map": host.path("conf.d/certwell-acme.conf"),
        "adopted": [],
    });
    assert_eq!(told, wanted);
    assert!(!host.path("state/identity/identity.key").exists());
    let (code, document, _) = script(host, &["leave", "--yes"]).await;
    assert_eq!((code, document), (7, None));
}

fn ends(leaf: &[u8]) -> String {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let (_, leaf) = X509Certificate::from_der(leaf).unwrap();
    let end = leaf.validity().not_after.timestamp();
    Timestamp::from_second(end).unwrap().to_string()
}

#[tokio::test]
async fn adopt_tells_a_script_what_lies_where_and_who_serves_it() {
    let host = adopting(NAME).await;
    let config = host.world.host.path("agent.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let adopted = json!({
        "version": 1,
        "lineage": NAME,
        "certificate": NAME,
        "adopted": true,
        "changed": true,
        "live": host.lineage(),
        "leads_to": host.world.host.live(),
        "generation": 1,
        "renewal_configuration": host.conf(".before-certwell"),
        "served": null,
        "hooks": [],
        "expired": null,
        "problem": null,
    });
    // A reload that returns 0 and does nothing.
    host.world.host.set_agent("reload = \"true\"");
    let (code, document, said) = script(&host.world.host, &["adopt", NAME]).await;
    let mut wanted = adopted.clone();
    let sentence = said.strip_prefix("certwell-agent: ").unwrap();
    assert!(sentence.contains("not served yet"), "{sentence}");
    wanted["problem"] = sentence.into();
    assert_eq!((code, document), (3, Some(wanted)));
    std::fs::write(&config, text).unwrap();

    let told = done(&host.world.host, &["adopt", NAME]).await;
    let mut wanted = adopted;
    let handshakes = told["served"]["handshakes"].as_u64().unwrap();
    assert!(handshakes > 0, "{told}");
    wanted["served"] =
        json!({"nginx": "reloaded", "proven": 1, "exempt": 0, "handshakes": handshakes});
    assert_eq!(told, wanted);
    let served = |wanted: Fingerprint| assert_eq!(host.served(), Some(wanted));
    served(host.ours);

    wanted["changed"] = false.into();
    wanted["served"] = Value::Null;
    wanted["generation"] = Value::Null;
    assert_eq!(done(&host.world.host, &["adopt", NAME]).await, wanted);

    let told = done(&host.world.host, &["adopt", "--undo", NAME]).await;
    wanted["changed"] = true.into();
    wanted["adopted"] = false.into();
    wanted["leads_to"] = Value::Null;
    wanted["renewal_configuration"] = host.conf("").display().to_string().into();
    wanted["served"] = told["served"].clone();
    assert_eq!(told["served"]["nginx"], "reloaded");
    assert_eq!(told, wanted);
    served(host.theirs);
    let (code, document, said) = script(&host.world.host, &["adopt", "--undo", NAME]).await;
    assert_eq!((code, document), (7, None));
    assert!(said.contains("nothing to undo"), "{said}");
}
