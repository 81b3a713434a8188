//! From what is shown to HTML. maud escapes everything that isn't markup of ours.
//!
//! ```text
//! layout   what every page has: landmarks, the way around, the time
//! parts    states, instants, facts
//! login    the form for the token
//! fleet    the first page, with matrix and horizon
//! certificate, host, event   a page each
//! ```

pub mod certificate;
pub mod event;
pub mod fleet;
mod horizon;
pub mod host;
pub mod layout;
pub(super) mod login;
mod matrix;
mod parts;
