//! `certwell-agent doctor --fix-include` and `--undo` on server blocks as people have them.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
};

use super::{
    is_root,
    sites::{INCLUDE, Sites},
};
use crate::{host::NAME, lineage::tree};

/// A file of a site: its name is that of the server, then its text, and the status that it answers with.
const SHAPES: &[(&str, &[u8], &str)] = &[
    ("one-line.org", b"server{listen ADDRESS;server_name one-line.org;return 301 https://$host$request_uri;}\n", "301"),
    (
        "mastodon.org",
        b"# Mastodon's\nserver {\n  listen ADDRESS;\n  server_name mastodon.org;\n  root ROOT/web;\n  location /.well-known/acme-challenge/ { allow all; }\n  location / { return 301 https://$host$request_uri; }\n}\n",
        "301",
    ),
    (
        "certbot.org",
        b"server {\n    if ($host = certbot.org) {\n        return 301 https://$host$request_uri;\n    } # managed by Certbot\n\n\n\tlisten ADDRESS ;\n\tserver_name certbot.org;\n    return 404; # managed by Certbot\n\n\n}\n",
        "301",
    ),
    (
        "windows.org",
        b"# caf\xe9 {\r\nserver { # {\r\n\tserver_name windows.org;\r\n\tlisten ADDRESS;\r\n\treturn 302 https://$host/;\r\n}\r\n",
        "302",
    ),
    (
        "brace.org",
        b"server\n{\n    listen ADDRESS;\n    server_name brace.org;\n    rewrite ^ https://$host$request_uri? permanent;\n}",
        "301",
    ),
    (
        "shared.org",
        b"server {\n  include ROOT/snippets/redirect.conf;\n  listen ADDRESS;\n  server_name shared.org;\n}\n",
        "301",
    ),
    (
        "late.org",
        b"server {\n  listen ADDRESS;\n  server_name late.org;\n  return 301 https://$host$request_uri;\n  include snippets/certwell-acme.conf;\n}\n",
        "301",
    ),
    (
        "break.org",
        b"server {\n  listen ADDRESS;\n  server_name break.org;\n  if ($host) { break; }\n  include snippets/certwell-acme.conf;\n  return 301 https://$host;\n}\n",
        "404",
    ),
    (
        "late-and-shared.org",
        b"server {\n  listen ADDRESS;\n  server_name late-and-shared.org;\n  return 301 https://$host$request_uri;\n  include snippets/all.conf;\n}\n",
        "301",
    ),
    (
        "quoted.org",
        b"server {\n  # server { }\n  listen ADDRESS; server_name quoted.org \"~^x{2}\\}$\";\n  location ~ ^/[^']+$ { return 418 \"it's; }\"; }\n}\n",
        "418",
    ),
    (
        "denied.org",
        b"server {\n  listen ADDRESS;\n  server_name denied.org;\n  deny all;\n  auth_basic x;\n  auth_basic_user_file ROOT/none;\n  location ~ /\\. { deny all; }\n}\n",
        "403",
    ),
    (
        "twice.org",
        b"server { listen ADDRESS; server_name twice.org; include snippets/certwell-acme.conf; return 403; } server { listen ADDRESS; server_name again.org; return 301 https://$host; }\n",
        "403",
    ),
];

fn files() -> Vec<(&'static str, &'static [u8])> {
    SHAPES
        .iter()
        .map(|(name, text, _)| (*name, *text))
        .collect()
}

/// What the shapes share.
fn snippets(sites: &Sites) {
    fs::create_dir(sites.host.path("web")).unwrap();
    for (name, text) in [
        ("redirect.conf", "return 301 https://$host$request_uri;\n"),
        (
            "all.conf",
            "add_header x y;\ninclude snippets/certwell-acme.conf;\n",
        ),
    ] {
        fs::write(sites.host.path("snippets").join(name), text).unwrap();
    }
}

#[tokio::test]
async fn server_blocks_as_people_have_them_answer_afterwards_and_do_what_they_did() {
    let mut sites = Sites::new(&files());
    snippets(&sites);
    sites.host.start_nginx().await;
    for (name, _, status) in SHAPES {
        assert_eq!(sites.status(name), *status, "{name}");
    }
    let kept = tree(&sites.host.path("sites-enabled"));
    let shared = tree(&sites.host.path("snippets"));
    let before: Vec<Vec<u8>> = SHAPES
        .iter()
        .map(|(name, ..)| fs::read(sites.path(name)).unwrap())
        .collect();

    let (code, told) = sites.run(&["--fix-include", "--yes"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains(&format!("+{INCLUDE}")) || told.contains(&format!("+  {INCLUDE}")),
        "{told}"
    );
    assert!(
        told.contains("12 files changed, 12 server blocks begin with the include"),
        "{told}"
    );
    assert!(
        told.contains("nginx is reloaded") && told.contains("doctor --undo"),
        "{told}"
    );
    assert_eq!(sites.in_the_way().await, [""; 0]);
    let names: Vec<&str> = SHAPES
        .iter()
        .map(|(name, ..)| *name)
        .chain(["again.org", NAME])
        .collect();
    sites.answer_for(&names).await;
    for name in &names {
        sites.is_answered(name).await;
    }
    for (name, _, status) in SHAPES {
        assert_eq!(sites.status(name), *status, "{name}");
    }
    assert_eq!(sites.read("late.org").matches(INCLUDE).count(), 1, "moved");
    assert_eq!(
        tree(&sites.host.path("snippets")),
        shared,
        "what is shared is left alone"
    );
    assert!(
        fs::symlink_metadata(sites.host.path("sites-enabled/late.org"))
            .unwrap()
            .is_symlink()
    );
    let (code, told) = sites.run(&["--fix-include", "--yes"]);
    assert_eq!(
        (code, told.contains("nothing is to be put in")),
        (Some(0), true),
        "{told}"
    );

    let (code, told) = sites.run(&["--undo"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("12 files are as before") && told.contains("nginx is reloaded"),
        "{told}"
    );
    for ((name, ..), before) in SHAPES.iter().zip(before) {
        assert_eq!(fs::read(sites.path(name)).unwrap(), before, "{name}");
    }
    assert_eq!(tree(&sites.host.path("sites-enabled")), kept);
    assert_eq!(sites.in_the_way().await.len(), 12);
    let (code, told) = sites.run(&["--undo"]);
    assert_eq!(code, Some(8), "{told}");
}

const PLAIN: &[u8] =
    b"server {\n  listen ADDRESS;\n  server_name plain.org;\n  return 301 https://$host;\n}\n";

#[tokio::test]
async fn a_host_that_has_neither_map_nor_snippet_nor_an_include_of_them_gets_all_and_gives_it_back()
{
    let sites = Sites::started(&[("plain.org", PLAIN)]).await;
    let host = &sites.host;
    let (map, snippet) = (
        host.path("conf.d/certwell-acme.conf"),
        host.path("snippets/certwell-acme.conf"),
    );
    let config = host.path("nginx.conf");
    let root = host.root().display().to_string();
    let text = fs::read_to_string(&config)
        .unwrap()
        .replace(
            &format!("include {root}/conf.d/*.conf;"),
            "map_hash_bucket_size 64;",
        )
        .replace(&format!("include {root}/snippets/certwell-acme.conf;"), "");
    fs::write(&config, &text).unwrap();
    fs::remove_file(&map).unwrap();
    fs::remove_dir_all(host.path("snippets")).unwrap();
    assert_eq!(
        sites.in_the_way().await,
        [
            "challenge-map-not-included",
            "snippet-missing",
            "include-missing",
            "include-missing"
        ]
    );
    let (code, told) = sites.run(&["--fix-include", "--yes", "--no-reload"]);
    assert_eq!(code, Some(0), "{told}");
    for words in [
        format!("+++ {}", map.display()),
        "--- /dev/null".into(),
        format!("+ include {};", map.display()),
        "nginx isn't reloaded".into(),
    ] {
        assert!(told.contains(&words), "{words}: {told}");
    }
    host.assert_nginx_takes_its_configuration();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&map), mode(&snippet)), (0o644, 0o644));
    assert!(sites.get("plain.org", "/").contains("301"), "not reloaded");
    sites.answer_for(&["plain.org", NAME]).await;
    sites.is_answered("plain.org").await;
    sites.is_answered(NAME).await;
    assert_eq!(sites.in_the_way().await, [""; 0]);

    // The agent has filled the map meanwhile; that stays, all else is as it was.
    let filled = fs::read(&map).unwrap();
    let (code, told) = sites.run(&["--undo"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(fs::read_to_string(&config).unwrap(), text);
    assert!(!snippet.exists());
    assert_eq!(fs::read(&map).unwrap(), filled);
}

#[tokio::test]
async fn what_keeps_nginx_from_reading_its_configuration_is_mended_before_the_rest() {
    for (map_gone, snippet_gone, include_gone) in [
        (true, false, false),
        (false, true, false),
        (false, false, true),
        (true, true, false),
    ] {
        let sites = Sites::started(&[("plain.org", PLAIN)]).await;
        let host = &sites.host;
        if map_gone {
            fs::remove_file(host.path("conf.d/certwell-acme.conf")).unwrap();
        }
        if snippet_gone {
            fs::remove_file(host.path("snippets/certwell-acme.conf")).unwrap();
        }
        if include_gone {
            let config = host.path("nginx.conf");
            let text = fs::read_to_string(&config).unwrap();
            fs::write(&config, text.replace("/conf.d/*.conf;", "/conf.d/*.none;")).unwrap();
        }
        let before = tree(host.root());
        let (code, told) = sites.run(&["--fix-include", "--yes"]);
        assert_eq!(
            code,
            Some(0),
            "{map_gone} {snippet_gone} {include_gone}: {told}"
        );
        assert_eq!(sites.in_the_way().await, [""; 0]);
        sites.answer_for(&["plain.org", NAME]).await;
        sites.is_answered("plain.org").await;
        // One round at a time, the last first; what nginx can't do without stays.
        assert_eq!(sites.run(&["--undo"]).0, Some(0));
        let (code, told) = sites.run(&["--undo"]);
        // A map that was filled since isn't taken out at all.
        let (expected, words) = if snippet_gone || include_gone {
            (9, "so it stays")
        } else {
            (0, "nothing of it is left")
        };
        assert_eq!(code, Some(expected), "{told}");
        assert!(told.contains(words), "{told}");
        let now = tree(host.root());
        let same = |what: &str| {
            let path = host.path(what);
            assert_eq!(now.get(&path), before.get(&path), "{what}");
        };
        same("sites-available/plain.org");
        host.assert_nginx_takes_its_configuration();
    }
}

#[tokio::test]
async fn a_file_keeps_its_owner_its_mode_and_its_attributes() {
    if !is_root() {
        return;
    }
    let sites = Sites::started(&[("plain.org", PLAIN)]).await;
    let path = sites.path("plain.org");
    chown(&path, Some(65_534), Some(65_534)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let attribute = std::process::Command::new("setfattr")
        .args(["-n", "user.kept", "-v", "yes"])
        .arg(&path)
        .status()
        .is_ok_and(|ended| ended.success());
    let looked = || {
        let meta = fs::metadata(&path).unwrap();
        (meta.uid(), meta.gid(), meta.mode() & 0o7777)
    };
    let mut inode = fs::metadata(&path).unwrap().ino();
    for arguments in [&["--fix-include", "--yes"][..], &["--undo"]] {
        assert_eq!(sites.run(arguments).0, Some(0));
        assert_eq!(looked(), (65_534, 65_534, 0o640));
        let now = fs::metadata(&path).unwrap().ino();
        assert_ne!(now, inode, "replaced whole");
        inode = now;
        if attribute {
            let output = std::process::Command::new("getfattr")
                .args(["-n", "user.kept"])
                .arg(&path)
                .output();
            assert!(output.unwrap().status.success(), "{arguments:?}");
        }
    }
    if !attribute {
        crate::world::skipped("setfattr isn't there, or the file system has no attributes");
    }
    let left = fs::read_dir(sites.host.path("sites-available"))
        .unwrap()
        .count();
    assert_eq!(left, 1, "nothing half written is left");
}

#[tokio::test]
async fn a_host_without_a_port_80_server_is_told_of_the_ready_one_which_is_enough() {
    let sites = Sites::started(&[]).await;
    let host = &sites.host;
    let config = host.path("nginx.conf");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace(&format!("listen {};", host.http), "listen unix:s;"),
    )
    .unwrap();
    let (code, told) = sites.run(&["--fix-include", "--yes"]);
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("certwell-port80.conf"), "{told}");
    let ready = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../packaging/nginx/certwell-port80.conf"
    );
    let ready = fs::read_to_string(ready)
        .unwrap()
        .replace("listen 80;", &format!("listen {};", host.http))
        .replace("listen [::]:80;", "");
    fs::write(host.path("sites-enabled/certwell-port80.conf"), ready).unwrap();
    host.reload_nginx();
    sites.answer_for(&[NAME]).await;
    sites.is_answered(NAME).await;
    assert_eq!(sites.in_the_way().await, [""; 0]);
    // Workers of before the reload answer for a moment longer.
    crate::issuer::eventually("anybody is led on", || async {
        (sites.status("anybody.org") == "301").then_some(())
    })
    .await;
}
