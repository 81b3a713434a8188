//! ssh from fritz to edges, as on that night: set up for an act, and taken away after it.

use anyhow::Result;

use crate::debian::{Fleet, Machine, fleet::SOON};

/// fritz gets a key, the edge lets it in as root.
pub(super) fn let_in(fleet: &Fleet, edge: &Machine) -> Result<()> {
    let fritz = &fleet.fritz;
    fritz.shell(
        "[ -e /root/.ssh/id_ed25519 ] || { mkdir -p /root/.ssh; chmod 700 /root/.ssh; \
         ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519; \
         printf 'StrictHostKeyChecking accept-new\\n' > /root/.ssh/config; }",
    )?;
    let key = fritz.shell("cat /root/.ssh/id_ed25519.pub")?;
    edge.write_as("/root/.ssh/authorized_keys", key, 0o600)?;
    edge.shell(
        "chmod 700 /root/.ssh; ssh-keygen -A >/dev/null; rm -f /etc/systemd/system/ssh.service; \
         systemctl daemon-reload; systemctl start ssh",
    )?;
    // Known from here on: nobody is asked later.
    fritz
        .run_with(["ssh", "-n", &edge.address.to_string(), "true"], "", SOON)?
        .success(&format!("ssh to {}", edge.name))?;
    Ok(())
}

/// As it was before.
pub(super) fn shut_out(fleet: &Fleet, edge: &Machine) -> Result<()> {
    edge.shell(
        "rm -rf /root/.ssh; systemctl stop ssh; ln -sf /dev/null /etc/systemd/system/ssh.service; \
         systemctl daemon-reload",
    )?;
    fleet.fritz.shell("rm -rf /root/.ssh").map(drop)
}
