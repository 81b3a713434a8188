//! A mail server: Debian's aiosmtpd, which keeps letters in a Maildir.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;

use crate::{certs::LabRoot, ports::ensure_free, process::Process, program::Program, wait_for};

const SCRIPT: &str = include_str!("mail_server.py");
/// Where Debian's Python finds Debian's aiosmtpd.
const PYTHON: &str = "/usr/bin/python3";

/// How it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Without.
    Plain,
    /// It takes no letter before STARTTLS.
    StartTls,
    /// From the first byte.
    Smtps,
}

/// What it wants.
#[derive(Debug, Clone, Copy)]
pub struct MailSettings<'a> {
    /// How it is spoken to.
    pub tls: Tls,
    /// A user's name and password.
    pub login: Option<(&'a str, &'a str)>,
}

/// The server. It ends when dropped.
#[derive(Debug)]
pub struct MailServer {
    address: SocketAddr,
    maildir: PathBuf,
    _process: Process,
}

impl MailServer {
    /// Starts it with its files in `home`, with a certificate of `root` for its address.
    ///
    /// # Errors
    /// When it doesn't come up.
    pub fn start(
        address: SocketAddr,
        home: &Path,
        root: &LabRoot,
        settings: MailSettings<'_>,
    ) -> Result<Self> {
        ensure_free(address, "a mail server")?;
        let directory = home.join(format!("mail-{}", address.ip()));
        fs::create_dir_all(&directory)?;
        let script = directory.join("mail_server.py");
        fs::write(&script, SCRIPT)?;
        root.server(address.ip())?.write_into(&directory)?;
        let maildir = directory.join("maildir");
        let text = |path: &Path| path.display().to_string();
        let mut args = vec![
            text(&script),
            address.ip().to_string(),
            address.port().to_string(),
            text(&maildir),
        ];
        let (mode, with_pair) = match settings.tls {
            Tls::Plain => ("plain", false),
            Tls::StartTls => ("starttls", true),
            Tls::Smtps => ("smtps", true),
        };
        args.push(mode.to_owned());
        if with_pair {
            args.push(text(&directory.join("fullchain.pem")));
            args.push(text(&directory.join("privkey.pem")));
        }
        if let Some((user, password)) = settings.login {
            args.extend([user.to_owned(), password.to_owned()]);
        }
        let program = Program::new("mail server", PYTHON, args);
        let mut process = Process::start(&program, home, &home.join("mail.log"))?;
        process.ready(Duration::from_secs(20), || {
            Ok(TcpStream::connect_timeout(
                &address,
                Duration::from_secs(1),
            )?)
        })?;
        Ok(Self {
            address,
            maildir,
            _process: process,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every letter so far, in the order in which they came.
    ///
    /// # Errors
    /// When the Maildir can't be read.
    pub fn letters(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.maildir.join("new")).into_iter().flatten() {
            let entry = entry?;
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
        files.sort();
        let letters = files.into_iter().map(|(_, path)| {
            let bytes = fs::read(path)?;
            Ok(String::from_utf8_lossy(&bytes).replace("\r\n", "\n"))
        });
        letters.collect()
    }

    /// Waits until `look` finds what it looks for in all letters.
    ///
    /// # Errors
    /// When it doesn't come in time.
    pub fn wait_for<T>(
        &self,
        what: &str,
        within: Duration,
        mut look: impl FnMut(&[String]) -> Option<T>,
    ) -> Result<T> {
        wait_for(what, within, || {
            let letters = self.letters()?;
            look(&letters).ok_or_else(|| anyhow::anyhow!("{} letters: {letters:?}", letters.len()))
        })
    }
}

/// A header of a letter, unfolded; empty where there is none of this name.
pub fn header(letter: &str, name: &str) -> String {
    let head = letter.split("\n\n").next().unwrap_or_default();
    let unfolded = head.replace("\n ", " ");
    let start = format!("{name}: ");
    let found = unfolded.lines().find_map(|line| line.strip_prefix(&start));
    found.unwrap_or_default().to_owned()
}

/// The text of a letter, out of quoted-printable.
pub fn text(letter: &str) -> String {
    let body = letter.split_once("\n\n").map_or("", |(_, body)| body);
    let joined = body.replace("=\n", "");
    let mut bytes = Vec::new();
    let mut rest = joined.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'=').then(|| tail.get(..2)).flatten();
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
