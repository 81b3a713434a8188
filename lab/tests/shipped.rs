//! Every configuration that is shipped is taken by the program that it is for.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use anyhow::{Result, ensure};
use certwell_lab::{
    paths::{self, Home},
    program::{Output, Program},
};

const ENDS: Duration = Duration::from_secs(20);
/// As `openssl rand -hex 32` says one.
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn nginx_takes_the_map_the_snippet_and_the_plain_server() -> Result<()> {
    let home = Home::take("lab/shipped-nginx")?;
    // Ports need rights that tests don't have; sockets do as well.
    let socket = |name: &str| format!("listen unix:{}", home.path().join(name).display());
    let server = fs::read_to_string(paths::packaging().join("nginx/certwell-port80.conf"))?
        .replace("listen 80", &socket("four"))
        .replace("listen [::]:80", &socket("six"));
    ensure!(
        server.matches("listen unix:").count() == 2,
        "which addresses does it listen at?\n{server}"
    );
    let taken = nginx_t(home.path(), &server, true)?;
    ensure!(taken.code == 0, "{}", taken.stderr);
    ensure!(!taken.stderr.contains("warn"), "{}", taken.stderr);
    // The snippet needs the map: without it nginx must refuse, or this test proves nothing.
    let refused = nginx_t(home.path(), &server, false)?;
    ensure!(
        refused.code != 0 && refused.stderr.contains("certwell_acme_reply"),
        "{}",
        refused.stderr
    );
    Ok(())
}

fn nginx_t(home: &Path, server: &str, with_map: bool) -> Result<Output> {
    let shipped = paths::packaging().join("nginx");
    fs::create_dir_all(home.join("snippets"))?;
    fs::copy(
        shipped.join("snippets/certwell-acme.conf"),
        home.join("snippets/certwell-acme.conf"),
    )?;
    let map = if with_map {
        format!("include {};", shipped.join("certwell-acme.conf").display())
    } else {
        String::new()
    };
    let config = home.join("nginx.conf");
    let temps: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path temp_{name};\n"))
        .collect();
    let text = format!(
        "pid nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{temps}{map}\n{server}}}\n"
    );
    fs::write(&config, text)?;
    let (config, prefix) = (config.display().to_string(), format!("{}/", home.display()));
    Program::new(
        "nginx -t",
        paths::nginx(),
        ["-t", "-q", "-e", "stderr", "-p", &prefix, "-c", &config],
    )
    .run(home, "", ENDS)
}

#[test]
fn the_issuer_takes_its_configuration() -> Result<()> {
    let home = Home::take("lab/shipped-issuer")?;
    let config = paths::packaging()
        .join("config/issuer.toml")
        .display()
        .to_string();
    let program = Program::new(
        "issuer",
        paths::binary("certwell-issuer")?,
        ["--config", &config, "check"],
    );
    program
        .run(home.path(), "", ENDS)?
        .success("certwell-issuer check")?;

    // What is shipped as a comment is meant to be used.
    let text = fs::read_to_string(&config)?;
    let used: String = text
        .lines()
        .map(|line| format!("{}\n", uncommented(line)))
        .collect();
    ensure!(used != text, "nothing is commented out");
    // The package makes the group; this machine may not have it.
    let group = "admin-group = \"certwell\"";
    ensure!(used.contains(group), "no {group}");
    let mut used = used.replace(group, "admin-group = \"root\"");
    // What the notifiers read or run has to be there.
    for (path, text, mode) in [
        (
            "/etc/certwell/discord.url",
            "https://discord.com/api/webhooks/1/a",
            0o600,
        ),
        ("/etc/certwell/hook.secret", SECRET, 0o600),
        ("/etc/certwell/mail.password", "password", 0o600),
        ("/usr/local/bin/page", "#!/bin/sh\n", 0o755),
    ] {
        ensure!(used.contains(path), "no {path}");
        let own = home
            .path()
            .join(path.rsplit('/').next().unwrap_or_default());
        fs::write(&own, text)?;
        fs::set_permissions(&own, fs::Permissions::from_mode(mode))?;
        used = used.replace(path, &own.display().to_string());
    }
    let config = home.path().join("issuer.toml");
    fs::write(&config, used)?;
    let config = config.display().to_string();
    let program = Program::new(
        "issuer",
        paths::binary("certwell-issuer")?,
        ["--config", &config, "check"],
    );
    program
        .run(home.path(), "", ENDS)?
        .success("certwell-issuer check of all that is commented out")?;
    Ok(())
}

/// `#key = value` and `#[table]` are settings, `# Words` are words.
fn uncommented(line: &str) -> &str {
    match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest,
        _ => line,
    }
}

/// What alerts ask to be typed on hosts, besides what their sections of the operations page name.
const BY_ALERTS: &[&str] = &[
    "certwell-agent doctor",
    "certwell-agent status",
    "certwell-agent inventory",
    "certwell-issuer check",
    "certwell-issuer backup",
];

#[test]
fn every_command_by_which_an_alert_is_met_is_one_of_the_programs() -> Result<()> {
    let home = Home::take("lab/shipped-commands")?;
    let page = fs::read_to_string(paths::workspace().join("docs/operations.md"))?;
    let alerts = page.split_once("\n## Alerts\n").map(|(_, alerts)| alerts);
    let alerts = alerts.and_then(|alerts| alerts.split("\n## ").next());
    let code = alerts.unwrap_or_default().split('`').skip(1).step_by(2);
    let mut asked: Vec<Vec<&str>> = code
        .chain(BY_ALERTS.iter().copied())
        .map(|code| code.split_whitespace().collect())
        .filter(|words: &Vec<&str>| words.len() > 1 && !words[1].ends_with('…'))
        .filter(|words| ["certwell", "certwell-agent", "certwell-issuer"].contains(&words[0]))
        .collect();
    asked.sort();
    asked.dedup();
    ensure!(asked.len() > 12, "{asked:?}");
    for words in asked {
        // A flag or verb that isn't known is said before any help.
        let arguments: Vec<String> = words[1..]
            .iter()
            .map(|word| match *word {
                "NAME" => "media.example.org".to_owned(),
                "HOST" => "sally".to_owned(),
                word => word.to_owned(),
            })
            .chain(["--help".to_owned()])
            .collect();
        let what = words.join(" ");
        let program = Program::new("asked for help", paths::binary(words[0])?, arguments);
        program.run(home.path(), "", ENDS)?.success(&what)?;
    }
    // Else it proves nothing.
    let unknown = ["doctor", "--no-such-flag", "--help"];
    let program = Program::new("unknown", paths::binary("certwell-agent")?, unknown);
    let refused = program.run(home.path(), "", ENDS)?;
    ensure!(refused.code == 2, "{refused:?}");
    Ok(())
}
