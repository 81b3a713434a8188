//! One host: a directory of its own with nginx's configuration, the agent's configuration and state, and the two
//! processes. Everything ends with it. What is written all the time lies apart from the configuration, as on hosts:
//! it wakes nobody.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use certwell_agent::nginx::{Nginx, Reload, Settings};
use certwell_proto::Fingerprint;
use rustls::ClientConnection;
use rustls_pki_types::ServerName;
use tempfile::TempDir;

use super::{
    fleet::self_signed,
    issuer::{TestIssuer, eventually},
};

pub(crate) const NAME: &str = "media.example.org";

/// For one answer in a handshake, on a busy machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

pub(crate) struct Host {
    directory: TempDir,
    pub(crate) https: SocketAddr,
    pub(crate) http: SocketAddr,
    nginx: Option<Child>,
    agent: Option<Child>,
    /// Of the agent and its verbs.
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl Host {
    /// With an expired certificate in a plain directory, as hosts are found.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let host = Self {
            directory,
            https: free_port(),
            http: free_port(),
            nginx: None,
            agent: None,
            environment: Vec::new(),
        };
        for sub in ["conf.d", "snippets", "live", "temp", "state", "run"] {
            fs::create_dir_all(host.path(sub)).unwrap();
        }
        fs::write(
            host.path("snippets/certwell-acme.conf"),
            "if ($certwell_acme_reply) { return 200 $certwell_acme_reply; }\n",
        )
        .unwrap();
        let root = host.root().display();
        fs::write(
            host.path("agent.toml"),
            format!(
                "state-directory = \"state\"\nlive-directory = \"live\"\n[nginx]\npid-file = \"run/nginx.pid\"\n\
                 config = \"nginx.conf\"\nprefix = \"{root}\"\nchallenge-map = \"conf.d/certwell-acme.conf\"\n"
            ),
        )
        .unwrap();
        host.write_nginx(true, "");
        let old = host.path("live").join(NAME);
        fs::create_dir_all(&old).unwrap();
        let (certificate, key) = self_signed(NAME, (-7_200, -3_600));
        fs::write(old.join("fullchain.pem"), certificate).unwrap();
        fs::write(old.join("privkey.pem"), key).unwrap();
        host
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root().join(below)
    }

    pub(crate) fn live(&self) -> PathBuf {
        self.path("live").join(NAME)
    }

    /// Another text in the place of a file, at once, as editors do it: nginx never reads half of it.
    pub(crate) fn replace(&self, below: &str, text: impl AsRef<[u8]>) {
        let new = self.path("temp/new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path(below)).unwrap();
    }

    /// nginx's configuration; `extra` goes to http level.
    pub(crate) fn write_nginx(&self, include: bool, extra: &str) {
        let Self { http, https, .. } = self;
        let root = self.root().display();
        let live = self.live();
        let live = live.display();
        let include = if include {
            format!("include {root}/snippets/certwell-acme.conf;")
        } else {
            String::new()
        };
        let text = format!(
            "user root;\nworker_processes 1;\npid {root}/run/nginx.pid;\nerror_log {root}/run/error.log notice;\n\
             events {{}}\nhttp {{\n access_log off;\n client_body_temp_path {root}/temp/body;\n \
             proxy_temp_path {root}/temp/proxy;\n fastcgi_temp_path {root}/temp/fastcgi;\n \
             uwsgi_temp_path {root}/temp/uwsgi;\n scgi_temp_path {root}/temp/scgi;\n \
             include {root}/conf.d/*.conf;\n {extra}\n \
             server {{\n  listen {http};\n  server_name {NAME};\n  {include}\n  \
             location / {{ return 404; }}\n }}\n \
             server {{\n  listen {https} ssl;\n  server_name {NAME} www.example.org;\n  \
             ssl_certificate {live}/fullchain.pem;\n  ssl_certificate_key {live}/privkey.pem;\n }}\n}}\n"
        );
        self.replace("nginx.conf", text);
    }

    /// Another key in nginx's configuration than the one that lies beside the certificate.
    pub(crate) fn pin_key(&self, key: &Path) {
        let text = fs::read_to_string(self.path("nginx.conf")).unwrap();
        let ours = format!("{}/privkey.pem", self.live().display());
        self.replace(
            "nginx.conf",
            text.replace(&ours, &key.display().to_string()),
        );
    }

    /// A line more in the `[nginx]` table of the agent's configuration.
    pub(crate) fn set_agent(&self, line: &str) {
        let path = self.path("agent.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{text}{line}\n")).unwrap();
    }

    fn nginx_command(&self) -> Command {
        let mut command = Command::new("/usr/sbin/nginx");
        command
            .arg("-c")
            .arg(self.path("nginx.conf"))
            .arg("-p")
            .arg(self.root())
            .args(["-g", "daemon off;"]);
        command
    }

    /// By a test of our own; with nginx's words where it doesn't.
    pub(crate) fn assert_nginx_takes_its_configuration(&self) {
        let output = self.nginx_command().arg("-t").output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}");
    }

    /// An empty challenge map, as the package ships it.
    pub(crate) fn begin_map(&self) {
        fs::write(
            self.path("conf.d/certwell-acme.conf"),
            "map \"$host $uri\" $certwell_acme_reply { default \"\"; }\n",
        )
        .unwrap();
    }

    pub(crate) async fn start_nginx(&mut self) {
        if !self.path("conf.d/certwell-acme.conf").exists() {
            self.begin_map();
        }
        let log = fs::File::create(self.path("run/nginx.out")).unwrap();
        let child = self
            .nginx_command()
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.nginx = Some(child);
        let https = self.https;
        eventually("nginx answers", || async move {
            std::net::TcpStream::connect(https).ok()
        })
        .await;
        eventually("nginx has a pid file", || async {
            fs::read_to_string(self.path("run/nginx.pid"))
                .ok()
                .filter(|t| !t.is_empty())
        })
        .await;
    }

    pub(crate) fn stop_nginx(&mut self) {
        self.end_nginx(nix::sys::signal::Signal::SIGTERM);
    }

    /// SIGKILL to the master, and to the workers that it would leave.
    pub(crate) fn kill_nginx(&mut self) {
        let workers = self.workers();
        self.end_nginx(nix::sys::signal::Signal::SIGKILL);
        for worker in workers {
            let pid = nix::unistd::Pid::from_raw(worker);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }

    fn end_nginx(&mut self, signal: nix::sys::signal::Signal) {
        if let Some(mut child) = self.nginx.take() {
            let pid = nix::unistd::Pid::from_raw(child.id() as i32);
            let _ = nix::sys::signal::kill(pid, signal);
            let _ = child.wait();
        }
    }

    pub(crate) fn reload_nginx(&self) {
        let pid = self.nginx.as_ref().unwrap().id() as i32;
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGHUP,
        )
        .unwrap();
    }

    /// A verb of the agent, to its end.
    pub(crate) fn verb(&self, arguments: &[&str]) -> Output {
        self.agent_command(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    pub(crate) fn agent_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certwell-agent"));
        command
            .arg("--config")
            .arg(self.path("agent.toml"))
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) async fn enroll(&self, issuer: &TestIssuer) {
        let token = issuer.token();
        let mut command = self.agent_command(&["enroll", &token]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    pub(crate) fn start_agent(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("run/agent.log"))
            .unwrap();
        self.start_agent_with(log);
    }

    /// The same with another end for its log.
    pub(crate) fn start_agent_with(&mut self, log: impl Into<Stdio>) {
        let child = self
            .agent_command(&["run"])
            .env("CERTWELL_LOG", "trace")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.agent = Some(child);
    }

    /// The same traced by strace with these arguments, which goes with it.
    pub(crate) fn start_agent_traced(&mut self, arguments: &[&str]) {
        let agent = self.agent_command(&["run"]);
        let child = Command::new("strace")
            .args(["-D", "-f", "-q", "-o", "/dev/null"])
            .args(arguments)
            .arg(agent.get_program())
            .args(agent.get_args())
            .env("CERTWELL_LOG", "trace")
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.path("run/agent.log")).unwrap())
            .spawn()
            .unwrap();
        self.agent = Some(child);
    }

    /// Of the agent that runs.
    pub(crate) fn agent_pid(&self) -> u32 {
        self.agent.as_ref().unwrap().id()
    }

    /// SIGKILL.
    pub(crate) fn kill_agent(&mut self) {
        if let Some(mut child) = self.agent.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM; the exit code.
    pub(crate) async fn end_agent(&mut self) -> Option<i32> {
        let mut child = self.agent.take()?;
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        // Its last report is answered by this thread.
        tokio::task::spawn_blocking(move || child.wait().unwrap().code())
            .await
            .unwrap()
    }

    pub(crate) fn agent_log(&self) -> String {
        fs::read_to_string(self.path("run/agent.log")).unwrap_or_default()
    }

    /// How often a generation was activated, by the agent's own account.
    pub(crate) fn activations(&self, name: &str, generation: u64) -> usize {
        let wanted = [
            format!("certificate={name} "),
            format!("generation={generation}"),
        ];
        self.agent_log()
            .lines()
            .filter(|line| line.contains("activated"))
            .filter(|line| wanted.iter().all(|word| line.contains(word.trim_end())))
            .count()
    }

    /// How often the agent has looked whether there is something to do.
    pub(crate) fn passes(&self) -> usize {
        self.agent_log().matches("a pass").count()
    }

    /// How often the agent had nginx test something.
    pub(crate) fn tests_of_nginx(&self) -> usize {
        self.agent_log().matches("step=Test").count()
    }

    /// The leaf that nginx serves, by a handshake of the test's own.
    pub(crate) fn served(&self) -> Option<Fingerprint> {
        served_at(self.https)
    }

    /// The generations on disk.
    pub(crate) fn staged(&self) -> Vec<String> {
        let mut found: Vec<String> = fs::read_dir(self.path("state/store").join(NAME))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        found
    }

    /// The generation that is active.
    pub(crate) fn active(&self) -> String {
        let target = fs::read_link(self.live()).unwrap();
        target.file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// Waits until an edit from now on is clearly later than the start of nginx's workers.
    pub(crate) async fn workers_are_older_than_edits(&self) {
        let settings = Settings {
            pid_file: self.path("run/nginx.pid"),
            binary: "/usr/sbin/nginx".into(),
            config: self.path("nginx.conf"),
            prefix: None,
            challenge_map: self.path("conf.d/certwell-acme.conf"),
            reload: Reload::Signal,
        };
        eventually("the workers are older than an edit", || async {
            let now = certwell_agent::clock::now();
            let since = Nginx::find(&settings, now)
                .unwrap()
                .master?
                .serving_since()?;
            (now.duration_since(since).as_millis() > 700).then_some(())
        })
        .await;
    }

    /// Process ids of nginx's workers when those that a reload has sent away are gone: what a test may hold later ones
    /// against.
    pub(crate) async fn settled_workers(&self) -> Vec<i32> {
        eventually("the old workers are gone", || async {
            Some(self.workers()).filter(|workers| workers.len() == 1)
        })
        .await
    }

    /// Process ids of nginx's workers, old ones that still drain among them.
    pub(crate) fn workers(&self) -> Vec<i32> {
        let pid = self.nginx.as_ref().unwrap().id();
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        list.split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill_agent();
        self.stop_nginx();
        if std::thread::panicking() {
            eprintln!("--- agent.log\n{}", self.agent_log());
            eprintln!(
                "--- nginx.out\n{}",
                fs::read_to_string(self.path("run/nginx.out")).unwrap_or_default()
            );
            eprintln!(
                "--- error.log\n{}",
                fs::read_to_string(self.path("run/error.log")).unwrap_or_default()
            );
        }
    }
}

/// On a loopback address of this process's own: there no other process takes the port before nginx does, be it for a
/// server or for the near end of a connection.
pub(crate) fn free_port() -> SocketAddr {
    // What is free again may be given by the kernel once more, also to the same host.
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let [.., high, middle, low] = std::process::id().to_be_bytes();
    let own = std::net::Ipv4Addr::new(127, high | 128, middle, low.clamp(1, 254));
    loop {
        let free = TcpListener::bind((own, 0)).unwrap().local_addr().unwrap();
        if GIVEN.lock().unwrap().insert(free.port()) {
            return free;
        }
    }
}

/// Puts a program there which anybody may run: a copy of a file, or of the standard input. Another process writes the
/// file: were it open for writing here while another test starts a process, running it would fail with "text file
/// busy".
fn install(from: &Path, to: &Path) -> Command {
    let mut install = Command::new("install");
    install.args(["-m", "755"]).args([from, to]);
    install
}

/// A copy of a program, which is never busy when it is run.
pub(crate) fn copy_program(from: &Path, to: &Path) {
    assert!(install(from, to).status().unwrap().success());
}

/// A program of these lines of shell, which is never busy when it is run.
pub(crate) fn write_program(to: &Path, lines: &str) {
    let mut child = install(Path::new("/dev/stdin"), to)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let text = format!("#!/bin/sh\n{lines}\n");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

/// The leaf that is served there, by a handshake of the test's own.
pub(crate) fn served_at(address: SocketAddr) -> Option<Fingerprint> {
    let config = certwell_probe::config(None, false).unwrap();
    let mut tcp = std::net::TcpStream::connect(address).ok()?;
    // A server that is stopped in the midst of it isn't waited for without end.
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = ClientConnection::new(config, ServerName::try_from(NAME).unwrap()).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp).ok()?;
    }
    Some(Fingerprint::of(tls.peer_certificates()?.first()?))
}

/// Handshakes without a pause, until it is asked.
pub(crate) struct Observer {
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(u32, u32)>,
}

impl Observer {
    pub(crate) fn of(host: &Host) -> Self {
        let (address, over) = (host.https, Arc::new(AtomicBool::new(false)));
        let until = over.clone();
        let thread = std::thread::spawn(move || {
            let (mut good, mut bad) = (0, 0);
            while !until.load(Ordering::Relaxed) {
                match served_at(address) {
                    Some(_) => good += 1,
                    None => bad += 1,
                }
            }
            (good, bad)
        });
        Self { over, thread }
    }

    /// How many handshakes came about, and how many didn't.
    pub(crate) fn end(self) -> (u32, u32) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
