//! From what the Admin service answers to what is shown: pure, `now` comes in.
//!
//! ```text
//! mark      states in a symbol and a word           moment    instants, near and exact
//! cell      how far one certificate is on one host  matrix    all of them, as large as it stays legible
//! horizon   when what ends, on one axis             fleet     the first page
//! alert, certificate, host, event, inventory   a page each
//! seen      what is seen from outside
//! ```

pub mod alert;
pub mod cell;
pub mod certificate;
pub mod event;
pub mod fleet;
pub mod horizon;
pub mod host;
pub mod inventory;
pub mod mark;
pub mod matrix;
pub mod moment;
pub mod seen;
