//! Names of certificates, hosts and fleets, and the identifiers that certificates cover.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::FieldError;

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $extra:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// From the wire.
            ///
            /// # Errors
            /// When the text isn't such a name; the error names `field`.
            pub fn from_wire(field: &str, text: &str) -> Result<Self, FieldError> {
                text.parse().map_err(|e: NameError| FieldError::new(field, e))
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check(text, $what, $max, $extra)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// A managed certificate's name, `[a-z0-9][a-z0-9._-]{0,126}`: it becomes one path component.
    CertificateName, "certificate", 127, "._-"
);
name_type!(
    /// A host's name, `[a-z0-9][a-z0-9-]{0,62}`.
    HostName, "host", 63, "-"
);
name_type!(
    /// A fleet's name, `[a-z0-9][a-z0-9.-]{0,62}`: it becomes the authority of identity URIs.
    FleetName, "fleet", 63, ".-"
);

/// A text that isn't a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what} name: {problem}")]
pub struct NameError {
    what: &'static str,
    text: String,
    problem: String,
}

fn check(text: &str, what: &'static str, max: usize, extra: &str) -> Result<(), NameError> {
    let wrong = |problem: String| {
        Err(NameError {
            what,
            text: text.chars().take(80).collect(),
            problem,
        })
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    match text.chars().next() {
        None => return wrong("it is empty".into()),
        Some(c) if !plain(c) => {
            return wrong(format!("it must begin with a-z or 0-9, not {c:?}"));
        }
        Some(_) => {}
    }
    if let Some(c) = text.chars().find(|c| !plain(*c) && !extra.contains(*c)) {
        return wrong(format!("{c:?} is not among a-z 0-9 {extra}"));
    }
    if text.len() > max {
        return wrong(format!(
            "it has {} characters, at most {max} are allowed",
            text.len()
        ));
    }
    Ok(())
}

/// What a certificate covers: a DNS name (perhaps with a leading `*.`), or an IP address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identifier {
    /// Lower-case, without a trailing dot.
    Dns(String),
    /// RFC 8738.
    Ip(IpAddr),
}

impl Identifier {
    /// Whether it begins with `*.`; such a name needs DNS-01.
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Dns(name) if name.starts_with("*."))
    }

    /// From the wire.
    ///
    /// # Errors
    /// When it is neither; the error names `field`.
    pub fn from_wire(field: &str, text: &str) -> Result<Self, FieldError> {
        text.parse()
            .map_err(|e: NameError| FieldError::new(field, e))
    }
}

impl FromStr for Identifier {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(address));
        }
        let wrong = |problem: String| NameError {
            what: "DNS name or IP address",
            text: text.chars().take(80).collect(),
            problem,
        };
        let name = text.to_ascii_lowercase();
        let base = name.strip_prefix("*.").unwrap_or(&name);
        if name.len() > 253 {
            return Err(wrong(format!(
                "it has {} characters, at most 253 are allowed",
                name.len()
            )));
        }
        if !base.contains('.') {
            return Err(wrong("a public name has at least one dot".into()));
        }
        for label in base.split('.') {
            let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if label.is_empty() {
                return Err(wrong(
                    "it has an empty label (two dots, or a dot at an end)".into(),
                ));
            }
            if label.len() > 63 {
                return Err(wrong(format!("the label {label:?} has over 63 characters")));
            }
            if let Some(c) = label.chars().find(|c| !inner(*c)) {
                return Err(wrong(format!(
                    "{c:?} is not among a-z 0-9 - (write international names in their xn-- form)"
                )));
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(wrong(format!(
                    "the label {label:?} begins or ends with a hyphen"
                )));
            }
        }
        if base
            .rsplit('.')
            .next()
            .is_some_and(|top| top.chars().all(|c| c.is_ascii_digit()))
        {
            return Err(wrong(
                "its last label is a number, yet it is no IP address".into(),
            ));
        }
        Ok(Self::Dns(name))
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => write!(f, "{address}"),
        }
    }
}

impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_the_design_are_taken() {
        for name in ["media.hachyderm.io", "a", "0_x-y.z", &"a".repeat(127)] {
            assert!(name.parse::<CertificateName>().is_ok(), "{name}");
        }
        for name in ["cdn-frankfurt-1", "sally", &"h".repeat(63)] {
            assert!(name.parse::<HostName>().is_ok(), "{name}");
        }
    }

    #[test]
    fn names_that_would_leave_their_directory_are_refused() {
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "-a",
            "A",
            "a\0",
            "ä",
            &"a".repeat(128),
        ] {
            assert!(name.parse::<CertificateName>().is_err(), "{name}");
        }
        for name in ["", "a.b", "a_b", "-a", "SALLY", &"h".repeat(64)] {
            assert!(name.parse::<HostName>().is_err(), "{name}");
        }
    }

    #[test]
    fn identifiers_are_dns_names_wildcards_or_addresses() {
        for (text, shown) in [
            ("Media.Hachyderm.IO", "media.hachyderm.io"),
            ("*.example.org", "*.example.org"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(text.parse::<Identifier>().unwrap().to_string(), shown);
        }
        for text in [
            "",
            "localhost",
            "a..b",
            ".a.b",
            "a.b.",
            "a b.c",
            "-a.b",
            "a.*.b",
            "1.2.3",
            "bücher.example",
        ] {
            assert!(text.parse::<Identifier>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_accepted_certificate_name_is_one_path_component(text in "\\PC{0,140}") {
            if let Ok(name) = text.parse::<CertificateName>() {
                let path = std::path::Path::new(name.as_str());
                prop_assert_eq!(path.components().count(), 1);
                prop_assert!(matches!(path.components().next(), Some(std::path::Component::Normal(_))));
            }
        }
    }
}
