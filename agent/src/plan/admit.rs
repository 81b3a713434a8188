//! Whether what the issuer offers may be taken: generations never go backwards within a lineage, and a lineage
//! never gives way to an older one.

use certwell_proto::{Fingerprint, Generation, Lineage};

/// What the ledger knows of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// The highest generation that was ever staged.
    pub highest: Generation,
    /// Its leaves.
    pub fingerprints: Vec<Fingerprint>,
    /// It was staged under another lineage than the present one.
    pub other_lineage: bool,
    /// What is active has expired, or nothing real is.
    pub worthless: bool,
}

/// Why an offer isn't taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The issuer was restored from, or replaced by, an older one.
    #[error(
        "the issuer shows lineage {offered}, begun before or beside lineage {known} that this host has seen: an old copy of the issuer is running; stop it, and start the newer one"
    )]
    OlderLineage {
        /// The ledger's.
        known: Lineage,
        /// The issuer's.
        offered: Lineage,
    },
    /// A lower generation.
    #[error(
        "generation {offered} is offered, but this host has had generation {known}; what is served stays"
    )]
    Backwards {
        /// The ledger's.
        known: Generation,
        /// The issuer's.
        offered: Generation,
    },
    /// The same number for something else.
    #[error(
        "generation {0} is offered with another certificate than this host got under that number; what is served stays"
    )]
    OtherBytes(Generation),
}

/// Whether this lineage may be believed.
///
/// # Errors
/// When a newer one was seen.
pub fn lineage(known: Option<Lineage>, offered: Lineage) -> Result<(), Refusal> {
    match known {
        Some(known) if known.forbids(&offered) => Err(Refusal::OlderLineage { known, offered }),
        _ => Ok(()),
    }
}

/// Whether this generation may be taken.
///
/// After a restore a host may be ahead of the issuer. It keeps what it serves, as long as that is worth something.
///
/// # Errors
/// When it would go backwards, or the number stands for other bytes.
pub fn generation(
    known: &Known,
    offered: Generation,
    fingerprints: &[Fingerprint],
) -> Result<(), Refusal> {
    // Nothing is issued: nothing is offered.
    if offered.is_none() || (known.other_lineage && known.worthless) {
        return Ok(());
    }
    if offered < known.highest {
        return Err(Refusal::Backwards {
            known: known.highest,
            offered,
        });
    }
    if offered == known.highest && fingerprints != known.fingerprints {
        return Err(Refusal::OtherBytes(offered));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn leaf(n: u8) -> Vec<Fingerprint> {
        vec![Fingerprint([n; 32])]
    }

    #[test]
    fn an_older_lineage_is_refused() {
        let old = Lineage {
            id: Uuid::from_u128(1),
            started_ms: 1,
        };
        let new = Lineage {
            id: Uuid::from_u128(2),
            started_ms: 2,
        };
        assert_eq!(lineage(Some(old), new), Ok(()));
        assert_eq!(lineage(None, old), Ok(()));
        assert_eq!(
            lineage(Some(new), old),
            Err(Refusal::OlderLineage {
                known: new,
                offered: old
            })
        );
    }

    #[test]
    fn a_host_that_is_ahead_after_a_restore_keeps_what_it_serves_until_it_is_worthless() {
        let mut known = Known {
            highest: Generation(7),
            fingerprints: leaf(7),
            other_lineage: true,
            worthless: false,
        };
        assert!(generation(&known, Generation(6), &leaf(6)).is_err());
        assert!(generation(&known, Generation(7), &leaf(9)).is_err());
        known.worthless = true;
        assert_eq!(generation(&known, Generation(6), &leaf(6)), Ok(()));
    }

    proptest! {
        #[test]
        fn within_a_lineage_generations_never_go_backwards(highest in 0_u64..9, offered in 0_u64..9, same: bool, worthless: bool) {
            let known = Known { highest: Generation(highest), fingerprints: leaf(1), other_lineage: false, worthless };
            let admitted = generation(&known, Generation(offered), &leaf(if same { 1 } else { 2 })).is_ok();
            prop_assert_eq!(admitted, offered == 0 || offered > highest || (offered == highest && same));
        }
    }
}
