//! A host with a lineage as certbot lays it out, which nginx serves on a port of its own, and a certificate of
//! certwell's of the same name. Lineages of the real certbot are in the lab.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Output,
};

use certwell_proto::{Fingerprint, pem, v1};

use super::{
    fleet::self_signed,
    host::{NAME, free_port, served_at},
    world::{World, leaf, world},
};

pub(crate) struct Adopting {
    pub(crate) world: World,
    pub(crate) port: SocketAddr,
    /// certbot's leaf, and certwell's generation 1.
    pub(crate) theirs: Fingerprint,
    pub(crate) ours: Fingerprint,
}

/// What a directory holds, links not followed: paths with what they are.
pub(crate) type Tree = BTreeMap<PathBuf, String>;

/// certwell's generation 1 is active, nginx serves certbot's; no agent runs. `names` is the server block's
/// `server_name`.
pub(crate) async fn adopting(names: &str) -> Adopting {
    let mut world = world().await;
    let host = &mut world.host;
    let directory = host.path("letsencrypt");
    let (certificate, key) = self_signed(NAME, (-3_600, 86_400));
    let theirs = Fingerprint::of(&pem::read_certificates(certificate.as_bytes()).unwrap()[0]);
    lay_out(&directory, NAME, &certificate, &key);
    let text = fs::read_to_string(host.path("agent.toml")).unwrap();
    fs::write(
        host.path("agent.toml"),
        format!("certbot-directory = \"letsencrypt\"\n{text}"),
    )
    .unwrap();
    let port = free_port();
    let live = directory.join("live").join(NAME);
    host.write_nginx(true, &server(port, names, &live));
    host.start_nginx().await;
    let first = world.bundle(1);
    world.offer(&first);
    world.host.start_agent();
    world.outcome(1, v1::Outcome::Converged).await;
    world.host.end_agent().await;
    assert_eq!(served_at(port), Some(theirs));
    Adopting {
        ours: leaf(&first),
        world,
        port,
        theirs,
    }
}

pub(crate) fn server(port: SocketAddr, names: &str, live: &Path) -> String {
    let live = live.display();
    format!(
        "server {{\n  listen {port} ssl;\n  server_name {names};\n  ssl_certificate {live}/fullchain.pem;\n  \
         ssl_certificate_key {live}/privkey.pem;\n }}\n"
    )
}

/// As certbot does it.
pub(crate) fn lay_out(directory: &Path, name: &str, certificate: &str, key: &str) {
    let (live, archive) = (
        directory.join("live").join(name),
        directory.join("archive").join(name),
    );
    for sub in [&live, &archive, &directory.join("renewal")] {
        fs::create_dir_all(sub).unwrap();
    }
    let mut conf = format!("version = 2.1.0\narchive_dir = {}\n", archive.display());
    for kind in ["cert", "privkey", "chain", "fullchain"] {
        let text = if kind == "privkey" { key } else { certificate };
        fs::write(archive.join(format!("{kind}1.pem")), text).unwrap();
        let link = live.join(format!("{kind}.pem"));
        std::os::unix::fs::symlink(format!("../../archive/{name}/{kind}1.pem"), &link).unwrap();
        conf.push_str(&format!("{kind} = {}\n", link.display()));
    }
    conf.push_str("\n[renewalparams]\naccount = 0\n");
    fs::write(directory.join(format!("renewal/{name}.conf")), conf).unwrap();
}

pub(crate) fn tree(directory: &Path) -> Tree {
    let mut found = Tree::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let what = if meta.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if meta.is_dir() {
                waiting.push(path.clone());
                "directory".into()
            } else {
                String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
            };
            found.insert(path, what);
        }
    }
    found
}

pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

impl Adopting {
    pub(crate) fn certbot(&self) -> PathBuf {
        self.world.host.path("letsencrypt")
    }

    pub(crate) fn lineage(&self) -> PathBuf {
        self.certbot().join("live").join(NAME)
    }

    pub(crate) fn aside(&self) -> PathBuf {
        self.certbot()
            .join("live")
            .join(format!(".{NAME}.before-certwell"))
    }

    pub(crate) fn conf(&self, suffix: &str) -> PathBuf {
        self.certbot().join(format!("renewal/{NAME}.conf{suffix}"))
    }

    pub(crate) fn served(&self) -> Option<Fingerprint> {
        served_at(self.port)
    }

    /// `certwell-agent adopt …`: its exit code, and what it said.
    pub(crate) async fn adopt(&self, arguments: &[&str]) -> (i32, String) {
        self.verb(&[&["adopt"], arguments].concat()).await
    }

    pub(crate) async fn verb(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = self.world.host.agent_command(arguments);
        // The test's issuer answers on this thread.
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        (output.status.code().unwrap_or(-1), said(&output))
    }

    /// `nginx -t` of the host.
    pub(crate) fn nginx_takes_it(&self) -> bool {
        let host = &self.world.host;
        let output = std::process::Command::new("/usr/sbin/nginx")
            .args(["-t", "-p"])
            .arg(host.root())
            .arg("-c")
            .arg(host.path("nginx.conf"))
            .output()
            .unwrap();
        output.status.success()
    }
}
