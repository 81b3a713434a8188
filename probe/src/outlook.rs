//! What there is to look at: from the wire, checked at the door.

use std::{net::SocketAddr, time::Duration};

use certwell_proto::{CertificateName, FieldError, HostName, Identifier, v1};
use http::Uri;

use crate::{chain::Roots, url::Expected};

/// Looks in one outlook.
pub const LOOKS: usize = 20_000;
/// Addresses in one look, and servers that are asked.
pub const ADDRESSES: usize = 64;
/// Roots in one outlook: more than any system has.
const ROOTS: usize = 1_000;
/// No round begins sooner after the one before.
const SHORTEST: Duration = Duration::from_millis(200);

/// Everything that is looked at in one round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    /// One after the other.
    pub looks: Vec<Look>,
    /// What chains must lead to.
    pub roots: Roots,
    /// The DNS servers that are asked; those of the machine when there are none.
    pub resolvers: Vec<SocketAddr>,
    /// From the beginning of one round to that of the next.
    pub every: Duration,
}

/// One name, at given addresses or at those that DNS gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The certificate that should be there.
    pub certificate: CertificateName,
    /// A DNS name without a wildcard, or an IP address.
    pub name: String,
    /// The host whose addresses these are; `None`: DNS is asked.
    pub host: Option<HostName>,
    /// Empty: those that DNS gives.
    pub addresses: Vec<SocketAddr>,
    /// At those.
    pub port: u16,
    /// What to get besides, under this name.
    pub url: Option<Expected>,
}

impl Outlook {
    /// From the wire.
    ///
    /// # Errors
    /// Names the field that can't be.
    pub fn from_wire(outlook: v1::Outlook) -> Result<Self, FieldError> {
        at_most("looks", outlook.looks.len(), LOOKS)?;
        at_most("roots", outlook.roots.len(), ROOTS)?;
        let looks = outlook.looks.into_iter().enumerate().map(|(index, look)| {
            Look::from_wire(look).map_err(|error| error.within(format!("looks[{index}]")))
        });
        Ok(Self {
            looks: looks.collect::<Result<_, _>>()?,
            roots: Roots::of(&outlook.roots),
            resolvers: addresses("resolvers", &outlook.resolvers)?,
            every: Duration::from_millis(outlook.every_ms.into()).max(SHORTEST),
        })
    }
}

impl Look {
    fn from_wire(look: v1::Look) -> Result<Self, FieldError> {
        let name = Identifier::from_wire("name", &look.name)?;
        if name.is_wildcard() {
            return Err(FieldError::new("name", format!("{name} is a wildcard")));
        }
        let host = match look.host.as_str() {
            "" => None,
            host => Some(HostName::from_wire("host", host)?),
        };
        let addresses = addresses("addresses", &look.addresses)?;
        if host.is_some() == addresses.is_empty() {
            return Err(FieldError::new(
                "addresses",
                "they belong to a host, and a host has some",
            ));
        }
        let port = u16::try_from(look.port).ok().filter(|port| *port != 0);
        Ok(Self {
            certificate: CertificateName::from_wire("certificate", &look.certificate)?,
            name: name.to_string(),
            host,
            addresses,
            port: port.ok_or_else(|| FieldError::new("port", "it is none"))?,
            url: look.url.map(expected).transpose()?,
        })
    }

    /// For the wire.
    pub fn to_wire(&self) -> v1::Look {
        v1::Look {
            certificate: self.certificate.to_string(),
            name: self.name.clone(),
            host: self
                .host
                .as_ref()
                .map(HostName::to_string)
                .unwrap_or_default(),
            addresses: self.addresses.iter().map(SocketAddr::to_string).collect(),
            port: self.port.into(),
            url: self.url.as_ref().map(|url| v1::LookUrl {
                url: url.url.clone(),
                status: url.status.into(),
                content_type: url.content_type.clone(),
            }),
        }
    }
}

fn expected(url: v1::LookUrl) -> Result<Expected, FieldError> {
    let uri: Option<Uri> = url.url.parse().ok();
    if uri.is_none_or(|uri| uri.scheme_str() != Some("https") || uri.host().is_none()) {
        return Err(FieldError::new("url.url", "it is no https URL"));
    }
    Ok(Expected {
        url: url.url,
        status: u16::try_from(url.status)
            .map_err(|_| FieldError::new("url.status", "it is no HTTP status"))?,
        content_type: url.content_type,
    })
}

fn addresses(field: &str, texts: &[String]) -> Result<Vec<SocketAddr>, FieldError> {
    at_most(field, texts.len(), ADDRESSES)?;
    texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            text.parse().map_err(|_| {
                FieldError::new(
                    format!("{field}[{index}]"),
                    format!("{text:?} is no address"),
                )
            })
        })
        .collect()
}

fn at_most(field: &str, count: usize, most: usize) -> Result<(), FieldError> {
    if count <= most {
        return Ok(());
    }
    Err(FieldError::new(
        field,
        format!("{count} of them, at most {most} are taken"),
    ))
}
