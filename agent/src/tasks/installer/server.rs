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
    Nginx(Nginx),
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
        let stopped = || format!("{} stopped before it could be told", Speech::of(self).name);
        match self {
            Self::Nginx(nginx) => {
                let master = nginx.master.as_ref().ok_or_else(stopped)?;
                reload::reload(settings, master, RUN_LIMIT)
                    .await
                    .map_err(|error| error.to_string())
            }
            // The command might start one that was stopped.
            Self::Exec(_) if !self.runs().await => Err(stopped()),
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
            (
                Self::Nginx(nginx),
                Self::Nginx(Nginx {
                    master: Some(before),
                    ..
                }),
            ) => Some(
                nginx
                    .master
                    .as_ref()
                    .is_some_and(|master| master.is_same(before) && master.has_new_workers(before)),
            ),
            (Self::Nginx(_), _) => Some(false),
            (Self::Exec(_), _) => None,
        }
    }
}

impl HostView {
    /// The server of this host, as it is now.
    pub(super) fn server(&self) -> Result<Server, MasterError> {
        match self.exec() {
            Some(settings) => Ok(Server::Exec(settings.clone())),
            None => self.find().map(Server::Nginx),
        }
    }

    /// How it is called in sentences.
    pub(super) fn speech(&self) -> Speech {
        self.exec()
            .map_or_else(Speech::nginx, |settings| Speech::exec(settings))
    }
}

/// How the server and its test are called in sentences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Speech {
    /// Of the server.
    pub(super) name: &'static str,
    /// Of the test.
    pub(super) test: String,
}

impl Speech {
    fn of(server: &Server) -> Self {
        match server {
            Server::Nginx(_) => Self::nginx(),
            Server::Exec(settings) => Self::exec(settings),
        }
    }

    /// nginx.
    pub(super) fn nginx() -> Self {
        Self {
            name: "nginx",
            test: "nginx -t".into(),
        }
    }

    /// Another one.
    pub(super) fn exec(settings: &exec::Settings) -> Self {
        Self {
            name: "the server",
            test: settings.test.clone(),
        }
    }
}
