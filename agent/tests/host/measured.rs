//! What an agent tells Prometheus of its host.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use certwell_proto::Leaf;

use super::{
    host::{NAME, free_port},
    issuer::eventually,
    world::{serving_as, world},
};

fn scrape(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    Some(body.to_owned())
}

fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series))?;
    line.trim().parse().ok()
}

#[tokio::test]
async fn generations_ends_and_steps_are_told_where_it_is_asked_for() {
    let world = world().await;
    let address = free_port();
    let file = world.host.path("agent.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str(&format!("\n[metrics]\nlisten = \"{address}\"\n"));
    std::fs::write(&file, text).unwrap();
    // Somebody else has it at first: the agent does its work all the same.
    let taken = std::net::TcpListener::bind(address).unwrap();
    let (mut world, _) = serving_as(world).await;
    assert!(world.host.agent_log().contains("metrics can't be served"));
    drop(taken);
    world.host.end_agent().await;
    world.host.start_agent();

    let of = |series: &str| series.replace("NAME", NAME);
    let text = eventually("the generation is told as served", || async {
        let text = scrape(address)?;
        let served =
            of("certwell_agent_certificate_generation{certificate=\"NAME\",fact=\"served\"}");
        let connected = value(&text, "certwell_agent_connected ") == Some(1.0);
        (connected && value(&text, &served) == Some(1.0)).then_some(text)
    })
    .await;
    for (series, expected) in [
        ("certwell_agent_connected", 1.0),
        ("certwell_agent_host_problem", 0.0),
        (
            "certwell_agent_certificate_generation{certificate=\"NAME\",fact=\"active\"}",
            1.0,
        ),
        (
            "certwell_agent_certificate_problem{certificate=\"NAME\"}",
            0.0,
        ),
        (
            "certwell_agent_certificate_outcome{certificate=\"NAME\",outcome=\"converged\"}",
            1.0,
        ),
    ] {
        assert_eq!(
            value(&text, &of(series)),
            Some(expected),
            "{series}: {text}"
        );
    }
    let second = world.bundle(2);
    world.offer(&second);
    let text = eventually("an install is measured", || async {
        let text = scrape(address)?;
        let served =
            of("certwell_agent_certificate_generation{certificate=\"NAME\",fact=\"served\"}");
        (value(&text, &served) == Some(2.0)).then_some(text)
    })
    .await;
    for step in [
        "fetch",
        "verify",
        "stage",
        "candidate-test",
        "baseline",
        "activate",
        "test",
        "reload",
        "confirm",
    ] {
        let series = format!(
            "certwell_agent_step_duration_seconds_count{{step=\"{step}\",result=\"passed\"}}"
        );
        assert!(value(&text, &series) >= Some(1.0), "{series}: {text}");
    }
    let ends = Leaf::read(&second.key_pairs[0].fullchain[0])
        .unwrap()
        .not_after;
    let told = of("certwell_agent_certificate_not_after_timestamp_seconds{certificate=\"NAME\"}");
    assert_eq!(value(&text, &told), Some(ends.as_second() as f64));
    assert!(!text.contains("PRIVATE"), "{text}");
}

#[tokio::test]
async fn nothing_listens_unless_it_is_asked_for() {
    let (world, _) = serving_as(world().await).await;
    let pid = world.host.agent_pid();
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let sockets: Vec<String> = links
        .flatten()
        .filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .filter_map(|to| {
            Some(
                to.to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        })
        .collect();
    assert!(!sockets.is_empty());
    for table in ["tcp", "tcp6"] {
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap();
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // 0A: it listens.
            let own = sockets.iter().any(|socket| socket == fields[9]);
            assert!(!(own && fields[3] == "0A"), "{line}");
        }
    }
}
