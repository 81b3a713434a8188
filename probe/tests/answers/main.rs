//! What servers answer that nginx doesn't: a key that isn't there, one kind of key alone, a packet that was lost, a body
//! that ends too soon.

#[cfg(test)]
mod outlook;
#[cfg(test)]
mod server;

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use certwell_probe::{
        Look,
        chain::{Roots, problem},
        url::Expected,
    };
    use certwell_proto::{
        Leaf,
        v1::{KeyAlgorithm, SightingState},
    };
    use jiff::SignedDuration;
    use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};

    use crate::server::{NAME, Pair, Server, Ways, now};

    const WHOLE: Ways = Ways {
        drops: 0,
        answer: "HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 2\r\n\r\nok",
    };

    #[tokio::test]
    async fn whoever_shows_a_certificate_without_its_key_does_not_serve_it() {
        let (ours, theirs) = (
            Pair::of(&PKCS_ECDSA_P256_SHA256),
            Pair::of(&PKCS_ECDSA_P256_SHA256),
        );
        let server = Server::start(&ours.der, &ours.key, WHOLE).await;
        let [ecdsa, _] = &server.looked_at(server.look(), &ours.der).await[..] else {
            panic!("two kinds of key");
        };
        assert_eq!(ecdsa.state(), SightingState::Leaf, "{ecdsa:?}");
        let server = Server::start(&ours.der, &theirs.key, WHOLE).await;
        let seen = server.looked_at(server.look(), &ours.der).await;
        assert_eq!(seen[0].state(), SightingState::Down, "{seen:?}");
        let words = "without proving that it has its key";
        assert!(seen[0].detail.contains(words), "{}", seen[0].detail);
    }

    #[tokio::test]
    async fn a_server_with_one_kind_of_key_has_none_of_the_other() {
        for (algorithm, has, lacks) in [
            (&PKCS_RSA_SHA256, KeyAlgorithm::Rsa, KeyAlgorithm::Ecdsa),
            (
                &PKCS_ECDSA_P256_SHA256,
                KeyAlgorithm::Ecdsa,
                KeyAlgorithm::Rsa,
            ),
        ] {
            let pair = Pair::of(algorithm);
            let server = Server::start(&pair.der, &pair.key, WHOLE).await;
            for sighting in server.looked_at(server.look(), &pair.der).await {
                let expected = match sighting.key() {
                    key if key == has => SightingState::Leaf,
                    key if key == lacks => SightingState::NoSuchKey,
                    _ => SightingState::Unspecified,
                };
                assert_eq!(sighting.state(), expected, "{sighting:?}");
            }
        }
    }

    #[tokio::test]
    async fn one_connection_that_is_lost_is_no_news_and_two_are() {
        let pair = Pair::of(&PKCS_ECDSA_P256_SHA256);
        for (drops, state) in [(1, SightingState::Leaf), (3, SightingState::Down)] {
            let ways = Ways { drops, ..WHOLE };
            let server = Server::start(&pair.der, &pair.key, ways).await;
            let seen = server.looked_at(server.look(), &pair.der).await;
            assert_eq!(seen[0].state(), state, "{seen:?}");
            assert!(server.connected.load(Ordering::SeqCst) > 1);
        }
    }

    #[tokio::test]
    async fn an_image_that_ends_too_soon_is_not_loaded() {
        let pair = Pair::of(&PKCS_ECDSA_P256_SHA256);
        let cut = "HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 99\r\n\r\nok";
        for (answer, words) in [(WHOLE.answer, ""), (cut, "breaks off after 2 bytes")] {
            let ways = Ways { drops: 0, answer };
            let server = Server::start(&pair.der, &pair.key, ways).await;
            let url = Some(Expected {
                url: format!("https://{NAME}/health.png"),
                status: 200,
                content_type: "image/".into(),
            });
            let look = Look {
                url,
                ..server.look()
            };
            let seen = server.looked_at(look, &pair.der).await;
            let answered = seen[0].url.clone().unwrap();
            assert_eq!(answered.status, 200);
            assert!(answered.problem.contains(words), "{}", answered.problem);
            assert_eq!(answered.problem.is_empty(), words.is_empty());
        }
    }

    #[test]
    fn a_chain_is_right_from_its_first_instant_up_to_its_last() {
        let pair = Pair::of(&PKCS_ECDSA_P256_SHA256);
        let leaf = Leaf::read(&pair.der).unwrap();
        let of = |at| {
            problem(
                std::slice::from_ref(&pair.der),
                &leaf,
                NAME,
                &Roots::default(),
                at,
            )
        };
        let second = SignedDuration::from_secs(1);
        assert_eq!(of(now()), None);
        assert_eq!(of(leaf.not_before), None);
        assert!(
            of(leaf.not_before - second)
                .unwrap()
                .contains("isn't valid before")
        );
        assert_eq!(of(leaf.not_after - second), None);
        assert!(of(leaf.not_after).unwrap().contains("expired"));
    }
}
