//! The `certwell` command: it asks the issuer, and says the one thing that matters first.
//!
//! ```text
//! args         the command line; help, completions and man pages come from it
//! client       the Unix socket; what a refusal means for the exit code
//! screen       standard output: 80 columns, colours, tables
//! json         the shape that scripts rely on (docs/cli.md)
//! status       status, explain          certificates   list, show; pause, resume
//! hosts        list, show, revoke, retire              renew          renew, with its live progress
//! inventory    every certificate of every host
//! token        join tokens              events         past and present
//! page         where the page is                       watch          what changes, as it does
//! alerts       what is wrong, and who was told; alert_args, alert_json   its command line, its JSON
//! generate     completions and man pages
//! ```

mod alert_args;
mod alert_json;
mod alerts;
pub mod args;
mod certificates;
mod client;
mod events;
mod generate;
mod hosts;
mod inventory;
mod json;
mod outside;
mod page;
mod renew;
mod screen;
mod status;
mod token;
mod watch;

use std::{ffi::OsString, process::ExitCode};

use certwell_proto::{Exit, v1};
use clap::Parser as _;

use args::{Certificates, Cli, Command, Hosts, Token};
pub use client::CliError;
use screen::Screen;

/// Runs one command line, program name included, to its end.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version arrive here too, with exit code 0. That they can't be printed helps nobody.
            let _ = e.print();
            return u8::try_from(e.exit_code()).map_or(Exit::Usage.into(), ExitCode::from);
        }
    };
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(e) => {
            if e.exit() != Exit::Done {
                eprintln!("{}", screen::wrap(&format!("certwell: {e}"), 2));
            }
            e.exit().into()
        }
    }
}

fn run(cli: Cli) -> Result<Exit, CliError> {
    match &cli.command {
        Command::Completions { shell } => return generate::completions(*shell),
        Command::Man { directory } => return generate::man(directory.as_deref()),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(ask_issuer(cli))
}

async fn ask_issuer(cli: Cli) -> Result<Exit, CliError> {
    let admin = client::connect(&cli.socket).await?;
    let screen = Screen::new();
    let screen = &screen;
    match cli.command {
        Command::Status(format) => status::status(admin, format, screen).await,
        Command::Explain { name, format } => status::explain(admin, &name, format, screen).await,
        Command::Certificates(Certificates::List(format)) => {
            certificates::list(admin, format, screen).await
        }
        Command::Certificates(Certificates::Show { name, format }) => {
            certificates::show(admin, &name, format, screen).await
        }
        Command::Certificates(Certificates::Renew {
            name,
            wait,
            timeout,
            format,
        }) => {
            let request = renew::Request {
                socket: &cli.socket,
                name: &name,
                wait,
                timeout,
                format,
            };
            renew::renew(admin, request, screen).await
        }
        Command::Hosts(Hosts::List(format)) => hosts::list(admin, format, screen).await,
        Command::Hosts(Hosts::Show { name, format }) => {
            hosts::show(admin, &name, format, screen).await
        }
        Command::Hosts(Hosts::Revoke(end)) => hosts::revoke(admin, &end, screen).await,
        Command::Hosts(Hosts::Retire(end)) => hosts::retire(admin, &end, screen).await,
        Command::Inventory(of) => inventory::inventory(admin, &of, screen).await,
        Command::Token(Token::Create { hosts, ttl, format }) => {
            token::create(admin, &hosts, ttl, format, screen).await
        }
        Command::Events {
            follow,
            certificate,
            host,
            last,
            format,
        } => {
            let text = |name: Option<String>| name.unwrap_or_default();
            let request = v1::EventsRequest {
                follow,
                after: 0,
                certificate: text(certificate.map(|name| name.to_string())),
                host: text(host.map(|name| name.to_string())),
                last,
            };
            events::events(admin, request, format, screen).await
        }
        Command::Watch(format) => watch::watch(&cli.socket, admin, format, screen).await,
        Command::Page { token, format } => page::page(admin, token, format, screen).await,
        Command::Alerts(command) => alerts::alerts(admin, command, screen).await,
        Command::Pause { name, format } => {
            certificates::pause(admin, name.as_ref(), format, screen).await
        }
        Command::Resume { name, format } => {
            certificates::resume(admin, name.as_ref(), format, screen).await
        }
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { directory } => generate::man(directory.as_deref()),
    }
}
