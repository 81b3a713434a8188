//! Slack.

use certwell_notice::slack::{self, BLOCKS, SECTION};
use proptest::prelude::*;
use serde_json::Value;

use super::{crowd, golden_json, len, message};

/// Holds a body to what Slack documents; all of its texts.
fn fits(body: &[u8]) -> Vec<String> {
    let value: Value = serde_json::from_slice(body).unwrap();
    let blocks = value["blocks"].as_array().unwrap();
    assert!(
        (1..=BLOCKS).contains(&blocks.len()),
        "{} blocks",
        blocks.len()
    );
    let mut texts = vec![value["text"].as_str().unwrap().to_owned()];
    for block in blocks {
        let found: Vec<&Value> = match block["type"].as_str().unwrap() {
            "section" => vec![&block["text"]],
            "context" => block["elements"].as_array().unwrap().iter().collect(),
            other => panic!("{other}"),
        };
        for text in found {
            assert_eq!(text["type"], "mrkdwn");
            assert_eq!(text["verbatim"], true);
            let text = text["text"].as_str().unwrap();
            assert!(
                (1..=SECTION).contains(&len(text)),
                "{} characters",
                len(text)
            );
            texts.push(text.to_owned());
        }
    }
    for text in &texts {
        assert!(!text.contains('<') && !text.contains('>'), "{text}");
        let bare = ["&amp;", "&lt;", "&gt;"]
            .iter()
            .fold(text.clone(), |text, entity| text.replace(entity, ""));
        assert!(!bare.contains('&'), "{text}");
    }
    texts
}

#[test]
fn a_message_is_blocks_of_escaped_text() {
    let body = slack::body(&message());
    fits(&body);
    golden_json("slack.json", &body);
}

#[test]
fn members_are_left_out_whole_and_counted() {
    for (count, length) in [(100, 3), (30, 40), (3, 900), (5_000, 1)] {
        let texts = fits(&slack::body(&crowd(count, length)));
        let lines: Vec<&str> = texts.iter().flat_map(|text| text.lines()).collect();
        let hosts = lines
            .iter()
            .filter(|line| line.starts_with("• host-"))
            .count();
        let more = lines.iter().find(|line| line.starts_with("• and "));
        let left = count - hosts;
        assert!(hosts > 0);
        let expected = (left > 0).then(|| format!("• and {left} more"));
        assert_eq!(more.map(|line| (*line).to_owned()), expected);
        for name in ["*Run:*", "*Acknowledge:*", "*What certwell does next:*"] {
            assert!(lines.iter().any(|line| line.starts_with(name)), "{name}");
        }
    }
}

#[test]
fn a_text_is_packed_in_whole_lines() {
    let text = (0..9_000)
        .map(|number| format!("host-{number} <a> & `{}`\n", "x".repeat(20)))
        .collect::<String>();
    let texts = fits(&slack::text_body("Inventory", &text));
    assert!(texts.last().unwrap().ends_with(" lines more\n```"));
    fits(&slack::text_body("x", ""));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_message_is_larger_than_slack_takes(count in 0_usize..60, length in 0_usize..900, text in "\\PC{0,80}") {
        let mut message = crowd(count, length);
        message.cause = text.repeat(40);
        message.title = format!("t{text}");
        fits(&slack::body(&message));
    }
}
