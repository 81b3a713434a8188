//! A receiver of JSON webhooks, and the configuration that sends there at the speed of a test.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    World,
    receivers::{Answer, HttpReceiver, Received},
    wait_for,
};
use jiff::Timestamp;
use serde_json::Value;

use crate::SOON;

/// Hears messages under a name.
pub(crate) struct Ear {
    pub(crate) name: &'static str,
    pub(crate) server: HttpReceiver,
    /// For one message.
    pub(crate) limit: &'static str,
}

/// A message that came.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) at: Timestamp,
    pub(crate) accepted: bool,
    pub(crate) id: u64,
    pub(crate) number: u64,
    pub(crate) state: String,
    pub(crate) severity: String,
    pub(crate) class: String,
    pub(crate) json: Value,
}

impl Heard {
    fn of(received: &Received) -> Self {
        let json = received.json();
        let number = |key: &str| json[key].as_u64().unwrap_or_default();
        Self {
            at: received.at,
            accepted: received.accepted,
            id: number("id"),
            number: number("number"),
            state: received.field("state"),
            severity: received.field("severity"),
            class: received.field("class"),
            json,
        }
    }

    pub(crate) fn text(&self, key: &str) -> String {
        self.json[key].as_str().unwrap_or_default().to_owned()
    }

    /// The hosts that it is about.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let members = self.json["members"].as_array().cloned().unwrap_or_default();
        let hosts = members.iter().filter_map(|member| member["host"].as_str());
        hosts.map(ToOwned::to_owned).collect()
    }
}

impl Ear {
    /// Listens at the receiver's address number `number`.
    pub(crate) fn listen(world: &World, name: &'static str, number: u8) -> Result<Self> {
        let server = HttpReceiver::start(world.net.receiver(number))?;
        Ok(Self {
            name,
            server,
            limit: "10s",
        })
    }

    /// `[notifier.NAME]`.
    pub(crate) fn declared(&self) -> String {
        format!(
            "[notifier.{}]\ntype = \"webhook\"\nurl = {:?}\nlimit = {:?}\n",
            self.name,
            self.server.url("/hook"),
            self.limit
        )
    }

    /// Everything that came, accepted or not.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.server.received().iter().map(Heard::of).collect()
    }

    /// Waits for a message.
    pub(crate) fn wait(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Heard) -> bool,
    ) -> Result<Heard> {
        self.server
            .wait_for(&format!("{what} at {}", self.name), within, |received| {
                received.iter().map(Heard::of).find(&wanted)
            })
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.server.answer(answer);
    }
}

/// How often, in a test.
pub(crate) struct Speed {
    pub(crate) settle: &'static str,
    pub(crate) escalate_after: &'static str,
    pub(crate) repeat_first: &'static str,
    pub(crate) repeat_min: &'static str,
}

impl Default for Speed {
    fn default() -> Self {
        Self {
            settle: "1s",
            escalate_after: "10m",
            repeat_first: "10m",
            repeat_min: "10m",
        }
    }
}

impl Speed {
    /// `[alerts]`, told to these notifiers.
    pub(crate) fn declared(&self, names: &[&str]) -> String {
        let Self {
            settle,
            escalate_after,
            repeat_first,
            repeat_min,
        } = self;
        format!(
            "\
             [alerts]\nnotify = {names:?}\nevery = \"500ms\"\nsettle = \"{settle}\"\nescalate-after = \"{escalate_after}\"\n\
             repeat-first = \"{repeat_first}\"\nrepeat-min = \"{repeat_min}\"\n",
        )
    }
}

/// Declares that alerts go to these, in this order, and that nobody looks from outside: nothing but what hosts say is told.
pub(crate) fn tell(world: &World, ears: &[&Ear], speed: &Speed, more: &str) -> Result<()> {
    world.issuer.stop_looking()?;
    tell_all(world, ears, speed, more)
}

/// The same, of what is seen from outside as well.
pub(crate) fn tell_all(world: &World, ears: &[&Ear], speed: &Speed, more: &str) -> Result<()> {
    let names: Vec<&str> = ears.iter().map(|ear| ear.name).collect();
    let alerts = speed.declared(&names);
    let notifiers: String = ears.iter().map(|ear| ear.declared()).collect();
    world
        .issuer
        .declare("30-alerts", &(alerts + more + &notifiers))
}

/// Raises a drill, as soon as the issuer knows whom it tells; its number.
pub(crate) fn drill(world: &World) -> Result<String> {
    let said = wait_for("the notifiers to be taken up", SOON, || {
        let args = ["alerts", "drill", "--json"];
        world.issuer.certwell(&args)?.success("drill")
    })?;
    let said: Value = serde_json::from_str(&said.stdout)?;
    Ok(said["alert"]["id"].to_string())
}

/// Every message that is worth its name says who, why, what next, what to run and where to read.
pub(crate) fn suffices(heard: &Heard) -> Result<()> {
    for key in [
        "title", "cause", "next", "command", "section", "fleet", "key",
    ] {
        ensure!(
            !heard.text(key).is_empty(),
            "{key} is empty: {}",
            heard.json
        );
    }
    ensure!(heard.text("section") == heard.class, "{}", heard.json);
    heard
        .text("opened")
        .parse::<Timestamp>()
        .with_context(|| heard.json.to_string())?;
    Ok(())
}
