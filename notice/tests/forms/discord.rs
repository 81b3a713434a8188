//! Discord.

use certwell_notice::discord::{self, CONTENT, DESCRIPTION, FIELDS, NAME, TOTAL, VALUE};
use proptest::prelude::*;
use serde_json::Value;

use super::{crowd, golden_json, len, message};

/// Holds a body to what Discord documents.
fn fits(body: &[u8]) -> Value {
    let value: Value = serde_json::from_slice(body).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    assert_eq!(value["allowed_mentions"]["parse"], serde_json::json!([]));
    assert!(len(&text(&value["content"])) <= CONTENT);
    let embeds = value["embeds"].as_array().unwrap();
    assert_eq!(embeds.len(), 1);
    let embed = &embeds[0];
    let mut total = 0;
    for (key, most) in [("title", NAME), ("description", DESCRIPTION)] {
        let found = text(&embed[key]);
        assert!(len(&found) <= most, "{key} has {}", len(&found));
        total += len(&found);
    }
    assert!(!text(&embed["description"]).is_empty());
    let footer = text(&embed["footer"]["text"]);
    assert!(len(&footer) <= 2_048);
    total += len(&footer);
    let none = Vec::new();
    let fields = embed["fields"].as_array().unwrap_or(&none);
    assert!(fields.len() <= FIELDS, "{} fields", fields.len());
    for field in fields {
        let (name, words) = (text(&field["name"]), text(&field["value"]));
        assert!((1..=NAME).contains(&len(&name)), "{name}");
        assert!((1..=VALUE).contains(&len(&words)), "{words}");
        total += len(&name) + len(&words);
    }
    assert!(total <= TOTAL, "{total} characters in all");
    value
}

#[test]
fn a_message_is_one_embed_with_a_field_for_each_member() {
    let body = discord::body(&message());
    fits(&body);
    golden_json("discord.json", &body);
}

#[test]
fn members_are_left_out_whole_and_counted() {
    for (count, length) in [(100, 3), (30, 40), (3, 900), (1_000, 1)] {
        let value = fits(&discord::body(&crowd(count, length)));
        let fields = value["embeds"][0]["fields"].as_array().unwrap();
        let hosts = fields
            .iter()
            .filter(|field| field["name"].as_str().unwrap().starts_with("host-"))
            .count();
        let more = fields
            .iter()
            .find(|field| field["name"] == "…")
            .map(|field| field["value"].as_str().unwrap().to_owned());
        let left = count - hosts;
        assert!(hosts > 0, "{count} of {length}");
        assert_eq!(more, (left > 0).then(|| format!("and {left} more")));
        // What must never be cut away.
        for name in ["Run", "Acknowledge", "What certwell does next"] {
            assert!(fields.iter().any(|field| field["name"] == name), "{name}");
        }
    }
}

#[test]
fn a_text_is_a_table_that_stays_one() {
    let text = (0..400)
        .map(|number| format!("  host-{number}   `{}`\n", "x".repeat(20)))
        .collect::<String>();
    let value = fits(&discord::text_body("Inventory *of* all hosts", &text));
    let shown = value["embeds"][0]["description"].as_str().unwrap();
    assert!(shown.starts_with("```\n  host-0   'xxx"), "{shown}");
    assert!(shown.ends_with(" lines more\n```"), "{shown}");
    fits(&discord::text_body("", ""));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_message_is_larger_than_discord_takes(count in 0_usize..60, length in 0_usize..300, text in "\\PC{0,80}") {
        let mut message = crowd(count, length);
        message.cause = text.repeat(20);
        message.title = text;
        fits(&discord::body(&message));
    }
}
