//! Pure: the `listen` directive.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::servers::{Listen, ListenAddress};

/// A port range wider than this is no listener that anybody probes.
const MOST_PORTS: u16 = 64;

/// An address without options.
pub(super) fn plain(address: ListenAddress) -> Listen {
    Listen {
        address,
        tls: false,
        quic: false,
        proxy_protocol: false,
        default_server: false,
    }
}

/// One `listen`, several where it names a range of ports.
pub(super) fn listen<S: AsRef<str>>(args: &[S]) -> Option<Vec<Listen>> {
    let (address, options) = args.split_first()?;
    let has = |word: &str| options.iter().any(|option| option.as_ref() == word);
    let addresses = addresses(address.as_ref(), has("ipv6only=off"))?;
    Some(
        addresses
            .into_iter()
            .map(|address| Listen {
                address,
                tls: has("ssl") || has("quic"),
                quic: has("quic") || has("udp"),
                proxy_protocol: has("proxy_protocol"),
                default_server: has("default_server") || has("default"),
            })
            .collect(),
    )
}

fn addresses(text: &str, both: bool) -> Option<Vec<ListenAddress>> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Some(vec![ListenAddress::Unix(path.into())]);
    }
    let (host, ports) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        (host, rest.strip_prefix(':').map_or("80", |ports| ports))
    } else if let Some((host, ports)) = text.rsplit_once(':') {
        (host, ports)
    } else if text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'-')
    {
        ("*", text)
    } else {
        (text, "80")
    };
    let bracketed = text.starts_with('[');
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
    if first > last || last - first > MOST_PORTS {
        return None;
    }
    let one = |port: u16| -> Option<ListenAddress> {
        if bracketed {
            return Some(match host.parse::<Ipv6Addr>().ok()? {
                Ipv6Addr::UNSPECIFIED if both => ListenAddress::AnyBoth(port),
                Ipv6Addr::UNSPECIFIED => ListenAddress::AnyV6(port),
                ip => ListenAddress::Ip(SocketAddr::new(IpAddr::V6(ip), port)),
            });
        }
        Some(match host.parse::<Ipv4Addr>() {
            Ok(Ipv4Addr::UNSPECIFIED) => ListenAddress::AnyV4(port),
            Ok(ip) => ListenAddress::Ip(SocketAddr::new(IpAddr::V4(ip), port)),
            Err(_) if host == "*" => ListenAddress::AnyV4(port),
            Err(_) if host.is_empty() => return None,
            Err(_) => ListenAddress::Named(host.to_ascii_lowercase(), port),
        })
    };
    (first..=last).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn listen_directives_of_every_shape() {
        let any = ListenAddress::AnyV4;
        let ip = |text: &str| ListenAddress::Ip(text.parse().unwrap());
        for (text, expected) in [
            ("80", vec![any(80)]),
            ("*:8080", vec![any(8080)]),
            ("0.0.0.0:443", vec![any(443)]),
            ("127.0.0.11", vec![ip("127.0.0.11:80")]),
            ("127.0.0.11:8443", vec![ip("127.0.0.11:8443")]),
            ("[::]:443", vec![ListenAddress::AnyV6(443)]),
            ("[::1]", vec![ip("[::1]:80")]),
            ("[2001:db8::1]:443", vec![ip("[2001:db8::1]:443")]),
            (
                "unix:/run/x.sock",
                vec![ListenAddress::Unix("/run/x.sock".into())],
            ),
            (
                "localhost:81",
                vec![ListenAddress::Named("localhost".into(), 81)],
            ),
            (
                "LocalHost",
                vec![ListenAddress::Named("localhost".into(), 80)],
            ),
            ("8000-8002", vec![any(8000), any(8001), any(8002)]),
        ] {
            let found = listen(&[text.to_owned()]).unwrap();
            assert_eq!(
                found.into_iter().map(|l| l.address).collect::<Vec<_>>(),
                expected,
                "{text}"
            );
        }
        for text in ["", "99999", "1-99", "[::", "[x]:80", ":80", "a:b", "9-1"] {
            assert!(listen(&[text.to_owned()]).is_none(), "{text}");
        }
        let both = listen(&["[::]:443", "ssl", "ipv6only=off"]).unwrap();
        assert_eq!(both[0].address, ListenAddress::AnyBoth(443));
    }

    proptest! {
        #[test]
        fn every_address_reads_back(address: [u8; 4], port: u16) {
            let text = format!("{}:{port}", Ipv4Addr::from(address));
            let read = listen(std::slice::from_ref(&text)).unwrap();
            prop_assert_eq!(read[0].address.port(), Some(port));
            if address != [0; 4] {
                prop_assert_eq!(read[0].address.to_string(), text);
            }
        }
    }
}
