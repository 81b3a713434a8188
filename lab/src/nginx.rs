//! A real nginx of one host: its own master, prefix and configuration, as in real life.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use crate::{
    certs::Pair,
    paths,
    ports::ensure_free,
    probe,
    process::Process,
    program::{Output, Program},
};

/// A pair of virtual hosts, on the plain and on the TLS port, with one certificate.
#[derive(Debug, Clone)]
pub struct Site {
    /// The managed certificate's name: what its files lie under.
    pub certificate: String,
    /// Names of the virtual hosts.
    pub names: Vec<String>,
    /// Where its files lie, when not in the live directory: somebody else's, who puts them there.
    pub files: Option<PathBuf>,
}

impl Site {
    /// A site whose certificate is called `certificate`, for `names`.
    pub fn new(certificate: &str, names: &[&str]) -> Self {
        Self {
            certificate: certificate.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            files: None,
        }
    }

    /// The same with the files of somebody else, in `directory`.
    #[must_use]
    pub fn with_files_in(mut self, directory: &Path) -> Self {
        self.files = Some(directory.to_owned());
        self
    }
}

/// One nginx.
#[derive(Debug)]
pub struct Nginx {
    host: String,
    world: PathBuf,
    prefix: PathBuf,
    live: PathBuf,
    http: SocketAddr,
    https: SocketAddr,
    sites: Vec<Site>,
    include: bool,
    process: Option<Process>,
}

impl Nginx {
    /// Lays out prefix and configuration, with an expired certificate in a plain directory for each site.
    ///
    /// # Errors
    /// When a file can't be written.
    pub(crate) fn lay_out(
        host: &str,
        world: &Path,
        http: SocketAddr,
        https: SocketAddr,
        sites: &[Site],
    ) -> Result<Self> {
        let directory = world.join(host);
        let nginx = Self {
            host: host.to_owned(),
            world: world.to_owned(),
            prefix: directory.join("nginx"),
            live: directory.join("live"),
            http,
            https,
            sites: sites.to_vec(),
            include: true,
            process: None,
        };
        for name in ["conf.d", "snippets", "logs", "temp"] {
            fs::create_dir_all(nginx.prefix.join(name))?;
        }
        fs::create_dir_all(&nginx.live)?;
        for (shipped, place) in [
            ("certwell-acme.conf", "conf.d"),
            ("snippets/certwell-acme.conf", "snippets"),
        ] {
            let shipped = paths::packaging().join("nginx").join(shipped);
            fs::copy(
                &shipped,
                nginx.prefix.join(place).join("certwell-acme.conf"),
            )
            .with_context(|| format!("shipped nginx file {}", shipped.display()))?;
        }
        for site in nginx.sites.iter().filter(|site| site.files.is_none()) {
            Pair::expired(&site.names)?.write_into(&nginx.live.join(&site.certificate))?;
        }
        nginx.write_config()?;
        Ok(nginx)
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.prefix.join("nginx.conf")
    }

    /// Its prefix.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Where the master writes its pid.
    pub fn pid_file(&self) -> PathBuf {
        self.prefix.join("nginx.pid")
    }

    /// The map that the agent keeps.
    pub fn challenge_map(&self) -> PathBuf {
        self.prefix.join("conf.d/certwell-acme.conf")
    }

    /// Where its certificates are linked.
    pub fn live(&self) -> &Path {
        &self.live
    }

    /// Adds a site, with a plain directory that holds an expired certificate unless its files are somebody else's; the next reload takes it up.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn add_site(&mut self, site: Site) -> Result<()> {
        let directory = self.live.join(&site.certificate);
        if site.files.is_none() && fs::symlink_metadata(&directory).is_err() {
            Pair::expired(&site.names)?.write_into(&directory)?;
        }
        self.sites.push(site);
        self.write_config()
    }

    /// Whether each plain-HTTP server includes the challenge snippet; the next reload takes it up.
    ///
    /// # Errors
    /// When the configuration can't be written.
    pub fn set_include(&mut self, include: bool) -> Result<()> {
        self.include = include;
        self.write_config()
    }

    /// Starts the master and waits until it listens.
    ///
    /// # Errors
    /// When it doesn't come up.
    pub fn start(&mut self) -> Result<()> {
        ensure_free(self.http, &format!("nginx of {}", self.host))?;
        ensure_free(self.https, &format!("nginx of {}", self.host))?;
        let mut program = self.program(&format!("nginx of {}", self.host), &[]);
        program
            .args
            .extend(["-g".to_owned(), "daemon off;".to_owned()]);
        let log = self.world.join(format!("{}.nginx.log", self.host));
        let mut process = Process::start(&program, &self.world, &log)?;
        process.ready(Duration::from_secs(10), || {
            anyhow::ensure!(self.pid_file().exists(), "no pid file yet");
            probe::http_get(self.http, "nobody.invalid", "/").map(drop)
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Stops the master, if it runs.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// An operator's reload.
    ///
    /// # Errors
    /// When there is no master.
    pub fn reload(&self) -> Result<()> {
        self.running()?.signal(Signal::SIGHUP)
    }

    /// Process id of the master.
    ///
    /// # Errors
    /// When it isn't running.
    pub fn master(&self) -> Result<u32> {
        Ok(self.running()?.id())
    }

    /// `nginx -t` of this configuration.
    ///
    /// # Errors
    /// When nginx can't be run at all.
    pub fn test(&self) -> Result<Output> {
        self.program("nginx -t", &["-t"])
            .run(&self.world, "", Duration::from_secs(20))
    }

    /// Lines of the error log.
    pub fn error_log(&self) -> String {
        fs::read_to_string(self.prefix.join("logs/error.log")).unwrap_or_default()
    }

    pub(crate) fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    fn running(&self) -> Result<&Process> {
        self.process
            .as_ref()
            .with_context(|| format!("nginx of {} isn't running", self.host))
    }

    fn program(&self, name: &str, args: &[&str]) -> Program {
        let prefix = format!("{}/", self.prefix.display());
        let config = self.config().display().to_string();
        let errors = self.prefix.join("logs/error.log").display().to_string();
        let fixed = ["-p", &prefix, "-c", &config, "-e", &errors];
        Program::new(name, paths::nginx(), fixed.iter().chain(args).copied())
    }

    fn write_config(&self) -> Result<()> {
        let servers: String = self.sites.iter().map(|site| self.servers(site)).collect();
        let text = format!(
            "pid nginx.pid;\nerror_log logs/error.log notice;\nworker_processes 1;\nevents {{ worker_connections 256; }}\n\n\
             http {{\n    access_log logs/access.log;\n    client_body_temp_path temp/body;\n    \
             proxy_temp_path temp/proxy;\n    fastcgi_temp_path temp/fastcgi;\n    uwsgi_temp_path temp/uwsgi;\n    \
             scgi_temp_path temp/scgi;\n    include conf.d/*.conf;\n{servers}}}\n"
        );
        self.replace_config(&text)
    }

    /// Exchanges its configuration file at once, as an editor does it: no reader sees half a file.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn replace_config(&self, text: &str) -> Result<()> {
        let new = self.prefix.join("nginx.conf.new");
        fs::write(&new, text)?;
        Ok(fs::rename(&new, self.config())?)
    }

    fn servers(&self, site: &Site) -> String {
        let names = site.names.join(" ");
        let include = if self.include {
            "        include snippets/certwell-acme.conf;\n"
        } else {
            ""
        };
        let files = match &site.files {
            Some(files) => files.clone(),
            None => self.live.join(&site.certificate),
        };
        let files = files.display();
        format!(
            "\n    server {{\n        listen {http};\n        server_name {names};\n{include}        \
             return 301 https://$host$request_uri;\n    }}\n    server {{\n        listen {https} ssl;\n        \
             server_name {names};\n        ssl_certificate {files}/fullchain.pem;\n        \
             ssl_certificate_key {files}/privkey.pem;\n        location / {{ return 200 \"{host}\\n\"; }}\n    }}\n",
            http = self.http,
            https = self.https,
            host = self.host,
        )
    }
}
