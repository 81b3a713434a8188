//! What was released stays: no field, value or call is removed, renumbered or changed.
//!
//! `certwell/v1/FIELDS.txt` lists everything that other versions rely on. A change that isn't an addition makes
//! this test fail; an addition is written down by `UPDATE=1 cargo test -p certwell-proto --test compat`, which
//! appends and never takes away.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic in a test is its report"
)]

use std::{collections::BTreeMap, fs};

use certwell_proto::v1;
use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

const LISTING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/certwell/v1/FIELDS.txt");

const HEAD: &str = "\
# Everything of package certwell.v1 that other versions rely on. Lines are added, never changed or taken away:
# UPDATE=1 cargo test -p certwell-proto --test compat
";

/// Each thing's name, and what must not change about it.
fn listing(descriptors: &FileDescriptorSet) -> BTreeMap<String, String> {
    let mut things = BTreeMap::new();
    for file in descriptors
        .file
        .iter()
        .filter(|file| file.package() == "certwell.v1")
    {
        for message in &file.message_type {
            list_message(message, "", &mut things);
        }
        for values in &file.enum_type {
            list_enum(values, "", &mut things);
        }
        for service in &file.service {
            for method in &service.method {
                let stream = |is: bool| if is { "stream " } else { "" };
                things.insert(
                    format!("rpc {}.{}", service.name(), method.name()),
                    format!(
                        "({}{}) returns ({}{})",
                        stream(method.client_streaming()),
                        short(method.input_type()),
                        stream(method.server_streaming()),
                        short(method.output_type())
                    ),
                );
            }
        }
    }
    things
}

fn list_message(message: &DescriptorProto, outer: &str, things: &mut BTreeMap<String, String>) {
    let name = format!("{outer}{}", message.name());
    for field in &message.field {
        things.insert(format!("{name}.{}", field.name()), shape(field));
    }
    for nested in &message.nested_type {
        list_message(nested, &format!("{name}."), things);
    }
    for values in &message.enum_type {
        list_enum(values, &format!("{name}."), things);
    }
}

fn list_enum(values: &EnumDescriptorProto, outer: &str, things: &mut BTreeMap<String, String>) {
    for value in &values.value {
        let name = format!("{outer}{}.{}", values.name(), value.name());
        things.insert(name, value.number().to_string());
    }
}

/// Number, type and label.
fn shape(field: &FieldDescriptorProto) -> String {
    let label = match field.label() {
        Label::Repeated => "repeated",
        _ if field.proto3_optional() => "optional",
        _ if field.oneof_index.is_some() => "oneof",
        _ => "single",
    };
    let kind = match field.r#type() {
        Type::Message | Type::Enum => short(field.type_name()).to_owned(),
        scalar => scalar
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_ascii_lowercase(),
    };
    format!("{} {kind} {label}", field.number())
}

fn short(name: &str) -> &str {
    name.trim_start_matches(".certwell.v1.")
}

fn read(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split_once(" = ").expect("a line is NAME = SHAPE"))
        .map(|(name, shape)| (name.to_owned(), shape.to_owned()))
        .collect()
}

/// What of `released` isn't in `current` as it was.
fn broken(released: &BTreeMap<String, String>, current: &BTreeMap<String, String>) -> Vec<String> {
    released
        .iter()
        .filter_map(|(name, was)| match current.get(name) {
            None => Some(format!("{name} = {was} is gone")),
            Some(is) if is != was => Some(format!("{name} was {was} and is {is}")),
            Some(_) => None,
        })
        .collect()
}

fn current() -> FileDescriptorSet {
    FileDescriptorSet::decode(v1::DESCRIPTOR).unwrap()
}

#[test]
fn what_was_released_stays_and_what_is_added_is_written_down() {
    let text = fs::read_to_string(LISTING).unwrap_or_else(|_| HEAD.to_owned());
    let released = read(&text);
    let current = listing(&current());
    assert_eq!(
        broken(&released, &current),
        Vec::<String>::new(),
        "other versions rely on these"
    );
    let added: Vec<String> = current
        .iter()
        .filter(|(name, _)| !released.contains_key(*name))
        .map(|(name, shape)| format!("{name} = {shape}\n"))
        .collect();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(LISTING, text + &added.concat()).unwrap();
    } else {
        assert_eq!(
            added,
            Vec::<String>::new(),
            "write them down: run this test with UPDATE=1"
        );
    }
}

#[test]
fn the_listing_holds_what_the_wire_is_made_of() {
    let listing = listing(&current());
    for (name, shape) in [
        ("Bundle.key_pairs", "3 KeyPair repeated"),
        ("StatusServed.generation", "1 uint64 optional"),
        ("DesiredState.lineage", "1 Lineage single"),
        ("Outcome.OUTCOME_HELD", "3"),
        (
            "rpc Fleet.Watch",
            "(WatchRequest) returns (stream DesiredState)",
        ),
        ("rpc Fleet.Fetch", "(FetchRequest) returns (Bundle)"),
    ] {
        assert_eq!(listing.get(name).map(String::as_str), Some(shape), "{name}");
    }
}

/// A change of the descriptor, and what is said of it.
type Change = (fn(&mut FileDescriptorSet), &'static str);

#[test]
fn every_change_that_would_break_another_version_is_noticed() {
    let released = listing(&current());
    let changes: &[Change] = &[
        (
            |set| field(set, "Bundle", "generation").number = Some(9),
            "was 2 uint64 single and is 9",
        ),
        (
            |set| field(set, "Bundle", "generation").set_type(Type::String),
            "was 2 uint64 single and is 2 string",
        ),
        (
            |set| field(set, "Bundle", "key_pairs").set_label(Label::Optional),
            "was 3 KeyPair repeated and is 3 KeyPair single",
        ),
        (
            |set| field(set, "Bundle", "key_pairs").type_name = Some(".certwell.v1.Report".into()),
            "was 3 KeyPair repeated and is 3 Report repeated",
        ),
        (
            |set| field(set, "Bundle", "certificate").name = Some("name".into()),
            "Bundle.certificate = 1 string single is gone",
        ),
        (
            |set| {
                set.file
                    .iter_mut()
                    .for_each(|f| f.service.retain(|s| s.name() != "Fleet"))
            },
            "rpc Fleet.Report",
        ),
        (
            |set| {
                let services = set.file.iter_mut().flat_map(|f| &mut f.service);
                for method in services.flat_map(|s| &mut s.method) {
                    method.server_streaming = Some(false);
                }
            },
            "rpc Fleet.Watch was",
        ),
        (
            |set| {
                for values in set.file.iter_mut().flat_map(|f| &mut f.enum_type) {
                    values.value.retain(|value| value.name() != "OUTCOME_HELD");
                }
            },
            "Outcome.OUTCOME_HELD = 3 is gone",
        ),
    ];
    for (change, expected) in changes {
        let mut set = current();
        change(&mut set);
        let found = broken(&released, &listing(&set));
        assert!(
            found.iter().any(|line| line.contains(expected)),
            "{expected}: {found:?}"
        );
    }
    assert!(broken(&released, &released).is_empty());
}

fn field<'a>(
    set: &'a mut FileDescriptorSet,
    message: &str,
    name: &str,
) -> &'a mut FieldDescriptorProto {
    set.file
        .iter_mut()
        .flat_map(|file| &mut file.message_type)
        .find(|m| m.name() == message)
        .and_then(|m| m.field.iter_mut().find(|f| f.name() == name))
        .unwrap()
}
