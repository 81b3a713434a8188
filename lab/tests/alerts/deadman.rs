//! The dead-man's switch: whoever listens outside notices that the issuer is silent, or that it can't do its work.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    holds_for,
    receivers::{Answer, HttpReceiver},
    story,
};

use crate::{
    SOON,
    ear::{Ear, Speed, drill, tell},
    sally,
};

/// So long no beat comes.
const SILENCE: Duration = Duration::from_secs(5);

fn beats(outside: &HttpReceiver) -> usize {
    outside.received().len()
}

fn more_come(outside: &HttpReceiver, what: &str) -> Result<()> {
    let before = beats(outside);
    outside.wait_for(what, SOON, |received| {
        (received.len() >= before + 3).then_some(())
    })
}

/// None comes, but for one that may have been on its way.
fn none_comes(outside: &HttpReceiver, what: &str) -> Result<()> {
    let before = beats(outside);
    holds_for(what, SILENCE, || {
        let more = beats(outside) - before;
        ensure!(more <= 1, "{more} beats came");
        Ok(())
    })
}

#[test]
fn heartbeats_stop_with_the_issuer_and_when_it_can_do_no_complete_evaluation() -> Result<()> {
    story("alerts-heartbeat", &sally(), |world| {
        let ear = Ear::listen(world, "hook", 0)?;
        let outside = HttpReceiver::start(world.net.receiver(1))?;
        let url = outside.url("/ping/0123456789abcdef-secret");
        let more = format!("heartbeat-url = {url:?}\nheartbeat-every = \"500ms\"\n");
        tell(world, &[&ear], &Speed::default(), &more)?;
        more_come(&outside, "beats")?;
        ensure!(outside.received()[0].path.ends_with("-secret"));

        world.issuer.stop();
        none_comes(&outside, "silence of an issuer that was stopped")?;
        world.issuer.serve()?;
        more_come(&outside, "beats after a start")?;
        world.issuer.kill9()?;
        none_comes(&outside, "silence of an issuer that was killed")?;
        world.issuer.serve()?;
        more_come(&outside, "beats after another start")?;

        // Somebody else has the database: nothing can be committed.
        let database = world.issuer.state().join("certwell.db");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let held = runtime.block_on(hold(&database))?;
        none_comes(&outside, "silence while the store can't be written")?;
        runtime.block_on(release(held))?;
        more_come(&outside, "beats when the store can be written again")?;

        // A redirect isn't followed, and is no reason to stop.
        outside.answer(Answer::redirect("http://127.0.0.1:1/"));
        more_come(&outside, "beats whatever comes back")?;

        // Nobody is reached any more: that nobody hears of it inside is what the outside is for.
        outside.answer(Answer::fine());
        ear.answer(Answer::Status(500, "no".into()));
        drill(world)?;
        certwell_lab::wait_for("the only notifier to be known as failing", SOON, || {
            let list = world.issuer.certwell(&["alerts", "list", "--json"])?;
            ensure!(list.stdout.contains("notifier-failing"), "{}", list.stdout);
            Ok::<_, anyhow::Error>(())
        })?;
        none_comes(&outside, "silence while no notifier accepts anything")?;
        ear.answer(Answer::fine());
        more_come(&outside, "beats when it does again")?;

        let log = std::fs::read_to_string(world.issuer.log())?;
        ensure!(
            !log.contains("0123456789abcdef"),
            "the URL's token is in the log"
        );
        let test = world.issuer.certwell(&["alerts", "test"])?;
        ensure!(
            test.code == 0 && !test.stdout.contains("0123456789abcdef"),
            "{test:?}"
        );
        Ok(())
    })
}

type Held = sqlx::SqliteConnection;

async fn hold(database: &std::path::Path) -> Result<Held> {
    use sqlx::{Connection as _, Executor as _};
    let url = format!("sqlite://{}", database.display());
    let mut connection = sqlx::SqliteConnection::connect(&url)
        .await
        .context("the database can't be opened")?;
    connection.execute("BEGIN IMMEDIATE").await?;
    Ok(connection)
}

async fn release(mut held: Held) -> Result<()> {
    use sqlx::{Connection as _, Executor as _};
    held.execute("ROLLBACK").await?;
    Ok(held.close().await?)
}
