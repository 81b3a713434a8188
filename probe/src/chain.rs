//! Whether a chain is right for a name, now.

use std::time::Duration;

use certwell_proto::Leaf;
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};

/// What chains must lead to.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Roots(Vec<TrustAnchor<'static>>);

impl std::fmt::Debug for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Roots({})", self.0.len())
    }
}

impl Roots {
    /// From DER. Real systems hold roots that can't be read as anchors; one of them must not spoil the others.
    pub fn of<D: AsRef<[u8]>>(ders: impl IntoIterator<Item = D>) -> Self {
        let anchors = ders.into_iter().filter_map(|der| {
            let der = CertificateDer::from(der.as_ref());
            anchor_from_trusted_cert(&der)
                .ok()
                .map(|anchor| anchor.to_owned())
        });
        Self(anchors.collect())
    }
}

/// Why a chain isn't right for this name at this instant, one fragment; `None` when it is. Without any root, only
/// whom and when it is for is looked at.
pub fn problem(
    chain: &[Vec<u8>],
    leaf: &Leaf,
    name: &str,
    roots: &Roots,
    now: Timestamp,
) -> Option<String> {
    if now >= leaf.not_after {
        return Some(format!("the leaf expired on {}", told(leaf.not_after)));
    }
    if now < leaf.not_before {
        return Some(format!(
            "the leaf isn't valid before {}",
            told(leaf.not_before)
        ));
    }
    let (first, rest) = chain.split_first()?;
    let first = CertificateDer::from(first.as_slice());
    let unreadable = |error: Error| format!("the leaf can't be read ({error:?})");
    let entity = match EndEntityCert::try_from(&first) {
        Ok(entity) => entity,
        Err(error) => return Some(unreadable(error)),
    };
    if let Ok(name) = ServerName::try_from(name)
        && entity.verify_is_valid_for_subject_name(&name).is_err()
    {
        return Some(format!("the leaf doesn't cover {}", name.to_str()));
    }
    if roots.0.is_empty() {
        return None;
    }
    let intermediates: Vec<_> = rest
        .iter()
        .map(|der| CertificateDer::from(der.as_slice()))
        .collect();
    let since_epoch = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
    let verified = entity.verify_for_usage(
        ALL_VERIFICATION_ALGS,
        &roots.0,
        &intermediates,
        UnixTime::since_unix_epoch(since_epoch),
        KeyUsage::server_auth(),
        None,
        None,
    );
    verified.err().map(|error| match error {
        Error::UnknownIssuer if rest.is_empty() => {
            "it leads to no known root: the leaf comes alone, without any intermediate".to_owned()
        }
        Error::UnknownIssuer => {
            "it leads to no known root: an intermediate is missing, or another CA has signed"
                .to_owned()
        }
        Error::CertExpired { .. } => "an intermediate has expired".to_owned(),
        Error::CertNotValidYet { .. } => "an intermediate isn't valid yet".to_owned(),
        error => format!("it doesn't verify ({error:?})"),
    })
}

fn told(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}
