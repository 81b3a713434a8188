//! A server that isn't nginx: its test, and whether it answers where it is to.

use std::net::SocketAddr;

use super::Findings;

/// What is known of it.
#[derive(Debug)]
pub struct Facts {
    /// What came of `exec.test`.
    pub test: Result<(), String>,
    /// Each of `exec.addresses`.
    pub addresses: Vec<(SocketAddr, Listening)>,
    /// What came of asking for a made-up token by each account; sentences.
    pub unanswered: Vec<String>,
}

/// Whether something listens at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listening {
    /// Something does.
    Yes,
    /// The address isn't on this host now.
    Elsewhere,
    /// Nothing does: why.
    No(String),
}

pub(super) fn examine(facts: &Facts, found: &mut Findings) {
    if let Err(words) = &facts.test {
        found.in_the_way(
            "exec-test-fails",
            words.clone(),
            "mend what it says; until then the agent touches nothing",
        );
    }
    for (address, listening) in &facts.addresses {
        match listening {
            Listening::Yes => {}
            Listening::Elsewhere => found.note(
                "address-elsewhere",
                format!("{address} (exec.addresses) isn't on this host now, so it isn't asked"),
                "nothing needs to be done where it moves between hosts; else correct it",
            ),
            Listening::No(why) => found.in_the_way(
                "server-silent",
                format!("nothing listens at {address} (exec.addresses): {why}"),
                "start the server, or correct the address",
            ),
        }
    }
    for why in &facts.unanswered {
        found.in_the_way(
            "challenge-unanswered",
            format!("asked as a CA asks, {why}"),
            "do what it says; then see again with `certwell-agent doctor`",
        );
    }
}
