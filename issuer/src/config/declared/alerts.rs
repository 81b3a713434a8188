//! `[alerts]`.

use std::time::Duration;

use crate::config::{
    Alerts,
    mistake::{At, Mistakes},
    section::Section,
};

/// `[alerts]` as declared: whom to tell is resolved when every notifier is known.
#[derive(Debug, Default)]
pub(in crate::config) struct DeclaredAlerts {
    pub(in crate::config) notify: Option<Vec<At<String>>>,
    pub(in crate::config) settings: Alerts,
}

pub(super) fn alerts(mut section: Section<'_, '_>, mistakes: &mut Mistakes<'_>) -> DeclaredAlerts {
    let notify = section.strings("notify", mistakes);
    if let Some(At { value, place }) = &notify
        && value.is_empty()
    {
        let advice = "leave it out, and every [notifier.NAME] is told; name at least one otherwise";
        mistakes.advise(*place, "notify is empty: nobody would be told", advice);
    }
    let default = Alerts::default();
    let escalate_after = section.duration("escalate-after", mistakes);
    let repeat_first = section.duration("repeat-first", mistakes);
    let repeat_min = section.duration("repeat-min", mistakes);
    let every = section.duration("every", mistakes);
    let settle = section.duration("settle", mistakes);
    let heartbeat_every = section.duration("heartbeat-every", mistakes);
    let heartbeat_url = section.string("heartbeat-url", mistakes);
    section.finish(mistakes);
    for (key, setting, longest) in [
        ("every", &every, Duration::from_secs(600)),
        ("settle", &settle, Duration::from_secs(3_600)),
        (
            "heartbeat-every",
            &heartbeat_every,
            Duration::from_secs(3_600),
        ),
    ] {
        if let Some(At { value, place }) = setting
            && *value > longest
        {
            let problem = format!("{key} is longer than {} minutes", longest.as_secs() / 60);
            mistakes.advise(*place, problem, "an alert would come too late to be of use");
        }
    }
    let heartbeat_url = heartbeat_url.and_then(|At { value, place }| {
        certwell_notice::Target::parse(&value)
            .inspect_err(|error| {
                let advice = "write heartbeat-url = \"https://…\", as the outside watcher gives it";
                mistakes.advise(place, format!("heartbeat-url: {error}"), advice);
            })
            .ok()
    });
    let value = |at: &Option<At<Duration>>, default| at.as_ref().map_or(default, |at| at.value);
    let settings = Alerts {
        notify: Vec::new(),
        escalate_after: value(&escalate_after, default.escalate_after),
        repeat_first: value(&repeat_first, default.repeat_first),
        repeat_min: value(&repeat_min, default.repeat_min),
        every: value(&every, default.every),
        settle: value(&settle, default.settle),
        heartbeat_url,
        heartbeat_every: value(&heartbeat_every, default.heartbeat_every),
    };
    if settings.repeat_min > settings.repeat_first
        && let Some(At { place, .. }) = repeat_min.or(repeat_first)
    {
        mistakes.add(place, "repeat-min must not be longer than repeat-first");
    }
    DeclaredAlerts {
        notify: notify.map(|at| at.value),
        settings,
    }
}

impl Default for Alerts {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            notify: Vec::new(),
            escalate_after: minutes(15),
            repeat_first: minutes(4 * 60),
            repeat_min: minutes(15),
            every: Duration::from_secs(30),
            settle: minutes(1),
            heartbeat_url: None,
            heartbeat_every: minutes(1),
        }
    }
}
