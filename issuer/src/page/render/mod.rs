//! From what is shown to HTML. maud escapes everything that isn't markup of ours.
//!
//! ```text
//! layout   what every page has: landmarks, the way around, the time
//! parts    states, instants, facts
//! login    the form for the token
//! fleet    the first page, with matrix and horizon
//! alert, certificate, host, event, inventory   a page each
//! seen     what is seen from outside
//! ```

pub mod alert;
pub mod certificate;
pub mod event;
pub mod fleet;
mod horizon;
pub mod host;
pub mod inventory;
pub mod layout;
pub(super) mod login;
mod matrix;
mod parts;
mod seen;
