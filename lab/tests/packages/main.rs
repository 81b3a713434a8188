//! The Debian packages: what is in them, what lintian and systemd say of it, and what a purge leaves behind. They are
//! made of the binaries that are built already, by the metadata that `make packages` uses.

#[cfg(test)]
mod archive;
#[cfg(test)]
mod made;
#[cfg(test)]
mod purge;
#[cfg(test)]
mod twice;
#[cfg(test)]
mod units;
