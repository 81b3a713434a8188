//! The configuration as the rest of the agent uses it: every default is here, so that an empty file works.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use certwell_notice::Notifier;

use crate::{
    exec,
    nginx::{Reload, Settings},
    tasks::post_install,
};

/// Where the agent's configuration is, unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/certwell/agent.toml";

/// All that `agent.toml` says. Paths are absolute, or relative to the working directory when the file's own is.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Identity, ledger and staged generations.
    pub state_directory: PathBuf,
    /// The links that nginx's configuration names.
    pub live_directory: PathBuf,
    /// certbot's directory, whose lineages `inventory` shows and `adopt` takes over.
    pub certbot_directory: PathBuf,
    /// Group that may read staged keys; root alone when absent.
    pub file_group: Option<String>,
    /// The `[nginx]` table: which one is ours.
    pub nginx: Settings,
    /// The `[exec]` table: another server in the place of nginx.
    pub exec: Option<exec::Settings>,
    /// The operator's hook after an install that converged.
    pub post_install: Option<post_install::Settings>,
    /// Longest wait for an operator's edit in progress (`edit-hold` in `[nginx]`).
    pub edit_hold: Duration,
    /// The `[alarm.NAME]` tables: whom this host tells by itself.
    pub alarms: BTreeMap<String, Notifier>,
    /// Whether an nginx that failed right after an activation is started once (`start-after-failure` in `[nginx]`).
    pub start_after_failure: bool,
    /// Where `GET /metrics` is answered (`listen` in `[metrics]`); nowhere when absent.
    pub metrics: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_directory: "/var/lib/certwell-agent".into(),
            live_directory: "/etc/certwell/live".into(),
            certbot_directory: "/etc/letsencrypt".into(),
            file_group: None,
            nginx: Settings {
                pid_file: "/run/nginx.pid".into(),
                binary: "/usr/sbin/nginx".into(),
                config: "/etc/nginx/nginx.conf".into(),
                prefix: None,
                challenge_map: "/etc/nginx/conf.d/certwell-acme.conf".into(),
                reload: Reload::Signal,
            },
            exec: None,
            post_install: None,
            edit_hold: Duration::from_secs(3_600),
            alarms: BTreeMap::new(),
            start_after_failure: true,
            metrics: None,
        }
    }
}

impl Config {
    /// Where identity and bound key are kept.
    pub fn identity_directory(&self) -> PathBuf {
        self.state_directory.join("identity")
    }

    /// Where generations are staged.
    pub fn store_directory(&self) -> PathBuf {
        self.state_directory.join("store")
    }

    /// What the agent knows it put on disk.
    pub fn ledger_file(&self) -> PathBuf {
        self.state_directory.join("ledger.json")
    }

    /// What a person told the agent to keep its hands off.
    pub fn holds_file(&self) -> PathBuf {
        self.state_directory.join("holds.json")
    }

    /// For which generations the post-install hook ran.
    pub fn post_install_file(&self) -> PathBuf {
        self.state_directory.join("post-install.json")
    }

    /// What was told of this host's own alarm.
    pub fn alarm_file(&self) -> PathBuf {
        self.state_directory.join("alarm.json")
    }

    /// What `status` reads.
    pub fn state_file(&self) -> PathBuf {
        self.state_directory.join("state.json")
    }

    /// The last desired state, for a start without the issuer. It holds no secret.
    pub fn desired_file(&self) -> PathBuf {
        self.state_directory.join("desired.bin")
    }

    /// certbot's live directories, one for each lineage.
    pub fn certbot_live_directory(&self) -> PathBuf {
        self.certbot_directory.join("live")
    }

    /// Which lineages of certbot's were taken over.
    pub fn adopted_file(&self) -> PathBuf {
        self.state_directory.join("adopted.json")
    }

    /// What nginx's files held before `doctor --fix-include`.
    pub fn include_fix_directory(&self) -> PathBuf {
        self.state_directory.join("include-fix")
    }

    /// Held while a daemon or an enrollment works in the state directory.
    pub fn lock_file(&self) -> PathBuf {
        self.state_directory.join("lock")
    }

    /// Makes relative paths relative to `base`, the directory of the file that they were read from.
    pub(super) fn resolve(&mut self, base: &Path) {
        let nginx = &mut self.nginx;
        for path in [
            &mut self.state_directory,
            &mut self.live_directory,
            &mut self.certbot_directory,
            &mut nginx.pid_file,
            &mut nginx.binary,
            &mut nginx.config,
            &mut nginx.challenge_map,
        ]
        .into_iter()
        .chain(&mut nginx.prefix)
        .chain(self.post_install.as_mut().map(|hook| &mut hook.path))
        {
            *path = base.join(&*path);
        }
    }
}
