//! The configuration: what is accepted, and every mistake told where it stands.

#[path = "config/accepted.rs"]
mod accepted;
#[path = "config/files.rs"]
mod files;
#[path = "config/mistakes.rs"]
mod mistakes;
#[path = "config/watched.rs"]
mod watched;
