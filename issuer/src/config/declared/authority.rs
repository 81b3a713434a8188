//! `[authority.NAME]`.

use std::path::{Path, PathBuf};

use certwell_proto::pem;

use super::is_plain_name;
use crate::config::{
    Authority, Roots,
    mistake::{At, Mistakes, Place},
    section::Section,
};

pub(super) fn authority_name(name: At<String>, mistakes: &mut Mistakes<'_>) -> Option<String> {
    if is_plain_name(&name.value) {
        return Some(name.value);
    }
    let problem = format!("{:?} is no authority name", name.value);
    mistakes.advise(
        name.place,
        problem,
        "use up to 63 of a-z 0-9 -, beginning with a letter or digit",
    );
    None
}

pub(super) fn authority(
    mut section: Section<'_, '_>,
    base: &Path,
    mistakes: &mut Mistakes<'_>,
) -> Option<Authority> {
    let directory = section.string("directory", mistakes);
    match &directory {
        None if !section.has("directory") => {
            section.missing(
                "directory",
                "\"https://…\", the CA's ACME directory",
                mistakes,
            );
        }
        None => {}
        Some(At { value, place }) => {
            let uri = value.parse::<http::Uri>().ok();
            let https =
                uri.is_some_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some());
            if !https {
                let advice = "a CA's directory begins with https:// and a host name";
                mistakes.advise(*place, format!("{value:?} is no https URL"), advice);
            }
        }
    }
    let contact = section
        .strings("contact", mistakes)
        .map(|at| at.value)
        .unwrap_or_default();
    for At { value, place } in &contact {
        if !value
            .strip_prefix("mailto:")
            .is_some_and(|address| address.contains('@'))
        {
            let advice = "write \"mailto:ops@example.org\"";
            mistakes.advise(*place, format!("{value:?} is no mailto: URL"), advice);
        }
    }
    let roots = match section.string("roots", mistakes) {
        Some(At { value, place }) if value != "system" => {
            read_roots(base.join(value), place, mistakes)
        }
        _ => Some(Roots::System),
    };
    let http_01_port = section.port("http-01-port", mistakes).unwrap_or(80);
    section.finish(mistakes);
    Some(Authority {
        directory: directory?.value,
        contact: contact.into_iter().map(|at| at.value).collect(),
        roots: roots?,
        http_01_port,
    })
}

fn read_roots(path: PathBuf, place: Place, mistakes: &mut Mistakes<'_>) -> Option<Roots> {
    let advice = "give \"system\", or a PEM file with the CA's root certificates";
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) => {
            mistakes.advise(
                place,
                format!("can't read {}: {error}", path.display()),
                advice,
            );
            return None;
        }
    };
    let problem = match pem::read_certificates(&text) {
        Ok(found) if found.is_empty() => format!("{} holds no certificate", path.display()),
        Ok(found) => {
            let damaged = found
                .iter()
                .position(|der| certwell_proto::Leaf::read(der).is_err());
            match damaged {
                None => {
                    let certificates = found.iter().map(|der| der.to_vec()).collect();
                    return Some(Roots::File { path, certificates });
                }
                Some(at) => format!(
                    "{}: certificate {} in it is damaged",
                    path.display(),
                    at + 1
                ),
            }
        }
        Err(error) => format!("{} is damaged: {error}", path.display()),
    };
    mistakes.advise(place, problem, advice);
    None
}
