//! What lies at `live/NAME` of another hand: how long it is good, and whether nginx could load it.

use std::path::Path;

use certwell_proto::{
    Identifier,
    bundle::{Expected, verify_chain},
};
use jiff::{SignedDuration, Timestamp};

use super::state::leaf_of;
use crate::{certbot::lineage, disk::staging, issuer::Wanted};

/// What was found.
pub(super) struct Theirs {
    /// Of its leaf.
    pub(super) validity: Option<(Timestamp, Timestamp)>,
    /// When it ends, where it is a whole pair that is good for the names.
    pub(super) valid_until: Option<Timestamp>,
    /// Whether there is a leaf, and no key beside it that doesn't fit.
    pub(super) loads: bool,
}

/// Looks at a directory, or at what a link leads to.
pub(super) fn look(path: &Path, wanted: &Wanted, now: Timestamp) -> Theirs {
    let chain = staging::read_fullchain(path);
    let leaf = leaf_of(&chain);
    let key = path.join("privkey.pem");
    // Where there is none, nginx may have it from elsewhere.
    let keyless = std::fs::symlink_metadata(&key).is_err();
    let fits = keyless
        || chain
            .first()
            .is_some_and(|der| lineage::unfit(&key, der.clone().into()).is_none());
    Theirs {
        validity: leaf.as_ref().map(|leaf| (leaf.not_before, leaf.not_after)),
        valid_until: trusted_until(&chain, &wanted.identifiers, &wanted.roots, now)
            .filter(|_| fits),
        loads: leaf.is_some() && fits,
    }
}

/// Until when another hand's certificate is good for these names: its chain leads to a root of the certificate's
/// authority, or, where none is known, it isn't self-signed.
fn trusted_until(
    chain: &[Vec<u8>],
    identifiers: &[Identifier],
    roots: &[Vec<u8>],
    now: Timestamp,
) -> Option<Timestamp> {
    let leaf = leaf_of(chain)?;
    let covers = identifiers.iter().all(|identifier| {
        leaf.identifiers.contains(identifier)
            || wildcard_of(identifier).is_some_and(|wild| leaf.identifiers.contains(&wild))
    });
    // Whether it is over is for the plan to judge, which knows ours as well.
    let last = leaf.not_after - SignedDuration::from_secs(1);
    let now = now.max(leaf.not_before).min(last);
    let trusted = if roots.is_empty() {
        !leaf.self_issued
    } else {
        // The names are looked at above, where a wildcard may cover them.
        let expected = Expected {
            identifiers: &[],
            roots,
            now,
        };
        verify_chain(chain, &expected).is_ok()
    };
    (covers && trusted).then_some(leaf.not_after)
}

/// `*.example.org` for `www.example.org`.
fn wildcard_of(identifier: &Identifier) -> Option<Identifier> {
    let Identifier::Dns(_) = identifier else {
        return None;
    };
    let name = identifier.to_string();
    let (_, parent) = name.split_once('.')?;
    format!("*.{parent}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn another_hand_is_trusted_by_its_chain_and_a_wildcard_covers() {
        let (ours, strange) = (authority("ours"), authority("strange"));
        let issued = |by: &CertifiedIssuer<'static, KeyPair>, name: &str| {
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let leaf = params.signed_by(&KeyPair::generate().unwrap(), by).unwrap();
            vec![leaf.der().to_vec()]
        };
        let roots = [ours.der().to_vec()];
        let good = |chain: &[Vec<u8>], roots: &[Vec<u8>], name: &str| {
            trusted_until(chain, &[name.parse().unwrap()], roots, clock::now()).is_some()
        };
        let wild = issued(&ours, "*.example.org");
        assert!(good(
            &issued(&ours, "a.example.org"),
            &roots,
            "a.example.org"
        ));
        assert!(good(&wild, &roots, "a.example.org"));
        assert!(!good(&wild, &roots, "example.org"));
        assert!(!good(&wild, &roots, "a.b.example.org"));
        let foreign = issued(&strange, "a.example.org");
        assert!(
            !good(&foreign, &roots, "a.example.org"),
            "of an unknown root"
        );
        assert!(good(&foreign, &[], "a.example.org"), "no root is known");
    }
}
