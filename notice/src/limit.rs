//! Cutting to what a service takes. Services count characters; those that count UTF-16 units are satisfied too.

/// As the strictest of them count it.
pub(crate) fn len(text: &str) -> usize {
    text.encode_utf16().count()
}

/// At most `most` characters, the last an ellipsis where something was cut.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if len(text) <= most {
        return text.to_owned();
    }
    let mut left = most.saturating_sub(1);
    let mut kept = String::new();
    for character in text.chars() {
        let Some(rest) = left.checked_sub(character.len_utf16()) else {
            break;
        };
        left = rest;
        kept.push(character);
    }
    if most > 0 {
        kept.push('…');
    }
    kept
}

/// What remains of a text in one line: no control characters, and none that turn the direction of what follows.
pub(crate) fn line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            '\u{2028}' | '\u{2029}' => line.push(' '),
            other if other.is_control() => {
                if !line.ends_with(' ') {
                    line.push(' ');
                }
            }
            other => line.push(other),
        }
    }
    line.trim().to_owned()
}

/// How many of `sizes`, from the first on, fit into `room`; where not all do, the room that is told by `rest` is left for
/// the words about the others.
pub(crate) fn fitting(sizes: &[usize], room: usize, most: usize, rest: usize) -> usize {
    if sizes.len() <= most && sizes.iter().sum::<usize>() <= room {
        return sizes.len();
    }
    let mut left = room.saturating_sub(rest);
    let mut count = 0;
    for size in sizes.iter().take(most.saturating_sub(1)) {
        let Some(after) = left.checked_sub(*size) else {
            break;
        };
        left = after;
        count += 1;
    }
    count
}

/// `lines` packed whole into texts of at most `room` characters, `most` of them; the last line of the last tells how many
/// lines there was no room for. A line that is too long by itself is cut.
pub(crate) fn pack(lines: &[String], room: usize, most: usize) -> Vec<String> {
    const REST: usize = 40;
    let mut packed: Vec<String> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let line = cut(line, room.saturating_sub(REST));
        let is_last = packed.len() == most;
        let spare = if is_last { REST } else { 0 };
        match packed.last_mut() {
            Some(text) if len(text) + 1 + len(&line) + spare <= room => {
                text.push('\n');
                text.push_str(&line);
            }
            Some(text) if is_last => {
                text.push_str(&format!("\n{} lines more", lines.len() - index));
                break;
            }
            _ => packed.push(line),
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("😀😀", 3), "😀…");
        assert_eq!(cut("abc", 0), "");
    }

    #[test]
    fn a_line_holds_nothing_that_breaks_or_turns_it() {
        assert_eq!(line("a\r\nb\u{202e}c\u{2028}d\t"), "a bc d");
    }

    #[test]
    fn where_not_all_fit_there_is_room_for_saying_so() {
        assert_eq!(fitting(&[10, 10, 10], 30, 25, 8), 3);
        assert_eq!(fitting(&[10, 10, 10], 29, 25, 8), 2);
        assert_eq!(fitting(&[10, 10, 10], 27, 25, 8), 1);
        assert_eq!(fitting(&[1, 1, 1], 100, 2, 8), 1);
        assert_eq!(fitting(&[], 0, 2, 8), 0);
    }

    #[test]
    fn lines_stay_whole_and_what_is_left_out_is_counted() {
        let lines: Vec<String> = (0..10)
            .map(|n| format!("line {n} {}", "x".repeat(30)))
            .collect();
        assert_eq!(pack(&lines, 10_000, 1), [lines.join("\n")]);
        let packed = pack(&lines, 120, 2);
        assert_eq!(packed.len(), 2);
        assert!(packed[1].ends_with(" lines more"), "{packed:?}");
        let shown = packed.iter().flat_map(|text| text.lines()).count() - 1;
        assert!(
            packed[1].contains(&format!("\n{} lines more", 10 - shown)),
            "{packed:?}"
        );
        assert!(packed.iter().all(|text| len(text) <= 120));
    }

    proptest! {
        #[test]
        fn no_pack_is_larger_than_its_room(lines in proptest::collection::vec("\\PC{0,90}", 0..30), room in 60_usize..200, most in 1_usize..4) {
            let packed = pack(&lines, room, most);
            prop_assert!(packed.len() <= most && packed.iter().all(|text| len(text) <= room));
        }

        #[test]
        fn nothing_is_longer_than_asked_for(text in "\\PC{0,60}", most in 0_usize..40) {
            prop_assert!(len(&cut(&text, most)) <= most);
        }
    }
}
