use super::*;

fn report(installed: u64, served: Option<u64>, problem: &str) -> v1::CertificateReport {
    v1::CertificateReport {
        name: "media.hachyderm.io".into(),
        installed: Some(v1::Fact {
            generation: installed,
            agent_at_ms: 5,
        }),
        served: Some(v1::Served {
            generation: served,
            agent_at_ms: 6,
            ..Default::default()
        }),
        problem: problem.into(),
        ..Default::default()
    }
}

fn merged(
    previous: Option<&Observation>,
    report: v1::CertificateReport,
    now: i64,
) -> (Observation, Vec<Noticed>) {
    merge(
        previous,
        &"sally".parse().unwrap(),
        &"media.hachyderm.io".parse().unwrap(),
        report,
        now,
    )
}

#[test]
fn the_same_report_changes_nothing_and_is_no_news() {
    let (first, news) = merged(None, report(1, Some(1), ""), 100);
    assert_eq!(
        news,
        [Noticed::Installed(1.into()), Noticed::Served(1.into())]
    );
    let (second, news) = merged(Some(&first), report(1, Some(1), ""), 200);
    assert_eq!(second, first);
    assert!(news.is_empty());
}

#[test]
fn a_new_generation_has_the_time_of_its_receipt() {
    let (first, _) = merged(None, report(1, Some(1), ""), 100);
    let (second, news) = merged(Some(&first), report(2, Some(1), ""), 200);
    assert_eq!(second.facts.installed.as_ref().map(|f| f.at_ms), Some(200));
    assert_eq!(second.facts.served.as_ref().map(|f| f.at_ms), Some(100));
    assert_eq!(news, [Noticed::Installed(2.into())]);
}

#[test]
fn a_problem_is_told_once() {
    let (first, news) = merged(None, report(1, None, "nginx -t failed"), 100);
    assert!(news.contains(&Noticed::Problem("nginx -t failed".into())));
    let (_, news) = merged(Some(&first), report(1, None, "nginx -t failed"), 200);
    assert!(news.is_empty());
}

#[test]
fn the_placeholder_counts_as_nothing() {
    let (seen, news) = merged(None, report(0, Some(0), ""), 100);
    assert_eq!(seen.facts.installed, None);
    assert!(news.is_empty());
}

#[test]
fn reports_that_name_nothing_real_are_refused_by_field() {
    let mut bad = v1::Report {
        certificates: vec![report(1, Some(1), "")],
        ..Default::default()
    };
    assert!(check(&bad).is_ok());
    bad.certificates[0].name = "../etc".into();
    assert!(
        check(&bad)
            .unwrap_err()
            .to_string()
            .starts_with("certificates[0].name: ")
    );
}

fn refusal(change: impl FnOnce(&mut v1::Report)) -> String {
    let mut bad = v1::Report {
        certificates: vec![report(1, Some(1), ""), report(1, Some(1), "")],
        ..Default::default()
    };
    change(&mut bad);
    check(&bad).map_or_else(|e| e.field, |()| String::new())
}

fn served(report: &mut v1::Report) -> &mut v1::Served {
    report.certificates[1].served.as_mut().unwrap()
}

#[test]
fn what_is_beyond_every_bound_is_refused_by_field_and_what_is_at_the_bound_is_not() {
    let high = HIGHEST_GENERATION + 1;
    let fact = |generation| {
        Some(v1::Fact {
            generation,
            agent_at_ms: 0,
        })
    };
    for (most, over) in [(HIGHEST_GENERATION, high), (HIGHEST_GENERATION, u64::MAX)] {
        for (number, refused) in [(most, false), (over, true)] {
            let due = |field: &str| {
                if refused {
                    format!("certificates[1].{field}")
                } else {
                    String::new()
                }
            };
            assert_eq!(
                refusal(|r| r.certificates[1].fetched = fact(number)),
                due("fetched.generation")
            );
            assert_eq!(
                refusal(|r| r.certificates[1].installed = fact(number)),
                due("installed.generation")
            );
            assert_eq!(
                refusal(|r| r.certificates[1].tested = fact(number)),
                due("tested.generation")
            );
            assert_eq!(
                refusal(|r| r.certificates[1].reloaded = fact(number)),
                due("reloaded.generation")
            );
            assert_eq!(
                refusal(|r| r.certificates[1].outcome_generation = number),
                due("outcome_generation")
            );
            assert_eq!(
                refusal(|r| served(r).generation = Some(number)),
                due("served.generation")
            );
        }
    }
    for (count, refused) in [
        (LISTENERS, ""),
        (LISTENERS + 1, "certificates[1].served.listeners"),
    ] {
        assert_eq!(
            refusal(|r| served(r).listeners = vec![v1::Listener::default(); count]),
            refused
        );
    }
    for (chain, refused) in [
        (vec![vec![0; CHAIN_CERTIFICATE]; CHAIN], ""),
        (vec![vec![0]; CHAIN + 1], "certificates[1].active_fullchain"),
        (
            vec![vec![0], vec![0; CHAIN_CERTIFICATE + 1]],
            "certificates[1].active_fullchain[1]",
        ),
    ] {
        assert_eq!(
            refusal(|r| r.certificates[1].active_fullchain = chain),
            refused
        );
    }
    for (count, refused) in [
        (limits::CERTIFICATES_PER_HOST, ""),
        (limits::CERTIFICATES_PER_HOST + 1, "certificates"),
    ] {
        assert_eq!(
            refusal(|r| r.certificates = vec![report(1, None, ""); count]),
            refused
        );
    }
    assert_eq!(
        refusal(|r| {
            served(r).listeners = vec![v1::Listener {
                fingerprint: vec![1; 31],
                ..Default::default()
            }];
        }),
        "certificates[1].served.listeners[0].fingerprint"
    );
}

#[test]
fn long_words_are_cut_between_characters_and_cut_words_are_no_news_again() {
    let mut long = report(1, Some(1), &"ö".repeat(5_000));
    long.served.as_mut().unwrap().listeners = vec![v1::Listener {
        address: "a".repeat(3_000),
        name: "n".repeat(3_000),
        detail: "d".repeat(TEXT),
        ..Default::default()
    }];
    let (seen, _) = merged(None, long.clone(), 100);
    let problem = &seen.facts.problem;
    assert!(problem.len() <= TEXT && problem.len() > TEXT - 8);
    assert!(problem.ends_with("ö…"));
    let listener = &seen.facts.served.as_ref().unwrap().listeners[0];
    assert_eq!(
        (
            listener.address.len(),
            listener.name.len(),
            &listener.detail
        ),
        (TEXT, TEXT, &"d".repeat(TEXT))
    );
    let (again, news) = merged(Some(&seen), long, 200);
    assert_eq!((again, news), (seen, vec![]));
}

proptest::proptest! {
    #[test]
    fn any_text_is_cut_to_its_bound_and_keeps_its_beginning(text in "\\PC{0,3000}") {
        let short = shortened(text.clone());
        proptest::prop_assert!(short.len() <= TEXT);
        if text.len() <= TEXT {
            proptest::prop_assert_eq!(short, text);
        } else {
            proptest::prop_assert!(text.starts_with(short.trim_end_matches('…')));
            proptest::prop_assert!(short.len() > TEXT - 4);
        }
    }
}
