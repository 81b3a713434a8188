//! The units: what systemd says of them, and that they agree with the rest.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    clock, paths,
    program::{Program, write_program},
};

use super::made::{BOTH, ENDS, entries, run, unpacked};

const SERVICES: [(&str, f64); 3] = [
    ("certwell-agent.service", 3.5),
    ("certwell-issuer.service", 1.5),
    ("certwell-issuer-backup.service", 1.5),
];

fn unit(name: &str) -> Result<String> {
    let path = paths::packaging().join("systemd").join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// What a unit says of a key, in its order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .collect()
}

#[test]
fn what_the_units_leave_open_stays_within_the_figures() -> Result<()> {
    for (name, limit) in SERVICES {
        let path = paths::packaging().join("systemd").join(name);
        let arguments = [
            "security",
            "--offline=true",
            "--no-pager",
            &path.display().to_string(),
        ]
        .map(str::to_owned);
        let said = run("systemd-analyze", arguments)?.stdout;
        let figure: f64 = said
            .rsplit_once("Overall exposure level for")
            .and_then(|(_, rest)| rest.split_once(": "))
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .with_context(|| said.clone())?
            .parse()?;
        println!("systemd-analyze security {name}: {figure}, no more than {limit}");
        ensure!(
            figure <= limit,
            "{name}: {figure} is more than {limit}\n{said}"
        );
    }
    Ok(())
}

#[test]
fn systemd_takes_every_line_of_the_units() -> Result<()> {
    let home = tempfile::tempdir()?;
    unpacked(home.path())?;
    // The programs must be there, and what is started before them is this machine's: only their place is changed.
    let units = home.path().join("usr/lib/systemd/system");
    let mut names = Vec::new();
    for entry in fs::read_dir(&units)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?.replace(
            "/usr/bin/certwell",
            &format!("{}/usr/bin/certwell", home.path().display()),
        );
        let text = text.replace(
            "/usr/libexec/certwell",
            &format!("{}/usr/libexec/certwell", home.path().display()),
        );
        fs::write(&path, text)?;
        names.push(path.display().to_string());
    }
    ensure!(names.len() == 4, "{names:?}");
    let arguments = ["verify".to_owned(), "--man=no".to_owned()]
        .into_iter()
        .chain(names);
    let said = Program::new("systemd-analyze", "systemd-analyze", arguments)
        .run(Path::new("/"), "", ENDS)?
        .stderr;
    let about_ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("certwell"))
        .collect();
    ensure!(about_ours.is_empty(), "{}", about_ours.join("\n"));
    Ok(())
}

#[test]
fn the_pages_that_the_units_name_are_shipped() -> Result<()> {
    let mut shipped = Vec::new();
    for name in BOTH {
        shipped.extend(entries(name)?.into_iter().map(|entry| entry.path));
    }
    for entry in fs::read_dir(paths::packaging().join("systemd"))? {
        let text = fs::read_to_string(entry?.path())?;
        for page in values(&text, "Documentation")
            .iter()
            .flat_map(|line| line.split(' '))
        {
            let page = page.trim_start_matches("man:").trim_end_matches("(1)");
            let path = format!("/usr/share/man/man1/{page}.1.gz");
            ensure!(shipped.contains(&path), "{path} isn't shipped");
        }
    }
    Ok(())
}

#[test]
fn each_capability_has_its_reason_above_it() -> Result<()> {
    let text = unit("certwell-agent.service")?;
    let lines: Vec<&str> = text.lines().collect();
    let mut seen = 0;
    for (at, line) in lines.iter().enumerate() {
        if let Some(named) = line.strip_prefix("CapabilityBoundingSet=CAP_") {
            seen += 1;
            ensure!(!named.contains(' '), "one by one: {line}");
            ensure!(
                at > 0 && lines[at - 1].starts_with('#'),
                "no reason above {line}"
            );
        }
    }
    ensure!(seen > 0, "no capability is named");
    assert_eq!(
        values(&unit("certwell-issuer.service")?, "CapabilityBoundingSet"),
        [""]
    );
    Ok(())
}

/// The list of docs/architecture.md, which a test with strace holds against what the agent does.
#[test]
fn the_agent_may_write_where_it_is_known_to_write_and_nowhere_else() -> Result<()> {
    let page = fs::read_to_string(paths::workspace().join("docs/architecture.md"))?;
    let list = page
        .split_once("## What the agent writes to")
        .and_then(|(_, rest)| rest.split_once("```text\n"))
        .and_then(|(_, rest)| rest.split_once("```"))
        .context("no list of what the agent writes to")?
        .0;
    let written: Vec<&str> = list
        .lines()
        .filter(|line| !line.ends_with("forced to disk"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    ensure!(written.len() >= 4, "{list}");
    let text = unit("certwell-agent.service")?;
    let [open] = values(&text, "ReadWritePaths")[..] else {
        anyhow::bail!("one line of ReadWritePaths is expected");
    };
    let open: Vec<&str> = open
        .split(' ')
        .map(|path| path.trim_start_matches('-'))
        .collect();
    let below = |path: &str, directory: &str| {
        path.strip_prefix(directory)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    for path in &written {
        ensure!(
            open.iter().any(|directory| below(path, directory)),
            "the agent writes to {path}, which its unit doesn't allow: {open:?}"
        );
    }
    for directory in &open {
        ensure!(
            written.iter().any(|path| below(path, directory)),
            "the unit opens {directory}, where the agent writes nothing"
        );
    }
    Ok(())
}

/// On whole hosts, `debian/back_off.rs` waits for the first of these pauses.
#[test]
fn the_pause_before_a_start_doubles_up_to_five_minutes_and_begins_anew_after_a_good_run()
-> Result<()> {
    let home = tempfile::tempdir()?;
    let program =
        |name: &str, text: &str| -> Result<()> { write_program(&home.path().join(name), text) };
    // In the place of what waits, and of a systemd that counts.
    program("sleep", "echo \"$1\"")?;
    let kept = home.path().join("kept");
    let waits = |restarts: u32| -> Result<u32> {
        program("systemctl", &format!("echo {restarts}"))?;
        let script = paths::packaging().join("systemd/back-off");
        let arguments = [
            format!("PATH={}:/usr/bin:/bin", home.path().display()),
            script.display().to_string(),
            "certwell-agent.service".to_owned(),
            kept.display().to_string(),
        ];
        let said = run("env", arguments)?.stdout;
        Ok(said.lines().last().map_or(Ok(0), str::parse)?)
    };
    let now = || -> Result<SystemTime> {
        Ok(SystemTime::UNIX_EPOCH
            + Duration::from_micros(clock::now().as_microsecond().try_into()?))
    };
    // The start that the last pause led to was so many seconds ago.
    let started = |ago: u64| -> Result<()> {
        let time = now()? - Duration::from_secs(ago);
        Ok(fs::File::options()
            .write(true)
            .open(&kept)?
            .set_modified(time)?)
    };
    // A start that systemd doesn't wait for would fail by the pause alone.
    for (name, _) in &SERVICES[..2] {
        assert_eq!(values(&unit(name)?, "TimeoutStartSec"), ["6min"], "{name}");
    }
    // By hand, nothing; the first time the unit's own five seconds.
    assert_eq!(waits(0)?, 0);
    for (restarts, wait) in (1..).zip([0, 5, 15, 35, 75, 155, 295, 295, 295]) {
        assert_eq!(waits(restarts)?, wait, "{restarts}");
        // It fails at the worst just before it would be thought to run well.
        started(590)?;
    }
    // Then it ran well, and fails again.
    started(601)?;
    assert_eq!([waits(10)?, waits(11)?, waits(12)?], [0, 5, 15]);
    // A person mended it, and it fails again.
    assert_eq!([waits(0)?, waits(1)?, waits(2)?], [0, 0, 5]);
    // Right after a pause its start is that of its end.
    assert_eq!(
        [waits(3)?, waits(4)?, waits(5)?, waits(6)?],
        [15, 35, 75, 155]
    );
    let age = now()?.duration_since(fs::metadata(&kept)?.modified()?);
    ensure!(age.is_err(), "the time of the start is still to come");
    // By hand, between two starts of systemd's: its count stays as it was.
    assert_eq!([waits(6)?, waits(7)?, waits(8)?], [0, 0, 5]);
    // What can't be read is no reason to wait, nor to fail for long.
    fs::write(&kept, "")?;
    assert_eq!(waits(7)?, 0);
    Ok(())
}
