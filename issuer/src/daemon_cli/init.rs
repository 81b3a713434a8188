//! The verb `init`: what it asks, and what it says.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use certwell_proto::FleetName;
use clap::Args;

use super::{keep_from_core_files, runtime};
use crate::{
    clock, config,
    init::{self, Made},
};

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The fleet's name; it can't be changed later
    #[arg(long, value_name = "NAME")]
    fleet: FleetName,
    /// HOST:PORT by which agents reach this issuer; may be given several times
    #[arg(long = "endpoint", value_name = "HOST:PORT", required = true, value_parser = endpoint)]
    endpoints: Vec<String>,
    /// ADDRESS:PORT where agents connect; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:7443", value_parser = listen_address)]
    listen: Vec<SocketAddr>,
    /// Where the store goes; absent or empty
    #[arg(long, value_name = "DIR", default_value = "/var/lib/certwell-issuer")]
    state_directory: PathBuf,
    /// Where the key-encryption key goes, outside the state directory [default: issuer.kek beside the configuration]
    #[arg(long, value_name = "PATH")]
    key_file: Option<PathBuf>,
    /// The Unix socket on which `certwell` asks
    #[arg(long, value_name = "PATH", default_value = "/run/certwell/admin.sock")]
    admin_socket: PathBuf,
}

fn endpoint(text: &str) -> Result<String, String> {
    config::check_endpoint(text).map(|()| text.to_owned())
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => Err("an IP address and a port are needed, as in 0.0.0.0:7443 or [::]:7443".to_owned()),
    }
}

pub(super) fn initialize(config: PathBuf, arguments: InitArgs) -> anyhow::Result<()> {
    keep_from_core_files()?;
    clock::check()?;
    let InitArgs {
        fleet,
        endpoints,
        listen,
        state_directory,
        key_file,
        admin_socket,
    } = arguments;
    let options = init::Options {
        config,
        fleet,
        endpoints,
        listen,
        state_directory,
        key_file,
        admin_socket,
    };
    let made = runtime()?.block_on(init::init(options, show_recovery_key))?;
    let (config, key_file) = (made.config.display(), made.key_file.display());
    let credential = match made.key_file == Path::new("/etc/certwell/issuer.kek") {
        true => String::new(),
        false => format!(
            "\n     The unit takes the key from elsewhere; by `systemctl edit certwell-issuer`:\n       \
             [Service]\n       LoadCredential=\n       LoadCredential=certwell-kek:{key_file}"
        ),
    };
    let mut stderr = io::stderr().lock();
    let _ = write!(
        stderr,
        "\n\
         Made {config}, the key {key_file} and the store in {}.\n\
         Fleet CA: {}\n\n\
         Next:\n  \
         1. declare an authority, hosts and certificates in {config} or conf.d/*.toml beside it\n  \
         2. certwell-issuer --config {config} check\n  \
         3. certwell-issuer --config {config} serve    (or: systemctl restart certwell-issuer){credential}\n  \
         4. certwell token create --host NAME, and on that host: certwell-agent enroll TOKEN\n",
        made.state_directory.display(),
        made.ca,
    );
    Ok(())
}

fn show_recovery_key(made: &Made) -> io::Result<()> {
    let text = made.recovery_key.to_text();
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", text.as_str())?;
    writeln!(
        stdout,
        "This recovery key is shown only now. It opens the store, or a backup of it, when {} is lost:\n\
         write it down and keep it away from this machine and from its backups.",
        made.key_file.display()
    )?;
    stdout.flush()
}
