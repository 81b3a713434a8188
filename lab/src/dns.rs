//! The DNS of a world: `pebble-challtestsrv` with everything else switched off.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{
    ports::{Net, ensure_free, ensure_free_both},
    probe::read_reply,
    process::Process,
    program::Program,
};

/// A running DNS server; names that nobody added have no address.
#[derive(Debug)]
pub struct Dns {
    management: SocketAddr,
    process: Process,
}

impl Dns {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// When it doesn't come up.
    pub fn start(net: &Net, home: &Path) -> Result<Self> {
        ensure_free_both(net.dns(), "the lab's DNS")?;
        ensure_free(net.dns_management(), "the lab's DNS management")?;
        let program = Program::new(
            "dns",
            "pebble-challtestsrv",
            [
                "-dns01",
                &net.dns().to_string(),
                "-management",
                &net.dns_management().to_string(),
                "-http01",
                "",
                "-https01",
                "",
                "-tlsalpn01",
                "",
                "-defaultIPv4",
                "",
                "-defaultIPv6",
                "",
            ],
        );
        let mut process = Process::start(&program, home, &home.join("dns.log"))?;
        let management = net.dns_management();
        process.ready(Duration::from_secs(10), || {
            post(management, "/set-default-ipv6", &json!({ "ip": "" }))
        })?;
        Ok(Self {
            management,
            process,
        })
    }

    /// From now on `name` has exactly these addresses; with none of them, nobody knows it.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) -> Result<()> {
        post(self.management, "/clear-a", &json!({ "host": name }))?;
        if addresses.is_empty() {
            return Ok(());
        }
        post(
            self.management,
            "/add-a",
            &json!({ "host": name, "addresses": addresses }),
        )
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }
}

fn post(management: SocketAddr, path: &str, body: &serde_json::Value) -> Result<()> {
    let body = body.to_string();
    let mut stream = TcpStream::connect(management)?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    read_reply(&mut stream).with_context(|| format!("POST http://{}{path}", management))?;
    Ok(())
}
