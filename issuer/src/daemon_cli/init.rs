//! The verb `init`: what it asks, and what it says.

use std::{
    borrow::Cow,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use certwell_proto::FleetName;
use clap::Args;
use serde::Serialize;
use zeroize::Zeroizing;

use super::{keep_from_core_files, runtime};
use crate::{
    clock, config,
    init::{self, Made},
};

const VERSION: u32 = 1;
/// More than the longest paths need.
const DOCUMENT_ROOM: usize = 64 * 1024;

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
    /// Print JSON; the recovery key is in it
    #[arg(long)]
    json: bool,
}

/// What `--json` prints. Not `Debug`: the recovery key is in it.
#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    fleet: &'a str,
    /// Shown only here.
    recovery_key: &'a str,
    config: Cow<'a, str>,
    key_file: Cow<'a, str>,
    /// What the unit's `LoadCredential=` is to be, where it isn't as packaged.
    load_credential: Option<String>,
    state_directory: Cow<'a, str>,
    ca: String,
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
        json,
    } = arguments;
    let name = fleet.clone();
    let options = init::Options {
        config,
        fleet,
        endpoints,
        listen,
        state_directory,
        key_file,
        admin_socket,
    };
    let show = |made: &Made| match json {
        true => show_document(&name, made),
        false => show_recovery_key(made),
    };
    let made = runtime()?.block_on(init::init(options, show))?;
    if json {
        return Ok(());
    }
    let (config, key_file) = (made.config.display(), made.key_file.display());
    let credential = load_credential(&made).map_or_else(String::new, |credential| {
        format!(
            "\n     The unit takes the key from elsewhere; by `systemctl edit certwell-issuer`:\n       \
             [Service]\n       LoadCredential=\n       LoadCredential={credential}"
        )
    });
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

/// For the unit, which takes the key from its packaged place.
fn load_credential(made: &Made) -> Option<String> {
    let elsewhere = made.key_file != Path::new("/etc/certwell/issuer.kek");
    elsewhere.then(|| format!("certwell-kek:{}", made.key_file.display()))
}

fn show_document(fleet: &FleetName, made: &Made) -> io::Result<()> {
    let recovery_key = made.recovery_key.to_text();
    let document = Document {
        version: VERSION,
        fleet: fleet.as_str(),
        recovery_key: recovery_key.as_str(),
        config: made.config.to_string_lossy(),
        key_file: made.key_file.to_string_lossy(),
        load_credential: load_credential(made),
        state_directory: made.state_directory.to_string_lossy(),
        ca: made.ca.to_string(),
    };
    // Never moved while it grows, so that no copy of the key stays behind.
    let mut text = Zeroizing::new(Vec::with_capacity(DOCUMENT_ROOM));
    serde_json::to_writer_pretty(&mut *text, &document)?;
    text.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&text)?;
    stdout.flush()
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
