//! The body of a generic webhook, also what an `exec` program reads. Its shape is stable and described in `docs/cli.md`:
//! fields are added, never changed or taken away.

use jiff::Timestamp;
use serde::Serialize;

use crate::Message;

/// Of the shape; it changes only when something that is there changes its meaning.
pub const VERSION: u32 = 1;
/// So many members at most; how many more there are is said.
pub const MEMBERS: usize = 1_000;

#[derive(Serialize)]
struct Alert<'a> {
    version: u32,
    kind: &'static str,
    key: &'a str,
    id: u64,
    fleet: &'a str,
    state: &'static str,
    severity: &'static str,
    class: &'a str,
    subject: &'a str,
    title: &'a str,
    cause: &'a str,
    next: &'a str,
    command: &'a str,
    acknowledge: Option<&'a str>,
    section: &'a str,
    link: Option<&'a str>,
    since: Option<Timestamp>,
    opened: Timestamp,
    number: u32,
    members: Vec<Member<'a>>,
    more: usize,
}

#[derive(Serialize)]
struct Member<'a> {
    host: Option<&'a str>,
    address: Option<&'a str>,
    certificate: Option<&'a str>,
    text: &'a str,
    served: &'a str,
    served_not_after: Option<Timestamp>,
}

#[derive(Serialize)]
struct Text<'a> {
    version: u32,
    kind: &'static str,
    title: &'a str,
    text: &'a str,
}

/// A message.
pub fn body(message: &Message) -> Vec<u8> {
    let members = message.members.iter().take(MEMBERS);
    bytes(&Alert {
        version: VERSION,
        kind: "alert",
        key: &message.key,
        id: message.id,
        fleet: &message.fleet,
        state: message.state.word(),
        severity: message.severity.word(),
        class: &message.class,
        subject: &message.subject,
        title: &message.title,
        cause: &message.cause,
        next: &message.next,
        command: &message.command,
        acknowledge: message.acknowledge.as_deref(),
        section: &message.section,
        link: message.link.as_deref(),
        since: message.since,
        opened: message.opened,
        number: message.number,
        members: members
            .map(|member| Member {
                host: member.host.as_deref(),
                address: member.address.as_deref(),
                certificate: member.certificate.as_deref(),
                text: &member.text,
                served: &member.served,
                served_not_after: member.served_not_after,
            })
            .collect(),
        more: message.members.len().saturating_sub(MEMBERS),
    })
}

/// A text that is no alert, such as an inventory.
pub fn text_body(title: &str, text: &str) -> Vec<u8> {
    bytes(&Text {
        version: VERSION,
        kind: "text",
        title,
        text,
    })
}

/// Strings, numbers and lists of them always have a form in JSON.
pub(crate) fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
