//! A server that isn't nginx.

use std::{collections::BTreeSet, net::IpAddr};

use super::{ASK_LIMIT, questions, silence};
use crate::{
    exec::{Settings, command, targets::is_local},
    issuer::Desired,
    nginx::{addresses, preflight},
    plan::doctor::{
        exec::{Facts, Listening},
        port_80::unanswered,
    },
};

pub(super) async fn gather(settings: &Settings, desired: Option<&Desired>, port: u16) -> Facts {
    let local = addresses::local().unwrap_or_default();
    let test = command::run("exec.test", &settings.test, &[], settings.limit).await;
    let mut found = Vec::new();
    for address in &settings.addresses {
        let listening = if is_local(address.ip(), &local) {
            silence(*address)
                .await
                .map_or(Listening::Yes, Listening::No)
        } else {
            Listening::Elsewhere
        };
        found.push((*address, listening));
    }
    let here: BTreeSet<IpAddr> = found
        .iter()
        .filter(|(_, listening)| *listening == Listening::Yes)
        .map(|(address, _)| address.ip())
        .collect();
    let asking = async {
        let mut told = Vec::new();
        for ask in questions(desired, port).iter().filter(|_| !here.is_empty()) {
            let verdict = preflight::at(ask, here.iter().copied().collect()).await;
            told.extend(unanswered(verdict));
        }
        told
    };
    Facts {
        test: test.map(drop).map_err(|error| error.to_string()),
        unanswered: tokio::time::timeout(ASK_LIMIT, asking)
            .await
            .unwrap_or_default(),
        addresses: found,
    }
}
