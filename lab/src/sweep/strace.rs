//! strace: how it is run, and what it tells of.

use std::{collections::HashMap, fs, path::Path};

use anyhow::{Context as _, Result, bail};

use super::call::Call;
use crate::program::Program;

/// Every call that changes files, directories or what is said of them, or forces that to disk. Those that a kind of
/// processor lacks are passed over (`?`).
pub(crate) const CALLS: &str = "?open,openat,?openat2,?creat,write,pwrite64,writev,pwritev,?pwritev2,truncate,ftruncate,\
    fallocate,copy_file_range,sendfile,splice,fsync,fdatasync,sync_file_range,sync,syncfs,?rename,?renameat,renameat2,\
    ?symlink,symlinkat,?link,linkat,?unlink,unlinkat,?rmdir,?mkdir,mkdirat,?mknod,mknodat,?chmod,fchmod,fchmodat,\
    ?chown,fchown,?lchown,fchownat,utimensat,setxattr,fsetxattr,lsetxattr,removexattr,fremovexattr,lremovexattr,bind,\
    io_uring_setup,chdir";

/// strace before `program`, telling of `calls` to `log`, every string whole and in hexadecimal.
pub(crate) fn before(program: &Program, calls: &str, options: &[String], log: &Path) -> Program {
    let log = log.display().to_string();
    let trace = format!("trace={calls}");
    let fixed = ["-y", "-xx", "-s", "1000000", "-o", &log, "-e", &trace];
    let mut arguments: Vec<String> = fixed.map(str::to_owned).to_vec();
    arguments.extend_from_slice(options);
    arguments.push(program.file.display().to_string());
    arguments.extend_from_slice(&program.args);
    Program {
        name: format!("strace of {}", program.name),
        file: "strace".into(),
        args: arguments,
        env: program.env.clone(),
    }
}

/// The calls that a log tells of, each where it began.
///
/// # Errors
/// When it can't be read, or a line isn't understood.
pub fn read(log: &Path) -> Result<Vec<Call>> {
    let text = fs::read_to_string(log).with_context(|| log.display().to_string())?;
    let mut lines: Vec<(u32, String)> = Vec::new();
    let mut begun: HashMap<u32, usize> = HashMap::new();
    for line in text.lines() {
        // Threads are told apart only where there are several.
        let (thread, rest) = match line.split_once(' ') {
            Some((number, rest)) if number.parse::<u32>().is_ok() => {
                (number.parse()?, rest.trim_start())
            }
            _ => (0, line),
        };
        if rest.starts_with("---") || rest.starts_with("+++") {
            continue;
        }
        if let Some(end) = rest.strip_prefix("<... ") {
            let (_, end) = end
                .split_once(" resumed>")
                .with_context(|| format!("strace: {line}"))?;
            let at = begun
                .remove(&thread)
                .with_context(|| format!("strace: an end without a beginning: {line}"))?;
            lines[at].1.push_str(end);
        } else if let Some(beginning) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, lines.len());
            lines.push((thread, beginning.to_owned()));
        } else {
            lines.push((thread, rest.to_owned()));
        }
    }
    lines
        .iter()
        .map(|(thread, line)| parse(*thread, line).with_context(|| format!("strace: {line}")))
        .collect()
}

fn parse(thread: u32, line: &str) -> Result<Call> {
    let (name, rest) = line.split_once('(').context("no call")?;
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        bail!("{name} is no name of a call");
    }
    let mut arguments = vec![String::new()];
    let (mut depth, mut quoted) = (0_u32, false);
    let mut end = rest.len();
    for (at, c) in rest.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '(' | '[' | '{' | '<' if !quoted => depth += 1,
            // Arrows in flags don't occur; the last bracket ends the call.
            ')' if !quoted && depth == 0 => {
                end = at;
                break;
            }
            ')' | ']' | '}' | '>' if !quoted => depth = depth.saturating_sub(1),
            ',' if !quoted && depth == 0 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = arguments.last_mut()
            && !(c == ' ' && last.is_empty())
        {
            last.push(c);
        }
    }
    let answer = rest
        .get(end..)
        .and_then(|tail| tail.split_once("= "))
        .and_then(|(_, answer)| {
            let digits = answer.split([' ', '<']).next()?;
            digits.parse().ok()
        });
    Ok(Call {
        thread,
        name: name.to_owned(),
        arguments,
        answer,
        injected: line.ends_with("(INJECTED)"),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::call::Deed, *};

    const LOG: &str = "7 openat(AT_FDCWD<\\x2f\\x61>, \"\\x2f\\x62\", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 9<\\x2f\\x62>\n\
        7 write(9<\\x2f\\x62>, \"\\x68\\x29\\x2c\", 3 <unfinished ...>\n\
        8 rename(\"\\x2f\\x63\", \"\\x2f\\x64\") = -1 ENOENT (No such file or directory)\n\
        7 <... write resumed>)             = 3\n\
        7 --- SIGCHLD {si_signo=SIGCHLD} ---\n\
        7 unlinkat(3<\\x2f\\x65>, \"\\x66\", 0) = ?\n\
        7 renameat2(AT_FDCWD<\\x2f>, \"\\x2f\\x63\", AT_FDCWD<\\x2f>, \"\\x2f\\x64\", RENAME_EXCHANGE) = 0\n\
        7 fchmod(9<\\x2f\\x62>, 0600)         = 0\n\
        7 write(5<\\x61\\x6e\\x6f\\x6e>, \"\\x01\", 1) = 1\n\
        7 +++ killed by SIGKILL +++\n";

    #[test]
    fn what_strace_tells_is_understood() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        fs::write(&log, LOG).unwrap();
        let calls = read(&log).unwrap();
        let deeds: Vec<Option<Deed>> = calls.iter().map(|call| call.deed().unwrap()).collect();
        assert_eq!(
            deeds,
            [
                Some(Deed::Open {
                    path: "/b".into(),
                    makes: true,
                    empties: false,
                    mode: 0o600
                }),
                Some(Deed::Write {
                    path: "/b".into(),
                    bytes: b"h),".to_vec()
                }),
                Some(Deed::Rename("/c".into(), "/d".into())),
                Some(Deed::Remove("/e/f".into())),
                Some(Deed::Exchange("/c".into(), "/d".into())),
                Some(Deed::Mode("/b".into(), 0o600)),
                None,
            ]
        );
        let answers: Vec<Option<i64>> = calls.iter().map(|call| call.answer).collect();
        assert_eq!(
            answers,
            [Some(9), Some(3), Some(-1), None, Some(0), Some(0), Some(1)]
        );
        assert_eq!(calls[0].key(), Some("/b".into()));
        assert_eq!(calls[1].key(), Some("/b".into()));
        assert_eq!(calls[3].key(), Some("/e".into()));
        assert!(calls[4].is_about(Path::new("/d")) && !calls[4].is_about(Path::new("/b")));
    }
}
