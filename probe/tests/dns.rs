//! What DNS says, and that it says nothing, are told apart.

#![expect(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::net::SocketAddr;

use certwell_probe::{Resolver, Unresolved, shows_a_new_fault};
use certwell_proto::v1::{Sighting, SightingState, UrlAnswer};
use tokio::{net::UdpSocket, task::AbortHandle};

/// A server that answers every question with this code and no record.
async fn server(code: u8) -> (SocketAddr, AbortHandle) {
    const HEADER: usize = 12;
    /// Type and class of a question.
    const REST: usize = 4;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut packet = [0; 512];
        while let Ok((_, from)) = socket.recv_from(&mut packet).await {
            let name = packet[HEADER..].iter().position(|byte| *byte == 0).unwrap();
            let mut answer = packet[..HEADER + name + 1 + REST].to_vec();
            // An answer, of a server that asks others; one question, no records.
            answer[2..HEADER].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0]);
            let _ = socket.send_to(&answer, from).await;
        }
    });
    (address, task.abort_handle())
}

async fn asked(server: SocketAddr) -> Unresolved {
    let resolver = Resolver::of(&[server]).unwrap();
    resolver.addresses("media.example.org").await.unwrap_err()
}

#[tokio::test]
async fn a_name_without_an_address_and_servers_without_an_answer_are_told_apart() {
    const NO_ERROR: u8 = 0;
    const SERVER_FAILURE: u8 = 2;
    const NO_SUCH_NAME: u8 = 3;
    const REFUSED: u8 = 5;
    for (code, has_none) in [
        (NO_ERROR, true),
        (NO_SUCH_NAME, true),
        (SERVER_FAILURE, false),
        (REFUSED, false),
    ] {
        let (address, task) = server(code).await;
        let why = asked(address).await;
        task.abort();
        assert_eq!(
            matches!(why, Unresolved::None(_)),
            has_none,
            "{code}: {why:?}"
        );
    }
    // Below those that the kernel gives to others: nobody is there.
    let why = asked(([127, 0, 0, 1], 1).into()).await;
    assert!(matches!(why, Unresolved::NoAnswer(_)), "{why:?}");
}

#[test]
fn a_fault_is_new_until_the_round_before_has_shown_it_too() {
    let at = |address: &str, state: SightingState, problem: &str| Sighting {
        address: address.into(),
        state: state.into(),
        url: Some(UrlAnswer {
            problem: problem.into(),
            ..UrlAnswer::default()
        }),
        ..Sighting::default()
    };
    let well = || vec![at("192.0.2.1:443", SightingState::Leaf, "")];
    let down = || vec![at("192.0.2.1:443", SightingState::Down, "")];
    let other = || vec![at("192.0.2.2:443", SightingState::Down, "")];
    let url = || vec![at("192.0.2.1:443", SightingState::Leaf, "status 404")];
    let nowhere = || vec![at("", SightingState::Unresolved, "")];
    assert!(!shows_a_new_fault(&[], &well()));
    for fault in [down(), url(), nowhere()] {
        assert!(shows_a_new_fault(&[], &fault), "{fault:?}");
        assert!(shows_a_new_fault(&well(), &fault), "{fault:?}");
        assert!(!shows_a_new_fault(&fault, &fault), "{fault:?}");
        assert!(!shows_a_new_fault(&fault, &well()), "{fault:?}");
    }
    assert!(shows_a_new_fault(&down(), &other()));
    assert!(shows_a_new_fault(&down(), &url()));
    // Where DNS gives another address each time, the name has the fault.
    let by_dns = |mut fault: Vec<Sighting>| {
        fault.iter_mut().for_each(|sighting| sighting.by_dns = true);
        fault
    };
    assert!(!shows_a_new_fault(&by_dns(down()), &by_dns(other())));
    assert!(shows_a_new_fault(&by_dns(well()), &by_dns(other())));
    assert!(shows_a_new_fault(&by_dns(down()), &other()));
    assert!(shows_a_new_fault(&other(), &by_dns(other())));
}
