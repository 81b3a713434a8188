//! A message's sentences, as every form needs them.

use jiff::Timestamp;

use crate::{Member, Message, Severity, State, limit::line};

/// One thing that a message says, under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) text: String,
    /// To be typed as it stands.
    pub(crate) is_command: bool,
}

/// The title, and how much it presses.
pub(crate) fn headline(message: &Message) -> String {
    let word = match (message.state, message.severity) {
        (State::Firing, Severity::Page) => "PAGE",
        (State::Firing, Severity::Warning) => "warning",
        (State::Resolved, _) => "resolved",
        (State::Test, _) => "test",
        (State::Drill, _) => "DRILL",
    };
    format!("{word}: {}", line(&message.title))
}

/// All but title, cause and members, in the order in which they are read.
pub(crate) fn parts(message: &Message) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut say = |name, text: String, is_command| {
        if !text.is_empty() {
            parts.push(Part {
                name,
                text,
                is_command,
            });
        }
    };
    say("Since", since(message), false);
    say("What certwell does next", line(&message.next), false);
    say("Run", line(&message.command), true);
    let acknowledge = message.acknowledge.as_deref().unwrap_or_default();
    say("Acknowledge", line(acknowledge), true);
    say("To read", to_read(message), false);
    parts
}

fn since(message: &Message) -> String {
    let since = message.since.unwrap_or(message.opened);
    match (message.state, message.number) {
        (State::Test, _) => String::new(),
        (_, ..=1) => time(since),
        (_, number) => format!("{} (told {number} times)", time(since)),
    }
}

fn to_read(message: &Message) -> String {
    let section = line(&message.section);
    let link = line(message.link.as_deref().unwrap_or_default());
    let section = (!section.is_empty()).then(|| format!("docs/operations.md, section {section}"));
    let link = (!link.is_empty()).then_some(link);
    let both: Vec<String> = section.into_iter().chain(link).collect();
    both.join("; ")
}

/// Whom a member is; empty when it is nobody in particular.
pub(crate) fn name(member: &Member) -> String {
    let words: Vec<String> = [&member.host, &member.certificate]
        .into_iter()
        .flatten()
        .map(|word| line(word))
        .filter(|word| !word.is_empty())
        .collect();
    words.join(", ")
}

/// What is in its way, and what is served there.
pub(crate) fn words(member: &Member) -> String {
    let mut words = line(&member.text).trim_end_matches('.').to_owned();
    let served = match (line(&member.served), member.served_not_after) {
        (served, None) if served.is_empty() => return words,
        (served, None) => format!("served: {served}"),
        (served, Some(end)) if served.is_empty() => format!("what is served ends {}", time(end)),
        (served, Some(end)) => format!("served: {served}, until {}", time(end)),
    };
    if !words.is_empty() {
        words.push_str("; ");
    }
    words.push_str(&served);
    words
}

/// What stands for the members that were left out.
pub(crate) fn and_more(count: usize) -> String {
    format!("and {count} more")
}

/// For people, in UTC.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The whole message in lines, of which `most` are members at most.
pub(crate) fn plain(message: &Message, most: usize) -> String {
    let mut text = format!("{}\n\n", headline(message));
    let cause = line(&message.cause);
    if !cause.is_empty() {
        text.push_str(&format!("{cause}\n\n"));
    }
    for member in message.members.iter().take(most) {
        text.push_str(&format!("- {}\n", one_line(member)));
    }
    if let Some(more) = message.members.len().checked_sub(most).filter(|n| *n > 0) {
        text.push_str(&format!("- {}\n", and_more(more)));
    }
    if !message.members.is_empty() {
        text.push('\n');
    }
    for part in parts(message) {
        let indent = if part.is_command { "\n    " } else { " " };
        text.push_str(&format!("{}:{indent}{}\n", part.name, part.text));
    }
    text.push_str(&format!(
        "\n{}{}\n",
        message.key,
        match message.id {
            0 => String::new(),
            id => format!(" (alert {id})"),
        }
    ));
    text
}

/// A member with its name in front.
pub(crate) fn one_line(member: &Member) -> String {
    match (name(member), words(member)) {
        (name, words) if words.is_empty() => name,
        (name, words) if name.is_empty() => words,
        (name, words) => format!("{name}: {words}"),
    }
}
