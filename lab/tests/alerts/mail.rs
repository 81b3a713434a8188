//! By e-mail, from the cause of an alert to a letter in a mailbox.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Result, ensure};
use certwell_lab::{
    certs::LabRoot,
    receivers::{
        MailServer, MailSettings, Tls,
        smtp::{header, text},
    },
    story,
};

use crate::{SOON, classes::taken_up, ear::Speed, sally};

const USER: &str = "certwell";
const PASSWORD: &str = "correct-horse-battery";

#[test]
fn an_alert_and_its_end_come_as_two_letters_of_one_thread() -> Result<()> {
    story("alerts-mail", &sally(), |world| {
        let root = LabRoot::new()?;
        let settings = MailSettings {
            tls: Tls::Smtps,
            login: Some((USER, PASSWORD)),
        };
        let home = world.directory();
        let server = MailServer::start(world.net.receiver(0), home, &root, settings)?;
        let (roots, password) = (home.join("mail-root.pem"), home.join("mail-password"));
        fs::write(&roots, root.pem())?;
        fs::write(&password, PASSWORD)?;
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
        let declared = Speed::default().declared(&["mail"])
            + &format!(
                "[notifier.mail]\ntype = \"email\"\nserver = \"smtps://{}\"\nfrom = \"certwell@example.org\"\n\
                 to = [\"ops@example.org\", \"gone@example.org\"]\nusername = {USER:?}\npassword-file = {password:?}\nroots = {roots:?}\n",
                server.address()
            );
        world.issuer.stop_looking()?;
        world.issuer.declare("30-alerts", &declared)?;
        taken_up(world, "mail")?;

        world.issuer.declare("40-wrong", "[host.sally\n")?;
        let refused = "an edit of the issuer's configuration is refused";
        let subjects = |letters: &[String]| -> Vec<String> {
            letters
                .iter()
                .map(|letter| header(letter, "Subject"))
                .collect()
        };
        let told = server.wait_for("the alert", SOON, |letters| {
            let is_it = |letter: &&String| header(letter, "Subject").contains(refused);
            letters.iter().find(is_it).cloned()
        })?;
        world.issuer.undeclare("40-wrong")?;
        let over = server.wait_for("its end", SOON, |letters| {
            let is_it = |letter: &&String| {
                header(letter, "Subject").contains(&format!("resolved: {refused}"))
            };
            letters.iter().find(is_it).cloned()
        })?;
        let mut letters = server.letters()?;
        letters.retain(|letter| header(letter, "Subject").contains(refused));
        ensure!(letters.len() == 2, "once each: {:?}", subjects(&letters));
        let subject = header(&told, "Subject");
        ensure!(
            subject == format!("[certwell lab] warning: {refused}"),
            "{subject}"
        );
        ensure!(
            header(&told, "To") == "ops@example.org, gone@example.org",
            "{told}"
        );
        // That one of them gets none is written down, once.
        let events = world.issuer.events()?;
        let left_out = events.iter().filter(|event| {
            event.text.starts_with(
                "mail accepts messages, and not for everybody: it takes nothing for gone@example.org: ",
            ) && event
                .text
                .ends_with("mend that mailbox, or `to` in [notifier.mail]")
        });
        ensure!(left_out.count() == 1, "{events:?}");
        ensure!(header(&over, "Subject").contains(refused), "{over}");
        ensure!(
            header(&told, "References") == header(&over, "References"),
            "{told}\n{over}"
        );
        let words = text(&told);
        for expected in [
            "40-wrong.toml",
            "certwell-issuer check",
            "section config-refused",
        ] {
            ensure!(words.contains(expected), "{expected} isn't in:\n{words}");
        }
        Ok(())
    })
}
