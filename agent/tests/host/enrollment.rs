//! Tokens, keys and identities.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Stdio};

use certwell_proto::{JoinToken, Secret};

use super::{
    fleet::Authority,
    host::Host,
    issuer::{TestIssuer, eventually},
};

/// A verb of the agent, without keeping the issuer from answering.
async fn verb(host: &Host, arguments: &[&str], input: Option<&str>) -> (Option<i32>, String) {
    let mut command = host.agent_command(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let input = input.map(str::to_owned);
    let output = tokio::task::spawn_blocking(move || {
        use std::io::Write as _;
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        if let Some(input) = input {
            stdin.write_all(input.as_bytes()).unwrap();
        }
        drop(stdin);
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status.code(), text)
}

#[tokio::test]
async fn a_token_makes_an_identity_with_keys_for_its_owner_alone() {
    let issuer = TestIssuer::start().await;
    let host = Host::new();
    let (code, said) = verb(
        &host,
        &["enroll", "-"],
        Some(&format!("{}\n", issuer.token())),
    )
    .await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("enrolled as sally in fleet hachyderm"),
        "{said}"
    );
    for name in ["bound.key", "identity.key", "identity.pem", "fleet.json"] {
        let meta = fs::metadata(host.path("state/identity").join(name)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o600, "{name}");
    }
    assert_eq!(
        fs::metadata(host.path("state/identity"))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777,
        0o700
    );
    assert!(!host.path("state/identity/enroll.csr").exists());

    let before = fs::read(host.path("state/identity/identity.pem")).unwrap();
    let (code, said) = verb(&host, &["enroll", &issuer.token()], None).await;
    assert_eq!(code, Some(8), "{said}");
    assert!(said.contains("already enrolled as sally"), "{said}");
    assert_eq!(
        fs::read(host.path("state/identity/identity.pem")).unwrap(),
        before
    );
}

#[tokio::test]
async fn a_revoked_host_is_enrolled_again_with_its_bound_key_while_its_agent_is_stopped() {
    let issuer = TestIssuer::start().await;
    let mut host = Host::new();
    host.enroll(&issuer).await;
    let read = |name: &str| fs::read(host.path("state/identity").join(name)).unwrap();
    let (bound, old) = (read("bound.key"), read("identity.pem"));
    let old_key = read("identity.key");
    let known = issuer.memory.lock().unwrap().enrolled[0].1.clone();
    let (code, said) = verb(&host, &["enroll", "--again", &issuer.token()], None).await;
    assert_eq!(code, Some(6), "a used token: {said}");
    assert_eq!(read("identity.pem"), old);

    issuer.memory.lock().unwrap().token_used = false;
    let (code, said) = verb(&host, &["enroll", "--again", &issuer.token()], None).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(read("bound.key"), bound);
    assert_ne!(read("identity.pem"), old);
    assert_ne!(read("identity.key"), old_key);
    assert_eq!(
        issuer.memory.lock().unwrap().enrolled.last().unwrap().1,
        known
    );
    for left in ["enroll.csr", "pending.key", "pending.pem"] {
        assert!(!host.path("state/identity").join(left).exists(), "{left}");
    }
    let new = read("identity.pem");
    host.start_agent();
    let der = certwell_proto::pem::read_certificates(&new).unwrap()[0].to_vec();
    eventually("the agent calls as its new self", || async {
        let memory = issuer.memory.lock().unwrap();
        memory.seen_identities.contains(&der).then_some(())
    })
    .await;
    let (code, said) = verb(&host, &["enroll", "--again", &issuer.token()], None).await;
    assert_eq!(code, Some(8), "another agent runs here: {said}");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_keys_and_request() {
    let issuer = TestIssuer::start().await;
    issuer.memory.lock().unwrap().lose = 4;
    let host = Host::new();
    let (code, said) = verb(&host, &["enroll", &issuer.token()], None).await;
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("run the same command again"), "{said}");
    let (code, said) = verb(&host, &["enroll", &issuer.token()], None).await;
    assert_eq!(code, Some(0), "{said}");
    let memory = issuer.memory.lock().unwrap();
    assert_eq!(memory.enroll_calls, 5);
    assert!(
        memory
            .enrolled
            .iter()
            .all(|pair| *pair == memory.enrolled[0]),
        "one request, one bound key"
    );
}

#[tokio::test]
async fn a_wrong_token_ends_with_its_own_code_and_a_remedy() {
    let issuer = TestIssuer::start().await;
    let host = Host::new();
    let token = |pin, endpoint: String, secret: u8| {
        JoinToken {
            secret: Secret::new(vec![secret; 32]),
            ca_pin: pin,
            endpoints: vec![endpoint],
            host: "sally".parse().unwrap(),
            fleet: "hachyderm".parse().unwrap(),
        }
        .to_text()
    };
    let here = issuer.address.to_string();
    let ca = issuer.ca.fingerprint();
    let table = [
        ("hello".to_owned(), 2, "paste the whole line"),
        (issuer.token()[..60].to_owned(), 2, "damaged"),
        (
            token(Authority::new("another").fingerprint(), here.clone(), 42),
            6,
            "not the issuer that made this token",
        ),
        (token(ca, "127.0.0.1:1".into(), 42), 5, "can't be reached"),
        (token(ca, here, 1), 6, "unknown, expired or used"),
    ];
    for (token, code, words) in table {
        let (ended, said) = verb(&host, &["enroll", &token], None).await;
        assert_eq!(ended, Some(code), "{said}");
        assert!(said.contains(words), "{said}");
        assert!(said.starts_with("certwell-agent: "), "{said}");
    }
    assert!(!host.path("state/identity/identity.pem").exists());
}

#[tokio::test]
async fn an_identity_is_renewed_at_half_its_life_and_used() {
    let issuer = TestIssuer::start().await;
    issuer.memory.lock().unwrap().identity_life = 4;
    let mut host = Host::new();
    host.enroll(&issuer).await;
    let first = fs::read(host.path("state/identity/identity.pem")).unwrap();
    let bound = fs::read(host.path("state/identity/bound.key")).unwrap();
    host.start_agent();
    eventually("a second identity watches", || async {
        let memory = issuer.memory.lock().unwrap();
        let last = memory.seen_identities.last()?;
        (*last != memory.seen_identities[0] && memory.renewals == 1).then_some(())
    })
    .await;
    let second = fs::read(host.path("state/identity/identity.pem")).unwrap();
    assert_ne!(first, second);
    assert_eq!(
        fs::read(host.path("state/identity/bound.key")).unwrap(),
        bound
    );
    for pending in ["pending.key", "pending.pem"] {
        assert!(
            !host.path("state/identity").join(pending).exists(),
            "{pending}"
        );
    }
}

#[tokio::test]
async fn a_renewal_that_is_refused_is_asked_for_again_without_a_rush() {
    let issuer = TestIssuer::start().await;
    {
        let mut memory = issuer.memory.lock().unwrap();
        memory.identity_life = 8;
        memory.refuse_renewals = 2;
    }
    let mut host = Host::new();
    host.enroll(&issuer).await;
    host.start_agent();
    eventually("it is renewed", || async {
        (issuer.memory.lock().unwrap().renewals == 1).then_some(())
    })
    .await;
    let calls = issuer.memory.lock().unwrap().renewal_calls.clone();
    assert_eq!(calls.len(), 3);
    for two in calls.windows(2) {
        let apart = two[1] - two[0];
        assert!(apart.as_millis() >= 950, "{apart:?}");
    }
}

#[tokio::test]
async fn a_change_of_identity_that_a_crash_interrupted_is_ended_by_the_next_start() {
    let issuer = TestIssuer::start().await;
    let host = Host::new();
    host.enroll(&issuer).await;
    let directory = host.path("state/identity");
    let store = certwell_agent::issuer::IdentityStore::new(directory.clone());
    let key = store.pending_key().unwrap();
    let csr = key
        .identity_request(&"hachyderm".parse().unwrap(), &"sally".parse().unwrap())
        .unwrap();
    let certificate = issuer.ca.identity(&csr, 600);
    let pem = certwell_proto::pem::certificates([certificate.as_slice()]);
    // Killed before the first rename, and between the two.
    fs::write(directory.join("pending.pem"), &pem).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.certificate.as_ref(), certificate);
    fs::rename(
        directory.join("identity.pem"),
        directory.join("pending.pem"),
    )
    .unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.certificate.as_ref(), certificate);
    assert_eq!(loaded.key.public(), key.public());
}
