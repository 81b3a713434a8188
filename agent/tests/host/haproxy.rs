//! HAProxy from Debian in the place of a host's nginx: its configuration, its processes, and the agent's `[exec]` table.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    host::{Host, NAME},
    issuer::eventually,
};

/// What operators are given.
const SHIPPED: &str = include_str!("../../../packaging/haproxy/certwell.cfg");

pub(crate) struct Haproxy {
    root: PathBuf,
    text: String,
    agent: String,
    https: std::net::SocketAddr,
    child: Option<Child>,
}

impl Haproxy {
    /// Not started yet; nothing lies at `live/NAME`.
    pub(crate) fn new(host: &Host) -> Self {
        fs::remove_dir_all(host.live()).unwrap();
        let root = host.root().to_owned();
        let (http, https, shown) = (host.http, host.https, root.display());
        let global = "global\n maxconn 100\n nbthread 1\n\
                      defaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n";
        let mut text = format!("{global}{SHIPPED}");
        for (shipped, ours) in [
            ("bind :80", format!("bind {http}")),
            ("bind :443", format!("bind {https}")),
            (
                "/etc/certwell/live",
                root.join("live").display().to_string(),
            ),
            // Where the test's port 443 isn't.
            ("redirect scheme https", "return status 404".to_owned()),
        ] {
            assert!(text.contains(shipped), "{shipped}");
            text = text.replace(shipped, &ours);
        }
        let agent = format!(
            "state-directory = \"state\"\nlive-directory = \"live\"\n[exec]\n\
             test = \"/usr/sbin/haproxy -c -f {shown}/haproxy.cfg\"\n\
             reload = \"kill -USR2 $(cat {shown}/run/haproxy.pid)\"\naddresses = [\"{https}\"]\n"
        );
        let haproxy = Self {
            root,
            text,
            agent,
            https,
            child: None,
        };
        haproxy.write("");
        haproxy.write_agent(|text| text);
        haproxy
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// Its configuration as it is shipped, without an answer to HTTP-01, and with this at its end.
    pub(crate) fn write(&self, extra: &str) {
        let lines = self.text.lines();
        let kept: String = lines
            .filter(|line| !line.contains("acme-"))
            .map(|line| format!("{line}\n"))
            .collect();
        fs::write(self.path("haproxy.cfg"), kept + extra).unwrap();
    }

    /// As it is shipped.
    pub(crate) fn answer_challenges(&self, thumbprint: &str) {
        let text = self.text.replace("THUMBPRINT", thumbprint);
        fs::write(self.path("haproxy.cfg"), text).unwrap();
    }

    /// The agent's configuration, changed.
    pub(crate) fn write_agent(&self, change: impl FnOnce(String) -> String) {
        fs::write(self.path("agent.toml"), change(self.agent.clone())).unwrap();
    }

    /// In front of both commands of HAProxy, the test's and the running one's: OpenSSL's defaults.
    pub(crate) fn set_openssl(&mut self, defaults: &str) {
        let file = self.path("openssl.cnf");
        let text = format!(
            "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = defaults\n[defaults]\n{defaults}\n"
        );
        fs::write(&file, text).unwrap();
        let with = format!("test = \"OPENSSL_CONF={} ", file.display());
        self.agent = self.agent.replace("test = \"", &with);
        self.write_agent(|text| text);
    }

    pub(crate) async fn start(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("run/haproxy.log"))
            .unwrap();
        let child = Command::new("/usr/sbin/haproxy")
            .args(["-W", "-db", "-S"])
            .arg(self.path("run/master.sock"))
            .arg("-p")
            .arg(self.path("run/haproxy.pid"))
            .arg("-f")
            .arg(self.path("haproxy.cfg"))
            .env("OPENSSL_CONF", self.path("openssl.cnf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let https = self.https;
        eventually("haproxy answers", || async move {
            std::net::TcpStream::connect(https).ok()
        })
        .await;
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The master ends its workers.
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
            let _ = child.wait();
        }
    }

    pub(crate) fn reload(&self) {
        let pid = self.child.as_ref().unwrap().id() as i32;
        kill(Pid::from_raw(pid), Signal::SIGUSR2).unwrap();
    }

    /// Process ids of the workers, those that only finish old connections too.
    /// As [`Host::settled_workers`](super::host::Host::settled_workers).
    pub(crate) async fn settled_workers(&self) -> Vec<i32> {
        eventually("HAProxy's old worker is gone", || async {
            Some(self.workers()).filter(|workers| workers.len() == 1)
        })
        .await
    }

    pub(crate) fn workers(&self) -> Vec<i32> {
        let pid = self.child.as_ref().unwrap().id();
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        list.split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect()
    }

    pub(crate) fn combined(&self) -> String {
        fs::read_to_string(self.path("live").join(NAME).join("combined.pem")).unwrap()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("run/haproxy.log")).unwrap_or_default();
            eprintln!("--- haproxy.log\n{log}");
        }
    }
}
