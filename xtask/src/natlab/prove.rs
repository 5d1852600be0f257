//! Proving boxes: what a kind promises against what the prober sees of it. It refuses to let a
//! result count that was had behind a box that is not what it is called.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};

use crate::interrupt;
use crate::lab::Lab;
use crate::progress::{say, step};
use crate::report::{Bar, Report};

use super::kind::{Filtering, Kind, Mapping, Nat, V6};
use super::probe::{self, Seen};
use super::world::{Home, World};

/// Homes that are looked at at the same time: a look is mostly waiting for what does not come.
const AT_ONCE: u8 = 4;

/// What the prober should see, in the words of [`shown`].
pub fn expected(kind: &Kind) -> String {
    let mut words = Vec::new();
    if kind.is_v6_only() {
        words.push("no udp".to_owned());
        words.push("no tcp".to_owned());
    } else if kind.blocks_udp() {
        words.push("no udp".to_owned());
        words.push(match kind.layers.iter().any(|layer| layer.tcp443) {
            true => "tcp 443 only".to_owned(),
            false => "tcp".to_owned(),
        });
    } else {
        words.push(format!(
            "{}/{} {}",
            kind.mapping().word(),
            kind.filtering().word(),
            kind.ports().word()
        ));
        words.push("tcp".to_owned());
        if turns_round(kind) {
            words.push("hairpin".to_owned());
        }
        if is_spoilt(kind) {
            words.push("race".to_owned());
        }
    }
    match kind.v6 {
        V6::None => {}
        V6::Open => words.push("ipv6 open".to_owned()),
        V6::Firewalled => words.push("ipv6 filtered".to_owned()),
    }
    if kind.is_mappable() {
        words.push("mapper".to_owned());
    }
    words.join(", ")
}

/// The outermost box turns packets round, and every box further in takes a stranger's.
fn turns_round(kind: &Kind) -> bool {
    let Some((outermost, inner)) = kind.layers.split_last() else {
        return false;
    };
    let lets_in = |nat: Nat| nat.filtering() == Filtering::Eif;
    outermost.hairpin && inner.iter().all(|layer| lets_in(layer.nat))
}

/// A stranger's early packet is seen to change the port where the outermost box takes it, and
/// nothing further out hides the port.
fn is_spoilt(kind: &Kind) -> bool {
    matches!(kind.layers.last(), Some(layer) if layer.nat == Nat::Masqacc)
        && kind.mapping() == Mapping::Eim
}

/// What was seen, in a few words.
pub fn shown(seen: &Seen) -> String {
    let mut words = Vec::new();
    match &seen.udp {
        None => words.push("no udp".to_owned()),
        Some(udp) => words.push(format!("{}/{} {}", udp.mapping, udp.filtering, udp.ports)),
    }
    words.push(match (seen.tcp443, seen.tcp) {
        (true, true) => "tcp".to_owned(),
        (true, false) => "tcp 443 only".to_owned(),
        (false, true) => "tcp, not 443".to_owned(),
        (false, false) => "no tcp".to_owned(),
    });
    if let Some(udp) = &seen.udp {
        if udp.hairpin {
            words.push("hairpin".to_owned());
        }
        if udp.race {
            words.push("race".to_owned());
        }
    }
    match seen.v6_open {
        None => {}
        Some(true) => words.push("ipv6 open".to_owned()),
        Some(false) => words.push("ipv6 filtered".to_owned()),
    }
    if seen.mapper {
        words.push("mapper".to_owned());
    }
    words.join(", ")
}

/// Looks at one home and compares.
///
/// # Errors
/// When it is not what its kind promises.
pub fn home(world: &World, home: &Home, kind: &Kind) -> anyhow::Result<Seen> {
    let seen = look(world, home)?;
    let (expected, shown) = (expected(kind), shown(&seen));
    ensure!(
        expected == shown,
        "`{kind}` should be seen as {expected}; it is seen as {shown} ({:?})",
        seen.udp
    );
    Ok(seen)
}

fn look(world: &World, home: &Home) -> anyhow::Result<Seen> {
    let gateway = home.gateway.map(|address| address.to_string());
    probe::ask(world, &home.host, gateway)
}

/// Builds and looks at every kind, and tells each in the report.
///
/// # Errors
/// When a box cannot be built, or on a signal.
pub fn all(lab: &Lab, world: &World, kinds: &[Kind], report: &mut Report) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let told: Mutex<Vec<Option<String>>> = Mutex::new(vec![None; kinds.len()]);
    let work = |side: u8| -> anyhow::Result<()> {
        loop {
            interrupt::check()?;
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(kind) = kinds.get(at) else {
                return Ok(());
            };
            let seen = one(lab, world, side, kind).with_context(|| format!("`{kind}`"))?;
            step(&format!("{kind}: {}", shown(&seen)));
            if let Some(udp) = &seen.udp {
                say(&format!("            ports {:?}", udp.seen));
            }
            told.lock().expect("nobody panics holding it")[at] = Some(shown(&seen));
        }
    };
    let ends: Vec<anyhow::Result<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=AT_ONCE)
            .map(|side| scope.spawn(move || work(side)))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, anyhow::Result<()>>| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("a prover panicked")))
        };
        threads.into_iter().map(join).collect()
    });
    let told = told.into_inner().expect("nobody panics holding it");
    for (kind, shown) in kinds.iter().zip(told) {
        let bar = Bar::Text(expected(kind));
        report.text(&format!("kind {kind}"), shown.as_deref(), &bar, "");
    }
    ends.into_iter().collect()
}

fn one(lab: &Lab, world: &World, side: u8, kind: &Kind) -> anyhow::Result<Seen> {
    let mut home = world.home(lab, side, kind)?;
    let seen = look(world, &home)?;
    home.must_live()?;
    if let Some(seconds) = kind.layers.iter().find_map(|layer| layer.timeout) {
        let before = probe::outlives(world, &home.host, seconds.saturating_sub(2))?;
        let after = probe::outlives(world, &home.host, seconds + 3)?;
        ensure!(
            before && !after,
            "a mapping should live {seconds} s; it is there 2 s before: {before}, 3 s after: {after}"
        );
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::super::probe::Udp;
    use super::*;

    #[test]
    fn a_kind_promises_what_can_be_seen() {
        for (kind, words) in [
            ("pub", "untouched/eif kept, tcp"),
            ("prr", "eim/apdf random, tcp"),
            ("symseq", "edm/apdf sequential, tcp"),
            ("masqacc", "eim/apdf kept, tcp, race"),
            ("pr:hairpin", "eim/apdf kept, tcp, hairpin"),
            ("pr+cgn:hairpin", "eim/apdf random, tcp"),
            ("fc+cgn:hairpin", "eim/apdf random, tcp, hairpin"),
            ("pr:udpblock", "no udp, tcp"),
            ("pr:tcp443", "no udp, tcp 443 only"),
            ("sym:upnp", "edm/apdf random, tcp, mapper"),
            ("sym:fw6", "edm/apdf random, tcp, ipv6 filtered"),
            ("v6only", "no udp, no tcp, ipv6 filtered"),
        ] {
            assert_eq!(expected(&kind.parse().unwrap()), words, "{kind}");
        }
    }

    #[test]
    fn what_is_seen_is_told_in_the_same_words() {
        let seen = Seen {
            udp: Some(Udp {
                mapping: "eim".to_owned(),
                filtering: "apdf".to_owned(),
                ports: "kept".to_owned(),
                seen: vec![7; 4],
                hairpin: true,
                race: false,
            }),
            tcp443: true,
            tcp: true,
            v6_open: None,
            mapper: false,
        };
        assert_eq!(shown(&seen), expected(&"pr:hairpin".parse().unwrap()));
        assert_ne!(shown(&Seen::default()), shown(&seen));
    }
}
