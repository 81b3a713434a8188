//! Durations as people write them: `30s`, `15m`, `6h`, `7d`.

use std::time::Duration;

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No number in front, or no known unit behind it.
    #[error(
        "{0:?} is no duration: write a whole number and a unit (ms, s, m, h, d), as in \"30s\" or \"6h\""
    )]
    Form(String),
    /// More than a hundred years.
    #[error("{0:?} is too long")]
    Long(String),
}

/// A whole number and one of the units `ms`, `s`, `m`, `h`, `d`.
///
/// # Errors
/// When the text has another form.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let form = || DurationError::Form(text.chars().take(40).collect());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(form());
    }
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(form()),
    };
    let long = || DurationError::Long(text.chars().take(40).collect());
    let number: u64 = number.parse().map_err(|_| long())?;
    let duration = Duration::from_millis(number.checked_mul(millis).ok_or_else(long)?);
    if duration > Duration::from_secs(100 * 366 * 86_400) {
        Err(long())
    } else {
        Ok(duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_unit_is_read() {
        for (text, seconds) in [
            ("30s", 30),
            ("15m", 900),
            ("6h", 21_600),
            ("7d", 604_800),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "s",
            "30",
            "30 s",
            "-1s",
            "1.5h",
            "1h30m",
            "30S",
            "٣s",
            "99999999999999999999s",
            "36601d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_number_makes_it_panic(number in any::<u64>(), unit in "ms|s|m|h|d") {
            let _ = parse(&format!("{number}{unit}"));
        }
    }
}
