//! A fleet to be, in a directory of its own, and the built binary run on it.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use certwell_proto::Exit;

pub(crate) struct Fleet(pub(crate) tempfile::TempDir);

impl Fleet {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certwell-issuer"));
        command
            .arg("--config")
            .arg(self.path("etc/issuer.toml"))
            .args(arguments)
            .env_remove("CREDENTIALS_DIRECTORY");
        command
    }

    pub(crate) fn init_arguments(&self) -> Vec<String> {
        let state = self.path("state").display().to_string();
        let words = "init --fleet hachyderm --endpoint issuer.example.org:7443 --endpoint 127.0.0.1:7443 \
                     --listen 127.0.0.1:7443 --state-directory";
        words
            .split_whitespace()
            .map(str::to_owned)
            .chain([state])
            .collect()
    }

    pub(crate) fn init_with(&self, more: &[&str]) -> Output {
        let arguments = self.init_arguments();
        let arguments: Vec<&str> = arguments
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        self.run(&arguments)
    }

    /// Replaces a line of the configuration that `init` made.
    #[track_caller]
    pub(crate) fn set(&self, line: &str, by: &str) {
        let file = self.path("etc/issuer.toml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(line), "{text}");
        fs::write(&file, text.replace(line, by)).unwrap();
    }

    /// Every file below, with its mode, and its content unless it is a directory.
    pub(crate) fn tree(&self) -> Vec<(PathBuf, u32, Option<Vec<u8>>)> {
        let mut found = Vec::new();
        let mut open = vec![self.0.path().to_owned()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let metadata = path.symlink_metadata().unwrap();
                let content = metadata.is_file().then(|| fs::read(&path).unwrap());
                if metadata.is_dir() {
                    open.push(path.clone());
                }
                found.push((path, metadata.mode() & 0o7777, content));
            }
        }
        found.sort();
        found
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
pub(crate) fn ended(output: &Output, exit: Exit) -> String {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(exit as i32), "{stderr}");
    stderr
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// Where in a database the certificate of the fleet CA stands.
pub(crate) fn of_fleet_ca(database: &[u8]) -> usize {
    let needle = b"certwell fleet CA";
    database
        .windows(needle.len())
        .position(|window| window == needle)
        .unwrap()
}

/// Copies a program to where another user may run it. By another process: one that is forked here meanwhile, by another
/// test, would hold the copy open for writing, and then it can't be run.
pub(crate) fn copy_program(from: &str, to: impl AsRef<Path>) {
    let done = Command::new("cp").arg(from).arg(to.as_ref()).status();
    assert!(done.unwrap().success());
}
