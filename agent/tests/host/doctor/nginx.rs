//! What is in the way about nginx.

use std::{fs, os::unix::fs::PermissionsExt as _};

use certwell_proto::v1;

use super::{Told, command, doctor, is_root, run};
use crate::{
    fleet::self_signed,
    host::{Host, NAME, free_port},
    issuer::eventually,
    lineage::lay_out,
    world::{serving, world},
};

const REDIRECT: &str = "return 301 https://$host$request_uri;";

/// A configuration, what is in the way then, words of the first of it, and its line.
type Case<'a> = (Text, &'a [&'a str], &'a [&'a str], Option<u64>);

/// The text of nginx's configuration with one change, and where a word of it stands.
struct Text(String);

impl Text {
    fn of(host: &Host) -> Self {
        Self(fs::read_to_string(host.path("nginx.conf")).unwrap())
    }

    fn with(&self, from: &str, to: &str) -> Self {
        assert_eq!(self.0.matches(from).count(), 1, "{from}");
        Self(self.0.replace(from, to))
    }

    /// Counted from 1.
    fn line(&self, word: &str) -> u64 {
        let at = self.0.find(word).unwrap();
        self.0[..at].matches('\n').count() as u64 + 1
    }
}

fn is_at(told: &Told, what: &str, needles: &[&str], host: &Host, line: u64) {
    let found = told.says(what, needles);
    let file = host.path("nginx.conf");
    assert_eq!(
        (found["file"].as_str(), found["line"].as_u64()),
        (file.to_str(), Some(line)),
        "{found}"
    );
}

#[tokio::test]
async fn what_nginx_s_configuration_lacks_is_named_with_file_and_line() {
    let mut host = Host::new();
    host.start_nginx().await;
    let root = host.root().display().to_string();
    let whole = Text::of(&host);
    let include = format!("include {root}/snippets/certwell-acme.conf;");
    let maps = format!("include {root}/conf.d/*.conf;");
    let server = whole.line(&format!("listen {}", host.http)) - 1;
    let certbot = format!("if ($host = {NAME}) {{ {REDIRECT} }}");
    let map = "the challenge map";
    let table: &[Case<'_>] = &[
        (
            whole.with("server_name media.example.org;", "serwer_name x;"),
            &["nginx-refuses"],
            &["unknown directive \"serwer_name\""],
            Some(server + 2),
        ),
        (
            whole.with(&include, ""),
            &["include-missing"],
            &[NAME, "--fix-include"],
            Some(server),
        ),
        (
            whole.with(&include, &format!("{REDIRECT}\n{include}")),
            &["redirect-before-include"],
            &[&format!(
                "include at {root}/nginx.conf:{} comes after the redirect",
                server + 4
            )],
            Some(server + 3),
        ),
        (
            whole.with(&include, &format!("{certbot}\n{include}")),
            &["redirect-before-include"],
            &["loses"],
            Some(server + 3),
        ),
        (
            whole.with(&include, &certbot),
            &["include-missing"],
            &[&format!(
                "ahead of the redirect at {root}/nginx.conf:{}",
                server + 3
            )],
            Some(server),
        ),
        (
            whole.with(&maps, ""),
            &["challenge-map-not-included"],
            &["nginx refuses", map],
            None,
        ),
        (
            whole.with(&maps, "").with(&include, ""),
            &["challenge-map-not-included", "include-missing"],
            &[map, "--fix-include"],
            Some(whole.line("http {")),
        ),
        (
            whole.with(&format!("listen {};", host.http), "listen unix:s;"),
            &["no-port-80-server"],
            &["certwell-port80.conf"],
            None,
        ),
    ];
    for (text, expected, needles, line) in table {
        fs::write(host.path("nginx.conf"), &text.0).unwrap();
        let told = doctor(&host).await;
        let all = [&["not-enrolled"], *expected].concat();
        assert_eq!(told.in_the_way(), all, "{:#?}", told.in_the_way);
        match line {
            Some(line) => is_at(&told, expected[0], needles, &host, *line),
            None => drop(told.says(expected[0], needles)),
        }
    }
    // Bound by nobody, as after a reload that failed.
    let other = free_port();
    fs::write(
        host.path("nginx.conf"),
        whole.with(&host.http.to_string(), &other.to_string()).0,
    )
    .unwrap();
    let port = other.port().to_string();
    let told = run(host.agent_command(&["doctor", "--json", "--port", &port])).await;
    assert_eq!(told.in_the_way(), ["not-enrolled", "port-80-silent"]);
    told.says("port-80-silent", &[&other.to_string(), "reload nginx"]);
}

#[tokio::test]
async fn files_that_nginx_is_to_read_and_that_are_gone_are_named() {
    let mut host = Host::new();
    host.start_nginx().await;
    let (map, snippet) = (
        host.path("conf.d/certwell-acme.conf"),
        host.path("snippets/certwell-acme.conf"),
    );
    for (gone, included, expected) in [
        (&map, true, &["challenge-map-missing"][..]),
        (&map, false, &["include-missing"]),
        (&snippet, true, &["snippet-missing"]),
        (&snippet, false, &["snippet-missing", "include-missing"]),
    ] {
        let text = fs::read(gone).unwrap();
        fs::remove_file(gone).unwrap();
        host.write_nginx(included, "");
        let told = doctor(&host).await;
        let all = [&["not-enrolled"], expected].concat();
        assert_eq!(told.in_the_way(), all, "{} {included}", gone.display());
        if expected[0] != "include-missing" {
            told.says(expected[0], &[&gone.display().to_string(), "--fix-include"]);
        }
        assert!(!gone.exists(), "nothing is put there");
        fs::write(gone, text).unwrap();
    }
}

#[tokio::test]
async fn a_master_that_does_not_run_or_is_another_s_is_told_of() {
    let mut host = Host::new();
    host.start_nginx().await;
    let pid_file = host.path("run/nginx.pid");
    let pid = fs::read_to_string(&pid_file).unwrap();
    let ours = format!("process {} (", pid.trim());
    let path = pid_file.display().to_string();
    for (content, expected) in [
        ("", "nginx-not-running"),
        ("1\n", "pid-file-stale"),
        ("of\tno use", "pid-file-stale"),
    ] {
        fs::write(&pid_file, content).unwrap();
        let told = doctor(&host).await;
        assert_eq!(told.in_the_way(), ["not-enrolled", expected]);
        told.says(expected, &[&path, &ours, "nginx.pid-file"]);
    }
    fs::remove_file(&pid_file).unwrap();
    fs::create_dir(&pid_file).unwrap();
    let told = doctor(&host).await;
    assert_eq!(told.in_the_way(), ["not-enrolled", "pid-file-unreadable"]);
    fs::remove_dir(&pid_file).unwrap();
    fs::write(&pid_file, &pid).unwrap();

    let mut other = Host::new();
    other.start_nginx().await;
    let told = doctor(&host).await;
    assert_eq!(told.in_the_way(), ["not-enrolled"]);
    told.says(
        "several-masters",
        &["sees to the nginx of", &path, "an agent of its own"],
    );
    assert!(
        !told.says("several-masters", &[])["sentence"]
            .as_str()
            .unwrap()
            .contains(&ours)
    );
    drop(other);

    host.stop_nginx();
    let told = doctor(&host).await;
    assert_eq!(told.in_the_way(), ["not-enrolled", "nginx-not-running"]);
    host.set_agent("binary = \"/nonexistent/nginx\"");
    let told = doctor(&host).await;
    assert_eq!(told.in_the_way(), ["not-enrolled", "nginx-absent"]);
    told.says("nginx-absent", &["/nonexistent/nginx", "install nginx"]);
}

#[tokio::test]
async fn where_the_names_are_known_only_the_blocks_that_answer_them_are_in_the_way() {
    let mut world = world().await;
    let http = world.host.http;
    let others = format!("server {{ listen {http}; server_name other.example.org; {REDIRECT} }}");
    world.host.write_nginx(false, &others);
    world.host.start_nginx().await;
    let told = doctor(&world.host).await;
    assert_eq!(
        told.in_the_way(),
        ["include-missing", "include-missing"],
        "both, while nothing is known"
    );
    world.issuer.desired.send_modify(|desired| {
        desired.challenges = vec![v1::Challenge {
            names: vec![NAME.into(), "*.example.org".into()],
            thumbprint: "A".repeat(43),
        }];
    });
    world.host.start_agent();
    let is_told = || async {
        let map = fs::read_to_string(world.host.path("conf.d/certwell-acme.conf")).unwrap();
        let told = doctor(&world.host).await;
        let known = map.contains("AAAA") && told.notes().contains(&"include-not-needed");
        known.then_some(told)
    };
    let told = eventually("the name is known", is_told).await;
    assert_eq!(told.in_the_way(), ["include-missing"]);
    told.says("include-missing", &[NAME]);
    told.says("include-not-needed", &["1 server block at port 80"]);
    // Included, and not loaded: the CA would still not be answered.
    world.host.workers_are_older_than_edits().await;
    world.host.write_nginx(true, &others);
    let told = doctor(&world.host).await;
    assert_eq!(told.in_the_way(), ["challenge-unanswered"]);
    told.says("challenge-unanswered", &[NAME, "404"]);
    told.says("edit-in-progress", &["nginx.conf", "reload nginx"]);
    world.host.reload_nginx();
    eventually("the CA would be answered", || async {
        doctor(&world.host)
            .await
            .in_the_way
            .is_empty()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn workers_that_could_not_read_the_agent_s_files_are_told_of_before_there_are_any() {
    if !is_root() {
        return;
    }
    let mut host = Host::new();
    let text = Text::of(&host);
    let live = host.live().display().to_string();
    let written = format!("{}/$ssl_server_name", host.path("live").display());
    fs::write(
        host.path("nginx.conf"),
        text.0
            .replace(&live, &written)
            .replace("user root;", "user www-data;"),
    )
    .unwrap();
    fs::set_permissions(host.root(), fs::Permissions::from_mode(0o755)).unwrap();
    host.start_nginx().await;
    // Whose rights are asked for.
    host.workers_are_older_than_edits().await;
    let text = Text::of(&host);
    let told = doctor(&host).await;
    assert_eq!(told.in_the_way(), ["not-enrolled", "workers-kept-out"]);
    let line = text.line(&format!("listen {} ssl", host.https)) - 1;
    is_at(
        &told,
        "workers-kept-out",
        &[&written, "user www-data", "set file-group = \"www-data\""],
        &host,
        line,
    );

    let agent = fs::read_to_string(host.path("agent.toml")).unwrap();
    fs::write(
        host.path("agent.toml"),
        format!("file-group = \"www-data\"\n{agent}"),
    )
    .unwrap();
    assert_eq!(doctor(&host).await.in_the_way(), ["not-enrolled"]);
    fs::set_permissions(host.root(), fs::Permissions::from_mode(0o700)).unwrap();
    let told = doctor(&host).await;
    told.says(
        "workers-kept-out",
        &[&format!("{} is closed to them", host.root().display())],
    );

    // So are those that a stopped nginx would start.
    fs::set_permissions(host.root(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(host.path("agent.toml"), agent).unwrap();
    host.stop_nginx();
    let told = doctor(&host).await;
    assert_eq!(
        told.in_the_way(),
        ["not-enrolled", "nginx-not-running", "workers-kept-out"]
    );
    told.says("workers-kept-out", &["user www-data"]);
}

#[tokio::test]
async fn certificates_that_others_see_to_are_noted() {
    let (world, _) = serving().await;
    let host = &world.host;
    let (certificate, key) = self_signed("old.example.org", (-7_200, 3_600));
    fs::write(host.path("old.pem"), certificate).unwrap();
    fs::write(host.path("old.key"), key).unwrap();
    let root = host.root().display();
    let port = free_port();
    host.write_nginx(
        true,
        &format!(
            "server {{ listen {port} ssl; server_name old.example.org; ssl_certificate {root}/old.pem; \
             ssl_certificate_key {root}/old.key; }}"
        ),
    );
    let told = doctor(host).await;
    assert_eq!(told.in_the_way(), [""; 0]);
    told.says(
        "expires-unmanaged",
        &["old.pem ends at", "nobody renews it"],
    );
    assert!(!told.notes().contains(&"agent-not-running"));
    assert!(!told.notes().contains(&"certbot-renews-too"));

    let directory = host.path("letsencrypt");
    let (certificate, key) = self_signed(NAME, (-7_200, 360_000));
    lay_out(&directory, NAME, &certificate, &key);
    let agent = fs::read_to_string(host.path("agent.toml")).unwrap();
    fs::write(
        host.path("agent.toml"),
        format!("certbot-directory = \"letsencrypt\"\n{agent}"),
    )
    .unwrap();
    let told = run(command(host)).await;
    // Whether something runs certbot on this machine isn't the test's to say.
    let timed = certwell_agent::certbot::lineage::is_timed(std::path::Path::new("/"));
    assert_eq!(told.notes().contains(&"certbot-renews-too"), timed);
    if timed {
        told.says(
            "certbot-renews-too",
            &[&format!("adopt --as {NAME} {NAME}")],
        );
    } else {
        crate::world::skipped("nothing runs certbot on this machine");
    }
}
