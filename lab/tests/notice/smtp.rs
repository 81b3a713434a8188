//! E-mail, against a real mail server.

use std::time::Duration;

use anyhow::{Result, ensure};
use certwell_lab::receivers::{
    MailServer, MailSettings, Tls,
    smtp::{header, text},
};
use certwell_notice::{
    Credentials, Email, Encryption, Message, Notifier, Roots, Server, Service, State,
};
use certwell_proto::Secret;

use crate::{Place, SOON, block_on, message, notifier, refused, sent};

const USER: &str = "certwell";
const PASSWORD: &str = "correct-horse-battery";

fn mail(
    server: &MailServer,
    encryption: Encryption,
    roots: Roots,
    password: Option<&str>,
) -> Result<Notifier> {
    let address = server.address();
    let email = Email {
        server: Server {
            host: address.ip().to_string(),
            port: address.port(),
            encryption,
        },
        credentials: password.map(|password| Credentials {
            username: USER.to_owned(),
            password: Secret::new(password.as_bytes().to_vec()),
        }),
        from: "certwell@example.org".parse().map_err(anyhow::Error::msg)?,
        to: vec![
            "ops@example.org".parse().map_err(anyhow::Error::msg)?,
            "night@example.org".parse().map_err(anyhow::Error::msg)?,
        ],
        roots,
    };
    Ok(notifier(
        "mail",
        Duration::from_secs(10),
        Service::Email(email),
    ))
}

#[test]
fn letters_of_one_alert_are_one_thread_with_all_that_is_to_be_said() -> Result<()> {
    let place = Place::take("mail")?;
    let settings = MailSettings {
        tls: Tls::Plain,
        login: None,
    };
    let server = MailServer::start(
        place.net.receiver(0),
        place.home.path(),
        &place.root,
        settings,
    )?;
    let mail = mail(&server, Encryption::None, Roots::System, None)?;
    let said = sent(&mail, &message())?;
    ensure!(said.contains("250"), "{said}");
    let over = Message {
        state: State::Resolved,
        number: 2,
        title: "über\r\nBcc: x@example.org".into(),
        ..message()
    };
    sent(&mail, &over)?;
    block_on(mail.send_text("Inventory", "one\n.\ntwo\n"))??;
    let letters = server.wait_for("three letters", SOON, |letters| {
        (letters.len() == 3).then(|| letters.to_vec())
    })?;
    let [first, second, third] = letters.as_slice() else {
        anyhow::bail!("{letters:?}")
    };
    ensure!(header(first, "To") == "ops@example.org, night@example.org");
    ensure!(
        header(first, "X-RcptTo").contains("night@example.org"),
        "{first}"
    );
    ensure!(
        header(first, "Subject") == "[certwell lab] PAGE: media.hachyderm.io ends soon on sally"
    );
    ensure!(header(first, "References") == header(second, "References"));
    ensure!(header(first, "Message-ID") != header(second, "Message-ID"));
    ensure!(header(second, "Bcc").is_empty(), "{second}");
    let words = text(first);
    for expected in [
        "It — all of it — is old.",
        "- sally, media.hachyderm.io: it can't be installed; served: generation 6, until 2023-02-28 11:36:00 UTC",
        "certwell explain media.hachyderm.io",
        "certwell alerts ack 7 --for 4h",
        "docs/operations.md, section expiry",
    ] {
        ensure!(words.contains(expected), "{expected} isn't in:\n{words}");
    }
    ensure!(
        text(third).contains("one\n.\ntwo\n"),
        "a dot ended it: {third}"
    );
    Ok(())
}

#[test]
fn by_tls_and_with_a_login_it_goes_to_the_server_that_is_meant_and_nowhere_else() -> Result<()> {
    for (number, tls, encryption) in [
        (0, Tls::Smtps, Encryption::Tls),
        (1, Tls::StartTls, Encryption::Required),
        (2, Tls::StartTls, Encryption::Opportunistic),
    ] {
        let place = Place::take(&format!("mail-tls-{number}"))?;
        let settings = MailSettings {
            tls,
            login: Some((USER, PASSWORD)),
        };
        let address = place.net.receiver(number);
        let server = MailServer::start(address, place.home.path(), &place.root, settings)?;
        let roots = place.roots()?;
        sent(
            &mail(&server, encryption, roots.clone(), Some(PASSWORD))?,
            &message(),
        )?;
        ensure!(server.letters()?.len() == 1, "{tls:?}");
        let wrong = mail(&server, encryption, roots, Some("wrong-horse-battery"))?;
        let wrong = refused(&wrong, &message())?;
        ensure!(
            wrong.text.contains("535") && !wrong.text.contains("wrong-horse"),
            "{wrong}"
        );
        ensure!(wrong.status == Some(535), "{wrong:?}");
        let stranger = mail(&server, encryption, Roots::System, Some(PASSWORD))?;
        let stranger = refused(&stranger, &message())?;
        ensure!(stranger.text.contains("certificate"), "{stranger}");
        ensure!(server.letters()?.len() == 1, "{tls:?}");
    }
    Ok(())
}

#[test]
fn where_starttls_is_required_nothing_is_sent_without_it() -> Result<()> {
    let place = Place::take("mail-stripped")?;
    let settings = MailSettings {
        tls: Tls::Plain,
        login: None,
    };
    let server = MailServer::start(
        place.net.receiver(0),
        place.home.path(),
        &place.root,
        settings,
    )?;
    let required = mail(&server, Encryption::Required, place.roots()?, None)?;
    let refused = refused(&required, &message())?;
    ensure!(refused.text.contains("STARTTLS"), "{refused}");
    ensure!(server.letters()?.is_empty());
    sent(
        &mail(&server, Encryption::Opportunistic, place.roots()?, None)?,
        &message(),
    )?;
    ensure!(server.letters()?.len() == 1);
    Ok(())
}

#[test]
fn a_mail_server_that_says_nothing_is_left_when_the_time_is_over() -> Result<()> {
    let place = Place::take("mail-silent")?;
    let settings = MailSettings {
        tls: Tls::Plain,
        login: None,
    };
    let server = MailServer::start(
        place.net.receiver(0),
        place.home.path(),
        &place.root,
        settings,
    )?;
    let mut silent = mail(&server, Encryption::None, Roots::System, None)?;
    let deaf = std::net::TcpListener::bind(place.net.receiver(1))?;
    if let Service::Email(email) = &mut silent.service {
        email.server.host = deaf.local_addr()?.ip().to_string();
    }
    silent.limit = Duration::from_secs(1);
    let refused = refused(&silent, &message())?;
    ensure!(refused.text.contains("within 1s"), "{refused}");
    Ok(())
}

#[test]
fn a_mailbox_that_is_gone_keeps_the_letter_from_nobody_else() -> Result<()> {
    let place = Place::take("mail-gone")?;
    let settings = MailSettings {
        tls: Tls::Plain,
        login: None,
    };
    let server = MailServer::start(
        place.net.receiver(0),
        place.home.path(),
        &place.root,
        settings,
    )?;
    let to = |addresses: &[&str]| -> Result<Notifier> {
        let mut notifier = mail(&server, Encryption::None, Roots::System, None)?;
        if let Service::Email(email) = &mut notifier.service {
            let parsed = addresses.iter().map(|address| address.parse());
            email.to = parsed
                .collect::<Result<_, _>>()
                .map_err(anyhow::Error::msg)?;
        }
        Ok(notifier)
    };
    let (here, gone, also) = ("ops@example.org", "gone@example.org", "gone@example.net");
    for addresses in [[here, gone, also], [gone, also, here]] {
        let said = sent(&to(&addresses)?, &message())?;
        ensure!(said.contains("250"), "{said}");
        for gone in [gone, also] {
            let told = format!("it takes nothing for {gone}: ");
            ensure!(
                said.contains(&told) && said.contains("no such mailbox"),
                "{said}"
            );
        }
    }
    // For whom there is no room just now waits with all others: they get it together, once.
    let later = refused(&to(&[here, "busy@example.org"])?, &message())?;
    ensure!(later.text.contains("come back later"), "{later:?}");
    let said = refused(&to(&[gone, also])?, &message())?;
    ensure!(said.text.contains("no such mailbox"), "{said:?}");
    ensure!(said.status == Some(550), "{said:?}");
    let letters = server.letters()?;
    ensure!(letters.len() == 2, "{letters:?}");
    for letter in &letters {
        ensure!(header(letter, "X-RcptTo") == here, "{letter}");
    }
    Ok(())
}
