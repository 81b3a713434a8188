//! What on this host would keep the agent from its work: facts in, findings in the order to mend them out.
//!
//! ```text
//! agent    its configuration, its rights, the clock, its identity, the issuer
//! disk     the directories that it writes in
//! nginx    pid file, master, configuration, challenge map, workers
//! port_80  the server blocks to which a CA comes
//! exec     a server that isn't nginx
//! beside   certificates that others see to
//! ```
//!
//! A finding that follows from an earlier one isn't told: mending the first shows whether it was one.

pub mod agent;
pub mod beside;
pub mod disk;
pub mod exec;
pub mod nginx;
pub mod port_80;

use jiff::Timestamp;

use crate::nginx::Place;

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is, a word that stays the same for scripts.
    pub what: &'static str,
    /// The sentence.
    pub sentence: String,
    /// What to do.
    pub remedy: String,
    /// Where in a configuration.
    pub at: Option<Place>,
}

/// All that was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What keeps the agent from its work, in the order to mend it.
    pub in_the_way: Vec<Finding>,
    /// What is worth knowing besides.
    pub notes: Vec<Finding>,
}

impl Findings {
    fn in_the_way(&mut self, what: &'static str, sentence: String, remedy: impl Into<String>) {
        self.in_the_way
            .push(Finding::new(what, sentence, remedy.into(), None));
    }

    fn in_the_way_at(
        &mut self,
        at: Option<Place>,
        what: &'static str,
        sentence: String,
        remedy: impl Into<String>,
    ) {
        self.in_the_way
            .push(Finding::new(what, sentence, remedy.into(), at));
    }

    fn note(&mut self, what: &'static str, sentence: String, remedy: impl Into<String>) {
        self.notes
            .push(Finding::new(what, sentence, remedy.into(), None));
    }
}

impl Finding {
    fn new(what: &'static str, sentence: String, remedy: String, at: Option<Place>) -> Self {
        Self {
            what,
            sentence,
            remedy,
            at,
        }
    }
}

/// Everything that is looked at.
#[derive(Debug)]
pub struct Facts {
    /// The agent itself.
    pub agent: agent::Facts,
    /// Its directories.
    pub places: Vec<disk::Place>,
    /// The server that it sees to.
    pub server: Server,
    /// What else there is of certificates.
    pub beside: beside::Facts,
}

/// Which server the agent sees to.
#[derive(Debug)]
pub enum Server {
    /// nginx.
    Nginx(Box<nginx::Facts>),
    /// Another, by its commands.
    Exec(exec::Facts),
}

/// What is in the way, and what is to be noted.
pub fn examine(facts: &Facts, now: Timestamp) -> Findings {
    let mut found = Findings::default();
    agent::examine_configuration(&facts.agent, &mut found);
    agent::examine_rights(&facts.agent, is_denied(facts), &mut found);
    agent::examine_clock(&facts.agent, now, &mut found);
    disk::examine(&facts.places, &facts.agent.us, &mut found);
    agent::examine_identity(&facts.agent, now, &mut found);
    agent::examine_issuer(&facts.agent, &mut found);
    match &facts.server {
        Server::Nginx(nginx) => nginx::examine(nginx, &mut found),
        Server::Exec(exec) => exec::examine(exec, &mut found),
    }
    agent::examine_work(&facts.agent, now, &mut found);
    beside::examine(&facts.beside, now, &mut found);
    found
}

/// Whether something was kept from us that root may.
fn is_denied(facts: &Facts) -> bool {
    let nginx = match &facts.server {
        Server::Nginx(nginx) => nginx.is_denied(),
        Server::Exec(_) => false,
    };
    nginx || facts.agent.is_denied() || facts.places.iter().any(disk::Place::is_denied)
}

#[cfg(test)]
mod tests;
