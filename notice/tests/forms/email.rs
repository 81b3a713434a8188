//! Letters.

use certwell_notice::{
    Address, Message, State,
    mail::{self, Envelope},
};
use proptest::prelude::*;

use super::{at, golden, message};

fn letter(message: &Message) -> String {
    let from: Address = "certwell@example.org".parse().unwrap();
    let to: Vec<Address> = ["ops@example.org", "night@example.org"]
        .map(|address| address.parse().unwrap())
        .into();
    let envelope = Envelope {
        from: &from,
        to: &to,
    };
    String::from_utf8(mail::letter(message, envelope, at("2023-02-26T09:00:00Z"))).unwrap()
}

/// The headers, each unfolded.
fn headers(letter: &str) -> Vec<(String, String)> {
    let (head, _) = letter.split_once("\r\n\r\n").unwrap();
    let unfolded = head.replace("\r\n ", " ");
    unfolded
        .split("\r\n")
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

fn header(letter: &str, name: &str) -> String {
    let found = headers(letter);
    found.into_iter().find(|(own, _)| own == name).unwrap().1
}

#[test]
fn a_message_is_a_letter_of_plain_text() {
    golden("email.txt", letter(&message()).as_bytes());
}

#[test]
fn one_alert_is_one_thread_of_letters_that_are_told_apart() {
    let first = letter(&message());
    let over = letter(&Message {
        state: State::Resolved,
        number: 4,
        ..message()
    });
    for name in ["References", "In-Reply-To"] {
        assert_eq!(header(&first, name), header(&over, name));
        assert_ne!(header(&first, name), header(&first, "Message-ID"));
    }
    assert_ne!(header(&first, "Message-ID"), header(&over, "Message-ID"));
    assert_eq!(
        first,
        letter(&message()),
        "sent twice, it is the same letter"
    );
    let other = letter(&Message { id: 8, ..message() });
    assert_ne!(header(&first, "References"), header(&other, "References"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_text_gets_out_of_its_header_or_line(
        title in "[\\PC\r\n\t=?ä]{0,120}",
        cause in "[\\PC\r\n.=]{0,300}",
        fleet in "[\\PC\r\n]{0,20}",
        key in "[\\PC\r\n]{0,40}",
    ) {
        let made = letter(&Message { title, cause, fleet, key, ..message() });
        let names: Vec<String> = headers(&made).into_iter().map(|(name, _)| name).collect();
        prop_assert_eq!(names, [
            "From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "X-Certwell-Key", "X-Certwell-State",
            "Auto-Submitted", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
        ]);
        prop_assert!(made.is_ascii());
        for line in made.split("\r\n") {
            prop_assert!(line.len() <= 998 && !line.contains(['\r', '\n']), "{line}");
        }
    }
}
