//! What each operation costs, held to a committed table, so that a dearer contract is a decision and not an accident.

use std::collections::BTreeMap;

use wayfare_chain::devchain::GasFigures;

/// What a figure may be worse than the table by, in percent.
const SLACK: u64 = 2;
/// What the real bridged token takes for a transfer to a new and to a known holder: the double must not be cheaper.
const REAL_TRANSFER: [(&str, u64); 2] =
    [("token_transfer_first", 57_086), ("token_transfer", 39_986)];

const TABLE: &str = include_str!("../data/gas.json");

#[test]
fn gas_stays_within_the_table() {
    let figures = GasFigures::measure();
    let table: BTreeMap<&str, u64> = serde_json::from_str(TABLE).unwrap();
    let mut dearer = Vec::new();
    for (name, gas) in figures.rows() {
        let known = table.get(name).copied().unwrap_or(0);
        println!("{name:<30} {gas:>8}  (table {known})");
        if *gas * 100 > known * (100 + SLACK) {
            dearer.push(*name);
        }
    }
    // For `cargo xtask bench gas`.
    let all: BTreeMap<&str, u64> = figures.rows().iter().copied().collect();
    println!("gas {}", serde_json::to_string(&all).unwrap());
    assert!(
        dearer.is_empty(),
        "dearer than tests/data/gas.json by more than {SLACK} %: {dearer:?}"
    );
    assert_eq!(
        figures.rows().len(),
        table.len(),
        "the table has other rows"
    );
}

#[test]
fn the_double_of_the_token_costs_what_the_real_one_costs() {
    let figures = GasFigures::measure();
    for (name, real) in REAL_TRANSFER {
        let gas = figures.of(name).unwrap();
        let apart = gas.abs_diff(real);
        assert!(
            apart * 100 <= real,
            "{name} takes {gas}, the real one {real}"
        );
    }
}
