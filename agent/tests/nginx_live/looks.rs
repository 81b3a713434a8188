//! Looks from outside, at real servers: nginx with twins, other server blocks, bad chains, URLs; DNS that is asked.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

use certwell_agent::clock;
use certwell_probe::{Look, Outlook, chain::Roots, round, url::Expected};
use certwell_proto::v1::{KeyAlgorithm, Sighting, SightingState};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, SignatureAlgorithm,
};
use tokio::time::Instant;

use crate::host::{Host, PATIENCE};

const NAME: &str = "media.example.org";

const SITES: &str = r#"
server { listen ADDRESS:8443 ssl default_server; server_name _; ssl_reject_handshake on;
  ssl_protocols TLSv1.2 TLSv1.3; }
server { listen ADDRESS:8443 ssl; server_name media.example.org; ssl_protocols TLSv1.2 TLSv1.3;
  ssl_certificate LIVE/whole.pem; ssl_certificate_key LIVE/ecdsa.key;
  ssl_certificate LIVE/rsa.pem; ssl_certificate_key LIVE/rsa.key;
  location = /health.png { types {} default_type image/png; return 200 "x"; }
  location = /moved.png { return 301 https://elsewhere.example/; } }
server { listen ADDRESS:8444 ssl; server_name media.example.org; ssl_protocols TLSv1.2;
  ssl_certificate LIVE/alone.pem; ssl_certificate_key LIVE/ecdsa.key; }
server { listen ADDRESS:8445 ssl; server_name media.example.org;
  ssl_certificate LIVE/expired.pem; ssl_certificate_key LIVE/ecdsa.key; }
server { listen ADDRESS:8446 ssl; server_name media.example.org;
  ssl_certificate LIVE/other.pem; ssl_certificate_key LIVE/ecdsa.key; }
server { listen ADDRESS:8447 ssl proxy_protocol; server_name media.example.org;
  ssl_certificate LIVE/whole.pem; ssl_certificate_key LIVE/ecdsa.key; }
"#;

struct World {
    host: Host,
    root: Vec<u8>,
}

impl World {
    async fn start() -> Self {
        let mut host = Host::new(&[]);
        let ca = || {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let named = |mut params: CertificateParams, name: &str| {
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
            params
        };
        let root_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let root = CertifiedIssuer::self_signed(named(ca(), "root"), root_key).unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let middle = CertifiedIssuer::signed_by(named(ca(), "middle"), key, &root).unwrap();
        let leaf = |name: &str, year: i32, key: &KeyPair| {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            params.signed_by(key, &middle).unwrap().pem()
        };
        let made =
            |algorithm: &'static SignatureAlgorithm| KeyPair::generate_for(algorithm).unwrap();
        let (ecdsa, rsa) = (made(&PKCS_ECDSA_P256_SHA256), made(&PKCS_RSA_SHA256));
        let chain = middle.pem();
        for (file, text) in [
            ("ecdsa.key", ecdsa.serialize_pem()),
            ("rsa.key", rsa.serialize_pem()),
            ("whole.pem", leaf(NAME, 2100, &ecdsa) + &chain),
            ("rsa.pem", leaf(NAME, 2090, &rsa) + &chain),
            ("alone.pem", leaf(NAME, 2100, &ecdsa)),
            ("expired.pem", leaf(NAME, 2021, &ecdsa) + &chain),
            (
                "other.pem",
                leaf("other.example.org", 2100, &ecdsa) + &chain,
            ),
        ] {
            fs::write(host.path("live").join(file), text).unwrap();
        }
        host.site("sites", SITES);
        host.start().await;
        let root = root.der().to_vec();
        Self { host, root }
    }

    fn look(&self, port: u16, name: &str) -> Look {
        Look {
            certificate: "media".parse().unwrap(),
            name: name.into(),
            host: Some("sally".parse().unwrap()),
            addresses: vec![self.host.socket(port)],
            port,
            url: None,
        }
    }

    /// By the kinds of key, ECDSA first.
    async fn see(&self, look: Look) -> [Sighting; 2] {
        let all = self.see_all(vec![look], Vec::new()).await;
        all.try_into().unwrap()
    }

    async fn see_all(&self, looks: Vec<Look>, resolvers: Vec<SocketAddr>) -> Vec<Sighting> {
        let outlook = Outlook {
            looks,
            roots: Roots::of([&self.root]),
            resolvers,
            ..Outlook::default()
        };
        round(&outlook, clock::now).await
    }
}

#[tokio::test]
async fn twins_are_told_apart_with_their_whole_chains_and_the_version_of_tls() {
    let world = World::start().await;
    let [ecdsa, rsa] = world.see(world.look(8443, NAME)).await;
    assert_eq!(
        (ecdsa.key(), rsa.key()),
        (KeyAlgorithm::Ecdsa, KeyAlgorithm::Rsa)
    );
    for sighting in [&ecdsa, &rsa] {
        assert_eq!(sighting.state(), SightingState::Leaf, "{sighting:?}");
        assert_eq!(sighting.chain_problem, "");
        assert_eq!(sighting.tls_version, "TLSv1.3");
        assert_eq!(sighting.covers, [NAME]);
        assert_eq!(
            (sighting.certificate.as_str(), sighting.host.as_str()),
            ("media", "sally")
        );
        assert!(!sighting.by_dns);
    }
    assert_ne!(ecdsa.fingerprint, rsa.fingerprint);
    assert!(rsa.not_after < ecdsa.not_after);
}

#[tokio::test]
async fn each_bad_chain_is_a_leaf_with_what_is_wrong_about_it() {
    let world = World::start().await;
    for (port, name, problem) in [
        (8444, NAME, "without any intermediate"),
        (8445, NAME, "the leaf expired on 2021-01-01"),
        (8446, NAME, "doesn't cover media.example.org"),
    ] {
        let [ecdsa, rsa] = world.see(world.look(port, name)).await;
        assert_eq!(ecdsa.state(), SightingState::Leaf, "{ecdsa:?}");
        assert!(
            ecdsa.chain_problem.contains(problem),
            "{}",
            ecdsa.chain_problem
        );
        assert_eq!(rsa.state(), SightingState::NoSuchKey, "{rsa:?}");
    }
    let [old, _] = world.see(world.look(8444, NAME)).await;
    assert_eq!(old.tls_version, "TLSv1.2");
    let stranger = Outlook {
        looks: vec![world.look(8443, NAME)],
        roots: Roots::of([rcgen::generate_simple_self_signed(vec!["x".into()])
            .unwrap()
            .cert
            .der()]),
        ..Outlook::default()
    };
    let seen = round(&stranger, clock::now).await;
    assert!(
        seen[0].chain_problem.contains("another CA has signed"),
        "{:?}",
        seen[0]
    );
}

#[tokio::test]
async fn a_refused_name_a_closed_port_and_a_balancer_s_listener_have_each_their_answer() {
    let world = World::start().await;
    let [rejects, _] = world.see(world.look(8443, "nobody.example.org")).await;
    assert_eq!(rejects.state(), SightingState::Rejects);
    for port in [8499, 8447] {
        for sighting in world.see(world.look(port, NAME)).await {
            assert_eq!(sighting.state(), SightingState::Down, "{sighting:?}");
            assert!(!sighting.detail.is_empty());
        }
    }
}

#[tokio::test]
async fn a_url_is_got_from_the_address_that_is_looked_at_and_a_redirect_is_not_followed() {
    let world = World::start().await;
    let answer = async |path: &str, status, content_type: &str| {
        let look = Look {
            url: Some(Expected {
                url: format!("https://{NAME}{path}"),
                status,
                content_type: content_type.into(),
            }),
            ..world.look(8443, NAME)
        };
        let [ecdsa, rsa] = world.see(look).await;
        assert_eq!(rsa.url, None, "told once");
        ecdsa.url.unwrap()
    };
    let right = answer("/health.png", 200, "image/").await;
    assert_eq!(
        (
            right.status,
            right.content_type.as_str(),
            right.problem.as_str()
        ),
        (200, "image/png", "")
    );
    let kind = answer("/health.png", 200, "text/html").await;
    assert_eq!(kind.problem, "content type image/png, not text/html");
    let moved = answer("/moved.png", 200, "image/").await;
    assert_eq!(
        moved.problem,
        "status 301, which leads to https://elsewhere.example/, not 200"
    );
    assert_eq!(answer("/moved.png", 301, "").await.problem, "");
    assert_eq!(answer("/none.png", 200, "image/").await.status, 404);
}

/// A DNS server of the test's own.
struct Dns {
    address: SocketAddr,
    process: Child,
}

impl Dns {
    async fn start(host: &Host) -> Option<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(8053);
        let of = |step: u16| SocketAddr::from((host.address, NEXT.load(Ordering::SeqCst) + step));
        let (address, management) = (of(0), of(1));
        let process = Command::new("pebble-challtestsrv")
            .args([
                "-dns01",
                &address.to_string(),
                "-management",
                &management.to_string(),
            ])
            .args([
                "-http01",
                "",
                "-https01",
                "",
                "-tlsalpn01",
                "",
                "-defaultIPv4",
                "",
                "-defaultIPv6",
                "",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let dns = Self { address, process };
        let deadline = Instant::now() + PATIENCE;
        for (path, body) in [
            ("/set-default-ipv6", r#"{"ip":""}"#.to_owned()),
            (
                "/add-a",
                format!(
                    r#"{{"host":"both.example.org","addresses":["{}"]}}"#,
                    host.address
                ),
            ),
            (
                "/add-aaaa",
                r#"{"host":"both.example.org","addresses":["::1"]}"#.to_owned(),
            ),
        ] {
            while post(management, path, &body).is_err() {
                assert!(Instant::now() < deadline, "the DNS server doesn't answer");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
        Some(dns)
    }
}

fn post(to: SocketAddr, path: &str, body: &str) -> std::io::Result<()> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(to)?;
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert!(answer.contains(" 200 "), "{answer}");
    Ok(())
}

impl Drop for Dns {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn dns_is_asked_for_every_a_and_aaaa_record() {
    let world = World::start().await;
    let Some(dns) = Dns::start(&world.host).await else {
        eprintln!("SKIPPED: pebble-challtestsrv isn't installed, so no DNS is asked");
        return;
    };
    let by_dns = |name: &str| Look {
        name: name.into(),
        host: None,
        addresses: Vec::new(),
        ..world.look(8443, NAME)
    };
    let looks = ["both.example.org", "nobody.example.org", "127.0.0.1"].map(by_dns);
    let seen = world.see_all(looks.to_vec(), vec![dns.address]).await;
    let of = |name: &str| -> Vec<&Sighting> { seen.iter().filter(|s| s.name == name).collect() };
    let both = of("both.example.org");
    let mut addresses: Vec<&str> = both
        .iter()
        .map(|sighting| sighting.address.as_str())
        .collect();
    addresses.dedup();
    let v4 = world.host.socket(8443).to_string();
    assert_eq!(addresses, [v4.as_str(), "[::1]:8443"]);
    assert!(
        both.iter()
            .all(|sighting| sighting.by_dns && sighting.host.is_empty())
    );
    let [nobody] = of("nobody.example.org")[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(nobody.state(), SightingState::Unresolved);
    assert!(nobody.address.is_empty() && !nobody.detail.is_empty());
    // An IP identifier is its own address.
    let ip: IpAddr = "127.0.0.1".parse().unwrap();
    assert_eq!(
        of("127.0.0.1")[0].address,
        SocketAddr::new(ip, 8443).to_string()
    );
}
