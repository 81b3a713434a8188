//! Notifiers against real receivers: what each service gets, and what a notifier says of one that misbehaves.

mod alertmanager;
mod exec;
mod http;
mod smtp;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use certwell_lab::{certs::LabRoot, paths::Home, ports::Net};
use certwell_notice::{Member, Message, Notifier, Refused, Roots, Service, Severity, State};
use jiff::Timestamp;

/// For what comes at once when all is well, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A directory and a network of a test's own, and a root for its servers.
struct Place {
    home: Home,
    net: Net,
    root: LabRoot,
}

impl Place {
    fn take(name: &str) -> Result<Self> {
        Ok(Self {
            home: Home::take(&format!("lab/notice-{name}"))?,
            net: Net::allocate()?,
            root: LabRoot::new()?,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn roots(&self) -> Result<Roots> {
        let certificates = certwell_proto::pem::read_certificates(self.root.pem().as_bytes())?;
        Ok(Roots::These(Arc::new(certificates)))
    }
}

fn notifier(name: &str, limit: Duration, service: Service) -> Notifier {
    Notifier {
        name: name.to_owned(),
        limit,
        service,
        files: Vec::new(),
    }
}

/// As daemons send: on a runtime of one thread.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // It fails when another test installed it already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Ok(runtime.block_on(future))
}

fn sent(notifier: &Notifier, message: &Message) -> Result<String> {
    Ok(block_on(notifier.send(message))?.map(|accepted| accepted.text)?)
}

/// Why it wasn't accepted, which must name the notifier.
fn refused(notifier: &Notifier, message: &Message) -> Result<Refused> {
    let refused = block_on(notifier.send(message))?
        .err()
        .context("it was accepted")?;
    anyhow::ensure!(refused.text.contains(&notifier.name), "{}", refused.text);
    Ok(refused)
}

fn message() -> Message {
    let now = certwell_lab::clock::now();
    Message {
        key: "certwell/lab/expiry/media.hachyderm.io".into(),
        id: 7,
        fleet: "lab".into(),
        state: State::Firing,
        severity: Severity::Page,
        class: "expiry".into(),
        subject: "media.hachyderm.io".into(),
        title: "media.hachyderm.io ends soon on sally".into(),
        cause: "It — all of it — is old.".into(),
        next: "It is ordered again in a minute.".into(),
        command: "certwell explain media.hachyderm.io".into(),
        section: "expiry".into(),
        since: Some(now),
        opened: now,
        number: 1,
        members: ["sally", "esme"]
            .map(|host| Member {
                host: Some(host.into()),
                address: None,
                certificate: Some("media.hachyderm.io".into()),
                text: "it can't be installed".into(),
                served: "generation 6".into(),
                served_not_after: Timestamp::from_second(1_677_584_160).ok(),
            })
            .into(),
        acknowledge: Some("certwell alerts ack 7 --for 4h".into()),
        link: None,
    }
}
