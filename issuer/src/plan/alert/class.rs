//! The classes of alerts. Each slug is also a section of `docs/operations.md`.

use std::fmt;

macro_rules! classes {
    ($($(#[doc = $doc:literal])+ $name:ident = $slug:literal,)+) => {
        /// What kind of cause an alert has.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Class {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Class {
            /// Every class.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name on the wire, in the store, in messages, and its section in `docs/operations.md`.
            pub fn slug(self) -> &'static str {
                match self {
                    $(Self::$name => $slug,)+
                }
            }
        }
    };
}

classes! {
    /// What a host serves is in the last quarter of its life, the last eighth, or over. Subject: the certificate.
    Expiry = "expiry",
    /// A renewal was planned for an instant that has passed. Subject: the certificate.
    RenewalOverdue = "renewal-overdue",
    /// A host has served something else than is desired for too long. Subject: the certificate.
    NotServed = "not-served",
    /// A host can't install what is desired. Subject: the certificate.
    InstallFailing = "install-failing",
    /// The CA doesn't issue. Subject: the authority.
    OrderFailing = "order-failing",
    /// A challenge host's nginx would not answer the CA. Subject: the certificate.
    PreflightFailing = "preflight-failing",
    /// No word from a host.
    HostSilent = "host-silent",
    /// Somebody came with an identity that was revoked, or of a host that is declared no more.
    RevokedIdentity = "revoked-identity",
    /// A newer edit of the configuration is refused.
    ConfigRefused = "config-refused",
    /// A URL that was to be got from an edge answers something else. Subject: the certificate.
    UrlBroken = "url-broken",
    /// From outside a leaf is seen that isn't ours. Subject: the certificate.
    SeenStranger = "seen-stranger",
    /// Public DNS leads to an address that is no host's of the certificate. Subject: the certificate.
    SeenElsewhere = "seen-elsewhere",
    /// From outside another server block answers. Subject: the certificate.
    SeenOtherVhost = "seen-other-vhost",
    /// A chain that is seen from outside isn't valid. Subject: the certificate.
    SeenChain = "seen-chain",
    /// From outside no handshake comes about, or DNS gives no address. Subject: the certificate; `dns/`, or
    /// `dns/HOST`, where no DNS server answers the issuer, or the probe on a host.
    SeenDown = "seen-down",
    /// The disk of the issuer is nearly full.
    IssuerDisk = "issuer-disk",
    /// The issuer's clock can't be right.
    IssuerClock = "issuer-clock",
    /// The newest backup of the issuer is too old, or there is none.
    BackupOld = "backup-old",
    /// A certificate that certwell doesn't manage is about to expire on a host.
    UnmanagedExpiring = "unmanaged-expiring",
    /// After a restore a host claims a generation that can't be.
    TooFarAhead = "too-far-ahead",
    /// A notifier hasn't accepted a message for too long. Subject: the notifier.
    NotifierFailing = "notifier-failing",
    /// Made by `certwell alerts drill`: nothing is wrong.
    Drill = "drill",
}

impl std::str::FromStr for Class {
    type Err = ();

    fn from_str(slug: &str) -> Result<Self, ()> {
        Self::ALL
            .iter()
            .copied()
            .find(|class| class.slug() == slug)
            .ok_or(())
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_a_slug_of_its_own_that_leads_back_to_it() {
        for class in Class::ALL {
            assert_eq!(class.slug().parse(), Ok(*class));
        }
        assert_eq!("no-such".parse::<Class>(), Err(()));
    }
}
