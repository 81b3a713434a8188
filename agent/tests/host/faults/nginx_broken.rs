//! The host's own configuration is broken before we come: nothing is touched, `status` has nginx's own line with file
//! and line number, and it goes on when it is mended.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use certwell_proto::{pem, v1};

use crate::{
    faults::{problems, serves, status_says, witness::Witness},
    host::{Host, NAME, free_port},
    issuer::eventually,
    world::{World, serving, world},
};

/// Every file and link below these, by inode, date of change and contents: what lies there, and that nobody put it
/// there anew.
fn tree(host: &Host, below: &[&str]) -> BTreeMap<PathBuf, (u64, i64, Vec<u8>)> {
    fn add(path: &Path, found: &mut BTreeMap<PathBuf, (u64, i64, Vec<u8>)>) {
        let meta = fs::symlink_metadata(path).unwrap();
        let bytes = if meta.is_symlink() {
            fs::read_link(path)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes()
        } else if meta.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                add(&entry.unwrap().path(), found);
            }
            Vec::new()
        } else {
            fs::read(path).unwrap()
        };
        let changed = if meta.is_dir() { 0 } else { meta.ctime_nsec() };
        found.insert(path.to_owned(), (meta.ino(), changed, bytes));
    }
    let mut found = BTreeMap::new();
    for path in below {
        add(&host.path(path), &mut found);
    }
    found
}

const CONFIGURED: [&str; 4] = ["live", "conf.d", "snippets", "nginx.conf"];

/// The number of the line of a file that holds this text.
fn line_of(file: &Path, text: &str) -> usize {
    let whole = fs::read_to_string(file).unwrap();
    let found = whole.lines().position(|line| line.contains(text));
    found.unwrap() + 1
}

fn reloads(host: &Host) -> usize {
    host.agent_log().matches("step step=Reload").count()
}

/// How a person breaks it; what nginx says of that, and where it says it is.
struct Mistake {
    /// At http level of the main file, or in a file of its own.
    text: String,
    in_own_file: bool,
    said: &'static str,
    /// A part of the line that nginx names; where it names none, the words have to do.
    at: Option<&'static str>,
}

fn mistakes(host: &Host) -> Vec<Mistake> {
    let gone = host.path("gone");
    let gone = gone.display();
    let port = free_port();
    let mistake = |text: String, said, at| Mistake {
        text,
        in_own_file: false,
        said,
        at,
    };
    let own_file = |text: &str, said, at| Mistake {
        text: text.to_owned(),
        in_own_file: true,
        said,
        at,
    };
    vec![
        mistake(
            "sssl on;".into(),
            "unknown directive \"sssl\"",
            Some("sssl"),
        ),
        mistake(
            format!("include {gone}.conf;"),
            "No such file or directory",
            Some("gone.conf"),
        ),
        mistake(
            format!(
                "server {{ listen {port} ssl; ssl_certificate {gone}.pem; ssl_certificate_key {gone}.key; }}"
            ),
            "gone.pem",
            None,
        ),
        own_file(
            "\nserver {\n server_name a.example\n}\n",
            "unexpected \"}\"",
            Some("}"),
        ),
        own_file(
            "server {\n location / { }\n location / { }\n}\n",
            "duplicate location \"/\"",
            None,
        ),
        own_file("server {\n", "unexpected end of file", None),
    ]
}

#[tokio::test]
async fn each_mistake_is_told_with_file_and_line_nothing_is_touched_and_mending_it_is_enough() {
    let (world, mut served) = serving().await;
    let host = &world.host;
    let own = host.path("conf.d/site.conf");
    for (generation, mistake) in (2..).zip(mistakes(host)) {
        let file = if mistake.in_own_file {
            fs::write(&own, &mistake.text).unwrap();
            own.clone()
        } else {
            host.write_nginx(true, &mistake.text);
            host.path("nginx.conf")
        };
        let (before, reloads_before) = (tree(host, &CONFIGURED), reloads(host));
        let witness = Witness::of(host.https);
        let next = world.bundle(generation);
        world.offer(&next);
        world.outcome(generation, v1::Outcome::Held).await;
        let line = mistake
            .at
            .map_or_else(String::new, |text| line_of(&file, text).to_string());
        let place = format!("{}:{line}", file.display());
        let place = if mistake.said == "gone.pem" {
            ""
        } else {
            &place
        };
        status_says(
            host,
            &[
                "nginx -t failed on the host's own config (not ours): ",
                mistake.said,
                place,
                &format!("certificate left at generation {}", generation - 1),
                "will retry when the config changes",
            ],
        )
        .await;
        assert!(tree(host, &CONFIGURED) == before, "{}", mistake.said);
        assert_eq!(host.activations(NAME, generation), 0);
        assert_eq!(reloads(host), reloads_before, "nginx was told something");
        witness.saw_only(&served);

        let _ = fs::remove_file(&own);
        host.write_nginx(true, "");
        host.reload_nginx();
        world.outcome(generation, v1::Outcome::Converged).await;
        serves(&world, &next).await;
        served = next;
    }
}

/// The operator's own certificate, good for a while, in a plain directory.
fn valid_before_us(world: &World) -> v1::Bundle {
    let theirs = world
        .authority
        .bundle_living(NAME, 99, crate::world::NAMES, (-3_000, 600));
    let pair = &theirs.key_pairs[0];
    let chain = pem::certificates(pair.fullchain.iter().map(Vec::as_slice));
    let key = pem::private_key(&pair.private_key);
    fs::write(world.host.live().join("fullchain.pem"), chain).unwrap();
    fs::write(world.host.live().join("privkey.pem"), &*key).unwrap();
    theirs
}

#[tokio::test]
async fn a_host_that_is_broken_when_we_first_come_keeps_its_own_certificate_until_it_is_mended() {
    let mut world = world().await;
    let theirs = valid_before_us(&world);
    world.host.start_nginx().await;
    world.host.workers_are_older_than_edits().await;
    world.host.write_nginx(true, "sssl on;");
    let before = tree(&world.host, &["live", "nginx.conf", "snippets"]);
    let witness = Witness::of(world.host.https);
    let first = world.bundle(1);
    world.offer(&first);
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Held).await;
    let line = line_of(&world.host.path("nginx.conf"), "sssl");
    let words = format!(
        "unknown directive \"sssl\" in {}:{line};",
        world.host.path("nginx.conf").display()
    );
    // Of the certificate, and of the map of HTTP-01 answers.
    eventually("status says why", || async {
        let said = problems(&world.host);
        let all = said
            .iter()
            .all(|said| said.contains("(not ours): ") && said.contains(&words));
        (said.len() == 2 && all).then_some(())
    })
    .await;
    eventually("all is as it was", || async {
        (tree(&world.host, &["live", "nginx.conf", "snippets"]) == before).then_some(())
    })
    .await;
    assert_eq!(reloads(&world.host), 0, "nginx was told something");
    witness.saw_only(&theirs);

    world.host.write_nginx(true, "");
    world.host.reload_nginx();
    world.outcome(1, v1::Outcome::Converged).await;
    serves(&world, &first).await;
    assert_eq!(reloads(&world.host), 1);
}

#[tokio::test]
async fn an_agent_that_starts_on_a_broken_host_with_all_in_place_leaves_it_serving() {
    let (mut world, first) = serving().await;
    world.host.end_agent().await;
    world.host.write_nginx(true, "sssl on;");
    let (before, reloads_before) = (tree(&world.host, &CONFIGURED), reloads(&world.host));
    let witness = Witness::of(world.host.https);
    world.issuer.memory.lock().unwrap().reports.clear();
    world.host.start_agent();
    let second = world.bundle(2);
    world.offer(&second);
    world.outcome(2, v1::Outcome::Held).await;
    status_says(&world.host, &["unknown directive \"sssl\""]).await;
    assert!(tree(&world.host, &CONFIGURED) == before);
    assert_eq!(reloads(&world.host), reloads_before);
    witness.saw_only(&first);
    world.host.write_nginx(true, "");
    world.host.reload_nginx();
    world.outcome(2, v1::Outcome::Converged).await;
    serves(&world, &second).await;
}
