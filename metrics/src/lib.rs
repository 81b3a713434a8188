//! What issuer and agent count and measure, as Prometheus reads it.
//!
//! ```text
//! text       families and samples in the text format (0.0.4)
//! timings    how long steps take, kept by those who perform them
//! process    this process, under the names that every exporter has for it
//! serve      GET /metrics and nothing else
//! ```
//! All but timings is put together from what is known when it is asked for, so that nothing stale stays.

pub mod process;
pub mod serve;
pub mod text;
pub mod timings;

pub use text::{Family, Kind, Page};
pub use timings::{Histogram, Timings};
