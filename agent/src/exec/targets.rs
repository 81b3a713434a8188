//! Pure: which handshakes prove that a certificate is served, where the configuration of the server isn't known: each
//! name on each address that the operator gave.

use std::net::{IpAddr, SocketAddr};

use certwell_proto::Identifier;

use crate::nginx::{Endpoint, Managed, ProbeTarget, Way, servers::Place, targets::made_up};

/// Whether an address is on this host: `local` are those of its interfaces, all of 127.0.0.0/8 count besides.
pub fn is_local(ip: IpAddr, local: &[IpAddr]) -> bool {
    ip.is_loopback() || local.contains(&ip)
}

/// Every handshake that is needed. `local` are the addresses of this host's interfaces.
pub fn probes(addresses: &[SocketAddr], local: &[IpAddr], managed: &[Managed]) -> Vec<ProbeTarget> {
    let mut found = Vec::new();
    for managed in managed {
        for address in addresses {
            let way = if is_local(address.ip(), local) {
                Way::Handshake
            } else {
                Way::Elsewhere
            };
            for (at, server_name) in names(&managed.identifiers).into_iter().enumerate() {
                found.push(ProbeTarget {
                    certificate: managed.name.clone(),
                    endpoint: Endpoint::Tcp(*address),
                    server_name,
                    key: None,
                    proxy_protocol: false,
                    rejects: false,
                    way: way.clone(),
                    first: at == 0,
                    at: Place {
                        file: "exec.addresses".into(),
                        line: 0,
                    },
                    read_by_workers: None,
                });
            }
        }
    }
    found
}

/// What is sent as SNI. An address can't be: a certificate for addresses alone is proven without SNI.
fn names(identifiers: &[Identifier]) -> Vec<Option<String>> {
    let names: Vec<Option<String>> = identifiers
        .iter()
        .filter_map(|identifier| match identifier {
            Identifier::Dns(name) => Some(Some(made_up(name))),
            Identifier::Ip(_) => None,
        })
        .collect();
    if names.is_empty() { vec![None] } else { names }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(addresses: &[&str], identifiers: &[&str]) -> Vec<(String, String, bool, bool)> {
        let addresses: Vec<SocketAddr> =
            addresses.iter().map(|text| text.parse().unwrap()).collect();
        let managed = Managed {
            name: "a".parse().unwrap(),
            identifiers: identifiers
                .iter()
                .map(|text| text.parse().unwrap())
                .collect(),
            keys: Vec::new(),
        };
        probes(&addresses, &["192.0.2.1".parse().unwrap()], &[managed])
            .into_iter()
            .map(|target| {
                (
                    target.endpoint.to_string(),
                    target.server_name.unwrap_or_default(),
                    target.first,
                    target.way == Way::Handshake,
                )
            })
            .collect()
    }

    fn row(address: &str, name: &str, first: bool, here: bool) -> (String, String, bool, bool) {
        (address.into(), name.into(), first, here)
    }

    #[test]
    fn each_name_is_proven_on_each_address_and_the_first_of_each_is_repeated() {
        assert_eq!(
            shown(&["192.0.2.1:443", "[::1]:8443"], &["a.org", "*.a.org"]),
            [
                row("192.0.2.1:443", "a.org", true, true),
                row("192.0.2.1:443", "certwell-probe.a.org", false, true),
                row("[::1]:8443", "a.org", true, true),
                row("[::1]:8443", "certwell-probe.a.org", false, true),
            ]
        );
    }

    #[test]
    fn an_address_that_is_elsewhere_now_is_not_asked() {
        assert_eq!(
            shown(&["192.0.2.2:443", "127.9.9.9:443"], &["a.org"]),
            [
                row("192.0.2.2:443", "a.org", true, false),
                row("127.9.9.9:443", "a.org", true, true),
            ]
        );
    }

    #[test]
    fn addresses_in_a_certificate_are_proven_without_sni_where_it_has_no_names() {
        assert_eq!(
            shown(&["192.0.2.1:443"], &["192.0.2.1", "a.org"]),
            [row("192.0.2.1:443", "a.org", true, true)]
        );
        assert_eq!(
            shown(&["192.0.2.1:443"], &["192.0.2.1", "192.0.2.9"]),
            [row("192.0.2.1:443", "", true, true)]
        );
    }
}
