//! Who gets what: a second certificate on two of the hosts, and a host whose identity is ended.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use certwell_lab::{Settings, Site, rpc::Caller, story, wait_for};
use certwell_proto::v1;
use tokio::{
    runtime::Builder,
    time::{Instant, timeout},
};
use tonic::Code;

use crate::{SOON, first_issuance};

const ASSETS: &str = "assets.hachyderm.io";
const NAMES: [&str; 3] = [ASSETS, "static.hachyderm.io", "files.hachyderm.io"];

#[test]
fn a_certificate_of_two_hosts_is_not_found_by_the_others() -> Result<()> {
    story("assignment", &Settings::default(), |world| {
        first_issuance(world)?;
        let mine = ["sally", "esme"];
        for name in NAMES {
            world.dns.set(
                name,
                &world.addresses(|host| mine.contains(&host.name.as_str())),
            )?;
        }
        for name in mine {
            let host = world.host_mut(name)?;
            host.nginx.add_site(Site::new(ASSETS, &NAMES))?;
            host.nginx.reload()?;
        }
        world.issuer.declare(
            "30-assets",
            &format!("[certificate.{ASSETS:?}]\nidentifiers = {NAMES:?}\nhosts = {mine:?}\n"),
        )?;
        for name in NAMES {
            let served =
                world.all_serve_new(name, None, SOON, |host| mine.contains(&host.name.as_str()))?;
            for san in NAMES {
                world.check_issued(san, &served)?;
            }
        }
        world.converged(ASSETS, 1, SOON)?;

        let issuer = world.net.issuer();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let fetch = |host: &str,
                     certificate: &str,
                     generation|
         -> Result<Result<v1::Bundle, tonic::Status>> {
            let host = world
                .hosts
                .iter()
                .find(|h| h.name == host)
                .context("host")?;
            let caller = Caller::of_host(host, issuer)?;
            runtime.block_on(async {
                let request = v1::FetchRequest {
                    certificate: certificate.to_owned(),
                    generation,
                };
                Ok(caller
                    .fleet()
                    .await?
                    .fetch(request)
                    .await
                    .map(tonic::Response::into_inner))
            })
        };
        let bundle = fetch("sally", ASSETS, 1)??;
        ensure!(bundle.key_pairs.len() == 1 && !bundle.key_pairs[0].private_key.is_empty());
        for other in ["cdn-frankfurt-1", "cdn-fremont-1"] {
            ensure!(
                !world
                    .host(other)?
                    .agent_state()
                    .join("store")
                    .join(ASSETS)
                    .exists(),
                "{other} has its key"
            );
        }
        for other in ["cdn-frankfurt-1", "cdn-fremont-1"] {
            let refused = fetch(other, ASSETS, 1)?
                .err()
                .context("it was handed out")?;
            let absent = fetch(other, "nobody.hachyderm.io", 1)?
                .err()
                .context("it doesn't exist")?;
            ensure!(refused.code() == Code::NotFound, "{refused:?}");
            ensure!(
                refused.message().replace(ASSETS, "X")
                    == absent.message().replace("nobody.hachyderm.io", "X"),
                "the answers tell which exists: {:?} and {:?}",
                refused.message(),
                absent.message()
            );
        }
        let fetched = world
            .issuer
            .events()?
            .into_iter()
            .filter(|e| e.kind == "fetched" && e.certificate.as_deref() == Some(ASSETS));
        let by: Vec<_> = fetched.filter_map(|e| e.host).collect();
        ensure!(
            by.iter().any(|h| h == "sally") && by.iter().all(|h| mine.contains(&h.as_str())),
            "the audit says {by:?}"
        );
        Ok(())
    })
}

#[test]
fn a_revoked_host_is_cut_off_at_once_and_refused_ever_after() -> Result<()> {
    story(
        "revoked",
        &Settings::default().only(&["sally", "esme"]),
        |world| {
            world.join_all()?;
            world
                .issuer
                .declare("20-media", &crate::media_on(&["sally", "esme"]))?;
            world.converged(certwell_lab::MEDIA, 1, SOON)?;
            // The lab holds a stream of its own in sally's name.
            let caller = Caller::of_host(world.host("sally")?, world.net.issuer())?;
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let mut stream = runtime.block_on(async {
                let mut stream = caller
                    .fleet()
                    .await?
                    .watch(v1::WatchRequest::default())
                    .await?
                    .into_inner();
                let first = timeout(SOON, stream.message())
                    .await??
                    .context("no desired state")?;
                ensure!(first.certificates.len() == 1);
                anyhow::Ok(stream)
            })?;
            let start = Instant::now();
            world
                .issuer
                .certwell(&["hosts", "revoke", "sally", "--yes"])?
                .success("certwell hosts revoke")?;
            let revoked = start.elapsed();
            let cut = runtime.block_on(async {
                loop {
                    match timeout(Duration::from_secs(5), stream.message())
                        .await
                        .context("the stream lives on")?
                    {
                        // A last state that was under way.
                        Ok(Some(_)) => {}
                        Ok(None) => return anyhow::Ok(None),
                        Err(status) => return Ok(Some(status)),
                    }
                }
            })?;
            let took = start.elapsed();
            ensure!(
                took < revoked + Duration::from_secs(1),
                "the stream was cut after {took:?} only ({cut:?})"
            );
            for call in ["watch", "fetch", "report", "renew"] {
                let refused = runtime.block_on(call_as(&caller, call))?;
                ensure!(
                    matches!(
                        refused,
                        Some(Code::Unauthenticated | Code::PermissionDenied)
                    ),
                    "{call}: {refused:?}"
                );
            }
            wait_for("status to say so", SOON, || {
                let list = world.issuer.certwell(&["hosts", "list"])?;
                ensure!(list.stdout.contains("revoked"), "{}", list.stdout);
                Ok(())
            })?;
            // It keeps what it serves, and the others are as before.
            ensure!(
                world.host("sally")?.served(certwell_lab::MEDIA)?
                    == world.host("esme")?.served(certwell_lab::MEDIA)?
            );
            // A new token brings it back.
            let token = world.issuer.token("sally")?;
            let sally = world.host_mut("sally")?;
            sally.stop_agent();
            let bound = sally.agent_state().join("identity/bound.key");
            let before = fs::read(&bound)?;
            sally
                .agent_command(&["enroll", "--again", &token])?
                .success("certwell-agent enroll --again")?;
            ensure!(fs::read(&bound)? == before, "the bound key is another");
            sally.start_agent()?;
            world
                .issuer
                .certwell(&["certificates", "renew", certwell_lab::MEDIA])?
                .success("renew")?;
            world.converged(certwell_lab::MEDIA, 2, SOON)
        },
    )
}

/// The code with which a call was refused; none if it was answered.
async fn call_as(caller: &Caller, call: &str) -> Result<Option<Code>> {
    let channel = match caller.channel().await {
        Ok(channel) => channel,
        // Refused at the door.
        Err(_) => return Ok(Some(Code::Unauthenticated)),
    };
    let mut fleet = v1::fleet_client::FleetClient::new(channel.clone());
    let outcome = match call {
        "watch" => fleet.watch(v1::WatchRequest::default()).await.map(drop),
        "fetch" => fleet
            .fetch(v1::FetchRequest {
                certificate: certwell_lab::MEDIA.into(),
                generation: 1,
            })
            .await
            .map(drop),
        "report" => fleet.report(v1::Report::default()).await.map(drop),
        "renew" => v1::enrollment_client::EnrollmentClient::new(channel)
            .renew(v1::RenewRequest::default())
            .await
            .map(drop),
        other => bail!("no call {other}"),
    };
    Ok(outcome.err().map(|status| status.code()))
}
