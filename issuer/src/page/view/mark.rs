//! States, by a symbol and a word: colour only repeats them.

use certwell_proto::v1::{HostLife, HostState, ListenerState};

/// What a thing means for whoever looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Nothing to judge.
    Plain,
    /// Under way.
    Busy,
    /// Somebody should look.
    Warn,
    /// Broken, or about to be.
    Bad,
}

impl Tone {
    /// Its class in the stylesheet.
    pub fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Plain => "plain",
            Self::Busy => "busy",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// A state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// How it is meant.
    pub tone: Tone,
    /// One character.
    pub symbol: &'static str,
    /// One or two words.
    pub word: &'static str,
}

const fn mark(tone: Tone, symbol: &'static str, word: &'static str) -> Mark {
    Mark { tone, symbol, word }
}

/// Of a certificate on a host.
pub fn of_state(state: HostState) -> Mark {
    match state {
        HostState::Converged => mark(Tone::Good, "✓", "converged"),
        HostState::Pending | HostState::Unspecified => mark(Tone::Busy, "…", "pending"),
        HostState::Held => mark(Tone::Warn, "‖", "held"),
        HostState::Failed => mark(Tone::Bad, "✗", "failed"),
        HostState::Silent => mark(Tone::Bad, "?", "silent"),
    }
}

/// Of a certificate that is over, whatever else is said of it.
pub const EXPIRED: Mark = mark(Tone::Bad, "✗", "expired");

/// Of a listener.
pub fn of_listener(state: ListenerState) -> Mark {
    match state {
        ListenerState::Current => mark(Tone::Good, "✓", "current"),
        ListenerState::Old => mark(Tone::Warn, "…", "old"),
        ListenerState::Stranger => mark(Tone::Bad, "✗", "stranger"),
        ListenerState::Down => mark(Tone::Bad, "✗", "down"),
        ListenerState::Rejects => mark(Tone::Plain, "–", "rejects"),
        ListenerState::Elsewhere => mark(Tone::Plain, "–", "elsewhere"),
        ListenerState::Unprobed | ListenerState::Unspecified => mark(Tone::Plain, "–", "unprobed"),
    }
}

/// Of a host as the issuer knows it.
pub fn of_host(life: HostLife, connected: bool) -> Mark {
    match life {
        HostLife::Enrolled if connected => mark(Tone::Good, "✓", "connected"),
        HostLife::Enrolled => mark(Tone::Bad, "?", "not connected"),
        HostLife::Revoked => mark(Tone::Warn, "✗", "revoked"),
        HostLife::Retired => mark(Tone::Plain, "–", "retired"),
        HostLife::Declared | HostLife::Unspecified => mark(Tone::Plain, "○", "not joined yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_states_of_a_host_look_alike_without_colour() {
        let states = [
            HostState::Converged,
            HostState::Pending,
            HostState::Held,
            HostState::Failed,
            HostState::Silent,
        ];
        let mut seen: Vec<(&str, &str)> = states
            .iter()
            .map(|state| of_state(*state))
            .map(|mark| (mark.symbol, mark.word))
            .collect();
        seen.sort_unstable();
        seen.dedup_by_key(|(symbol, _)| *symbol);
        assert_eq!(seen.len(), states.len());
    }
}
