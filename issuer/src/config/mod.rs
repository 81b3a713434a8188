//! The declared state: `issuer.toml` and `conf.d/*.toml` beside it.

mod model;

pub use model::{Authority, Certificate, Config, Host, Issuer, KeyType, Renewal, Roots};
