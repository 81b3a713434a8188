//! What is installed, on whole Debian hosts with real systemd. Where this machine can't boot such hosts, each test says
//! so and is skipped.

mod back_off;
mod boot;
mod credential;
mod enrolled;
mod fresh;
mod outside;
mod packages;
mod upgrade;

use certwell_lab::debian::able::or_skip as able;
