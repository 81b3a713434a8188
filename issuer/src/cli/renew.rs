//! `certwell certificates renew`, and with `--wait` every stage as it happens.
//!
//! Whether it is done is judged by the status alone; events are only shown. So a lost stream, or an issuer that
//! is restarted in the middle, costs lines and not the verdict.

use std::{path::Path, time::Duration};

use certwell_proto::{CertificateName, Exit, v1};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::StreamExt as _;
use tonic::Streaming;

use super::{
    args::Format,
    certificates::find,
    client::{Admin, CliError, ask, connect},
    events, json,
    screen::{Screen, wrap},
};
use crate::{
    clock,
    plan::{headline::of_certificate, words},
};

/// How often the status is asked for while nothing happens.
const POLL: Duration = Duration::from_millis(500);

#[derive(serde::Serialize)]
struct Renewed<'a> {
    certificate: &'a str,
    generation: u64,
    converged: bool,
}

/// What the command line said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) socket: &'a Path,
    pub(super) name: &'a CertificateName,
    pub(super) wait: bool,
    pub(super) timeout: Duration,
    pub(super) format: Format,
}

/// Orders a new generation, and waits for it when asked to.
pub(super) async fn renew(
    mut admin: Admin,
    request: Request<'_>,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let began = Instant::now();
    let name = request.name;
    // Subscribed before the renewal begins, so that no stage is missed.
    let watch = if request.wait {
        Some(Watch::begin(&mut admin, name).await?)
    } else {
        None
    };
    let call = admin.renew(v1::RenewCertificateRequest {
        certificate: name.to_string(),
    });
    let generation = ask(call).await?.generation;
    let Some(watch) = watch else {
        if request.format.json {
            report(screen, name, generation, false)?;
        } else {
            screen.sentence(
                &format!("generation {generation} of {name} is being ordered; `certwell explain {name}` tells how it goes"),
                0,
            )?;
        }
        return Ok(Exit::Done);
    };
    let show = Show::new(screen, request.format, name, generation);
    let ended = follow(admin, watch, request, generation, began, &show).await;
    show.clear();
    let certificate = ended?;
    let converged = is_there(&certificate, generation);
    if request.format.json {
        report(
            screen,
            name,
            certificate.generation.max(generation),
            converged,
        )?;
    }
    if !converged {
        let head = of_certificate(&certificate, clock::now());
        let why = if certificate.generation < generation {
            if certificate.problem.is_empty() {
                format!("generation {generation} is not issued yet")
            } else {
                certificate.problem
            }
        } else {
            head.text
        };
        return Err(CliError::new(
            Exit::NotConverged,
            format!(
                "generation {generation} of {name} is not served everywhere after {}: {why} (certwell goes on trying; \
                 `certwell explain {name}` tells how it goes)",
                words::span(i64::try_from(request.timeout.as_secs()).unwrap_or(i64::MAX))
            ),
        ));
    }
    if !request.format.json {
        let seconds = i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX);
        let who = match certificate.hosts.as_slice() {
            [] => "issued; no host is to serve it".to_owned(),
            [host] => format!("served by {}", host.host),
            hosts => format!("served by all {} hosts", hosts.len()),
        };
        let text = format!(
            "{name} generation {} is {who}, after {}",
            certificate.generation,
            words::span(seconds)
        );
        screen.headline(&text, true)?;
    }
    Ok(Exit::Done)
}

fn report(
    screen: &Screen,
    name: &CertificateName,
    generation: u64,
    converged: bool,
) -> Result<(), CliError> {
    let renewed = Renewed {
        certificate: name.as_str(),
        generation,
        converged,
    };
    Ok(screen.json(&json::Document::new(renewed))?)
}

/// Shows events until every host is there or the time is up; returns the last status.
async fn follow(
    mut admin: Admin,
    mut watch: Watch,
    request: Request<'_>,
    generation: u64,
    began: Instant,
    show: &Show<'_>,
) -> Result<v1::CertificateStatus, CliError> {
    let deadline = began + request.timeout;
    let mut poll = tokio::time::interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = find(admin.clone(), request.name).await?;
    loop {
        // Both are cancel-safe: a tick or an event that isn't taken now is there the next time.
        tokio::select! {
            biased;
            event = watch.next() => if let Some(event) = event {
                show.event(&event)?;
                continue;
            },
            _ = poll.tick() => {}
            () = tokio::time::sleep_until(deadline) => return Ok(last),
        }
        match find(admin.clone(), request.name).await {
            Ok(status) => last = status,
            Err(e) if e.exit() == Exit::Unreachable => {
                show.note("the issuer went away; waiting for it")?
            }
            Err(e) => return Err(e),
        }
        if is_there(&last, generation) {
            watch.drain(show).await?;
            return Ok(last);
        }
        if Instant::now() >= deadline {
            return Ok(last);
        }
        if watch.stream.is_none()
            && let Ok(again) = connect(request.socket).await
        {
            admin = again;
            // A failure here is met again at the next tick.
            if watch.resume(&mut admin, request.name).await.is_ok() {
                show.note("the issuer is back")?;
            }
        }
    }
}

fn is_there(certificate: &v1::CertificateStatus, generation: u64) -> bool {
    let converged = |host: &v1::HostCertificateStatus| host.state() == v1::HostState::Converged;
    certificate.generation >= generation && certificate.hosts.iter().all(converged)
}

/// The events of one certificate, from the last one before the renewal on.
struct Watch {
    stream: Option<Streaming<v1::Event>>,
    after: u64,
}

impl Watch {
    async fn begin(admin: &mut Admin, name: &CertificateName) -> Result<Self, CliError> {
        let newest = v1::EventsRequest {
            follow: false,
            after: 0,
            certificate: name.to_string(),
            last: 1,
            ..v1::EventsRequest::default()
        };
        let mut past = admin.events(newest).await?.into_inner();
        let mut watch = Self {
            stream: None,
            after: 0,
        };
        while let Some(event) = past.next().await {
            watch.after = event?.id;
        }
        watch.resume(admin, name).await?;
        Ok(watch)
    }

    async fn resume(&mut self, admin: &mut Admin, name: &CertificateName) -> Result<(), CliError> {
        let request = v1::EventsRequest {
            follow: true,
            after: self.after,
            certificate: name.to_string(),
            last: 0,
            ..v1::EventsRequest::default()
        };
        self.stream = Some(admin.events(request).await?.into_inner());
        Ok(())
    }

    /// The next event. `None` when the stream has just ended; waits for ever when there is none.
    async fn next(&mut self) -> Option<v1::Event> {
        let Some(stream) = &mut self.stream else {
            return std::future::pending().await;
        };
        let event = stream.next().await.and_then(Result::ok);
        match &event {
            Some(event) => self.after = event.id,
            None => self.stream = None,
        }
        event
    }

    /// Shows what has come in already, so that the last line isn't cut off by the verdict.
    async fn drain(&mut self, show: &Show<'_>) -> Result<(), CliError> {
        let moment = Duration::from_millis(100);
        while let Ok(Some(event)) = tokio::time::timeout(moment, self.next()).await {
            show.event(&event)?;
        }
        Ok(())
    }
}

/// Lines above a spinner on a terminal, plain lines otherwise, none with `--json`.
struct Show<'a> {
    screen: &'a Screen,
    silent: bool,
    spinner: Option<ProgressBar>,
}

impl<'a> Show<'a> {
    fn new(screen: &'a Screen, format: Format, name: &CertificateName, generation: u64) -> Self {
        let spinner = (screen.is_terminal() && !format.json).then(|| {
            let spinner = ProgressBar::new_spinner();
            let template = if screen.colour() {
                "{spinner:.green} {wide_msg} {elapsed}"
            } else {
                "{spinner} {wide_msg} {elapsed}"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                spinner.set_style(style);
            }
            spinner.set_message(format!("generation {generation} of {name}"));
            spinner.enable_steady_tick(Duration::from_millis(120));
            spinner
        });
        Self {
            screen,
            silent: format.json,
            spinner,
        }
    }

    fn event(&self, event: &v1::Event) -> Result<(), CliError> {
        let at = words::from_millis(event.at_ms).strftime("%H:%M:%S");
        self.note(&format!("{at} {}", events::of_one_certificate(event)))
    }

    fn note(&self, text: &str) -> Result<(), CliError> {
        match &self.spinner {
            _ if self.silent => {}
            Some(spinner) => spinner.println(wrap(text, 9)),
            None => self.screen.sentence(text, 9)?,
        }
        Ok(())
    }

    fn clear(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}
