//! The figures that are told of every program, each with its name, its unit and where it is found.
//! It refuses to judge them.

use super::plan::{Measure, Plan};
use super::program::Program;
use super::rounds::Rounds;
use super::spread::{Spread, rounded};
use super::turn::Turn;
use crate::progress;

/// A figure that is told of every program.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) of: Measure,
    pub(super) read: fn(&Turn) -> Option<f64>,
}

const fn figure(
    name: &'static str,
    unit: &'static str,
    of: Measure,
    read: fn(&Turn) -> Option<f64>,
) -> Figure {
    Figure {
        name,
        unit,
        of,
        read,
    }
}

/// As they are measured.
pub(super) const FIGURES: &[Figure] = &[
    figure("tcp1_gbps", "Gb/s", Measure::Tcp1, gbps),
    figure("tcp1_reverse_gbps", "Gb/s", Measure::Reverse, |turn| {
        Some(turn.reverse?.gbps)
    }),
    figure("tcp4_gbps", "Gb/s", Measure::Tcp4, |turn| {
        Some(turn.tcp4?.gbps)
    }),
    figure("udp64_kpps", "kpps", Measure::Udp64, |turn| {
        Some(turn.udp64? / 1e3)
    }),
    figure("udp1400_gbps", "Gb/s", Measure::Udp1400, |turn| {
        Some(turn.udp1400? * 1_400.0 * 8.0 / 1e9)
    }),
    figure("retransmits", "segments", Measure::Tcp1, retransmits),
    figure("cpu_ns_per_byte", "ns/byte", Measure::Tcp1, |turn| {
        Some(turn.tcp1?.spent.machine)
    }),
    figure("own_cpu_ns_per_byte", "ns/byte", Measure::Tcp1, |turn| {
        Some(turn.tcp1?.spent.processes)
    }),
    figure("p50_latency_idle_ms", "ms", Measure::Idle, |turn| {
        Some(turn.idle?.p50)
    }),
    figure("p99_latency_idle_ms", "ms", Measure::Idle, |turn| {
        Some(turn.idle?.p99)
    }),
    figure("p50_latency_loaded_ms", "ms", Measure::Loaded, |turn| {
        Some(turn.loaded?.p50)
    }),
    figure("p99_latency_loaded_ms", "ms", Measure::Loaded, |turn| {
        Some(turn.loaded?.p99)
    }),
    figure("lost_loaded", "of all", Measure::Loaded, |turn| {
        Some(turn.loaded?.lost)
    }),
];

/// Figures told as what a tunnel adds to that of the cable.
pub(super) const ADDED: &[Figure] = &[
    figure("p50_added_latency_idle_ms", "ms", Measure::Idle, |turn| {
        Some(turn.idle?.p50)
    }),
    figure("p99_added_latency_idle_ms", "ms", Measure::Idle, |turn| {
        Some(turn.idle?.p99)
    }),
    figure(
        "p50_added_latency_loaded_ms",
        "ms",
        Measure::Loaded,
        |turn| Some(turn.loaded?.p50),
    ),
    figure(
        "p99_added_latency_loaded_ms",
        "ms",
        Measure::Loaded,
        |turn| Some(turn.loaded?.p99),
    ),
];

/// A single stream's.
pub(super) fn gbps(turn: &Turn) -> Option<f64> {
    Some(turn.tcp1?.gbps)
}

/// Of a turn's single streams, both ways.
pub(super) fn retransmits(turn: &Turn) -> Option<f64> {
    let reverse = turn.reverse.map_or(0.0, |stream| stream.retransmits);
    Some(turn.tcp1?.retransmits + reverse)
}

/// A matrix for a person: a row for each figure, a column for each program.
pub(super) fn matrix(rounds: &Rounds, plan: &Plan) -> String {
    let programs = plan.programs();
    let names = programs.iter().map(|program| program.name());
    let heading: Vec<&str> = ["median"].into_iter().chain(names).collect();
    let cell = |program: &Program, figure: &Figure| {
        let spread = Spread::of(&rounds.values(*program, figure.read));
        spread.map_or("–".to_owned(), |spread| {
            rounded(spread.median).to_string()
        })
    };
    let row = |figure: &Figure| {
        let cells = programs.iter().map(|program| cell(program, figure));
        [figure.name.to_owned()].into_iter().chain(cells).collect()
    };
    let asked = FIGURES.iter().filter(|figure| plan.has(figure.of));
    let rows: Vec<Vec<String>> = asked.map(row).collect();
    progress::table(&heading, &rows)
}
