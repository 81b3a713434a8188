//! Slack's incoming webhooks: blocks of text, within what Slack takes.
//!
//! Limits by Slack's reference of Block Kit: a section's text has 3,000 characters, a message 50 blocks. `&`, `<` and `>`
//! are escaped, so that no text mentions anybody or makes a link; `verbatim` keeps Slack from making them of itself.

use serde::Serialize;

use crate::{
    Message, json,
    limit::{len, line, pack},
    text::{and_more, headline, one_line, parts},
};

/// Characters of a section's text.
pub const SECTION: usize = 3_000;
/// Blocks of a message.
pub const BLOCKS: usize = 50;

/// Blocks of members: more of them nobody reads.
const MEMBER_BLOCKS: usize = 10;
/// For the line that tells how many members there was no room for.
const REST: usize = 40;
/// Characters of the headline, and of a part.
const SHORT: usize = 500;

#[derive(Serialize)]
struct Body {
    /// For notifications, and where blocks aren't shown.
    text: String,
    blocks: Vec<Block>,
    unfurl_links: bool,
    unfurl_media: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Block {
    Section { text: Text },
    Context { elements: Vec<Text> },
}

#[derive(Serialize)]
struct Text {
    r#type: &'static str,
    text: String,
    verbatim: bool,
}

/// A message.
pub fn body(message: &Message) -> Vec<u8> {
    let title = cut_escaped(&headline(message), SHORT);
    let mut blocks = vec![section(format!("*{title}*"))];
    let cause = cut_escaped(&line(&message.cause), SECTION);
    if !cause.is_empty() {
        blocks.push(section(cause));
    }
    blocks.extend(members(message).into_iter().map(section));
    let parts: Vec<String> = parts(message)
        .into_iter()
        .map(|part| {
            let text = cut_escaped(&part.text, SHORT);
            let text = if part.is_command {
                format!("`{}`", text.replace('`', "'"))
            } else {
                text
            };
            format!("*{}:* {text}", part.name)
        })
        .collect();
    // Five of them at most, each of a bit more than 500 characters.
    blocks.extend(pack(&parts, SECTION, 2).into_iter().map(section));
    blocks.push(Block::Context {
        elements: vec![mrkdwn(cut_escaped(&line(&message.key), SHORT))],
    });
    finish(title, blocks)
}

/// A text that is no alert; whole lines of it, as many as there is room for.
pub fn text_body(title: &str, text: &str) -> Vec<u8> {
    const FENCES: usize = 8;
    let title = cut_escaped(&line(title), SHORT);
    let lines: Vec<String> = text
        .lines()
        .map(|text| escaped(&text.replace('`', "'").replace(char::is_control, " ")))
        .collect();
    let packed = pack(&lines, SECTION - FENCES, BLOCKS - 1);
    let texts = packed
        .into_iter()
        .map(|text| section(format!("```\n{text}\n```")));
    let blocks = std::iter::once(section(format!("*{title}*"))).chain(texts);
    finish(title.clone(), blocks.collect())
}

fn finish(text: String, blocks: Vec<Block>) -> Vec<u8> {
    json::bytes(&Body {
        text,
        blocks,
        unfurl_links: false,
        unfurl_media: false,
    })
}

/// Whole members, packed into texts of sections.
fn members(message: &Message) -> Vec<String> {
    let mut packed: Vec<String> = Vec::new();
    for (index, member) in message.members.iter().enumerate() {
        let line = format!("• {}", cut_escaped(&one_line(member), SECTION - 2 - REST));
        let last = packed.len() == MEMBER_BLOCKS;
        match packed.last_mut() {
            Some(text) if len(text) + 1 + len(&line) + REST <= SECTION => {
                text.push('\n');
                text.push_str(&line);
            }
            Some(text) if last => {
                let more = message.members.len() - index;
                text.push_str(&format!("\n• {}", and_more(more)));
                break;
            }
            _ => packed.push(line),
        }
    }
    packed
}

fn section(text: String) -> Block {
    Block::Section { text: mrkdwn(text) }
}

fn mrkdwn(text: String) -> Text {
    Text {
        r#type: "mrkdwn",
        text,
        verbatim: true,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Escaped, and at most `most` characters of that: never through the middle of what stands for one.
fn cut_escaped(text: &str, most: usize) -> String {
    let whole = escaped(text);
    if len(&whole) <= most {
        return whole;
    }
    let mut kept = String::new();
    let mut left = most.saturating_sub(1);
    for character in text.chars() {
        let piece = escaped(character.encode_utf8(&mut [0; 4]));
        let Some(rest) = left.checked_sub(len(&piece)) else {
            break;
        };
        left = rest;
        kept.push_str(&piece);
    }
    kept.push('…');
    kept
}
