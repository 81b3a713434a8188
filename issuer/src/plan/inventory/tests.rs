use super::*;
use crate::plan::observe::TEXT;

fn row() -> v1::InventoryRow {
    v1::InventoryRow {
        source: "/etc/nginx/old.pem".into(),
        covers: vec!["old.example".into(), "192.0.2.7".into()],
        issuer: "CN=R3".into(),
        not_before: 1_700_000_000,
        not_after: 1_707_776_000,
        fingerprint: vec![7; 32],
        managed: v1::ManagedBy::Certbot.into(),
        managed_name: "old.example".into(),
        renews: true,
        served: v1::ServedState::Unused.into(),
        ..Default::default()
    }
}

fn inventory(change: impl FnOnce(&mut v1::InventoryRow)) -> v1::Inventory {
    let mut changed = row();
    change(&mut changed);
    v1::Inventory {
        rows: vec![row(), changed],
        left_out: 3,
        problem: "nginx: absent".into(),
        ..Default::default()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn what_a_host_tells_is_read_as_it_was_meant() {
    let told = HostInventory::told(&inventory(|_| ()), at(1)).unwrap();
    assert_eq!(told.left_out, 3);
    assert_eq!(told.problem.as_deref(), Some("nginx: absent"));
    let row = &told.rows[0];
    let leaf = row.leaf.as_ref().unwrap();
    assert_eq!(
        leaf.covers,
        ["old.example".parse().unwrap(), "192.0.2.7".parse().unwrap()]
    );
    assert_eq!(leaf.not_after, at(1_707_776_000));
    assert_eq!(leaf.fingerprint, Fingerprint([7; 32]));
    assert_eq!(row.served, Served::Unused);
    assert_eq!(
        row.managed,
        Managed::Certbot {
            lineage: "old.example".into(),
            renews: true
        }
    );
    let by_hand = HostInventory::told(&inventory(|row| row.renews = false), at(1)).unwrap();
    assert_eq!(
        by_hand.rows[1].managed,
        Managed::Certbot {
            lineage: "old.example".into(),
            renews: false
        }
    );
}

#[test]
fn a_file_that_cannot_be_read_has_no_leaf() {
    let told = inventory(|row| {
        *row = v1::InventoryRow {
            source: "/etc/nginx/gone.pem".into(),
            problems: vec!["no such file".into()],
            ..Default::default()
        };
    });
    let told = HostInventory::told(&told, at(1)).unwrap();
    assert_eq!(told.rows[1].leaf, None);
    assert_eq!(told.rows[1].managed, Managed::Nobody);
    assert_eq!(told.rows[1].served, Served::Unprobed);
}

#[test]
fn what_cannot_be_meant_is_refused_by_its_field() {
    type Change = fn(&mut v1::InventoryRow);
    let cases: [(Change, &str); 7] = [
        (
            |row| row.covers[1] = "\u{1b}[31m".into(),
            "rows[1].covers[1]",
        ),
        (|row| row.fingerprint = vec![1; 31], "rows[1].fingerprint"),
        (|row| row.not_after = i64::MAX, "rows[1].not_after"),
        (|row| row.not_before = i64::MIN, "rows[1].not_before"),
        (
            |row| row.covers = vec!["a.example".into(); ENTRIES + 1],
            "rows[1].covers",
        ),
        (
            |row| row.problems = vec![String::new(); ENTRIES + 1],
            "rows[1].problems",
        ),
        (
            |row| {
                row.managed = v1::ManagedBy::Certwell.into();
                row.managed_name = "../etc".into();
            },
            "rows[1].managed_name",
        ),
    ];
    for (change, field) in cases {
        let error = HostInventory::told(&inventory(change), at(1)).unwrap_err();
        assert_eq!(error.field, field, "{error}");
    }
    let mut many = inventory(|_| ());
    many.rows = vec![v1::InventoryRow::default(); ROWS + 1];
    assert_eq!(HostInventory::told(&many, at(1)).unwrap_err().field, "rows");
}

#[test]
fn long_texts_are_cut() {
    let told = inventory(|row| row.source = "x".repeat(TEXT + 1));
    let told = HostInventory::told(&told, at(1)).unwrap();
    assert_eq!(told.rows[1].source.len(), TEXT);
}

#[test]
fn the_same_told_again_is_the_same_and_anything_else_is_not() {
    let first = HostInventory::told(&inventory(|_| ()), at(1)).unwrap();
    let again = HostInventory::told(&inventory(|_| ()), at(2)).unwrap();
    assert!(first.is_same(&again));
    let other = inventory(|row| row.served = v1::ServedState::Yes.into());
    assert!(!first.is_same(&HostInventory::told(&other, at(1)).unwrap()));
}
