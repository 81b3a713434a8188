//! Real TLS handshakes with this host's own listeners.

use std::{fmt, io, net::SocketAddr, time::Duration};

use certwell_probe::{Answer, Ask, Place, ask};
use certwell_proto::Fingerprint;

use super::few;
use super::targets::{Endpoint, ProbeTarget, Way};

/// For one handshake: it doesn't leave the host.
const LIMIT: Duration = Duration::from_secs(2);

/// What a listener answered.
#[derive(Clone, PartialEq, Eq)]
pub enum Probed {
    /// It served this leaf.
    Leaf {
        /// Of the leaf.
        fingerprint: Fingerprint,
        /// The leaf.
        der: Vec<u8>,
    },
    /// It answers, and refuses by intent (`ssl_reject_handshake`).
    Rejects,
    /// No handshake came about: why.
    Down(String),
    /// Its address isn't on this host now.
    Elsewhere,
    /// It can't be probed: why.
    Unprobed(String),
}

impl fmt::Debug for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaf { fingerprint, .. } => write!(f, "Leaf({fingerprint})"),
            Self::Rejects => f.write_str("Rejects"),
            Self::Down(why) => write!(f, "Down({why:?})"),
            Self::Elsewhere => f.write_str("Elsewhere"),
            Self::Unprobed(why) => write!(f, "Unprobed({why:?})"),
        }
    }
}

/// One handshake, ended after two seconds.
pub async fn probe(target: &ProbeTarget) -> Probed {
    match &target.way {
        Way::Elsewhere => return Probed::Elsewhere,
        Way::Unprobed(why) => return Probed::Unprobed(why.clone()),
        Way::Handshake => {}
    }
    let place = match &target.endpoint {
        Endpoint::Tcp(address) => Place::Tcp(*address),
        Endpoint::Unix(path) => Place::Unix(path.clone()),
        Endpoint::Written(text) => return Probed::Down(format!("{text} can't be dialled")),
    };
    let asked = Ask {
        place,
        name: target.server_name.clone(),
        key: target.key,
        proxy_protocol: target.proxy_protocol,
        // Nobody stands between this host and its own listeners.
        proof: false,
    };
    match ask(&asked, LIMIT).await {
        Answer::Served(served) => Probed::Leaf {
            fingerprint: Fingerprint::of(served.leaf()),
            der: served.leaf().to_vec(),
        },
        Answer::Rejects => Probed::Rejects,
        Answer::Down(why) | Answer::NoCommonWay(why) => Probed::Down(why),
    }
}

/// All of them, at most four at once, in the order given.
pub async fn probe_all(targets: Vec<ProbeTarget>) -> Vec<(ProbeTarget, Probed)> {
    few::at_once(targets.into_iter().map(|target| async move {
        let probed = probe(&target).await;
        (target, probed)
    }))
    .await
}

/// A handshake with this address without SNI or with it; for checks outside the list of targets.
///
/// # Errors
/// When no handshake comes about within two seconds.
pub async fn served_leaf(address: SocketAddr, server_name: Option<&str>) -> io::Result<Vec<u8>> {
    let asked = Ask {
        place: Place::Tcp(address),
        name: server_name.map(str::to_owned),
        key: None,
        proxy_protocol: false,
        proof: false,
    };
    match ask(&asked, LIMIT).await {
        Answer::Served(served) => Ok(served.leaf().to_vec()),
        Answer::Rejects => Err(io::Error::other("it refuses the name")),
        Answer::Down(why) | Answer::NoCommonWay(why) => Err(io::Error::other(why)),
    }
}
