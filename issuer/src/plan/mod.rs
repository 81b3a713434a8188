//! Every decision of the issuer, as pure functions: facts and `now` in, steps out.

pub mod facts;
