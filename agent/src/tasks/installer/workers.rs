//! Whether nginx's workers can read what they are to read by themselves.

use std::collections::BTreeMap;

use certwell_proto::CertificateName;

use super::{Installer, round::Running, server::Server};
use crate::nginx::{ProbeTarget, workers::Rights};

impl Installer {
    /// Why no handshake with this listener can come about: its certificate's path holds variables, so that workers
    /// open it, and they may not. `None` when they may, as far as modes tell.
    pub(super) fn unreadable(&self, target: &ProbeTarget) -> Option<String> {
        let path = target.read_by_workers.as_ref()?;
        let rights = rights(&self.host.server().ok()?)?;
        rights.closed(path, &target.at, &self.config.state_directory)
    }

    /// Leaves alone what workers can read now and couldn't any more. What they can't read anyhow, or not at all yet,
    /// isn't made worse: other server blocks may have the master read it.
    pub(super) async fn hold_unreadable(&mut self, running: &mut Running, server: &Server) {
        let Some(rights) = rights(server) else {
            return;
        };
        let names: Vec<CertificateName> = running.trails.keys().cloned().collect();
        let Ok(targets) = self.targets(server, &names).await else {
            return;
        };
        let mut closed = BTreeMap::new();
        for target in &targets {
            let (Some(path), Some(trail)) = (
                &target.read_by_workers,
                running.trails.get(&target.certificate),
            ) else {
                continue;
            };
            if !path.exists() || rights.kept_from(path).is_some() {
                continue;
            }
            let Some(file) = path.file_name() else {
                continue;
            };
            let staged = self.store.path(&target.certificate, trail.generation);
            if let Some(why) =
                rights.closed(&staged.join(file), &target.at, &self.config.state_directory)
            {
                closed.entry(target.certificate.clone()).or_insert(why);
            }
        }
        for (name, why) in closed {
            if let Some(trail) = running.trails.get_mut(&name) {
                trail.stop(why);
            }
            self.conclude(running, &name);
        }
    }
}

/// Those of nginx's workers, which are all alike.
fn rights(server: &Server) -> Option<Rights> {
    Rights::of(server.master()?.active().next()?.pid)
}
