//! The built agent on a real host: real nginx, real TLS, files and processes as they are afterwards. Only the issuer
//! is one of the test's own, in this process, so that it can be made to lie and to lose answers.

mod disk;
mod enrollment;
mod fleet;
mod host;
mod install;
mod issuer;
mod recovery;
mod verbs;
