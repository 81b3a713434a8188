//! PEM (RFC 7468), written the way nginx and OpenSSL read it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};
use zeroize::Zeroizing;

/// One block. The result is wiped when dropped, since it may hold a key.
pub fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    let mut text = Zeroizing::new(String::with_capacity(
        body.len() + body.len() / 64 + 64 + 2 * label.len(),
    ));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for start in (0..body.len()).step_by(64) {
        text.push_str(&body[start..body.len().min(start + 64)]);
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Certificates, one block each.
pub fn certificates<'a>(ders: impl IntoIterator<Item = &'a [u8]>) -> String {
    ders.into_iter()
        .map(|der| encode("CERTIFICATE", der).to_string())
        .collect()
}

/// A PKCS#8 private key.
pub fn private_key(pkcs8: &[u8]) -> Zeroizing<String> {
    encode("PRIVATE KEY", pkcs8)
}

/// All certificates in a PEM text, in order; other blocks are passed over.
///
/// # Errors
/// When a block is damaged.
pub fn read_certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(text).collect()
}

/// The first private key in a PEM text.
///
/// # Errors
/// When there is none, or it is damaged.
pub fn read_private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, pem::Error> {
    PrivateKeyDer::from_pem_slice(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_read_back_in_order() {
        let text = certificates([b"first certificate".as_slice(), &[7; 100]]);
        let read = read_certificates(text.as_bytes()).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].as_ref(), b"first certificate");
        assert_eq!(read[1].as_ref(), &[7; 100]);
        assert!(text.lines().all(|line| line.len() <= 64));
    }
}
