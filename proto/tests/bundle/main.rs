//! What a bundle must be before anybody uses it, on chains as CAs make them: root, intermediate, leaf.
#![expect(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod chain;

use certwell_proto::{
    Bundle, Generation, Identifier, KeyPair, Secret,
    bundle::{BundleError, Expected, verify_chain},
    v1,
};
use rcgen::{
    CertificateParams, DnType, IsCa, Issuer, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_RSA_SHA256,
};

use chain::{Ca, Made, NAME, ca, dated, days, leaf_of, made, made_with, noon};

#[test]
fn a_whole_bundle_passes_with_every_kind_of_key_and_names_its_root() {
    for algorithm in [
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_RSA_SHA256,
    ] {
        let made = made_with(algorithm, noon() - days(1), noon() + days(89));
        let other = ca("Other root", None);
        let names = [NAME, "192.0.2.7"];
        assert_eq!(
            made.verify_for(&made.pair(), &names, &[&other, &made.root]),
            Ok(1)
        );
        assert_eq!(made.verify_for(&made.pair(), &names, &[&made.root]), Ok(0));
    }
}

#[test]
fn what_is_read_of_the_leaf_is_what_was_asked_for() {
    let made = made();
    let names: Vec<Identifier> = vec![NAME.parse().unwrap()];
    let roots = vec![made.root.der.clone()];
    let expected = Expected {
        identifiers: &names,
        roots: &roots,
        now: noon(),
    };
    let leaf = made.pair().verify(&expected).unwrap().leaf;
    assert_eq!(leaf.not_after, noon() + days(89));
    assert_eq!(
        leaf.fingerprint,
        certwell_proto::Fingerprint::of(&made.leaf)
    );
    assert_eq!(
        leaf.identifiers,
        [NAME.parse().unwrap(), "192.0.2.7".parse().unwrap()]
    );
    assert!(!leaf.self_issued);
}

/// Name, change of a good bundle, and the error.
type Case = (
    &'static str,
    fn(&Made, &mut KeyPair),
    fn(&BundleError) -> bool,
);

const CASES: &[Case] = &[
    (
        "empty",
        |_, pair| pair.fullchain.clear(),
        |e| matches!(e, BundleError::Empty),
    ),
    (
        "the key of another leaf",
        |_, pair| {
            let other = rcgen::KeyPair::generate().unwrap();
            pair.private_key = Secret::new(other.serialize_der());
        },
        |e| matches!(e, BundleError::KeyMismatch),
    ),
    (
        "the key of another leaf, and of another kind",
        |_, pair| {
            let other = rcgen::KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
            pair.private_key = Secret::new(other.serialize_der());
        },
        |e| matches!(e, BundleError::KeyMismatch),
    ),
    (
        "no key at all",
        |_, pair| pair.private_key = Secret::new(b"junk".to_vec()),
        |e| matches!(e, BundleError::Key),
    ),
    (
        "a key of a kind that is not used",
        |_, pair| {
            let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
            pair.private_key = Secret::new(other.serialize_der());
        },
        |e| matches!(e, BundleError::Key),
    ),
    (
        "a key that is cut short",
        |_, pair| {
            let whole = pair.private_key.expose();
            pair.private_key = Secret::new(whole[..whole.len() - 1].to_vec());
        },
        |e| matches!(e, BundleError::Key),
    ),
    (
        "the intermediate before the leaf",
        |_, pair| pair.fullchain.reverse(),
        |e| matches!(e, BundleError::Order(1)),
    ),
    (
        "something foreign at the end of the chain",
        |_, pair| pair.fullchain.push(ca("Other root", None).der),
        |e| matches!(e, BundleError::Order(2)),
    ),
    (
        "the leaf twice",
        |made, pair| pair.fullchain.insert(0, made.leaf.clone()),
        |e| matches!(e, BundleError::Order(1)),
    ),
    (
        "no intermediate",
        |_, pair| pair.fullchain.truncate(1),
        |e| matches!(e, BundleError::Chain(_)),
    ),
    (
        "an intermediate of the right name, signed by another root",
        |_, pair| {
            let forged_root = ca("Root", None);
            pair.fullchain[1] = ca("Intermediate", Some(&forged_root)).der;
        },
        |e| matches!(e, BundleError::Chain(_)),
    ),
    (
        "an intermediate of the right name and root, with another key",
        |made, pair| pair.fullchain[1] = ca("Intermediate", Some(&made.root)).der,
        |e| matches!(e, BundleError::Chain(_)),
    ),
    (
        "a leaf whose signature is damaged",
        |_, pair| {
            let last = pair.fullchain[0].len() - 1;
            pair.fullchain[0][last] ^= 1;
        },
        |e| matches!(e, BundleError::Chain(_)),
    ),
    (
        "an intermediate that may not sign",
        |made, pair| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params
                .distinguished_name
                .push(DnType::CommonName, "Intermediate");
            params.is_ca = IsCa::ExplicitNoCa;
            dated(&mut params, noon() - days(1), noon() + days(1));
            pair.fullchain[1] = params
                .signed_by(&key, &made.root.issuer)
                .unwrap()
                .der()
                .to_vec();
            let not_a_ca = Ca {
                der: vec![],
                issuer: Issuer::new(params, key),
            };
            pair.fullchain[0] = leaf_of(
                &not_a_ca,
                &[NAME],
                &made.key,
                noon() - days(1),
                noon() + days(1),
            );
        },
        |e| matches!(e, BundleError::Chain(_)),
    ),
    (
        "garbage for a leaf",
        |_, pair| pair.fullchain[0] = b"garbage".to_vec(),
        |e| matches!(e, BundleError::Unreadable { index: 0, .. }),
    ),
    (
        "garbage for an intermediate",
        |_, pair| pair.fullchain[1] = vec![0x30, 0x82, 0xff, 0xff],
        |e| matches!(e, BundleError::Unreadable { index: 1, .. }),
    ),
    (
        "an empty certificate",
        |_, pair| pair.fullchain[1].clear(),
        |e| matches!(e, BundleError::Unreadable { index: 1, .. }),
    ),
    (
        "bytes after the leaf",
        |_, pair| pair.fullchain[0].push(0),
        |e| matches!(e, BundleError::Unreadable { index: 0, .. }),
    ),
    (
        "bytes after the intermediate",
        |_, pair| pair.fullchain[1].extend_from_slice(b"tail"),
        |e| matches!(e, BundleError::Unreadable { index: 1, .. }),
    ),
    (
        "a leaf for other names",
        |made, pair| {
            pair.fullchain[0] = leaf_of(
                &made.intermediate,
                &["www.hachyderm.io"],
                &made.key,
                noon() - days(1),
                noon() + days(1),
            );
        },
        |e| matches!(e, BundleError::Identifiers(missing) if missing == NAME),
    ),
    (
        "a leaf that has expired to the second",
        |made, pair| {
            pair.fullchain[0] = leaf_of(
                &made.intermediate,
                &[NAME],
                &made.key,
                noon() - days(9),
                noon(),
            );
        },
        |e| matches!(e, BundleError::Expired(at) if *at == noon()),
    ),
    (
        "a leaf of tomorrow",
        |made, pair| {
            let tomorrow = noon() + days(1);
            pair.fullchain[0] = leaf_of(
                &made.intermediate,
                &[NAME],
                &made.key,
                tomorrow,
                tomorrow + days(1),
            );
        },
        |e| matches!(e, BundleError::NotYetValid(at) if *at == noon() + days(1)),
    ),
];

#[test]
fn whatever_is_wrong_is_refused_and_named() {
    let made = made();
    for (name, change, refused) in CASES {
        let mut pair = made.pair();
        change(&made, &mut pair);
        match made.verify(&pair) {
            Ok(_) => panic!("{name}: it passed"),
            Err(e) => assert!(refused(&e), "{name}: {e:?}"),
        }
    }
}

#[test]
fn a_chain_to_a_root_of_another_authority_is_refused() {
    let made = made();
    let other = ca("Other root", None);
    let namesake = ca("Root", None);
    for roots in [&[&other][..], &[&namesake], &[]] {
        let verdict = made.verify_for(&made.pair(), &[NAME], roots);
        assert!(matches!(verdict, Err(BundleError::Chain(_))), "{verdict:?}");
    }
    let broken = Ca {
        der: b"junk".to_vec(),
        issuer: ca("Broken", None).issuer,
    };
    let verdict = made.verify_for(&made.pair(), &[NAME], &[&broken]);
    assert!(matches!(verdict, Err(BundleError::Root(_))), "{verdict:?}");
    // One that can't be read doesn't spoil the others, nor the count of which it was.
    let root = made
        .verify_for(&made.pair(), &[NAME], &[&broken, &made.root])
        .unwrap();
    assert_eq!(root, 1);
}

#[test]
fn every_name_that_is_missing_is_told() {
    let made = made();
    let verdict = made.verify_for(
        &made.pair(),
        &[NAME, "a.example", "192.0.2.8"],
        &[&made.root],
    );
    assert_eq!(
        verdict,
        Err(BundleError::Identifiers("a.example, 192.0.2.8".into()))
    );
}

#[test]
fn a_chain_alone_is_checked_without_its_key() {
    let made = made();
    let identifiers = [NAME.parse().unwrap()];
    let roots = [made.root.der.clone()];
    let expected = Expected {
        identifiers: &identifiers,
        roots: &roots,
        now: noon(),
    };
    assert!(verify_chain(&made.pair().fullchain, &expected).is_ok());
    let later = Expected {
        now: noon() + days(89),
        ..expected
    };
    assert!(matches!(
        verify_chain(&made.pair().fullchain, &later),
        Err(BundleError::Expired(_))
    ));
}

fn wire(made: &Made) -> v1::Bundle {
    v1::Bundle::from(&Bundle {
        certificate: NAME.parse().unwrap(),
        generation: Generation(7),
        key_pairs: vec![made.pair()],
    })
}

#[test]
fn a_bundle_crosses_the_wire_whole_and_prints_no_key() {
    let made = made();
    let bundle = Bundle::try_from(wire(&made)).unwrap();
    assert_eq!(bundle.key_pairs, [made.pair()]);
    assert_eq!(bundle.generation, Generation(7));
    assert_eq!(
        bundle.fingerprints(),
        [certwell_proto::Fingerprint::of(&made.leaf)]
    );
    let key = made.key.serialize_der();
    let digits = format!("{}, {}, {}", key[40], key[41], key[42]);
    for printed in [format!("{bundle:?}"), format!("{:?}", wire(&made))] {
        assert!(
            printed.contains("redacted") && !printed.contains(&digits),
            "{printed}"
        );
    }
}

/// A change of a good message, and the field that the error names.
type Damage = (fn(&mut v1::Bundle), &'static str);

#[test]
fn an_unusable_message_names_its_field() {
    let damages: &[Damage] = &[
        (|wire| wire.generation = 0, "generation"),
        (|wire| wire.certificate = "../etc".into(), "certificate"),
        (|wire| wire.certificate.clear(), "certificate"),
        (|wire| wire.key_pairs.clear(), "key_pairs"),
        (
            |wire| wire.key_pairs[0].fullchain.clear(),
            "key_pairs[0].fullchain",
        ),
        (
            |wire| wire.key_pairs[0].private_key.clear(),
            "key_pairs[0].private_key",
        ),
        (
            |wire| wire.key_pairs.push(v1::KeyPair::default()),
            "key_pairs[1].fullchain",
        ),
    ];
    let made = made();
    for (damage, field) in damages {
        let mut wire = wire(&made);
        damage(&mut wire);
        let error = Bundle::try_from(wire).unwrap_err();
        assert_eq!(error.field, *field, "{error}");
    }
}
