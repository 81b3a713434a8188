//! What a killed run left behind, and its end.

use std::{fs, path::Path, time::Duration};

use anyhow::{Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait::wait_for;

const PATIENCE: Duration = Duration::from_secs(5);

/// Ends every process that an earlier run in `home` left behind; answers how many.
///
/// # Errors
/// When one of them can't be ended.
pub fn end_leftovers(home: &Path) -> Result<usize> {
    let Ok(list) = fs::read_to_string(home.join("pids")) else {
        return Ok(0);
    };
    let home = fs::canonicalize(home)?;
    let groups: Vec<i32> = list
        .lines()
        .filter_map(|line| line.split(' ').next()?.parse().ok())
        .collect();
    let left = || -> Vec<i32> {
        all_processes()
            .filter(|pid| group_of(*pid).is_some_and(|group| groups.contains(&group)))
            .filter(|pid| {
                fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&home))
            })
            .collect()
    };
    let found = left();
    for (signal, patience) in [(Signal::SIGTERM, PATIENCE), (Signal::SIGKILL, PATIENCE)] {
        for number in left() {
            let _ = kill(Pid::from_raw(number), signal);
        }
        let gone = wait_for("the end of leftovers", patience, || {
            let rest = left();
            if rest.is_empty() {
                Ok(())
            } else {
                Err(format!("{rest:?} run"))
            }
        });
        if gone.is_ok() {
            return Ok(found.len());
        }
    }
    bail!(
        "processes {:?} of an earlier run can't be ended; end them and try again",
        left()
    )
}

/// Numbers of all processes.
pub(crate) fn all_processes() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The process group of one that runs; none of a zombie.
pub(crate) fn group_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 2..].split(' ');
    // A zombie has ended already; its parent just hasn't looked.
    (fields.next()? != "Z").then_some(())?;
    fields.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write as _};

    use super::*;
    use crate::{process::Process, program::Program};

    fn sleeper(home: &Path) -> Process {
        let program = Program::new("sleeper", "sh", ["-c", "sleep 1000 & sleep 1000"]);
        Process::start(&program, home, &home.join("log")).unwrap()
    }

    #[test]
    fn leftovers_of_a_killed_run_are_ended_and_strangers_are_not() {
        let home = tempfile::tempdir().unwrap();
        let mut left = sleeper(home.path());
        let elsewhere = tempfile::tempdir().unwrap();
        let mut stranger = sleeper(elsewhere.path());
        let mut pids = OpenOptions::new()
            .append(true)
            .open(home.path().join("pids"))
            .unwrap();
        writeln!(pids, "{} stranger", stranger.id()).unwrap();
        wait_for("both", PATIENCE, || {
            let count = end_candidates(home.path());
            if count >= 1 { Ok(()) } else { Err(count) }
        })
        .unwrap();
        assert!(end_leftovers(home.path()).unwrap() >= 1);
        assert!(left.wait(PATIENCE).is_ok());
        assert!(stranger.ended().unwrap().is_none());
    }

    fn end_candidates(home: &Path) -> usize {
        fs::read_to_string(home.join("pids"))
            .unwrap()
            .lines()
            .count()
    }
}
