//! The server of this host: nginx, or one that is known by its commands and addresses alone. Two ways to answer the
//! same questions; the plan is one.

use std::{ffi::OsStr, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use certwell_proto::{CertificateName, Generation};
use tokio::net::TcpStream;

use super::host::{HostView, RUN_LIMIT};
use crate::{
    exec::{self, CommandError, command, targets::is_local},
    nginx::{Master, Nginx, Settings, Tested, addresses, master::MasterError, reload, run},
};

/// For a connection within this host.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// The server, as it was found.
#[derive(Clone)]
pub(super) enum Server {
    /// With its master, where one runs.
    Nginx(Box<Nginx>),
    /// Whatever the operator's commands are about.
    Exec(Arc<exec::Settings>),
}

impl Server {
    /// nginx's master, where it is nginx and runs.
    pub(super) fn master(&self) -> Option<&Master> {
        match self {
            Self::Nginx(nginx) => nginx.master.as_ref(),
            Self::Exec(_) => None,
        }
    }

    /// Whether it runs. Of one that isn't nginx only its addresses tell: one that takes connections is enough, and
    /// where none is on this host now, nothing speaks against it.
    pub(super) async fn runs(&self) -> bool {
        match self {
            Self::Nginx(nginx) => nginx.master.is_some(),
            Self::Exec(settings) => {
                let local = addresses::local().unwrap_or_default();
                let here: Vec<SocketAddr> = settings
                    .addresses
                    .iter()
                    .copied()
                    .filter(|address| is_local(address.ip(), &local))
                    .collect();
                let mut runs = here.is_empty();
                for address in here {
                    let connecting = TcpStream::connect(address);
                    let connected = tokio::time::timeout(CONNECT_LIMIT, connecting).await;
                    runs |= matches!(connected, Ok(Ok(_)));
                }
                runs
            }
        }
    }

    /// What it says of what it would load; the words of what kept it from saying anything.
    pub(super) async fn test(&self) -> Result<Tested, String> {
        match self {
            Self::Nginx(nginx) => run::test(&nginx.invocation, RUN_LIMIT)
                .await
                .map_err(|error| error.to_string()),
            Self::Exec(settings) => {
                let ran = command::run("exec.test", &settings.test, &[], settings.limit).await;
                match ran {
                    Ok(took) => Ok(Tested::Passed { took }),
                    Err(CommandError::Failed { words, .. }) => Ok(Tested::Refused { words }),
                    Err(error) => Err(error.to_string()),
                }
            }
        }
    }

    /// Has the running one load what was tested.
    pub(super) async fn reload(&self, settings: &Settings) -> Result<(), String> {
        let stopped = |speech: Speech| format!("{} stopped before it could be told", speech.name);
        match self {
            Self::Nginx(nginx) => {
                let master = nginx
                    .master
                    .as_ref()
                    .ok_or_else(|| stopped(Speech::NGINX))?;
                reload::reload(settings, master, RUN_LIMIT)
                    .await
                    .map_err(|error| error.to_string())
            }
            // The command might start one that was stopped.
            Self::Exec(_) if !self.runs().await => Err(stopped(Speech::EXEC)),
            Self::Exec(settings) => {
                let ran = command::run("exec.reload", &settings.reload, &[], settings.limit).await;
                ran.map(drop).map_err(|error| error.to_string())
            }
        }
    }

    /// The operator's own look at what is served; the words of what was wrong with it.
    pub(super) async fn confirm(
        &self,
        name: &CertificateName,
        generation: Generation,
        directory: &Path,
    ) -> Result<(), String> {
        let Self::Exec(settings) = self else {
            return Ok(());
        };
        let Some(confirm) = &settings.confirm else {
            return Ok(());
        };
        let number = generation.to_string();
        let environment: [(&str, &OsStr); 3] = [
            ("CERTWELL_CERTIFICATE", name.as_str().as_ref()),
            ("CERTWELL_GENERATION", number.as_ref()),
            ("CERTWELL_DIRECTORY", directory.as_ref()),
        ];
        let ran = command::run("exec.confirm", confirm, &environment, settings.limit).await;
        ran.map(drop).map_err(|error| error.to_string())
    }

    /// Whether it serves what is on disk since `before`, as far as processes tell; nothing where they don't.
    pub(super) fn has_new_workers(&self, before: &Self) -> Option<bool> {
        match (self, before) {
            (Self::Nginx(nginx), before) => {
                let before = before.master();
                let loaded = before.zip(nginx.master.as_ref());
                Some(loaded.is_some_and(|(before, master)| master.has_loaded_since(before)))
            }
            (Self::Exec(_), _) => None,
        }
    }
}

impl HostView {
    /// The server of this host, as it is now.
    pub(super) fn server(&self) -> Result<Server, MasterError> {
        match self.exec() {
            Some(settings) => Ok(Server::Exec(settings.clone())),
            None => self.find().map(|nginx| Server::Nginx(Box::new(nginx))),
        }
    }

    /// How it is called in sentences.
    pub(super) fn speech(&self) -> Speech {
        if self.exec().is_some() {
            Speech::EXEC
        } else {
            Speech::NGINX
        }
    }
}

/// How the server and its test are called in sentences.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speech {
    /// Of the server.
    pub(super) name: &'static str,
    /// Of the test.
    pub(super) test: &'static str,
}

impl Speech {
    /// nginx.
    pub(super) const NGINX: Self = Self {
        name: "nginx",
        test: "nginx -t",
    };
    /// Another one.
    pub(super) const EXEC: Self = Self {
        name: "the server",
        test: "exec.test",
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::settings::LIMIT;

    #[tokio::test]
    async fn a_server_that_takes_no_connections_is_told_nothing_and_one_elsewhere_is_taken_to_run()
    {
        let directory = tempfile::tempdir().unwrap();
        let told = directory.path().join("told");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = listener.local_addr().unwrap();
        let server = |address: &str| {
            Server::Exec(Arc::new(exec::Settings {
                test: "true".into(),
                reload: format!("touch {}", told.display()),
                confirm: None,
                addresses: vec![address.parse().unwrap()],
                limit: LIMIT,
            }))
        };
        let nginx = crate::config::Config::default().nginx;
        // A documentation address: on no host.
        let elsewhere = server("192.0.2.1:443");
        assert!(elsewhere.runs().await);
        let running = server(&taken.to_string());
        assert!(running.runs().await);
        drop(listener);
        assert!(!running.runs().await);
        let problem = running.reload(&nginx).await.unwrap_err();
        assert_eq!(problem, "the server stopped before it could be told");
        assert!(!told.exists());
        elsewhere.reload(&nginx).await.unwrap();
        assert!(told.exists());
    }
}
