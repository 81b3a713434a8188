//! The records that go into the store and come out. Times are kept to the millisecond.

use std::time::Duration;

use certwell_proto::{CertificateName, Fingerprint, Generation, HostName, Identifier, Secret, v1};
use jiff::Timestamp;

/// The CA that signs identities of the fleet.
#[derive(Debug, Clone)]
pub struct FleetCa {
    /// Name of the fleet.
    pub fleet: certwell_proto::FleetName,
    /// DER.
    pub certificate: Vec<u8>,
    /// PKCS#8, DER, sealed at rest.
    pub key: Secret,
}

/// A restore from a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// When the backup was restored.
    pub began: Timestamp,
    /// When every assigned host had reported, or was waited for no longer; `None` before.
    pub ended: Option<Timestamp>,
}

/// An ACME account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Directory URL of its authority.
    pub directory: String,
    /// PKCS#8, DER, sealed at rest.
    pub key: Secret,
    /// `None` until the CA answered `newAccount`.
    pub url: Option<String>,
    /// JWK thumbprint of the key, base64url (RFC 7638).
    pub thumbprint: String,
    /// The contact URLs that the CA was told last.
    pub contact: Vec<String>,
}

/// What an order is going to be about, committed before the CA hears of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The managed certificate.
    pub certificate: CertificateName,
    /// The generation that it will make.
    pub generation: Generation,
    /// What the CSR asks for.
    pub identifiers: Vec<Identifier>,
    /// The authority's name in the configuration.
    pub authority: String,
    /// The authority's directory URL.
    pub directory: String,
    /// PKCS#8, DER, sealed at rest.
    pub private_key: Secret,
    /// PKCS#10, DER: the only CSR that this order may be finalized with.
    pub csr: Vec<u8>,
    /// DER of the leaf that it replaces (RFC 9773), if any.
    pub replaces: Option<Vec<u8>>,
    /// When it was decided.
    pub at: Timestamp,
}

/// An intent that has not ended, and how far it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingOrder {
    /// What it is about.
    pub intent: Intent,
    /// The order's URL, once the CA gave it.
    pub url: Option<String>,
}

/// So many failures of a certificate's issuance are kept.
pub const FAILURES: usize = 100;

/// How long failures of a certificate's issuance are kept, counted back from its newest.
pub const FAILURES_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// How an attempt at an order failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderFailure {
    /// When.
    pub at: Timestamp,
    /// Whether the CA had tried to validate: these are what CAs limit per name and hour.
    pub validation: bool,
    /// One sentence.
    pub problem: String,
    /// The CA's `Retry-After`, as an instant.
    pub retry_at: Option<Timestamp>,
}

/// One issued generation, without its private key (that stays sealed beside it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The managed certificate.
    pub certificate: CertificateName,
    /// Its generation.
    pub generation: Generation,
    /// What its leaf covers.
    pub identifiers: Vec<Identifier>,
    /// The authority's name in the configuration.
    pub authority: String,
    /// DER, leaf first.
    pub fullchain: Vec<Vec<u8>>,
    /// DER of the root that it was verified to.
    pub root: Vec<u8>,
    /// Of the leaf.
    pub not_before: Timestamp,
    /// Of the leaf.
    pub not_after: Timestamp,
    /// When the bundle was stored.
    pub at: Timestamp,
}

impl Issued {
    /// Its leaf, as older generations are remembered.
    pub fn leaf(&self) -> StoredLeaf {
        StoredLeaf {
            fingerprint: Fingerprint::of(self.fullchain.first().map_or(&[][..], Vec::as_slice)),
            not_before: self.not_before,
            not_after: self.not_after,
        }
    }
}

/// The leaf of a generation that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredLeaf {
    /// Of its DER.
    pub fingerprint: Fingerprint,
    /// When its life began.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

/// A join token; of its secret only the hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// The host that may join with it.
    pub host: HostName,
    /// When it ends.
    pub expires: Timestamp,
    /// SHA-256 of the bound key that used it; `None` while unused.
    pub used_by: Option<[u8; 32]>,
    /// Voided by a newer token, by `hosts retire`, or by a restore.
    pub void: bool,
}

/// A host with an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRecord {
    /// Its name.
    pub name: HostName,
    /// SubjectPublicKeyInfo, DER.
    pub bound_key: Vec<u8>,
    /// DER of its newest identity certificate.
    pub identity: Vec<u8>,
    /// SHA-256 of the CSR's public key that `identity` answers: the same key gets the same answer.
    pub identity_key: [u8; 32],
    /// Identities issued before this instant are refused (`hosts revoke`).
    pub revoked: Option<Timestamp>,
    /// Out for good.
    pub retired: bool,
    /// What it says of itself.
    pub info: v1::HostInfo,
    /// When it last spoke to us.
    pub last_seen: Option<Timestamp>,
}

impl HostRecord {
    /// Takes over a revocation or retirement that `known` has: neither is ever taken back.
    pub fn keep_sentence(&mut self, known: &Self) {
        self.revoked = self.revoked.max(known.revoked);
        self.retired |= known.retired;
    }
}

/// What an enrollment stores.
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// The host as it is from now on.
    pub host: HostRecord,
    /// SHA-256 of its bound key.
    pub bound_key_hash: [u8; 32],
}

impl Enrolled {
    /// Whether this token lets the host in; expiry is the caller's to judge. Every store asks this before it
    /// marks the token.
    ///
    /// # Errors
    /// One sentence that says why not.
    pub fn check_token(&self, token: Option<&TokenRecord>) -> Result<(), String> {
        let host = &self.host.name;
        let Some(token) = token else {
            return Err(format!("{host}: this join token is unknown"));
        };
        if token.host != *host {
            return Err(format!("{host}: this join token is for another host"));
        }
        match token.used_by {
            Some(used_by) if used_by == self.bound_key_hash => Ok(()),
            Some(_) => Err(format!(
                "{host}: this join token was used by another machine already"
            )),
            None if token.void => Err(format!("{host}: this join token is void")),
            None => Ok(()),
        }
    }
}

/// The latest facts of one certificate on one host, with the issuer's receipt times.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The host.
    pub host: HostName,
    /// The managed certificate.
    pub certificate: CertificateName,
    /// Facts, each with its generation and times; `desired` and `state` are not kept here.
    pub facts: v1::HostCertificateStatus,
    /// How the last install ended, and of which generation.
    pub outcome: v1::Outcome,
    /// The generation that `outcome` is about.
    pub outcome_generation: Generation,
    /// Since the last restore from a backup, the host's first word counted: the highest generation that was known by
    /// then. `None`: it still has it, or there was no restore.
    pub told: Option<Generation>,
}

/// Every certificate of a host, managed or not, as it told last.
#[derive(Debug, Clone, PartialEq)]
pub struct InventoryRecord {
    /// The host.
    pub host: HostName,
    /// When it was first told as it is.
    pub at: Timestamp,
    /// In its own words.
    pub told: v1::Inventory,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// 0 before it is stored.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// Which kind.
    pub kind: v1::EventKind,
    /// About which certificate, if one.
    pub certificate: Option<CertificateName>,
    /// About which host, if one.
    pub host: Option<HostName>,
    /// About which generation; none for other things.
    pub generation: Generation,
    /// One sentence.
    pub text: String,
}

/// Which events are asked for: those about both, where both are named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// `None`: about any, or none.
    pub certificate: Option<CertificateName>,
    /// `None`: about any, or none.
    pub host: Option<HostName>,
}

impl EventFilter {
    /// Whether an event is one of them.
    pub fn lets_through(&self, event: &EventRecord) -> bool {
        let certificate = self.certificate.is_none() || self.certificate == event.certificate;
        certificate && (self.host.is_none() || self.host == event.host)
    }
}
