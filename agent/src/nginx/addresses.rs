//! The addresses of this host's interfaces.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;

/// Every address that is on an interface now; IPv6 link-local ones, which need a scope, are left out.
///
/// # Errors
/// When the system doesn't tell.
pub fn local() -> Result<Vec<IpAddr>, nix::Error> {
    let mut found: Vec<IpAddr> = getifaddrs()?
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}
