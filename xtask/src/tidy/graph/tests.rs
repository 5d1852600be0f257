//! Small workspaces that break one rule each, and the real table's own consistency.

use super::*;

const TIDY: &str = "[lints]\nworkspace = true\n";

fn workspace(crates: &[(&str, &[(Kind, &str)])]) -> Workspace {
    let members = crates.iter().map(|(name, uses)| {
        let member = Member {
            manifest: format!("{name}/Cargo.toml"),
            text: TIDY.to_owned(),
            licence: Some(LICENCE.to_owned()),
            uses: uses
                .iter()
                .map(|(kind, name)| (*kind, (*name).to_owned()))
                .collect(),
            ..Member::default()
        };
        ((*name).to_owned(), member)
    });
    Workspace {
        members: members.collect(),
    }
}

fn messages(found: &[Violation]) -> Vec<&str> {
    found
        .iter()
        .map(|violation| violation.message.as_str())
        .collect()
}

#[test]
fn edges_of_the_table_pass_and_others_fail() {
    use Kind::{Normal, Test};
    let good = workspace(&[
        ("wayfare-identity", &[]),
        ("wayfare-payment", &[(Normal, "wayfare-identity")]),
        ("wayfare-sim", &[(Normal, "wayfare-payment")]),
        (
            "wayfare-node",
            &[(Normal, "wayfare-payment"), (Test, "wayfare-sim")],
        ),
    ]);
    assert_eq!(messages(&layers(&good)), [""; 0]);

    let bad = workspace(&[
        ("wayfare-identity", &[(Normal, "wayfare-payment")]),
        ("wayfare-payment", &[(Test, "wayfare-sim")]),
        ("wayfare-sim", &[]),
        ("wayfare-node", &[(Normal, "wayfare-sim")]),
        ("wayfare-pantry", &[]),
        ("wayfare-consumer-cli", &[(Normal, "wayfare-tunnel")]),
        ("wayfare-tunnel", &[]),
    ]);
    assert_eq!(
        messages(&layers(&bad)),
        [
            "`consumer-cli` may not depend on `tunnel`",
            "`identity` may not depend on `payment`",
            "`node` may not depend on `sim`",
            "`wayfare-pantry` has no row in the layer table",
            "`payment` may not depend on, even in tests, `sim`",
        ]
    );
}

#[test]
fn doors_never_look_sideways() {
    let doors = ["transport", "nat", "host", "chain", "store", "api"];
    for row in LAYERS.iter().filter(|row| doors.contains(&row.name)) {
        assert!(
            row.may_use.iter().all(|used| !doors.contains(used)),
            "{}",
            row.name
        );
    }
}

#[test]
fn sim_is_for_tests_only_and_every_edge_names_a_row() {
    for row in LAYERS {
        assert!(!row.may_use.contains(&"sim"), "{}", row.name);
        for used in row.may_use.iter().chain(row.tests_may_use) {
            assert!(LAYERS.iter().any(|other| other.name == *used), "{used}");
        }
    }
}

#[test]
fn a_cycle_is_told_with_its_path() {
    let ring = workspace(&[("a", &[(Kind::Normal, "b")]), ("b", &[(Kind::Normal, "a")])]);
    assert!(messages(&depth(&ring)).contains(&"a cycle: a → b → a"));
}

#[test]
fn seven_crates_stand_on_each_other_and_eight_do_not() {
    let tower = |height: usize| {
        let names: Vec<String> = (0..height).map(|n| format!("c{n}")).collect();
        let mut built = Workspace::default();
        for (at, name) in names.iter().enumerate() {
            let below = at
                .checked_sub(1)
                .map(|below| (Kind::Normal, names[below].clone()));
            let member = Member {
                uses: below.into_iter().collect(),
                ..Member::default()
            };
            built.members.insert(name.clone(), member);
        }
        built
    };
    assert!(depth(&tower(7)).is_empty());
    assert_eq!(
        messages(&depth(&tower(8))),
        ["`c7` stands on a chain of 8 crates, not 7"]
    );
}

#[test]
fn third_party_crates_stay_in_their_rooms() {
    use Kind::Normal;
    let good = workspace(&[
        ("wayfare-api", &[(Normal, "tonic"), (Normal, "prost")]),
        ("wayfare-chain", &[(Normal, "alloy"), (Normal, "axum")]),
        ("wayfare-payment", &[(Normal, "alloy-primitives")]),
        ("wayfare-store", &[(Normal, "rocksdb")]),
    ]);
    assert_eq!(messages(&bans(&good)), [""; 0]);

    for (name, used) in [
        ("wayfare-hermes", "tonic"),
        ("wayfare-node", "prost"),
        ("wayfare-consumer-cli", "tonic-health"),
        ("wayfare-node", "alloy"),
        ("wayfare-payment", "alloy-sol-types"),
        ("wayfare-hermes", "rocksdb"),
        ("wayfare-transport", "libp2p-core"),
        ("wayfare-hermes", "quinn"),
        ("wayfare-node", "axum"),
        ("wayfare-identity", "getrandom"),
        ("wayfare-session", "tracing-subscriber"),
    ] {
        let bad = workspace(&[(name, &[(Normal, used)])]);
        assert!(!bans(&bad).is_empty(), "{used} in {name}");
    }
}

#[test]
fn what_a_thinking_room_reaches_through_others_counts() {
    let mut house = workspace(&[("wayfare-tunnel", &[]), ("wayfare-transport", &[])]);
    for member in house.members.values_mut() {
        member.reaches.insert("tokio".to_owned());
    }
    assert_eq!(
        messages(&bans(&house)),
        ["`tunnel` reaches `tokio`, which is above the line"]
    );
}

#[test]
fn manifests_are_alike() {
    let mut house = workspace(&[("wayfare-tunnel", &[])]);
    assert!(manifests(&house).is_empty());
    let member = house.members.get_mut("wayfare-tunnel").unwrap();
    member.licence = Some("GPL-3.0".to_owned());
    member.text.clear();
    member.features = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(manifests(&house).len(), 3);
}

#[test]
fn reaching_follows_normal_edges_only() {
    let edge = |to: &str, kind: Option<&str>| NodeDependency {
        pkg: to.to_owned(),
        dep_kinds: vec![DependencyKind {
            kind: kind.map(str::to_owned),
        }],
    };
    let nodes = vec![
        Node {
            id: "a".to_owned(),
            deps: vec![edge("b", None), edge("d", Some("dev"))],
        },
        Node {
            id: "b".to_owned(),
            deps: vec![edge("c", None), edge("a", Some("dev"))],
        },
    ];
    let names = BTreeMap::from([("a", "a"), ("b", "b"), ("c", "c"), ("d", "d")]);
    let expected = ["b", "c"].map(str::to_owned);
    assert_eq!(reached(&nodes, "a", &names), BTreeSet::from(expected));
}
