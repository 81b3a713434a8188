//! One notifier out of a configuration file: the same keys and the same words about mistakes in both daemons, whose readers
//! show the place.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use certwell_proto::{Secret, pem};

use crate::{
    Address, Credentials, Email, Encryption, Endpoint, Exec, LIMIT, Notifier, Roots, Server,
    Service, Target,
    trust::{Distrust, check_program, check_secret},
};

/// One table. A value of the wrong type is the reader's to report: it answers `None`.
pub trait Table {
    /// A string.
    fn text(&mut self, key: &'static str) -> Option<String>;
    /// A list of strings.
    fn texts(&mut self, key: &'static str) -> Option<Vec<String>>;
    /// A duration that isn't zero.
    fn duration(&mut self, key: &'static str) -> Option<Duration>;
    /// Whether the key is there, of whatever type.
    fn has(&self, key: &str) -> bool;
    /// The file that it stands in.
    fn file(&self) -> PathBuf;
    /// A mistake at the value of `key`, or of the table as a whole; neither text holds a secret.
    fn mistake(&mut self, key: Option<&'static str>, problem: String, advice: String);
}

const TYPES: &str = "discord, slack, webhook, email, alertmanager or exec";

/// The keys of a notifier of this `type`; `None`: there is no such type.
pub fn keys(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "discord" | "slack" | "alertmanager" => &["type", "limit", "url", "url-file", "roots"],
        "webhook" => &["type", "limit", "url", "url-file", "secret-file", "roots"],
        "email" => &[
            "type",
            "limit",
            "server",
            "starttls",
            "username",
            "password-file",
            "from",
            "to",
            "roots",
        ],
        "exec" => &["type", "limit", "command"],
        _ => return None,
    })
}

/// An HMAC's key; shorter ones can be guessed.
const SECRET: usize = 16;
/// Nobody's message may take longer: others wait for the same certificate to be told of.
const LONGEST: Duration = Duration::from_secs(60);
/// Files with secrets are no larger.
const FILE: u64 = 16 * 1024;

/// Reads one; relative paths begin at `base`. `None`: there were mistakes, each reported.
pub fn read(name: &str, base: &Path, table: &mut impl Table) -> Option<Notifier> {
    let mut reader = Reader {
        base,
        table,
        files: Vec::new(),
    };
    let limit = reader.limit();
    let service = reader.service();
    Some(Notifier {
        name: name.to_owned(),
        limit: limit?,
        service: service?,
        files: reader.files,
    })
}

struct Reader<'t, T> {
    base: &'t Path,
    table: &'t mut T,
    files: Vec<PathBuf>,
}

impl<T: Table> Reader<'_, T> {
    fn at(&mut self, key: &'static str, problem: impl Into<String>, advice: impl Into<String>) {
        self.table.mistake(Some(key), problem.into(), advice.into());
    }

    fn missing(&mut self, key: &str, example: &str) {
        self.table.mistake(
            None,
            format!("{key} is missing"),
            format!("add {key} = {example}"),
        );
    }

    /// A string that must be there.
    fn needed(&mut self, key: &'static str, example: &str) -> Option<String> {
        let found = self.table.text(key);
        if found.is_none() && !self.table.has(key) {
            self.missing(key, example);
        }
        found
    }

    fn limit(&mut self) -> Option<Duration> {
        match self.table.duration("limit") {
            None if self.table.has("limit") => None,
            None => Some(LIMIT),
            Some(limit) if (Duration::from_secs(1)..=LONGEST).contains(&limit) => Some(limit),
            Some(_) => {
                self.at(
                    "limit",
                    "limit must lie between a second and a minute",
                    "leave it out for 10 s",
                );
                None
            }
        }
    }

    fn service(&mut self) -> Option<Service> {
        let kind = self.needed("type", &format!("\"…\", one of {TYPES}"))?;
        match kind.as_str() {
            "discord" => self.endpoint(true).map(Service::Discord),
            "slack" => self.endpoint(true).map(Service::Slack),
            "webhook" => {
                let secret = self.secret("secret-file");
                let endpoint = self.endpoint(false);
                Some(Service::Webhook {
                    secret: secret?,
                    endpoint: endpoint?,
                })
            }
            "email" => self.email().map(Service::Email),
            "alertmanager" => self.endpoint(false).map(Service::Alertmanager),
            "exec" => self.exec().map(Service::Exec),
            _ => {
                self.at(
                    "type",
                    format!("there is no notifier of type {kind:?}"),
                    format!("it is one of {TYPES}"),
                );
                None
            }
        }
    }

    /// `url` or `url-file`, and `roots`. Of some services the URL itself is what lets one in.
    fn endpoint(&mut self, is_secret: bool) -> Option<Endpoint> {
        let roots = self.roots();
        let (has_url, has_file) = (self.table.has("url"), self.table.has("url-file"));
        let (url, file) = (self.table.text("url"), self.table.text("url-file"));
        let (key, text) = match (has_url, has_file) {
            (true, true) => {
                self.at(
                    "url-file",
                    "both url and url-file are there",
                    "leave one of them out",
                );
                return None;
            }
            (false, false) => {
                self.missing(
                    "url-file",
                    "\"FILE\" that holds the URL, or url = \"https://…\"",
                );
                return None;
            }
            (true, false) => ("url", url?),
            (false, true) => ("url-file", self.read_secret("url-file", &file?)?),
        };
        let target = match Target::parse(&text) {
            Ok(target) => target,
            Err(error) => {
                self.at(
                    key,
                    format!("it can't be sent to: {error}"),
                    "copy the URL as the service shows it, https://HOST/…",
                );
                return None;
            }
        };
        if is_secret && !target.is_private() {
            self.at(
                key,
                "over http everybody on the way could read this URL, and write there",
                "write https://",
            );
            return None;
        }
        if is_secret && key == "url" && !target.is_local() {
            self.refuse_open_file()?;
        }
        Some(Endpoint {
            target,
            roots: roots?,
        })
    }

    /// A URL that lets one in stands in the configuration itself.
    fn refuse_open_file(&mut self) -> Option<()> {
        let file = self.table.file();
        let Err(error) = check_secret(&file) else {
            return Some(());
        };
        self.at(
            "url",
            format!("who knows this URL can write there, and {error}"),
            "or put the URL into a file of its own, and write url-file = \"FILE\"",
        );
        None
    }

    fn roots(&mut self) -> Option<Roots> {
        let text = match self.table.text("roots") {
            None if self.table.has("roots") => return None,
            None => return Some(Roots::System),
            Some(text) if text == "system" => return Some(Roots::System),
            Some(text) => text,
        };
        let path = self.base.join(text);
        let shown = path.display().to_string();
        self.files.push(path.clone());
        let problem = match std::fs::read(&path) {
            Err(error) => format!("can't read {shown}: {error}"),
            Ok(text) => match pem::read_certificates(&text) {
                Ok(found) if found.is_empty() => format!("{shown} holds no certificate"),
                Ok(found) => return Some(Roots::These(Arc::new(found))),
                Err(error) => format!("{shown} is damaged: {error}"),
            },
        };
        self.at(
            "roots",
            problem,
            "give \"system\", or a PEM file with root certificates",
        );
        None
    }

    /// A signing key, where there is one.
    fn secret(&mut self, key: &'static str) -> Option<Option<Secret>> {
        let file = match self.table.text(key) {
            None if self.table.has(key) => return None,
            None => return Some(None),
            Some(file) => file,
        };
        let secret = self.read_secret(key, &file)?;
        if secret.len() < SECRET {
            self.at(
                key,
                format!("the secret in it is shorter than {SECRET} characters"),
                "make one by: openssl rand -hex 32",
            );
            return None;
        }
        Some(Some(Secret::new(secret.into_bytes())))
    }

    /// The content of a file that nobody else may know; without white space around it.
    fn read_secret(&mut self, key: &'static str, file: &str) -> Option<String> {
        let path = self.base.join(file);
        self.files.push(path.clone());
        match check_secret(&path) {
            Ok(()) => {}
            Err(Distrust::Unseen { path, source }) => {
                let advice = "put the file there; the daemon has to be able to read it, and nobody else (of another user: chgrp, chmod 0640)";
                self.at(
                    key,
                    format!("can't read {}: {source}", path.display()),
                    advice,
                );
                return None;
            }
            Err(error) => {
                let Distrust::Untrusted {
                    path,
                    problem,
                    remedy,
                } = error
                else {
                    return None;
                };
                self.at(key, format!("{} {problem}", path.display()), remedy);
                return None;
            }
        }
        let shown = path.display();
        let problem = match read_bounded(&path) {
            Ok(text) if text.trim().is_empty() => format!("{shown} is empty"),
            Ok(text) => return Some(text.trim().to_owned()),
            Err(error) => format!("can't read {shown}: {error}"),
        };
        self.at(key, problem, "it holds one line of text");
        None
    }

    fn email(&mut self) -> Option<Email> {
        let roots = self.roots();
        let server = self.server();
        let from = self.needed("from", "\"certwell@example.org\"");
        let from = from.and_then(|text| self.address("from", &text));
        let to = match self.table.texts("to") {
            None if self.table.has("to") => None,
            None => {
                self.missing("to", "[\"ops@example.org\"]");
                None
            }
            Some(list) if list.is_empty() => {
                self.at("to", "to is empty", "write to = [\"ops@example.org\"]");
                None
            }
            Some(list) => {
                let read: Vec<Address> = list
                    .iter()
                    .filter_map(|text| self.address("to", text))
                    .collect();
                (read.len() == list.len()).then_some(read)
            }
        };
        let credentials = self.credentials(server.as_ref());
        Some(Email {
            server: server?,
            credentials: credentials?,
            from: from?,
            to: to?,
            roots: roots?,
        })
    }

    fn server(&mut self) -> Option<Server> {
        let plain = match self.table.text("starttls").as_deref() {
            None if self.table.has("starttls") => return None,
            None | Some("required") => Encryption::Required,
            Some("opportunistic") => Encryption::Opportunistic,
            Some("none") => Encryption::None,
            Some(other) => {
                let problem = format!("starttls can't be {other:?}");
                self.at(
                    "starttls",
                    problem,
                    "it is \"required\", \"opportunistic\" or \"none\"",
                );
                return None;
            }
        };
        let text = self.needed("server", "\"smtps://mail.example.org:465\"")?;
        let server = match Server::parse(&text, plain) {
            Ok(server) => server,
            Err(error) => {
                let advice =
                    "write \"smtps://mail.example.org:465\" or \"smtp://mail.example.org:25\"";
                self.at("server", error.to_string(), advice);
                return None;
            }
        };
        if server.encryption == Encryption::Tls && self.table.has("starttls") {
            self.at(
                "starttls",
                "smtps:// begins with TLS and has no STARTTLS",
                "leave starttls out",
            );
            return None;
        }
        Some(server)
    }

    fn address(&mut self, key: &'static str, text: &str) -> Option<Address> {
        match text.parse() {
            Ok(address) => Some(address),
            Err(problem) => {
                self.at(
                    key,
                    problem,
                    "write \"NAME@DOMAIN\", without a name in front",
                );
                None
            }
        }
    }

    fn credentials(&mut self, server: Option<&Server>) -> Option<Option<Credentials>> {
        let (has_user, has_file) = (self.table.has("username"), self.table.has("password-file"));
        let (user, file) = (
            self.table.text("username"),
            self.table.text("password-file"),
        );
        match (has_user, has_file) {
            (false, false) => return Some(None),
            (true, false) => {
                self.missing("password-file", "\"FILE\" that holds the password");
                return None;
            }
            (false, true) => {
                self.missing("username", "\"…\", whose password it is");
                return None;
            }
            (true, true) => {}
        }
        let password = self.read_secret("password-file", &file?)?;
        if server.is_some_and(|server| !server.is_private()) {
            self.at(
                "username",
                "somebody on the way to this server could read the password",
                "use smtps://, or starttls = \"required\"",
            );
            return None;
        }
        Some(Some(Credentials {
            username: user?,
            password: Secret::new(password.into_bytes()),
        }))
    }

    fn exec(&mut self) -> Option<Exec> {
        let text = self.needed("command", "\"/usr/local/bin/page\"")?;
        let program = self.base.join(text);
        if let Err(problem) = check_program("command", &program) {
            self.at(
                "command",
                problem,
                "it is the path of one program, without arguments; it gets the message on its standard input",
            );
            return None;
        }
        Some(Exec {
            program,
            launcher: Vec::new(),
        })
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(FILE)
        .read_to_string(&mut text)?;
    Ok(text)
}
