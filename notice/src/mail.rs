//! A letter (RFC 5322) of plain text: one alert is one thread, and no text gets out of its header or line.
//!
//! All letters of an alert refer to one that was never sent and whose name follows from the alert, so that they are one
//! thread whoever sent the first, and whichever was lost. The same message has the same Message-ID when it is sent again.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};

use crate::{
    Address, Message, json,
    limit::{cut, line},
    text::{headline, plain},
};

/// Members in one letter.
const MEMBERS: usize = 200;
/// Characters of a subject.
const SUBJECT: usize = 200;
/// Bytes of text in one encoded word, so that it has no more than 75 characters (RFC 2047 2).
const WORD: usize = 42;
/// Characters of a line of quoted-printable (RFC 2045 6.7), without its end.
const WIDTH: usize = 75;

/// From whom, and to whom.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// The sender.
    pub from: &'a Address,
    /// At least one.
    pub to: &'a [Address],
}

/// A message.
pub fn letter(message: &Message, envelope: Envelope<'_>, now: Timestamp) -> Vec<u8> {
    let subject = format!("[certwell {}] {}", message.fleet, headline(message));
    let domain = envelope.from.domain();
    let own = id(&json::body(message), domain);
    let thread = id(
        format!("{}\n{}", message.key, message.id).as_bytes(),
        domain,
    );
    let more = [
        ("In-Reply-To", thread.clone()),
        ("References", thread),
        ("X-Certwell-Key", encoded(&message.key)),
        ("X-Certwell-State", message.state.word().to_owned()),
    ];
    whole(
        envelope,
        &subject,
        &own,
        &more,
        &plain(message, MEMBERS),
        now,
    )
}

/// A text that is no alert.
pub fn text_letter(title: &str, text: &str, envelope: Envelope<'_>, now: Timestamp) -> Vec<u8> {
    let seed = format!("{}\n{title}\n{text}", now.as_nanosecond());
    let own = id(seed.as_bytes(), envelope.from.domain());
    whole(
        envelope,
        &format!("[certwell] {title}"),
        &own,
        &[],
        text,
        now,
    )
}

fn whole(
    envelope: Envelope<'_>,
    subject: &str,
    id: &str,
    more: &[(&str, String)],
    text: &str,
    now: Timestamp,
) -> Vec<u8> {
    let to: Vec<&str> = envelope.to.iter().map(Address::as_str).collect();
    let mut letter = String::new();
    let mut header = |name: &str, value: &str| letter.push_str(&format!("{name}: {value}\r\n"));
    header("From", &format!("certwell <{}>", envelope.from.as_str()));
    header("To", &to.join(",\r\n "));
    header("Subject", &encoded(&cut(&line(subject), SUBJECT)));
    header("Date", &date(now));
    header("Message-ID", id);
    for (name, value) in more {
        header(name, value);
    }
    // Out-of-office answers are not wanted (RFC 3834 5).
    header("Auto-Submitted", "auto-generated");
    header("MIME-Version", "1.0");
    header("Content-Type", "text/plain; charset=utf-8");
    header("Content-Transfer-Encoding", "quoted-printable");
    letter.push_str("\r\n");
    letter.push_str(&quoted_printable(text));
    letter.into_bytes()
}

/// In UTC; jiff marks a time without a zone of its own by `-0000`.
fn date(now: Timestamp) -> String {
    DateTimePrinter::new()
        .timestamp_to_string(&now)
        .unwrap_or_default()
        .replace("-0000", "+0000")
}

fn id(seed: &[u8], domain: &str) -> String {
    let hash = digest(&SHA256, seed);
    let hex: String = hash.as_ref()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("<{hex}.certwell@{domain}>")
}

/// A header's text: as it stands where it is plain ASCII, else in encoded words (RFC 2047), one a line.
fn encoded(text: &str) -> String {
    let text = line(text);
    let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if is_plain && !text.contains("=?") {
        return text;
    }
    let mut words = Vec::new();
    let mut word = String::new();
    for character in text.chars() {
        if word.len() + character.len_utf8() > WORD {
            words.push(std::mem::take(&mut word));
        }
        word.push(character);
    }
    words.push(word);
    let words: Vec<String> = words
        .iter()
        .map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word)))
        .collect();
    words.join("\r\n ")
}

fn quoted_printable(text: &str) -> String {
    let mut whole = String::with_capacity(text.len() + text.len() / 8);
    for line in text.lines() {
        let mut width = 0;
        let bytes = line.as_bytes();
        for (index, byte) in bytes.iter().enumerate() {
            let at_end = index + 1 == bytes.len();
            let piece = match byte {
                b'=' => format!("={byte:02X}"),
                b' ' if !at_end => " ".to_owned(),
                b'!'..=b'~' => char::from(*byte).to_string(),
                byte => format!("={byte:02X}"),
            };
            if width + piece.len() > WIDTH {
                whole.push_str("=\r\n");
                width = 0;
            }
            width += piece.len();
            whole.push_str(&piece);
        }
        whole.push_str("\r\n");
    }
    whole
}
