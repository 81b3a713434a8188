//! A light host: one nginx master with its own address, prefix and configuration.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use certwell_agent::{
    clock,
    nginx::{Master, Nginx, Parsed, Reader, Reload, Settings, parse_by},
};
use certwell_proto::Fingerprint;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::Instant;

/// Long enough for a machine under load, since it is never waited out when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Host {
    directory: tempfile::TempDir,
    pub(crate) address: Ipv4Addr,
    master: Option<Child>,
}

impl Host {
    /// Makes the host, its nginx not started; `ADDRESS` in a site becomes its own.
    pub(crate) fn new(sites: &[(&str, &str)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(100);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let number = u8::try_from(NEXT.fetch_add(1, Ordering::SeqCst)).unwrap();
        let host = Self {
            directory: tempfile::Builder::new()
                .prefix("certwell-nginx-")
                .tempdir()
                .unwrap(),
            address: Ipv4Addr::new(127, number, high, low),
            master: None,
        };
        for name in ["conf.d", "sites", "snippets", "live", "scratch"] {
            fs::create_dir(host.path(name)).unwrap();
        }
        let user = if nix::unistd::geteuid().is_root() {
            "user root root;"
        } else {
            ""
        };
        host.write(
            "nginx.conf",
            &format!(
                "{user}\nworker_processes 1;\npid nginx.pid;\nlock_file nginx.lock;\nerror_log error.log notice;\nevents {{ worker_connections 64; }}\n\
                 http {{\n  access_log off;\n  client_body_temp_path temp; proxy_temp_path temp; fastcgi_temp_path temp; uwsgi_temp_path temp; scgi_temp_path temp;\n  \
                 include conf.d/*.conf;\n  include sites/*;\n}}\n"
            ),
        );
        let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/nginx");
        fs::copy(
            packaged.join("certwell-acme.conf"),
            host.path("conf.d/certwell-acme.conf"),
        )
        .unwrap();
        fs::copy(
            packaged.join("snippets/certwell-acme.conf"),
            host.path("snippets/certwell-acme.conf"),
        )
        .unwrap();
        for (name, text) in sites {
            host.site(name, text);
        }
        host
    }

    pub(crate) async fn started(sites: &[(&str, &str)]) -> Self {
        let mut host = Self::new(sites);
        host.start().await;
        host
    }

    pub(crate) async fn start(&mut self) {
        let child = Command::new("/usr/sbin/nginx")
            .arg("-p")
            .arg(self.directory.path())
            .arg("-c")
            .arg(self.path("nginx.conf"))
            .args(["-g", "daemon off; master_process on;"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.path("stderr.log")).unwrap())
            .spawn()
            .unwrap();
        self.master = Some(child);
        let deadline = Instant::now() + PATIENCE;
        while self
            .try_master()
            .is_none_or(|master| master.active().next().is_none())
        {
            let said = fs::read_to_string(self.path("stderr.log")).unwrap();
            assert!(Instant::now() < deadline, "nginx didn't start: {said}");
            assert!(!said.contains("[emerg]"), "nginx didn't start: {said}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn site(&self, name: &str, text: &str) {
        let text = text
            .replace("ADDRESS", &self.address.to_string())
            .replace("LIVE", &self.path("live").to_string_lossy());
        self.write(&format!("sites/{name}"), &text);
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            pid_file: self.path("nginx.pid"),
            binary: "/usr/sbin/nginx".into(),
            config: self.path("nginx.conf"),
            prefix: Some(self.directory.path().to_owned()),
            challenge_map: self.path("conf.d/certwell-acme.conf"),
            reload: Reload::Signal,
        }
    }

    pub(crate) fn nginx(&self) -> Nginx {
        Nginx::find(&self.settings(), clock::now()).unwrap()
    }

    fn try_master(&self) -> Option<Master> {
        self.nginx().master
    }

    pub(crate) fn master(&self) -> Master {
        self.try_master().expect("the master runs")
    }

    pub(crate) fn socket(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.address, port))
    }

    /// What the master is configured to serve, parsed in this process.
    pub(crate) fn parsed(&self) -> Parsed {
        let invocation = self.nginx().invocation;
        let output = Command::new(&invocation.binary)
            .arg("-T")
            .args(invocation.arguments())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let called = nix::sys::utsname::uname().unwrap();
        let reader = Reader {
            directory: Path::new("/"),
            hostname: called.nodename().to_str().unwrap(),
            is_root: nix::unistd::geteuid().is_root(),
        };
        parse_by(&String::from_utf8(output.stdout).unwrap(), reader)
    }

    /// A self-signed certificate in `live/NAME`, by a rename as the agent does it.
    pub(crate) fn certificate(
        &self,
        name: &str,
        algorithm: &'static rcgen::SignatureAlgorithm,
    ) -> Fingerprint {
        static GENERATION: AtomicU32 = AtomicU32::new(1);
        let generation = GENERATION.fetch_add(1, Ordering::SeqCst);
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let certificate = rcgen::CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let stored = self.path(&format!("{name}-{generation}"));
        fs::create_dir(&stored).unwrap();
        fs::write(stored.join("fullchain.pem"), certificate.pem()).unwrap();
        fs::write(stored.join("privkey.pem"), key.serialize_pem()).unwrap();
        let link = self.path(&format!("live/{name}.new"));
        std::os::unix::fs::symlink(&stored, &link).unwrap();
        fs::rename(link, self.path(&format!("live/{name}"))).unwrap();
        Fingerprint::of(certificate.der())
    }
}

impl Host {
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.master.take() {
            // SIGTERM, since a killed master would leave its workers behind.
            let _ = kill(
                Pid::from_raw(i32::try_from(child.id()).unwrap()),
                Signal::SIGTERM,
            );
            let _ = child.wait();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Until it holds, or the test fails.
pub(crate) async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
