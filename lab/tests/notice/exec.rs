//! A program of the operator's.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use certwell_lab::{program::write_program, wait_for};
use certwell_notice::{Exec, Notifier, Service, json};

use crate::{Place, SOON, message, notifier, refused, sent};

struct Pager {
    place: Place,
    program: PathBuf,
}

impl Pager {
    fn new(name: &str, script: &str) -> Result<Self> {
        let place = Place::take(name)?;
        let program = place.path("page");
        write_program(&program, &format!("cd {:?}\n{script}", place.home.path()))?;
        Ok(Self { place, program })
    }

    fn notifier(&self, limit: Duration) -> Notifier {
        let exec = Exec {
            program: self.program.clone(),
            launcher: Vec::new(),
        };
        notifier("pager", limit, Service::Exec(exec))
    }
}

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn it_reads_the_message_and_its_exit_code_decides() -> Result<()> {
    let pager = Pager::new("exec", "cat >got; echo paged ops")?;
    let said = sent(&pager.notifier(LIMIT), &message())?;
    ensure!(said.ends_with("exit code 0: paged ops"), "{said}");
    let got: serde_json::Value = serde_json::from_slice(&fs::read(pager.place.path("got"))?)?;
    let meant: serde_json::Value = serde_json::from_slice(&json::body(&message()))?;
    ensure!(got["title"] == meant["title"] && got["members"] == meant["members"]);
    // One that doesn't read its input is no failure by itself.
    let deaf = Pager::new("exec-deaf", "exit 0")?;
    sent(&deaf.notifier(LIMIT), &message())?;
    let failing = Pager::new(
        "exec-fails",
        "seq 1 9; printf 'no \\033[31mline\\n' >&2; exit 3",
    )?;
    let refused = refused(&failing.notifier(LIMIT), &message())?;
    ensure!(
        refused.text.contains("exit status: 3: 8 / 9 / no [31mline"),
        "{refused}"
    );
    Ok(())
}

#[test]
fn one_that_hangs_ends_with_all_that_it_started() -> Result<()> {
    let pager = Pager::new("exec-hangs", "sleep 300 & echo $! >pid; sleep 300")?;
    let refused = refused(&pager.notifier(Duration::from_secs(5)), &message())?;
    ensure!(refused.text.contains("was stopped after 5s"), "{refused}");
    is_gone(&pager)
}

#[test]
fn what_it_leaves_running_is_ended_and_doesn_t_undo_its_exit_code() -> Result<()> {
    let pager = Pager::new("exec-leaves", "echo paged ops; sleep 300 & echo $! >pid")?;
    let said = sent(&pager.notifier(Duration::from_secs(5)), &message())?;
    ensure!(
        said.ends_with("exit code 0; what it left running was stopped after 5s: paged ops"),
        "{said}"
    );
    is_gone(&pager)
}

/// What wrote its number into `pid`.
fn is_gone(pager: &Pager) -> Result<()> {
    let pid: i32 = fs::read_to_string(pager.place.path("pid"))?
        .trim()
        .parse()?;
    let status = format!("/proc/{pid}/stat");
    wait_for(
        "the end of what it started",
        SOON,
        || match fs::read_to_string(&status) {
            Ok(text) if !text.contains(") Z ") => Err(text),
            _ => Ok(()),
        },
    )
}

#[test]
fn one_that_others_could_have_put_there_is_not_run() -> Result<()> {
    let pager = Pager::new("exec-open", "touch ran")?;
    fs::set_permissions(&pager.program, fs::Permissions::from_mode(0o777))?;
    let refused = refused(&pager.notifier(LIMIT), &message())?;
    ensure!(refused.text.contains("chmod o-w"), "{refused}");
    ensure!(!pager.place.path("ran").exists());
    Ok(())
}
