//! What a person does by docs/operations.md, on whole Debian hosts: every command of it, and of the README's install.
//! Where this machine can't boot such hosts, the test says so and is skipped.

mod chat;
mod page;
mod player;
mod story;

use std::time::Duration;

use certwell_lab::debian::{self, able};

#[test]
fn every_command_of_the_operations_page_does_what_the_page_says() {
    if !able::or_skip("every_command_of_the_operations_page_does_what_the_page_says") {
        return;
    }
    debian::story("operations", Duration::from_secs(86_400), story::play).unwrap();
}
