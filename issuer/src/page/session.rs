//! Who has logged in, and which forms are theirs: signed values, so that a restart ends no session and nothing is kept.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};

/// How long a session lasts.
pub(super) const LIFE: SignedDuration = SignedDuration::from_hours(12);
/// How long a form may lie before it is sent.
const FORM_LIFE: SignedDuration = SignedDuration::from_hours(2);
const ID: usize = 16;
const TIME: usize = 8;

/// A browser that has shown the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Session([u8; ID]);

impl Session {
    pub(super) fn new(id: [u8; ID]) -> Self {
        Self(id)
    }

    /// The cookie's value.
    pub(super) fn seal(&self, key: &hmac::Key, now: Timestamp) -> String {
        let mut value = self.0.to_vec();
        value.extend(now.as_second().to_be_bytes());
        let tag = hmac::sign(key, &[b"session".as_slice(), &value].concat());
        value.extend(tag.as_ref());
        URL_SAFE_NO_PAD.encode(value)
    }

    /// From a cookie's value; `None` when it isn't ours, or over.
    pub(super) fn open(value: &str, key: &hmac::Key, now: Timestamp) -> Option<Self> {
        let value = URL_SAFE_NO_PAD.decode(value).ok()?;
        let (id, rest) = value.split_first_chunk::<ID>()?;
        let (begun, tag) = rest.split_first_chunk::<TIME>()?;
        let signed = [b"session".as_slice(), id, begun].concat();
        hmac::verify(key, &signed, tag).ok()?;
        is_fresh(*begun, LIFE, now).then_some(Self(*id))
    }

    /// Goes into each form that changes something.
    pub(super) fn form_token(&self, key: &hmac::Key, now: Timestamp) -> String {
        let time = now.as_second().to_be_bytes();
        let tag = hmac::sign(key, &[b"form".as_slice(), &self.0, &time].concat());
        URL_SAFE_NO_PAD.encode([time.as_slice(), tag.as_ref()].concat())
    }

    /// Whether a form was made for this session, and not too long ago.
    pub(super) fn has_made(&self, form_token: &str, key: &hmac::Key, now: Timestamp) -> bool {
        let Ok(value) = URL_SAFE_NO_PAD.decode(form_token) else {
            return false;
        };
        let Some((time, tag)) = value.split_first_chunk::<TIME>() else {
            return false;
        };
        let signed = [b"form".as_slice(), &self.0, time].concat();
        hmac::verify(key, &signed, tag).is_ok() && is_fresh(*time, FORM_LIFE, now)
    }
}

fn is_fresh(begun: [u8; TIME], life: SignedDuration, now: Timestamp) -> bool {
    let age = now.as_second() - i64::from_be_bytes(begun);
    // A clock that was set back by a little ends nothing.
    (-300..life.as_secs()).contains(&age)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32])
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_session_lasts_its_time_under_its_key() {
        let session = Session::new([7; ID]);
        let cookie = session.seal(&key(1), at(0));
        for (key_of, now, good) in [
            (1, 0, true),
            (1, LIFE.as_secs() - 1, true),
            (1, LIFE.as_secs(), false),
            (1, -301, false),
            (2, 0, false),
        ] {
            let opened = Session::open(&cookie, &key(key_of), at(now));
            assert_eq!(opened.is_some(), good, "key {key_of}, {now} s");
        }
    }

    #[test]
    fn no_byte_of_a_cookie_may_change() {
        let cookie = Session::new([7; ID]).seal(&key(1), at(0));
        let bytes = URL_SAFE_NO_PAD.decode(&cookie).unwrap();
        for at_byte in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at_byte] ^= 1;
            let other = URL_SAFE_NO_PAD.encode(other);
            assert_eq!(Session::open(&other, &key(1), at(0)), None, "{at_byte}");
        }
        for wrong in ["", "?", &cookie[..20], "AAAA"] {
            assert_eq!(Session::open(wrong, &key(1), at(0)), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_form_is_of_one_session_and_of_its_time() {
        let (mine, other) = (Session::new([7; ID]), Session::new([8; ID]));
        let token = mine.form_token(&key(1), at(0));
        assert!(mine.has_made(&token, &key(1), at(10)));
        assert!(!other.has_made(&token, &key(1), at(10)), "another session");
        assert!(!mine.has_made(&token, &key(2), at(10)), "another key");
        assert!(
            !mine.has_made(&token, &key(1), at(FORM_LIFE.as_secs())),
            "too old"
        );
        for wrong in ["", "?", &token[..10], &mine.seal(&key(1), at(0))] {
            assert!(!mine.has_made(wrong, &key(1), at(0)), "{wrong:?}");
        }
    }
}
