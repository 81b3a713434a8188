//! Who a webhook's body comes from: HMAC-SHA256 over time and body, so that neither can be made or sent again by others.

use aws_lc_rs::hmac;
use jiff::Timestamp;

/// Holds the time, in seconds since the Unix epoch.
pub const TIMESTAMP: &str = "certwell-timestamp";
/// Holds `v1=` and the code in hexadecimal.
pub const SIGNATURE: &str = "certwell-signature";

/// The values of the two headers, time and signature: the code is made of the time, a dot, and the body.
pub fn sign(secret: &[u8], now: Timestamp, body: &[u8]) -> (String, String) {
    let time = now.as_second().to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut context = hmac::Context::with_key(&key);
    context.update(time.as_bytes());
    context.update(b".");
    context.update(body);
    let code = context.sign();
    let hex: String = code
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    (time, format!("v1={hex}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By `printf '1700000000.{}' | openssl dgst -sha256 -hmac secret`.
    #[test]
    fn another_implementation_comes_to_the_same() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let (time, signature) = sign(b"secret", now, b"{}");
        assert_eq!(time, "1700000000");
        assert_eq!(
            signature,
            "v1=b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163"
        );
    }

    #[test]
    fn secret_time_and_body_each_change_it() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (_, one) = sign(b"secret", at(1), b"body");
        for other in [
            sign(b"secres", at(1), b"body"),
            sign(b"secret", at(2), b"body"),
            sign(b"secret", at(1), b"bodz"),
        ] {
            assert_ne!(one, other.1);
        }
    }
}
