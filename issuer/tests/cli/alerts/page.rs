//! docs/operations.md has a section for each class, and what is typed by it exists.

use std::{collections::BTreeMap, fs, path::Path};

use certwell_issuer::{cli::args::Cli, plan::alert::Class};
use clap::Parser as _;

/// What each section says, in this order.
const PARTS: [&str; 4] = ["**It means** ", "**certwell**", "**Look** ", "**Type** "];

/// Of the alarm that a host raises by itself: the agent's tests know them.
const HOSTS_OWN: [&str; 2] = ["issuer-unreachable", "served-expired"];

/// Third-level sections, by their titles.
fn sections() -> BTreeMap<String, String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let page = fs::read_to_string(page).unwrap();
    let page = page.split_once("\n## Alerts\n").unwrap().1;
    let page = page.split("\n## ").next().unwrap();
    let sections = page.split("\n### ").skip(1);
    sections
        .map(|section| section.split_once('\n').unwrap())
        .map(|(title, text)| (title.to_owned(), text.to_owned()))
        .collect()
}

#[test]
fn each_class_has_a_section_that_says_what_to_do() {
    let sections = sections();
    let titles: Vec<&str> = sections.keys().map(String::as_str).collect();
    let ours = Class::ALL.iter().map(|class| class.slug());
    let mut slugs: Vec<&str> = ours.chain(HOSTS_OWN).collect();
    slugs.sort_unstable();
    assert_eq!(titles, slugs);
    for (title, text) in &sections {
        let places: Vec<_> = PARTS.iter().map(|part| text.find(part)).collect();
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{title}: {places:?}"
        );
    }
}

#[test]
fn the_commands_of_each_section_are_of_our_programs() {
    let mut asked = 0;
    for (title, text) in sections() {
        for code in text.split('`').skip(1).step_by(2) {
            let words: Vec<&str> = code
                .split_whitespace()
                .map(|word| match word {
                    "NAME" => "media.example.org",
                    "HOST" => "sally",
                    word => word,
                })
                .collect();
            if words.len() > 1 && words[0] == "certwell" {
                asked += 1;
                let parsed = Cli::try_parse_from(&words);
                assert!(parsed.is_ok(), "{title}: {code}: {parsed:?}");
            }
        }
    }
    assert!(asked > 10, "{asked}");
}
