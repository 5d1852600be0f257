//! The pairs held to the bar. It refuses to judge fewer than three of them, or while the machine
//! was busy with something else: the figure is then told in a note, and its value is null.

use super::Pair;
use super::turn::Turn;
use crate::bench::tunnel::cpu;
use crate::bench::tunnel::spread::{Spread, rounded};
use crate::report::{Bar, Report};

/// What being paid for may cost a download.
const OVERHEAD: f64 = 0.02;

/// Pairs that make a median.
const LEAST: usize = 3;

/// A figure that is told of both downloads: its name, its unit, where it is found.
type Figure = (&'static str, &'static str, fn(&Turn) -> f64);

const FIGURES: [Figure; 8] = [
    ("gbps", "Gb/s", |turn| turn.download.gbps),
    ("ramp_gbps", "Gb/s", |turn| turn.download.ramp),
    ("retransmits", "segments", |turn| turn.download.retransmits),
    ("gate_closed", "times", |turn| turn.gate_closed),
    ("cpu_ns_per_byte", "ns/byte", |turn| turn.machine),
    ("consumer_cpu_ns_per_byte", "ns/byte", |turn| {
        turn.processes[0]
    }),
    ("provider_cpu_ns_per_byte", "ns/byte", |turn| {
        turn.processes[1]
    }),
    ("hermes_cpu_ns_per_byte", "ns/byte", |turn| {
        turn.processes[2]
    }),
];

/// Adds all checks of a run.
pub(super) fn judge(report: &mut Report, pairs: &[Pair]) {
    let quiet = cpu::tell_others(report, &each(pairs, |pair| pair.others));
    let overhead = Spread::of(&each(pairs, overhead));
    let calm = quiet && pairs.len() >= LEAST;
    let note = match overhead {
        None => "nothing was measured".to_owned(),
        Some(spread) if calm => format!("1 - paid / unpaid, {spread}"),
        Some(spread) => format!(
            "not judged: three rounds on a quiet machine; it was {} ({spread})",
            rounded(spread.median)
        ),
    };
    let value = overhead
        .filter(|_| calm)
        .map(|spread| rounded(spread.median));
    let bar = Bar::AtMost(OVERHEAD);
    report.number("payments_overhead", value, "of all", &bar, &note);
    // In a session that is called unpaid there must have been no payment.
    let without = each(pairs, |pair| pair.unpaid.promises);
    let most = Spread::of(&without).map(|spread| spread.high);
    let bar = Bar::Exactly(0.0);
    let note = "during any of the unpaid downloads";
    report.number("unpaid_promises", most, "promises", &bar, note);
    let ramps = each(pairs, |pair| {
        1.0 - pair.paid.download.ramp / pair.unpaid.download.ramp
    });
    measured(report, "payments_overhead_ramp", "of all", &ramps);
    for (name, unit, read) in FIGURES {
        for (which, turn) in [("paid", paid as fn(&Pair) -> &Turn), ("unpaid", unpaid)] {
            let values = each(pairs, |pair| read(turn(pair)));
            measured(report, &format!("{which}_{name}"), unit, &values);
        }
    }
    let apart = each(pairs, |pair| {
        pair.paid.download.bytes / pair.paid.promises.max(1.0) / 1_048_576.0
    });
    measured(report, "paid_mib_per_promise", "MiB", &apart);
    let often = each(pairs, |pair| {
        pair.paid.promises / pair.paid.download.seconds
    });
    measured(report, "paid_promises_per_second", "promises/s", &often);
}

fn paid(pair: &Pair) -> &Turn {
    &pair.paid
}

fn unpaid(pair: &Pair) -> &Turn {
    &pair.unpaid
}

fn overhead(pair: &Pair) -> f64 {
    1.0 - pair.paid.download.gbps / pair.unpaid.download.gbps
}

fn each(pairs: &[Pair], read: impl Fn(&Pair) -> f64) -> Vec<f64> {
    pairs.iter().map(read).collect()
}

fn measured(report: &mut Report, name: &str, unit: &str, values: &[f64]) {
    let spread = Spread::of(values);
    let note = spread.map_or(String::new(), |spread| spread.to_string());
    let median = spread.map(|spread| rounded(spread.median));
    report.number(name, median, unit, &Bar::Measured, &note);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::payments::download::Download;

    fn turn(gbps: f64, promises: f64) -> Turn {
        Turn {
            download: Download {
                ramp: gbps / 2.0,
                gbps,
                bytes: 1e9,
                seconds: 8.0,
                retransmits: 0.0,
            },
            promises,
            gate_closed: 0.0,
            machine: 1.0,
            processes: [0.1; 3],
        }
    }

    fn judged(pairs: &[Pair]) -> Report {
        let mut report = Report::begin("bench payments");
        judge(&mut report, pairs);
        report
    }

    fn pair(others: f64, paid: f64) -> Pair {
        Pair {
            others,
            paid: turn(paid, 80.0),
            unpaid: turn(2.0, 0.0),
        }
    }

    #[test]
    fn the_middle_pair_is_judged() {
        for (middle, ok) in [(1.97, true), (1.95, false), (2.1, true)] {
            let report = judged(&[pair(0.0, 0.5), pair(0.0, middle), pair(0.0, 4.0)]);
            let check = report.checks.iter().find(|c| c.name == "payments_overhead");
            assert_eq!(check.map(|check| check.ok), Some(ok), "{middle}");
        }
    }

    #[test]
    fn noise_and_few_rounds_are_not_judged() {
        for pairs in [vec![pair(0.2, 2.0); 3], vec![pair(0.0, 2.0); 2], Vec::new()] {
            let report = judged(&pairs);
            let check = report.checks.iter().find(|c| c.name == "payments_overhead");
            let check = check.unwrap();
            assert!(check.value.is_null() && !check.ok, "{check:?}");
        }
    }

    #[test]
    fn payments_in_an_unpaid_download_are_seen() {
        let mut pairs = [pair(0.0, 2.0); 3];
        pairs[2].unpaid.promises = 1.0;
        let report = judged(&pairs);
        assert!(report.missed().any(|check| check.name == "unpaid_promises"));
        assert!(judged(&[pair(0.0, 2.0); 3]).missed().next().is_none());
    }
}
