//! A host whose port-80 server blocks are as people have them: files in `sites-available`, linked from
//! `sites-enabled`.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::PathBuf,
    process::Output,
};

use certwell_agent::nginx::{Challenge, challenge_map};
use certwell_proto::v1;

use super::command;
use crate::host::Host;

pub(crate) const INCLUDE: &str = "include snippets/certwell-acme.conf;";
const PRINT: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNO-_";
const TOKEN: &str = "token-0123456789-of-the-test";

pub(crate) struct Sites {
    pub(crate) host: Host,
}

impl Sites {
    /// Each file by its name; `ADDRESS` stands for where plain HTTP is spoken, `ROOT` for the host's directory.
    pub(crate) fn new(files: &[(&str, &[u8])]) -> Self {
        let host = Host::new();
        for directory in ["sites-available", "sites-enabled"] {
            fs::create_dir(host.path(directory)).unwrap();
        }
        let root = host.root().display().to_string();
        host.write_nginx(true, &format!("include {root}/sites-enabled/*;"));
        let sites = Self { host };
        for (name, text) in files {
            sites.write(name, text);
            let link = sites.host.path("sites-enabled").join(name);
            std::os::unix::fs::symlink(format!("../sites-available/{name}"), link).unwrap();
        }
        sites
    }

    pub(crate) async fn started(files: &[(&str, &[u8])]) -> Self {
        let mut sites = Self::new(files);
        sites.host.start_nginx().await;
        sites
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.host.path("sites-available").join(name)
    }

    /// Bytes that are no text stay what they are.
    pub(crate) fn write(&self, name: &str, text: &[u8]) {
        let mut out = text.to_vec();
        for (word, value) in [
            ("ADDRESS", self.host.http.to_string()),
            ("ROOT", self.host.root().display().to_string()),
        ] {
            while let Some(at) = out
                .windows(word.len())
                .position(|found| found == word.as_bytes())
            {
                out.splice(at..at + word.len(), value.bytes());
            }
        }
        fs::write(self.path(name), out).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap()).into_owned()
    }

    pub(crate) fn verb(&self, arguments: &[&str]) -> Output {
        let port = self.host.http.port().to_string();
        self.host
            .verb(&[&["doctor", "--port", &port], arguments].concat())
    }

    /// Exit code, and all that was said.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.verb(arguments);
        (output.status.code(), said(&output))
    }

    pub(crate) async fn in_the_way(&self) -> Vec<String> {
        let told = super::run(command(&self.host)).await;
        let found = told
            .in_the_way()
            .into_iter()
            .filter(|what| *what != "not-enrolled");
        found.map(str::to_owned).collect()
    }

    /// The map answers for these names, as the agent would write it, and nginx has it.
    pub(crate) async fn answer_for(&self, names: &[&str]) {
        let challenge = Challenge::from_wire(&v1::Challenge {
            thumbprint: PRINT.to_owned(),
            names: names.iter().map(ToString::to_string).collect(),
        });
        let map = self.host.path("conf.d/certwell-acme.conf");
        challenge_map::write(&map, &challenge_map::render(&[challenge.unwrap()])).unwrap();
        self.host.reload_nginx();
        let path = format!("/.well-known/acme-challenge/{TOKEN}");
        crate::issuer::eventually("nginx has the map", || async {
            let replies = names.iter().map(|name| self.get(name, &path));
            // Old workers may answer for a moment.
            replies
                .into_iter()
                .any(|reply| reply.contains(PRINT))
                .then_some(())
        })
        .await;
    }

    /// Whether the name is answered as a CA wants it.
    pub(crate) async fn is_answered(&self, name: &str) {
        let path = format!("/.well-known/acme-challenge/{TOKEN}");
        crate::issuer::eventually(&format!("{name} is answered"), || async {
            let reply = self.get(name, &path);
            let answered =
                reply.starts_with("HTTP/1.1 200") && reply.ends_with(&format!("{TOKEN}.{PRINT}"));
            answered.then_some(())
        })
        .await;
    }

    pub(crate) fn get(&self, name: &str, path: &str) -> String {
        let mut tcp = std::net::TcpStream::connect(self.host.http).unwrap();
        write!(
            tcp,
            "GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut reply = String::new();
        tcp.read_to_string(&mut reply).unwrap();
        reply
    }

    /// The status that a name answers with to anything else.
    pub(crate) fn status(&self, name: &str) -> String {
        self.get(name, "/any/page")[9..12].to_owned()
    }
}

pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
