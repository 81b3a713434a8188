use super::*;

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(parse(""), Ok(Config::default()));
}

#[test]
fn every_key_is_taken() {
    let config = parse(
        r#"
        state-directory = "s"
        live-directory = "/l"
        certbot-directory = "/c"
        file-group = "ssl-cert"
        post-install = "h"
        post-install-limit = "5s"
        [nginx]
        pid-file = "p"
        binary = "/b"
        config = "c"
        prefix = "x"
        challenge-map = "m"
        reload = "systemctl reload nginx"
        edit-hold = "90s"
        start-after-failure = false
        [metrics]
        listen = "127.0.0.1:7481"
        "#,
    )
    .unwrap();
    assert_eq!(config.file_group.as_deref(), Some("ssl-cert"));
    let hook = config.post_install.unwrap();
    assert_eq!(
        (hook.path, hook.limit),
        ("h".into(), Duration::from_secs(5))
    );
    assert_eq!(config.certbot_directory, Path::new("/c"));
    assert_eq!(config.nginx.prefix, Some("x".into()));
    assert_eq!(
        config.nginx.reload,
        Reload::Command("systemctl reload nginx".into())
    );
    assert_eq!(config.edit_hold, Duration::from_secs(90));
    assert!(!config.start_after_failure);
    assert_eq!(config.metrics, "127.0.0.1:7481".parse().ok());
}

#[test]
fn relative_paths_are_relative_to_the_files_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.toml");
    std::fs::write(
        &path,
        "state-directory = \"state\"\n[nginx]\npid-file = \"/run/x.pid\"",
    )
    .unwrap();
    let config = load(&path).unwrap();
    assert_eq!(config.state_directory, directory.path().join("state"));
    assert_eq!(config.nginx.pid_file, Path::new("/run/x.pid"));
}

#[test]
fn mistakes_are_told_with_their_place() {
    let table: &[(&str, usize, usize, &str)] = &[
        ("state-dir = \"x\"", 1, 1, "unknown key state-dir"),
        (
            "live-directroy = \"x\"",
            1,
            1,
            "did you mean live-directory?",
        ),
        (
            "\nstate-directory = 5",
            2,
            19,
            "is of type integer; a path in quotes is needed",
        ),
        ("live-directory = \"\"", 1, 18, "is empty"),
        ("live-directory = \"a\\u0000b\"", 1, 18, "zero byte"),
        ("nginx = 1", 1, 9, "nginx is a table"),
        ("[nginx]\npidfile = \"x\"", 2, 1, "did you mean pid-file?"),
        ("[nginx]\nedit-hold = \"soon\"", 2, 13, "is not a duration"),
        ("[nginx]\nedit-hold = \"-1h\"", 2, 13, "is not a duration"),
        (
            "[nginx]\nstart-after-failure = \"no\"",
            2,
            23,
            "true or false",
        ),
        ("[nginx]\nedit-hold = 3", 2, 13, "is of type integer"),
        (
            "[nginx]\nreload = true",
            2,
            10,
            "\"signal\" or a command is needed",
        ),
        ("[nginx]\nreload = \" \"", 2, 10, "is empty"),
        (
            "[metrics]\nlisten = \"7481\"",
            2,
            10,
            "is not an address and a port",
        ),
        ("[metrics]\nport = 1", 2, 1, "unknown key metrics.port"),
        ("metrics = 1", 1, 11, "metrics is a table"),
        ("file-group = []", 1, 14, "is of type array"),
        ("post-install = 1", 1, 16, "a path in quotes"),
        ("post-install-limit = \"1m\"", 1, 22, "no post-install"),
        (
            "post-install = \"h\"\npost-install-limit = \"0s\"",
            2,
            22,
            "a second at least",
        ),
        ("a = ", 1, 5, ""),
        ("[nginx\n", 1, 7, ""),
        (
            "state-directory = \"a\"\nstate-directory = \"b\"",
            2,
            1,
            "duplicate",
        ),
    ];
    for (text, line, column, problem) in table {
        let mistakes = parse(text).expect_err(text);
        assert_eq!(
            (mistakes[0].line, mistakes[0].column),
            (*line, *column),
            "{text}: {mistakes:?}"
        );
        assert!(
            mistakes[0].problem.contains(problem),
            "{text}: {}",
            mistakes[0].problem
        );
    }
}

#[test]
fn all_mistakes_come_at_once() {
    let mistakes =
        parse("x = 1\nstate-directory = 2\n[nginx]\ny = 3\nedit-hold = \"?\"").unwrap_err();
    assert_eq!(
        mistakes.iter().map(|m| m.line).collect::<Vec<_>>(),
        [1, 2, 4, 5]
    );
}

#[test]
fn the_shipped_configuration_is_the_defaults() {
    let text = include_str!("../../../../packaging/config/agent.toml");
    assert_eq!(parse(text), Ok(Config::default()));
    // Each key is named in it, set or as a comment.
    for key in KEYS.iter().chain(NGINX_KEYS) {
        assert!(text.contains(key), "{key} is not mentioned");
    }
    // What stands there as a comment is right as well.
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest)
                if (rest.contains(" = ") || rest.starts_with('[')) && !rest.starts_with(' ') =>
            {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    // The file with the URL has to be there.
    let directory = tempfile::tempdir().unwrap();
    let url = directory.path().join("alarm.url");
    std::fs::write(&url, "https://discord.com/api/webhooks/1/a").unwrap();
    let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&url, own).unwrap();
    let place = url.display().to_string();
    let config = parse(&uncommented.replace("/etc/certwell/alarm.url", &place)).unwrap();
    assert_eq!(config.alarms.len(), 1);
}
