//! What `certwell-agent doctor --fix-include` and `--undo` don't do, or undo themselves.

use std::{
    fs,
    io::Write as _,
    process::{Child, Command, Stdio},
};

use super::sites::{INCLUDE, Sites, said};
use crate::lineage::{Tree, tree};

const PLAIN: &[u8] =
    b"server {\n  listen ADDRESS;\n  server_name plain.org;\n  return 301 https://$host;\n}\n";

/// All that is the operator's.
fn theirs(sites: &Sites) -> Tree {
    let mut found = Tree::new();
    for part in [
        "nginx.conf",
        "sites-available",
        "sites-enabled",
        "snippets",
        "conf.d",
    ] {
        let path = sites.host.path(part);
        if path.is_dir() {
            found.extend(tree(&path));
        } else {
            found.insert(path.clone(), fs::read_to_string(&path).unwrap());
        }
    }
    found
}

fn modified(sites: &Sites) -> std::time::SystemTime {
    fs::metadata(sites.path("plain.org"))
        .unwrap()
        .modified()
        .unwrap()
}

#[tokio::test]
async fn what_nginx_refuses_is_put_back_byte_for_byte_with_nginx_s_words() {
    let sites = Sites::started(&[("plain.org", PLAIN)]).await;
    // Nobody includes it yet, so nginx doesn't mind.
    let config = sites.host.path("nginx.conf");
    let text = fs::read_to_string(&config).unwrap();
    let include = format!(
        "include {}/snippets/certwell-acme.conf;",
        sites.host.root().display()
    );
    fs::write(&config, text.replace(&include, "return 404;")).unwrap();
    fs::write(
        sites.host.path("snippets/certwell-acme.conf"),
        "frobnicate on;\nif ($certwell_acme_reply) { return 200 $certwell_acme_reply; }\n",
    )
    .unwrap();
    let (before, when, workers) = (theirs(&sites), modified(&sites), sites.host.workers());
    let (code, told) = sites.run(&["--fix-include", "--yes"]);
    assert_eq!(code, Some(9), "{told}");
    assert!(
        told.contains("unknown directive \"frobnicate\"") && told.contains("all was put back"),
        "{told}"
    );
    assert_eq!(theirs(&sites), before);
    // Else the agent would wait for whoever edits it.
    assert_eq!(modified(&sites), when);
    assert_eq!(sites.host.workers(), workers, "no reload");
    sites.host.assert_nginx_takes_its_configuration();
    assert_eq!(
        sites.run(&["--undo"]).0,
        Some(8),
        "there is nothing to take out"
    );

    // A configuration that is broken already is left as it is.
    fs::write(&config, "events {}\nhttp { serwer; }\n").unwrap();
    let before = theirs(&sites);
    let (code, told) = sites.run(&["--fix-include", "--yes"]);
    assert_eq!(code, Some(9), "{told}");
    assert!(
        told.contains("serwer") && told.contains("nginx.conf:2"),
        "{told}"
    );
    assert_eq!(theirs(&sites), before);
}

#[tokio::test]
async fn a_snippet_that_answers_nothing_is_named_and_included_nowhere_until_it_does() {
    let included =
        b"server {\n  listen ADDRESS;\n  server_name plain.org;\n  include snippets/certwell-acme.conf;\n}\n";
    for text in [PLAIN, included] {
        let sites = Sites::started(&[("plain.org", text)]).await;
        let snippet = sites.host.path("snippets/certwell-acme.conf");
        let ours = fs::read_to_string(&snippet).unwrap();
        fs::write(&snippet, format!("# {ours}")).unwrap();
        let before = theirs(&sites);
        let found = sites.in_the_way().await;
        assert_eq!(found[0], "snippet-changed", "{found:?}");
        for _ in 0..2 {
            let (code, told) = sites.run(&["--fix-include", "--yes"]);
            assert_eq!(code, Some(3), "{told}");
            assert!(
                told.contains(&snippet.display().to_string()) && told.contains(ours.trim()),
                "{told}"
            );
            assert_eq!(theirs(&sites), before);
        }
        // The remedy.
        fs::write(&snippet, ours).unwrap();
        let (code, told) = sites.run(&["--fix-include", "--yes"]);
        assert_eq!(code, Some(0), "{told}");
        assert_eq!(sites.in_the_way().await, [""; 0]);
        assert_eq!(sites.read("plain.org").matches(INCLUDE).count(), 1);
    }
}

#[tokio::test]
async fn of_two_fixes_the_first_is_taken_out_although_a_file_of_the_second_is_gone() {
    let sites = Sites::started(&[("plain.org", PLAIN), ("gone.org", b"")]).await;
    let before = sites.read("plain.org");
    assert_eq!(sites.run(&["--fix-include", "--yes"]).0, Some(0));
    sites.write("gone.org", PLAIN);
    assert_eq!(sites.run(&["--fix-include", "--yes"]).0, Some(0));
    fs::remove_file(sites.host.path("sites-enabled/gone.org")).unwrap();
    fs::remove_file(sites.path("gone.org")).unwrap();
    let (code, told) = sites.run(&["--undo"]);
    assert_eq!(code, Some(8), "{told}");
    // The remedy.
    let fix = sites.host.path("state/include-fix/2");
    assert!(
        told.contains(&format!("then remove {},", fix.display())),
        "{told}"
    );
    fs::remove_dir_all(fix).unwrap();
    let (code, told) = sites.run(&["--undo"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(sites.read("plain.org"), before);
}

#[tokio::test]
async fn without_a_terminal_and_without_yes_it_is_shown_and_nothing_is_changed() {
    let sites = Sites::started(&[("plain.org", PLAIN)]).await;
    let before = tree(&sites.host.path("sites-available"));
    let output = sites.verb(&["--fix-include"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = sites.path("plain.org");
    let expected = format!(
        "--- {path}\n+++ {path}\n@@ -1,4 +1,5 @@\n server {{\n+  {INCLUDE}\n   listen {};\n   server_name plain.org;\n   return 301 https://$host;\n",
        sites.host.http,
        path = path.display(),
    );
    assert_eq!(shown, expected);
    assert!(said(&output).contains("--yes"), "{}", said(&output));
    assert_eq!(tree(&sites.host.path("sites-available")), before);
    assert!(!sites.host.path("state/include-fix").exists());
    for wrong in [
        &["--yes"][..],
        &["--no-reload"],
        &["--fix-include", "--undo"],
    ] {
        assert_eq!(sites.run(wrong).0, Some(2), "{wrong:?}");
    }
}

/// The verb at a terminal of its own, which is answered once the question was asked.
fn at_a_terminal(sites: &Sites, meanwhile: impl FnOnce(), answer: &str) -> (Option<i32>, String) {
    let port = sites.host.http.port().to_string();
    let agent = sites
        .host
        .agent_command(&["doctor", "--port", &port, "--fix-include"]);
    let words: Vec<String> = std::iter::once(agent.get_program())
        .chain(agent.get_args())
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    let typed = sites.host.path("run/typescript");
    let script = Command::new("script")
        .args([
            "--quiet",
            "--flush",
            "--return",
            "--command",
            &words.join(" "),
        ])
        .arg(&typed)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut script = Ending(script);
    let said = || fs::read_to_string(&typed).unwrap_or_default();
    within_limit("it asks", || said().contains("[y/N]").then_some(()));
    meanwhile();
    writeln!(script.0.stdin.as_ref().unwrap(), "{answer}").unwrap();
    let ended = within_limit("it ends", || script.0.try_wait().unwrap());
    (ended.code(), said())
}

/// Ends with the test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn within_limit<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let began = tokio::time::Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(began.elapsed().as_secs() < 40, "never: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[tokio::test]
async fn at_a_terminal_it_asks_and_only_a_yes_puts_it_in() {
    let sites = Sites::started(&[("plain.org", PLAIN)]).await;
    let before = sites.read("plain.org");
    for no in ["n", "", "what?"] {
        let (code, told) = at_a_terminal(&sites, || {}, no);
        assert_eq!(code, Some(6), "{told}");
        assert_eq!(sites.read("plain.org"), before, "{no:?}");
    }
    let (code, told) = at_a_terminal(&sites, || {}, "y");
    assert_eq!(code, Some(0), "{told}");
    assert!(sites.read("plain.org").contains(INCLUDE));
}

#[tokio::test]
async fn a_file_that_was_changed_between_the_question_and_the_answer_is_left_and_so_are_the_others()
{
    let sites = Sites::started(&[("a.org", PLAIN), ("plain.org", PLAIN)]).await;
    let a = sites.read("a.org");
    let edited = format!("# mine\n{}", sites.read("plain.org"));
    let edit = || fs::write(sites.path("plain.org"), &edited).unwrap();
    let (code, told) = at_a_terminal(&sites, edit, "y");
    assert_eq!(code, Some(8), "{told}");
    assert!(told.contains("plain.org was changed meanwhile"), "{told}");
    assert_eq!(sites.read("plain.org"), edited);
    assert_eq!(sites.read("a.org"), a);
    assert_eq!(sites.run(&["--undo"]).0, Some(8), "nothing was put in");
}

#[tokio::test]
async fn what_was_changed_since_is_not_taken_out_and_its_copy_is_named() {
    let sites = Sites::started(&[("a.org", PLAIN), ("plain.org", PLAIN)]).await;
    let before = (sites.read("a.org"), sites.read("plain.org"));
    assert_eq!(sites.run(&["--fix-include", "--yes"]).0, Some(0));
    let put = (sites.read("a.org"), sites.read("plain.org"));
    let edited = format!("# mine\n{}", put.1);
    fs::write(sites.path("plain.org"), &edited).unwrap();
    let (code, told) = sites.run(&["--undo"]);
    assert_eq!(code, Some(8), "{told}");
    assert!(
        told.contains("plain.org isn't any more what was put there"),
        "{told}"
    );
    let copy = sites.host.path("state/include-fix/1/1");
    assert!(told.contains(&copy.display().to_string()), "{told}");
    assert_eq!(fs::read_to_string(copy).unwrap(), before.1);
    assert_eq!(
        (sites.read("a.org"), sites.read("plain.org")),
        (put.0.clone(), edited)
    );

    // Mended by hand, it goes.
    fs::write(sites.path("plain.org"), &put.1).unwrap();
    assert_eq!(sites.run(&["--undo"]).0, Some(0));
    assert_eq!((sites.read("a.org"), sites.read("plain.org")), before);
    assert!(!sites.host.path("state/include-fix/1").exists());
}

#[tokio::test]
async fn an_undo_that_nginx_would_refuse_is_undone() {
    let sites = Sites::started(&[("plain.org", PLAIN)]).await;
    let host = &sites.host;
    let snippet = host.path("snippets/certwell-acme.conf");
    let config = host.path("nginx.conf");
    let text = fs::read_to_string(&config).unwrap();
    let include = format!("include {};", snippet.display());
    fs::write(&config, text.replace(&include, "return 404;")).unwrap();
    fs::remove_file(&snippet).unwrap();
    assert_eq!(sites.run(&["--fix-include", "--yes"]).0, Some(0));
    // Another block relies on the snippet since.
    let more = format!(
        "server {{ listen {}; server_name more.org; {INCLUDE} }}\n",
        host.http
    );
    fs::write(host.path("sites-enabled/more"), more).unwrap();
    let before = theirs(&sites);
    let (code, told) = sites.run(&["--undo"]);
    assert_eq!(code, Some(9), "{told}");
    assert!(
        told.contains("so it stays") && told.contains("certwell-acme.conf"),
        "{told}"
    );
    assert_eq!(theirs(&sites), before);
    fs::remove_file(host.path("sites-enabled/more")).unwrap();
    assert_eq!(sites.run(&["--undo"]).0, Some(0));
    assert!(!snippet.exists());
}

#[tokio::test]
async fn a_host_without_nginx_is_told_so() {
    let sites = Sites::new(&[("plain.org", PLAIN)]);
    fs::write(
        sites.host.path("agent.toml"),
        "[exec]\ntest = \"true\"\nreload = \"true\"\naddresses = [\"127.0.0.1:1\"]\n",
    )
    .unwrap();
    for arguments in [&["--fix-include", "--yes"][..], &["--undo"]] {
        let (code, told) = sites.run(arguments);
        assert_eq!(code, Some(4), "{told}");
        assert!(told.contains("isn't nginx"), "{told}");
    }
}
