//! One letter to one mail server (SMTP), with or without TLS, within a limit of time.

use std::{fmt, str::FromStr, time::Duration};

use certwell_proto::Secret;
use jiff::Timestamp;
use lettre::transport::smtp::{
    Error,
    authentication::{Credentials as Login, DEFAULT_MECHANISMS},
    client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters},
    commands::{Data, Mail, Rcpt},
    extension::{ClientId, Extension, MailBodyParameter, MailParameter},
};

use crate::{
    Accepted, Message, Refused, Roots,
    http::chain,
    limit::{cut, line},
    mail,
    target::is_loopback,
};

/// So much of a server's words is quoted.
const QUOTED: usize = 300;
/// For a farewell, once the letter is accepted.
const FAREWELL: Duration = Duration::from_secs(1);

/// An address of e-mail.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(lettre::Address);

/// How what goes to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// TLS from the first byte (`smtps://`).
    Tls,
    /// STARTTLS, or nothing is sent.
    Required,
    /// STARTTLS where the server offers it: somebody in the middle can make it look as if it didn't.
    Opportunistic,
    /// None.
    None,
}

/// A mail server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    pub encryption: Encryption,
}

/// A text that names no mail server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// Another form.
    #[error("a mail server is smtps://HOST:465 or smtp://HOST:25")]
    Form,
    /// `user:password@`.
    #[error("user names don't belong into the server's URL: set username and password-file")]
    User,
}

/// Who we are to a mail server.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// E-mail by one mail server.
#[derive(Debug, Clone, PartialEq)]
pub struct Email {
    /// Which one.
    pub server: Server,
    /// Where it wants some.
    pub credentials: Option<Credentials>,
    /// The sender.
    pub from: Address,
    /// At least one.
    pub to: Vec<Address>,
    /// What the server's certificate is checked against.
    pub roots: Roots,
}

impl Address {
    /// The whole address.
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }

    /// What stands behind the `@`.
    pub fn domain(&self) -> &str {
        self.0.domain()
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.parse::<lettre::Address>().ok();
        // Others need servers that few have, and headers of their own.
        let address = address.filter(|address| {
            AsRef::<str>::as_ref(address)
                .bytes()
                .all(|byte| byte.is_ascii_graphic())
        });
        match address {
            Some(address) => Ok(Self(address)),
            None => Err(format!("{text:?} is no address of e-mail")),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?}, redacted)", self.username)
    }
}

impl Server {
    /// Reads `smtps://HOST:PORT` or `smtp://HOST:PORT`; `plain` is how the latter is encrypted.
    ///
    /// # Errors
    /// When it has another form.
    pub fn parse(text: &str, plain: Encryption) -> Result<Self, ServerError> {
        let (encryption, rest, default) = if let Some(rest) = text.strip_prefix("smtps://") {
            (Encryption::Tls, rest, 465)
        } else if let Some(rest) = text.strip_prefix("smtp://") {
            (plain, rest, 25)
        } else {
            return Err(ServerError::Form);
        };
        if rest.contains('@') {
            return Err(ServerError::User);
        }
        let authority: http::uri::Authority = rest
            .trim_end_matches('/')
            .parse()
            .map_err(|_| ServerError::Form)?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = match authority.port_u16() {
            Some(0) => return Err(ServerError::Form),
            Some(port) => port,
            None if authority.as_str().ends_with(']') || !authority.as_str().contains(':') => {
                default
            }
            None => return Err(ServerError::Form),
        };
        if host.is_empty() {
            return Err(ServerError::Form);
        }
        Ok(Self {
            host,
            port,
            encryption,
        })
    }

    /// Whether a password can go there without that somebody on the way reads it.
    pub fn is_private(&self) -> bool {
        matches!(self.encryption, Encryption::Tls | Encryption::Required) || is_loopback(&self.host)
    }
}

/// What became of a letter that a server took.
struct Taken {
    /// Its last words.
    said: String,
    /// For whom it doesn't take letters, and why; fewer than all.
    refused: Vec<(String, Error)>,
}

impl Email {
    pub(crate) async fn send(
        &self,
        message: &Message,
        now: Timestamp,
        limit: Duration,
    ) -> Result<Accepted, Refused> {
        self.deliver(&mail::letter(message, self.envelope(), now), limit)
            .await
    }

    pub(crate) async fn send_text(
        &self,
        title: &str,
        text: &str,
        now: Timestamp,
        limit: Duration,
    ) -> Result<Accepted, Refused> {
        let letter = mail::text_letter(title, text, self.envelope(), now);
        self.deliver(&letter, limit).await
    }

    fn envelope(&self) -> mail::Envelope<'_> {
        mail::Envelope {
            from: &self.from,
            to: &self.to,
        }
    }

    async fn deliver(&self, letter: &[u8], limit: Duration) -> Result<Accepted, Refused> {
        let Server { host, port, .. } = &self.server;
        match tokio::time::timeout(limit, self.exchange(letter, limit)).await {
            Err(_) => Err(Refused::new(format!(
                "{host}:{port} didn't accept the letter within {limit:?}"
            ))),
            Ok(Err(error)) => Err(self.refused(&error)),
            Ok(Ok((taken, connection))) => {
                // It has the letter: what it says from now on changes nothing.
                let _ = tokio::time::timeout(FAREWELL, farewell(connection)).await;
                let mut text = format!("{host}:{port} answered {}", self.shown(&taken.said));
                let each = taken.refused.iter().map(|(address, error)| {
                    format!(
                        "it takes nothing for {address}: {}",
                        self.shown(&chain(error))
                    )
                });
                let left_out = Some(each.collect::<Vec<_>>().join("; "));
                let left_out = left_out.filter(|left_out| !left_out.is_empty());
                if let Some(left_out) = &left_out {
                    text = format!("{text}; {left_out}");
                }
                Ok(Accepted { text, left_out })
            }
        }
    }

    async fn exchange(
        &self,
        letter: &[u8],
        limit: Duration,
    ) -> Result<(Taken, AsyncSmtpConnection), Error> {
        let Server {
            host,
            port,
            encryption,
        } = &self.server;
        let us = our_name();
        let immediate = match encryption {
            Encryption::Tls => Some(self.tls().await?),
            _ => None,
        };
        let mut connection = AsyncSmtpConnection::connect_tokio1(
            (host.as_str(), *port),
            Some(limit),
            &us,
            immediate,
            None,
        )
        .await?;
        let upgrade = match encryption {
            Encryption::Tls | Encryption::None => false,
            // Where it isn't offered this is refused below.
            Encryption::Required => true,
            Encryption::Opportunistic => connection.can_starttls(),
        };
        if upgrade {
            connection.starttls(self.tls().await?, &us).await?;
        }
        if let Some(credentials) = &self.credentials {
            let password = String::from_utf8_lossy(credentials.password.expose()).into_owned();
            let login = Login::new(credentials.username.clone(), password);
            connection.auth(DEFAULT_MECHANISMS, &login).await?;
        }
        let taken = self.hand_over(&mut connection, letter).await?;
        Ok((taken, connection))
    }

    /// One letter for all (RFC 5321 3.3). Whom the server refuses for good keeps it from nobody else; for whom it has no
    /// room just now, everybody waits until the next try.
    async fn hand_over(
        &self,
        connection: &mut AsyncSmtpConnection,
        letter: &[u8],
    ) -> Result<Taken, Error> {
        let offers = |extension| connection.server_info().supports_feature(extension);
        let mut options = Vec::new();
        let addresses = || self.to.iter().chain([&self.from]);
        if !addresses().all(|address| address.0.to_string().is_ascii())
            && offers(Extension::SmtpUtfEight)
        {
            options.push(MailParameter::SmtpUtfEight);
        }
        if !letter.is_ascii() && offers(Extension::EightBitMime) {
            options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let mail = Mail::new(Some(self.from.0.clone()), options);
        connection.command(mail).await?;
        let mut refused = Vec::new();
        for address in &self.to {
            match connection
                .command(Rcpt::new(address.0.clone(), Vec::new()))
                .await
            {
                Ok(_) => {}
                Err(error) if error.is_permanent() && refused.len() + 1 < self.to.len() => {
                    refused.push((address.0.to_string(), error));
                }
                Err(error) => return Err(error),
            }
        }
        connection.command(Data).await?;
        let response = connection.message(letter).await?;
        let words: Vec<&str> = response.message().collect();
        Ok(Taken {
            said: format!("{} {}", response.code(), words.join(" ")),
            refused,
        })
    }

    async fn tls(&self) -> Result<TlsParameters, Error> {
        let mut builder = TlsParameters::builder(self.server.host.clone());
        if let Roots::These(certificates) = &self.roots {
            builder = builder.certificate_store(CertificateStore::None);
            for der in certificates.iter() {
                builder = builder.add_root_certificate(Certificate::from_der(der.to_vec())?);
            }
        }
        // The system's roots are read from disk.
        let building = tokio::task::spawn_blocking(move || builder.build_rustls());
        match building.await {
            Ok(built) => built,
            Err(_) => TlsParameters::new(self.server.host.clone()),
        }
    }

    fn refused(&self, error: &Error) -> Refused {
        let Server { host, port, .. } = &self.server;
        let status = error.status().map(u16::from);
        let said = self.shown(&chain(error));
        let text = match status {
            Some(_) => format!("{host}:{port} answered {said}"),
            None => format!("{host}:{port} can't be used: {said}"),
        };
        Refused {
            text,
            status,
            retry_after: None,
        }
    }

    /// Words of the server's, without the password should it quote it.
    fn shown(&self, said: &str) -> String {
        let mut said = line(said);
        if let Some(credentials) = &self.credentials {
            let password = String::from_utf8_lossy(credentials.password.expose());
            if !password.is_empty() {
                said = said.replace(password.as_ref(), "…");
            }
        }
        cut(&said, QUOTED)
    }
}

async fn farewell(mut connection: AsyncSmtpConnection) {
    connection.abort().await;
}

/// As this machine calls itself, where that is a name that can be said in a greeting.
fn our_name() -> ClientId {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_str().unwrap_or_default();
    let fits = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    if fits {
        ClientId::Domain(name.to_owned())
    } else {
        ClientId::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_read_with_its_port_and_encryption() {
        let read = |text: &str| Server::parse(text, Encryption::Required);
        let server = |host: &str, port, encryption| {
            Ok(Server {
                host: host.to_owned(),
                port,
                encryption,
            })
        };
        assert_eq!(
            read("smtps://mail.example.org"),
            server("mail.example.org", 465, Encryption::Tls)
        );
        assert_eq!(
            read("smtp://127.0.0.1:2525"),
            server("127.0.0.1", 2525, Encryption::Required)
        );
        assert_eq!(
            read("smtp://[::1]"),
            server("::1", 25, Encryption::Required)
        );
        assert_eq!(read("smtp://u:p@h"), Err(ServerError::User));
        for text in [
            "mail.example.org",
            "smtp://",
            "smtp://h:0",
            "smtp://h:x",
            "https://h",
        ] {
            assert_eq!(read(text), Err(ServerError::Form), "{text}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let credentials = Credentials {
            username: "ops".into(),
            password: Secret::new(b"hunter2".to_vec()),
        };
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }

    #[test]
    fn a_password_that_the_server_quotes_is_not_passed_on() {
        let email = Email {
            server: Server::parse("smtps://mail.example.org", Encryption::Tls).unwrap(),
            credentials: Some(Credentials {
                username: "ops".into(),
                password: Secret::new(b"hunter2".to_vec()),
            }),
            from: "certwell@example.org".parse().unwrap(),
            to: vec!["ops@example.org".parse().unwrap()],
            roots: Roots::System,
        };
        let shown = email.shown("535 5.7.8 hunter2 is wrong for ops");
        assert_eq!(shown, "535 5.7.8 … is wrong for ops");
    }

    #[test]
    fn an_address_is_one_and_no_more() {
        assert!("ops@example.org".parse::<Address>().is_ok());
        for text in [
            "ops",
            "",
            "a@b.org, c@d.org",
            "a@b.org\r\nBcc: x@y.org",
            "ä@b.org",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}
