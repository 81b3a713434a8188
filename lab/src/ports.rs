//! Loopback addresses that nobody else uses, and the name of who does.

use std::{
    env, fs,
    fs::{File, OpenOptions, TryLockError},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{leftovers::all_processes, wait::wait_for};

/// Where everything of one world listens.
#[derive(Debug)]
pub struct Net {
    prefix: [u8; 3],
    http: u16,
    https: u16,
    // Held for as long as the world lives: others pick another network.
    _lock: Option<File>,
}

impl Net {
    /// The fixed addresses of the demo: 127.0.0.0/24, nginx on 8080 and 8443.
    pub fn demo() -> Self {
        Self {
            prefix: [127, 0, 0],
            http: 8080,
            https: 8443,
            _lock: None,
        }
    }

    /// A 127.x.y.0/24 of which no other world on this machine has the lock.
    ///
    /// # Errors
    /// When there is none left, or the lock directory can't be used.
    pub fn allocate() -> Result<Self> {
        let directory = lock_directory()?;
        let start = process::id() % 60_000;
        for step in 0..60_000_u32 {
            let number = 512 + (start + step) % 60_000;
            let [_, _, x, y] = number.to_be_bytes();
            let path = directory.join(format!("127.{x}.{y}.lock"));
            let Ok(file) = OpenOptions::new().create(true).append(true).open(&path) else {
                continue;
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| path.display().to_string());
                }
            }
            let prefix = [127, x, y];
            for (http, https) in [(8080, 8443), (18080, 18443), (28080, 28443)] {
                let net = Self {
                    prefix,
                    http,
                    https,
                    _lock: None,
                };
                if net
                    .all_hosts(8)
                    .iter()
                    .all(|address| matches!(socket_at(&TCP, *address), Ok(None)))
                {
                    return Ok(Self {
                        _lock: Some(file),
                        ..net
                    });
                }
            }
        }
        bail!(
            "no free 127.x.y.0/24 network: are the locks in {} stale?",
            directory.display()
        )
    }

    /// Waits for the demo's addresses until no other test of the demo has them; they are the caller's while the file
    /// is open. A demo that a person plays doesn't ask for this lock: it is found by its ports.
    ///
    /// # Errors
    /// When another test keeps them for longer than `within`.
    pub fn demo_lock(within: Duration) -> Result<File> {
        let path = lock_directory()?.join("demo.lock");
        // Another user's lock can be read, and that is enough to hold it.
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .or_else(|_| File::open(&path))
            .with_context(|| path.display().to_string())?;
        wait_for(
            &format!("the test that holds {}", path.display()),
            within,
            || file.try_lock(),
        )?;
        Ok(file)
    }

    fn all_hosts(&self, count: u8) -> Vec<SocketAddr> {
        (0..count)
            .flat_map(|host| [self.http(host), self.https(host)])
            .collect()
    }

    /// Address number `last` of the network.
    pub fn ip(&self, last: u8) -> IpAddr {
        let [a, b, c] = self.prefix;
        IpAddr::V4(Ipv4Addr::new(a, b, c, last))
    }

    /// The ACME directory's server.
    pub fn ca(&self) -> SocketAddr {
        (self.ip(1), 14000).into()
    }

    /// Pebble's management interface.
    pub fn ca_management(&self) -> SocketAddr {
        (self.ip(1), 15000).into()
    }

    /// Where ACME requests go when a gate stands before Pebble.
    pub fn gate(&self) -> SocketAddr {
        (self.ip(2), 14000).into()
    }

    /// The DNS of this world.
    pub fn dns(&self) -> SocketAddr {
        (self.ip(1), 8053).into()
    }

    /// The DNS's management interface.
    pub fn dns_management(&self) -> SocketAddr {
        (self.ip(1), 8055).into()
    }

    /// The issuer's gRPC listener.
    pub fn issuer(&self) -> SocketAddr {
        (self.ip(10), 7443).into()
    }

    /// Where the issuer serves its page.
    pub fn page(&self) -> SocketAddr {
        (self.ip(10), 7480).into()
    }

    /// Address of host number `index`, from 0.
    pub fn host(&self, index: u8) -> IpAddr {
        self.ip(11 + index)
    }

    /// Where a receiver of messages listens, by its number from 0: each is a server of its own.
    pub fn receiver(&self, number: u8) -> SocketAddr {
        (self.ip(200 + number % 50), 9000).into()
    }

    /// That host's port for plain HTTP.
    pub fn http(&self, index: u8) -> SocketAddr {
        (self.host(index), self.http).into()
    }

    /// That host's port for HTTPS.
    pub fn https(&self, index: u8) -> SocketAddr {
        (self.host(index), self.https).into()
    }

    /// The port on which the CA validates.
    pub fn http_port(&self) -> u16 {
        self.http
    }
}

impl Net {
    /// Checks every address that a world with this many hosts needs, before anything is started.
    ///
    /// # Errors
    /// When one of them is in use.
    pub fn ensure_all_free(&self, hosts: usize) -> Result<()> {
        ensure_free_both(self.dns(), "the lab's DNS")?;
        ensure_free(self.dns_management(), "the management of the lab's DNS")?;
        ensure_free(self.ca(), "Pebble")?;
        ensure_free(self.ca_management(), "Pebble's management")?;
        ensure_free(self.issuer(), "the issuer")?;
        ensure_free(self.page(), "the issuer's page")?;
        for index in 0..u8::try_from(hosts)? {
            ensure_free(self.http(index), "a host's nginx")?;
            ensure_free(self.https(index), "a host's nginx")?;
        }
        Ok(())
    }
}

fn lock_directory() -> Result<PathBuf> {
    let directory = env::temp_dir().join("certwell-lab");
    if fs::create_dir(&directory).is_ok() {
        // Other users of this machine run tests, too.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o1777))?;
    }
    Ok(directory)
}

/// # Errors
/// When something listens at `address` already; says who, where the system tells.
pub fn ensure_free(address: SocketAddr, what: &str) -> Result<()> {
    ensure_unheld(&TCP, address, what)
}

/// Like [`ensure_free`], for TCP and UDP.
///
/// # Errors
/// When something listens there already.
pub fn ensure_free_both(address: SocketAddr, what: &str) -> Result<()> {
    ensure_free(address, what)?;
    ensure_unheld(&UDP, address, what)
}

fn ensure_unheld(transport: &Transport, address: SocketAddr, what: &str) -> Result<()> {
    let Some(socket) = socket_at(transport, address)? else {
        return Ok(());
    };
    let by = owner(&socket).unwrap_or_else(|| "another program".to_owned());
    bail!("{address}, needed by {what}, is in use by {by}; stop it and try again");
}

/// The kernel's tables of a transport, and the state of a socket that is in the way there.
///
/// They are read, and no socket is made to try: a process that another thread starts just then would have it, too, and
/// hold the address for as long as it takes to get going.
struct Transport {
    tables: [&'static str; 2],
    state: &'static str,
}

const TCP: Transport = Transport {
    tables: ["/proc/net/tcp", "/proc/net/tcp6"],
    state: "0A",
};
const UDP: Transport = Transport {
    tables: ["/proc/net/udp", "/proc/net/udp6"],
    state: "07",
};

/// The number of the socket that listens at `address`, or at its port of all addresses.
fn socket_at(transport: &Transport, address: SocketAddr) -> Result<Option<String>> {
    for table in transport.tables {
        let text = match fs::read_to_string(table) {
            // Without IPv6 there is no table of it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            text => text.with_context(|| table.to_owned())?,
        };
        let socket = text.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (ip, port) = fields.get(1)?.split_once(':')?;
            let port = u16::from_str_radix(port, 16).ok()?;
            let is_ours = match address.ip() {
                IpAddr::V4(own) if ip.len() == 8 => {
                    u32::from_str_radix(ip, 16) == Ok(u32::from_le_bytes(own.octets()))
                }
                _ => false,
            };
            let is_everywhere = ip.bytes().all(|digit| digit == b'0');
            let is_there = (is_ours || is_everywhere)
                && port == address.port()
                && fields.get(3) == Some(&transport.state);
            is_there.then(|| fields.get(9).map(|socket| (*socket).to_owned()))?
        });
        if socket.is_some() {
            return Ok(socket);
        }
    }
    Ok(None)
}

/// The program that has a socket: name and pid.
fn owner(socket: &str) -> Option<String> {
    let wanted = format!("socket:[{socket}]");
    all_processes().find_map(|pid| {
        let holds = fs::read_dir(format!("/proc/{pid}/fd"))
            .ok()?
            .flatten()
            .any(|fd| {
                fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
            });
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        holds.then(|| format!("{} (process {pid})", name.trim()))
    })
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, UdpSocket},
        process::{self, Command},
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;

    #[test]
    fn two_worlds_get_two_networks() {
        let (one, two) = (Net::allocate().unwrap(), Net::allocate().unwrap());
        assert_ne!(one.ip(0), two.ip(0));
    }

    #[test]
    fn to_look_whether_an_address_is_free_takes_it_from_nobody() {
        let net = Net::allocate().unwrap();
        let over = AtomicBool::new(false);
        // What a process has open, each that it starts has as well, for a moment.
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        Command::new("true").status().unwrap();
                    }
                });
            }
            let looks = (0..300).map(|_| ensure_free_both(net.dns(), "the lab's DNS"));
            let looked = looks.collect::<Result<Vec<()>>>();
            over.store(true, Ordering::SeqCst);
            looked.unwrap();
        });
    }

    #[test]
    fn who_holds_a_port_is_named() {
        let net = Net::allocate().unwrap();
        assert!(ensure_free(net.issuer(), "the issuer").is_ok());
        let _held = TcpListener::bind(net.issuer()).unwrap();
        let text = ensure_free(net.issuer(), "the issuer")
            .unwrap_err()
            .to_string();
        assert!(
            text.contains(&net.issuer().to_string()) && text.contains("the issuer"),
            "{text}"
        );
        assert!(
            text.contains(&format!("process {}", process::id())),
            "{text}"
        );
    }

    #[test]
    fn what_listens_on_all_addresses_or_by_the_other_transport_is_known() {
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = udp.local_addr().unwrap().port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        ensure_unheld(&UDP, address, "a test").unwrap_err();
        for all in ["0.0.0.0:0", "[::]:0"] {
            let tcp = TcpListener::bind(all).unwrap();
            let port = tcp.local_addr().unwrap().port();
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            ensure_free(address, "a test").unwrap_err();
        }
    }
}
