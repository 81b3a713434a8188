//! Discord's webhooks: one embed, a field for each member, within what Discord takes.
//!
//! Limits by Discord's documentation ("Execute Webhook", "Embed Limits"). Nobody is mentioned, whatever a text says.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    Message, Severity, State, json,
    limit::{cut, fitting, len, line, pack},
    text::{Part, and_more, headline, name, parts, words},
};

/// Characters of `content`.
pub const CONTENT: usize = 2_000;
/// Of an embed's description.
pub const DESCRIPTION: usize = 4_096;
/// Of an embed's title, and of a field's name.
pub const NAME: usize = 256;
/// Of a field's value.
pub const VALUE: usize = 1_024;
/// Fields of an embed.
pub const FIELDS: usize = 25;
/// Characters of all texts of all embeds of one message.
pub const TOTAL: usize = 6_000;

/// Why, at most: the members need room.
const CAUSE: usize = 1_500;
/// A part that isn't a member.
const PART: usize = 400;
const FOOTER: usize = 300;
/// For the field that tells how many members there was no room for.
const REST: usize = 40;

#[derive(Serialize)]
struct Body {
    username: &'static str,
    content: String,
    allowed_mentions: Mentions,
    embeds: Vec<Embed>,
}

#[derive(Serialize)]
struct Mentions {
    parse: [&'static str; 0],
}

#[derive(Serialize)]
struct Embed {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    description: String,
    color: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<Field>,
    #[serde(skip_serializing_if = "Option::is_none")]
    footer: Option<Footer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Timestamp>,
}

#[derive(Serialize)]
struct Field {
    name: String,
    value: String,
}

#[derive(Serialize)]
struct Footer {
    text: String,
}

/// A message.
pub fn body(message: &Message) -> Vec<u8> {
    let description = fill(cut(&escaped(&line(&message.cause)), CAUSE));
    let footer = cut(&line(&message.key), FOOTER);
    let parts: Vec<Field> = parts(message).into_iter().map(part).collect();
    let mut fields: Vec<Field> = message
        .members
        .iter()
        .map(|member| Field {
            name: fill(cut(&escaped(&name(member)), NAME)),
            value: fill(cut(&escaped(&words(member)), VALUE)),
        })
        .collect();
    let used = len(&description) + len(&footer) + parts.iter().map(size).sum::<usize>();
    let sizes: Vec<usize> = fields.iter().map(size).collect();
    let count = fitting(&sizes, TOTAL - used, FIELDS - parts.len(), REST);
    let more = fields.len() - count;
    fields.truncate(count);
    if more > 0 {
        fields.push(Field {
            name: "…".to_owned(),
            value: and_more(more),
        });
    }
    fields.extend(parts);
    json::bytes(&Body {
        username: "certwell",
        content: cut(&escaped(&headline(message)), CONTENT),
        allowed_mentions: Mentions { parse: [] },
        embeds: vec![Embed {
            title: None,
            description,
            color: color(message),
            fields,
            footer: Some(Footer { text: footer }),
            timestamp: Some(message.opened),
        }],
    })
}

/// A text that is no alert; whole lines of it, as many as there is room for.
pub fn text_body(title: &str, text: &str) -> Vec<u8> {
    const FENCES: usize = 8;
    let lines: Vec<String> = text
        .lines()
        .map(|text| unfenced(&keep_indent(text)))
        .collect();
    let packed = pack(&lines, DESCRIPTION - FENCES, 1);
    let text = packed.first().map_or("", String::as_str);
    json::bytes(&Body {
        username: "certwell",
        content: String::new(),
        allowed_mentions: Mentions { parse: [] },
        embeds: vec![Embed {
            title: Some(fill(cut(&escaped(&line(title)), NAME))),
            description: format!("```\n{text}\n```"),
            color: GREY,
            fields: Vec::new(),
            footer: None,
            timestamp: None,
        }],
    })
}

fn part(part: Part) -> Field {
    let text = if part.is_command {
        format!("`{}`", cut(&unfenced(&part.text), PART))
    } else {
        // A URL in it must stay as it is.
        cut(&part.text, PART)
    };
    Field {
        name: part.name.to_owned(),
        value: text,
    }
}

fn size(field: &Field) -> usize {
    len(&field.name) + len(&field.value)
}

const RED: u32 = 0x00d7_3a49;
const ORANGE: u32 = 0x00e3_6209;
const GREEN: u32 = 0x0028_a745;
const GREY: u32 = 0x0095_9da5;

fn color(message: &Message) -> u32 {
    match (message.state, message.severity) {
        (State::Resolved, _) => GREEN,
        (State::Test, _) => GREY,
        (_, Severity::Page) => RED,
        (_, Severity::Warning) => ORANGE,
    }
}

/// Discord refuses empty texts.
fn fill(text: String) -> String {
    if text.is_empty() {
        "–".to_owned()
    } else {
        text
    }
}

/// Text that Discord's Markdown leaves as it is.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if "\\*_~`|<>#[]()".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// In code nothing is escaped; only its end must not be in it.
fn unfenced(text: &str) -> String {
    text.replace('`', "'")
}

/// Tables are aligned by spaces in front.
fn keep_indent(text: &str) -> String {
    let spaces = text.chars().take_while(|c| *c == ' ').count();
    format!("{}{}", " ".repeat(spaces), line(text))
}
