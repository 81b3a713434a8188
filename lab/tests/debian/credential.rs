//! The key that opens the issuer's store comes to the service as a credential, plain or sealed by the machine.

use std::time::Duration;

use anyhow::{Result, ensure};
use certwell_lab::{
    debian::{Machine, Network, Suite, Tree, Trees, fleet::install, packages::Packages},
    paths::Home,
    wait_for,
};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn the_issuer_gets_its_key_as_a_credential_that_the_machine_may_seal() -> Result<()> {
    let test = "the_issuer_gets_its_key_as_a_credential_that_the_machine_may_seal";
    if !crate::able(test) {
        return Ok(());
    }
    let home = Home::take("lab/debian-credential")?;
    let trees = Trees::ready(&|line| eprintln!("{line}"))?;
    let packages = Packages::ready()?;
    Network::within(move |_| {
        let tree = trees.path(Tree::Host(Suite::Bookworm));
        let mut fritz = Machine::lay_out(home.path(), tree, "fritz", 10, Network::address(2))?;
        fritz.mask("nginx.service")?;
        fritz.mask("ssh.service")?;
        fritz.boot()?;
        install(&fritz, &packages.issuer)?;
        fritz.shell(
            "certwell-issuer init --fleet hachyderm --endpoint fritz:7443 && systemctl start certwell-issuer",
        )?;
        serves(&fritz)?;
        // The user who serves can't read the file; the service manager hands it over.
        let refused = fritz.run([
            "runuser",
            "-u",
            "certwell-issuer",
            "--",
            "cat",
            "/etc/certwell/issuer.kek",
        ])?;
        ensure!(refused.code != 0, "the service's user reads the key's file");

        // As the unit's file says.
        fritz.shell(
            "systemd-creds encrypt --name=certwell-kek /etc/certwell/issuer.kek /etc/certwell/issuer.kek.sealed",
        )?;
        fritz.write(
            "/etc/systemd/system/certwell-issuer.service.d/override.conf",
            "[Service]\nLoadCredential=\nLoadCredentialEncrypted=certwell-kek:/etc/certwell/issuer.kek.sealed\n",
        )?;
        fritz.shell("rm /etc/certwell/issuer.kek && systemctl daemon-reload && systemctl restart certwell-issuer")?;
        serves(&fritz)?;

        // Sealed for another name it isn't the key.
        fritz.shell(
            "systemd-creds encrypt --name=other /etc/hostname /etc/certwell/issuer.kek.sealed",
        )?;
        let restarted = fritz.run(["systemctl", "restart", "certwell-issuer"])?;
        ensure!(restarted.code != 0, "it starts with another credential");
        Ok(())
    })
}

fn serves(fritz: &Machine) -> Result<()> {
    wait_for("the issuer to answer", SOON, || {
        fritz
            .run(["certwell", "hosts", "list"])?
            .success("certwell hosts list")
    })
    .map(drop)
}
