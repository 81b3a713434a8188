//! What is accepted, and what it becomes.

use std::{os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use certwell_issuer::config::{Config, KeyType, Roots, source_files};

use super::files::{AUTHORITY, Files, ISSUER, root_pem};

#[test]
fn the_example_of_the_architecture_is_read_whole() {
    let files = Files::new(
        r#"
[issuer]
fleet = "hachyderm"
state-directory = "/var/lib/certwell-issuer"
listen = ["0.0.0.0:7443", "[::1]:7443"]
endpoints = ["issuer.example.org:7443", "[2001:db8::1]:7443", "127.0.0.1:1", "localhost:7443"]
admin-socket = "/run/certwell/admin.sock"
admin-group = "certwell"
key-encryption-key = "/etc/certwell/issuer.kek"

[renewal]
at-fraction = 0.5
preflight-wait = "15s"
retry-first = "2m"
retry-max = "1d"

[authority.letsencrypt]
directory = "https://acme-v02.api.letsencrypt.org/directory"
contact = ["mailto:ops@hachyderm.io"]
roots = "system"
http-01-port = 5002

[host.cdn-frankfurt-1]
labels = ["cdn"]
[host.cdn-fremont-1]
labels = ["cdn", "west"]
[host.sally]

[certificate."media.hachyderm.io"]
hosts = ["sally", "label:cdn", "label:west"]
identifiers = ["Media.Hachyderm.io", "192.0.2.7"]
challenge-hosts = ["label:cdn"]
authorities = ["letsencrypt"]
challenge = "http-01"
key-type = "ecdsa-p384"
"#,
    );
    let config = files.load().unwrap();
    let issuer = &config.issuer;
    assert_eq!(issuer.fleet.as_str(), "hachyderm");
    assert_eq!(
        issuer
            .listen
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["0.0.0.0:7443", "[::1]:7443"]
    );
    assert_eq!(issuer.endpoints.len(), 4);
    assert_eq!(issuer.admin_group.as_deref(), Some("certwell"));
    assert_eq!(
        issuer.key_encryption_key,
        Path::new("/etc/certwell/issuer.kek")
    );
    assert_eq!(config.renewal.at_fraction, 0.5);
    assert_eq!(config.renewal.preflight_wait, Duration::from_secs(15));
    assert_eq!(config.renewal.retry_first, Duration::from_secs(120));
    assert_eq!(config.renewal.retry_max, Duration::from_secs(86_400));
    assert_eq!(config.authorities["letsencrypt"].http_01_port, 5002);
    assert_eq!(config.authorities["letsencrypt"].roots, Roots::System);

    let certificate = config.certificates.values().next().unwrap();
    let shown = |names: &[certwell_proto::HostName]| {
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        shown(&certificate.hosts),
        ["cdn-frankfurt-1", "cdn-fremont-1", "sally"]
    );
    assert_eq!(
        shown(&certificate.challenge_hosts),
        ["cdn-frankfurt-1", "cdn-fremont-1"]
    );
    let identifiers: Vec<_> = certificate
        .identifiers
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(identifiers, ["media.hachyderm.io", "192.0.2.7"]);
    assert_eq!(certificate.key_type, KeyType::EcdsaP384);
}

#[test]
fn what_is_left_out_has_its_default() {
    let files = Files::new(&format!(
        "{ISSUER}[authority.b]\ndirectory = \"https://b.example/\"\n[authority.a]\ndirectory = \"https://a.example/\"\n\
         [host.sally]\n[certificate.\"media.example.org\"]\nhosts = [\"sally\"]\n"
    ));
    let config = files.load().unwrap();
    assert_eq!(
        config.issuer.state_directory,
        Path::new("/var/lib/certwell-issuer")
    );
    assert_eq!(config.issuer.listen[0].to_string(), "0.0.0.0:7443");
    assert_eq!(
        config.issuer.key_encryption_key,
        files.directory.path().join("issuer.kek")
    );
    assert!((config.renewal.at_fraction - 0.667).abs() < 0.001);
    assert_eq!(config.renewal.retry_max, Duration::from_secs(6 * 3_600));
    let certificate = config.certificates.values().next().unwrap();
    assert_eq!(certificate.identifiers[0].to_string(), "media.example.org");
    assert_eq!(certificate.challenge_hosts, certificate.hosts);
    assert_eq!(certificate.authorities, ["a", "b"]);
    assert_eq!(certificate.key_type, KeyType::EcdsaP256);
    assert_eq!(config.authorities["a"].http_01_port, 80);
}

#[test]
fn further_files_add_up_and_relative_paths_begin_at_the_main_file() {
    let files = Files::new(&format!("{ISSUER}state-directory = \"state\"\n"));
    files.write("roots/ca.pem", &(root_pem() + &root_pem()));
    files.write(
        "conf.d/20-ca.toml",
        "[authority.lab]\ndirectory = \"https://ca.example/\"\nroots = \"roots/ca.pem\"\n",
    );
    files.write("conf.d/10-hosts.toml", "[host.sally]\n");
    files.write("conf.d/.hidden.toml", "this is not TOML");
    files.write("conf.d/notes.txt", "neither is this");
    files.write(
        "conf.d/30-certificates.toml",
        "[certificate.\"a.example.org\"]\nhosts = [\"sally\"]\n",
    );

    let config = files.load().unwrap();
    assert_eq!(
        config.issuer.state_directory,
        files.directory.path().join("state")
    );
    assert_eq!(config.certificates.len(), 1);
    let Roots::File { path, certificates } = &config.authorities["lab"].roots else {
        panic!("a file was named")
    };
    assert_eq!(path, &files.directory.path().join("roots/ca.pem"));
    assert_eq!(certificates.len(), 2);

    let names: Vec<_> = source_files(&files.main())
        .unwrap()
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(
        names,
        [
            "issuer.toml",
            "10-hosts.toml",
            "20-ca.toml",
            "30-certificates.toml"
        ]
    );
}

#[test]
fn hosts_and_authorities_alone_are_enough() {
    Files::new(&format!("{ISSUER}{AUTHORITY}[host.sally]\n"))
        .load()
        .unwrap();
    Files::new(ISSUER).load().unwrap();
}

#[test]
fn the_packaged_configuration_is_accepted_with_and_without_its_comments() {
    let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/config/issuer.toml");
    let config = Config::load(&packaged).unwrap();
    assert_eq!(
        config.issuer.state_directory,
        Path::new("/var/lib/certwell-issuer")
    );
    assert!(config.certificates.is_empty() && config.authorities.is_empty());

    // Every commented setting (`#key`, not `# words`) is right as well, and says the default where it has one.
    let text = std::fs::read_to_string(&packaged).unwrap();
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    // What is named in it lies beside it here, as it must: secrets for nobody else, a program of ours.
    let files = Files::new(
        &uncommented
            .replace("\"/etc/certwell/", "\"")
            .replace("/usr/local/bin/", ""),
    );
    for (name, text, mode) in [
        ("discord.url", "https://discord.com/api/webhooks/1/a", 0o640),
        ("hook.secret", "0123456789abcdef", 0o640),
        ("mail.password", "word", 0o640),
        ("page", "#!/bin/sh\n", 0o755),
    ] {
        files.write(name, text);
        let path = files.directory.path().join(name);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let whole = files.load().unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(whole.notifiers.len(), 5, "one of each, but for Slack");
    assert_eq!(
        (
            whole.authorities.len(),
            whole.hosts.len(),
            whole.certificates.len()
        ),
        (1, 1, 1)
    );
    assert_eq!(whole.renewal.retry_first, config.renewal.retry_first);
    assert_eq!(whole.renewal.retry_max, config.renewal.retry_max);
    assert_eq!(whole.renewal.preflight_wait, config.renewal.preflight_wait);
}

#[test]
fn as_many_certificates_and_identifiers_as_the_limits_say_are_accepted() {
    let identifiers: Vec<_> = (0..100).map(|n| format!("\"n{n}.example.org\"")).collect();
    let mut text = format!(
        "{ISSUER}{AUTHORITY}[host.sally]\n[certificate.many]\nhosts = [\"sally\"]\nidentifiers = [{}]\n",
        identifiers.join(", ")
    );
    for n in 0..1_999 {
        text.push_str(&format!(
            "[certificate.\"c{n}.example.org\"]\nhosts = [\"sally\"]\n"
        ));
    }
    assert_eq!(Files::new(&text).load().unwrap().certificates.len(), 2_000);
}
