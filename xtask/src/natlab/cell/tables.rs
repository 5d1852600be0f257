//! The cells that the laboratory knows by itself: every pair of an assumed mix of homes, what else
//! connectivity is promised for, and a few of each class. It refuses to judge any of them.

use super::super::kind::Kind;
use super::Cell;

/// The assumed mix of homes, in percent: chosen so that plain punching reaches what the field
/// reports of it, 70 to 75 %.
const MIX: &[(&str, u32)] = &[
    ("pub", 10),
    ("fw", 4),
    ("fc", 8),
    ("ar", 2),
    ("pr", 34),
    ("prr", 22),
    ("masqacc", 3),
    ("adm", 1),
    ("symseq", 4),
    ("sym", 9),
    ("pr:udpblock", 3),
];

/// Every pair of the mix, in both directions, with its weight; the weights add up to 1.
pub fn mix() -> Vec<(String, f64)> {
    let mut all = Vec::new();
    for (a, share_a) in MIX {
        for (b, share_b) in MIX {
            let weight = f64::from(share_a * share_b) / 10_000.0;
            all.push((format!("{a}:{b}"), weight));
        }
    }
    all
}

/// Cells beside the mix: what connectivity is promised for.
const MORE: &[&str] = &[
    // Stable ports.
    "pr+cgn:pr",
    "pr:pr+cgn",
    "pr+cgn:pr+cgn",
    "prr+cgn:prr+cgn",
    "7xpr:7xpr",
    "7xprr:7xprr",
    "7xpr:pr",
    "masq:masq",
    "fcr:prr",
    "arr:prr",
    "pr+cgnfc:pr",
    // Hard ones.
    "7xpr:symseq",
    "pr+cgn:symseq",
    "7xpr:sym",
    "sym:7xpr",
    "pr+cgnsym:pr",
    "pr:pr+cgnsym",
    "pr+cgn:sym",
    "cgnsym:cgnsym",
    // A port for the asking.
    "pr:upnp:sym",
    "sym:pr:upnp",
    "sym:upnp:adm",
    "adm:sym:upnp",
    "sym:upnp:sym:upnp",
    // IPv6.
    "sym:fw6:sym:fw6",
    "sym:v6:sym:fw6",
    "v6only:pr:fw6",
    "v6only:v6only",
    "pr:fw6:v6only",
    "v6only:pr",
    "pr:v6only",
    // One box for both.
    "pub:pub@pr",
    "pub:pub@pr:hairpin",
    "pr:pr@cgn",
    "pr:pr@cgn:hairpin",
    // No UDP.
    "pr:tcp443:pr",
    "pr:pr:tcp443",
    "pr:tcp443:pr:tcp443",
    "pr:tcp443:sym",
    // Short-lived mappings, long ways, loss.
    "pr:timeout=30:pr:timeout=30",
    "pr:pr~200ms",
    "prr:sym~200ms",
    "pr:pr~2%",
    "prr:prr~2%",
    "pr:sym~2%",
    "sym:sym~2%",
];

/// What a build machine has time for: one cell of each class.
pub const SHORT: &[&str] = &[
    "pub:pub",
    "pr:pub",
    "prr:prr",
    "7xpr:pr",
    "pr:symseq",
    "prr:sym",
    "sym:upnp:adm",
    "sym:fw6:sym:fw6",
    "pub:pub@pr",
    "sym:sym",
    "pr:tcp443:pr",
];

/// Every cell, those of the mix first, each once.
///
/// # Panics
/// Never: the table is parsed by a test.
pub fn all() -> Vec<Cell> {
    let mix = mix().into_iter().map(|(name, _)| name);
    let names = mix.chain(MORE.iter().map(|name| (*name).to_owned()));
    names
        .map(|name| {
            name.parse()
                .expect("a test parses every name of the tables")
        })
        .collect()
}

/// Every kind that occurs in a cell, and those that only a proof is asked of.
pub fn kinds() -> Vec<Kind> {
    const ALSO: &[&str] = &[
        "masq",
        "fcr",
        "arr",
        "cgnfc",
        "7xfc",
        "7xpr",
        "pr:hairpin",
        "prr:hairpin",
        "pub:v6",
        "prr:timeout=5",
    ];
    let mut kinds = kinds_of(&all());
    for name in ALSO {
        let kind = name
            .parse()
            .expect("a test parses every name of the tables");
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

/// Every kind that occurs in these cells, once.
pub fn kinds_of(cells: &[Cell]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    for kind in cells.iter().flat_map(|cell| [&cell.a, &cell.b]) {
        if !kinds.contains(kind) {
            kinds.push(kind.clone());
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::super::Class;
    use super::*;

    #[test]
    fn every_cell_of_the_tables_is_a_cell_and_occurs_once() {
        let cells = all();
        assert_eq!(cells.len(), MIX.len() * MIX.len() + MORE.len());
        for (at, cell) in cells.iter().enumerate() {
            assert!(
                cells[at + 1..].iter().all(|other| *other != *cell),
                "{cell}"
            );
        }
        for name in SHORT {
            assert!(cells.iter().any(|cell| cell.to_string() == *name), "{name}");
        }
        assert!(kinds().len() > 25);
    }

    #[test]
    fn the_mix_is_whole_and_can_reach_its_bar() {
        let weights: f64 = mix().iter().map(|(_, weight)| weight).sum();
        assert!((weights - 1.0).abs() < 1e-9, "{weights}");
        let direct: f64 = mix()
            .iter()
            .filter(|(name, _)| name.parse::<Cell>().unwrap().class() != Class::Relayed)
            .map(|(_, weight)| weight)
            .sum();
        assert!((0.90..0.95).contains(&direct), "{direct}");
    }
}
