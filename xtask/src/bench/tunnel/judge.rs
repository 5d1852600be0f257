//! The run's figures held to their bars. It refuses to judge anything while the bare cable itself
//! was restless: its figures are then told in notes, and their values are null.

use super::plan::{Measure, Plan};
use super::program::Program;
use super::rounds::Rounds;
use super::spread::{Spread, rounded};
use super::turn::Turn;
use crate::report::{Bar, Report};

/// How much the cable may move between rounds, by [`Spread::unrest`].
const CALM: f64 = 0.15;

/// Adds all checks of a run: first those with a bar, then what was measured of everybody.
pub(super) fn judge(
    report: &mut Report,
    rounds: &Rounds,
    plan: &Plan,
    absent: &[(Program, String)],
) {
    let raw = rounds.values(Program::Raw, gbps);
    let unrest = Spread::unrest(&raw);
    let note = match Spread::of(&raw) {
        None => "the cable carried nothing".to_owned(),
        Some(spread) if spread.count < 3 => "three rounds or more tell how calm it is".to_owned(),
        Some(spread) => format!("median absolute deviation; {spread} rounds, Gb/s"),
    };
    report.number(
        "raw_link_moved",
        unrest,
        "of its median",
        &Bar::AtMost(CALM),
        &note,
    );
    let mut judge = Judge {
        report,
        rounds,
        noise: unrest.is_none_or(|unrest| unrest > CALM),
        absent,
    };
    judge.ratios(plan);
    judge.single_figures(plan);
    for program in plan.programs() {
        judge.measured(program, plan);
    }
}

#[derive(Debug)]
struct Judge<'a> {
    report: &'a mut Report,
    rounds: &'a Rounds,
    noise: bool,
    absent: &'a [(Program, String)],
}

impl Judge<'_> {
    fn ratios(&mut self, plan: &Plan) {
        let bars = [
            (Program::Gotatun, Bar::AtLeast(6.0)),
            (Program::Boringtun, Bar::AtLeast(8.0)),
            (Program::WireguardGo, Bar::AtLeast(8.0)),
            (Program::Openvpn, Bar::Measured),
            (Program::Raw, Bar::AtLeast(0.25)),
        ];
        for (program, bar) in bars {
            if !plan.has(Measure::Tcp1) || !plan.programs().contains(&program) {
                continue;
            }
            let name = format!("tcp1_vs_{}", program.name());
            let ratios = self.rounds.ratios(program, gbps);
            self.held(&name, &ratios, "times", &bar, &[program, Program::Wayfare]);
        }
        if plan.has(Measure::Reverse) {
            let ratios = self
                .rounds
                .ratios(Program::Raw, |turn| Some(turn.reverse?.gbps));
            let bar = Bar::AtLeast(0.25);
            self.held(
                "tcp1_reverse_vs_raw_veth",
                &ratios,
                "times",
                &bar,
                &[Program::Wayfare],
            );
        }
    }

    fn single_figures(&mut self, plan: &Plan) {
        let ours = [Program::Wayfare];
        if plan.has(Measure::Tcp1) {
            let again = self.rounds.values(Program::Wayfare, retransmits);
            self.held("retransmits", &again, "segments", &Bar::Exactly(0.0), &ours);
            let over = self.rounds.over_budget();
            self.held("cpu_vs_budget", &over, "times", &Bar::AtMost(1.5), &ours);
        }
        if plan.has(Measure::Idle) {
            let added = self
                .rounds
                .added(Program::Wayfare, |turn| Some(turn.idle?.p99));
            let bar = Bar::AtMost(0.2);
            self.held("p99_added_latency_idle_ms", &added, "ms", &bar, &ours);
        }
    }

    /// A figure with a bar: null where it was not measured, or not in peace.
    fn held(&mut self, name: &str, values: &[f64], unit: &str, bar: &Bar, of: &[Program]) {
        let spread = Spread::of(values);
        let told = spread.map_or_else(|| self.why(of), |spread| spread.to_string());
        let median = spread.map(|spread| spread.median);
        if self.noise
            && let Some(median) = median
        {
            let note = format!("noise: {} was measured, {told}", rounded(median));
            self.report.number(name, None, unit, bar, &note);
            return;
        }
        self.report.number(name, median, unit, bar, &told);
    }

    fn measured(&mut self, program: Program, plan: &Plan) {
        let name = program.name();
        if let Some((_, why)) = self.absent.iter().find(|(absent, _)| *absent == program) {
            self.report.number(name, None, "", &Bar::Measured, why);
            return;
        }
        for figure in FIGURES.iter().filter(|figure| plan.has(figure.of)) {
            let values = self.rounds.values(program, figure.read);
            self.told(
                &format!("{name}_{}", figure.name),
                &values,
                figure.unit,
                program,
            );
        }
        if program == Program::Raw {
            return;
        }
        for figure in ADDED.iter().filter(|figure| plan.has(figure.of)) {
            let values = self.rounds.added(program, figure.read);
            self.told(
                &format!("{name}_{}", figure.name),
                &values,
                figure.unit,
                program,
            );
        }
    }

    fn told(&mut self, name: &str, values: &[f64], unit: &str, of: Program) {
        let spread = Spread::of(values);
        let note = spread.map_or_else(|| self.why(&[of]), |spread| spread.to_string());
        let median = spread.map(|spread| rounded(spread.median));
        self.report
            .number(name, median, unit, &Bar::Measured, &note);
    }

    /// Why there is no figure.
    fn why(&self, of: &[Program]) -> String {
        let absent = self
            .absent
            .iter()
            .filter(|(program, _)| of.contains(program));
        let mut reasons: Vec<String> = absent
            .map(|(program, why)| format!("{} is missing: {why}", program.name()))
            .collect();
        for program in of {
            let troubles = self.rounds.troubles(*program);
            reasons.extend(
                troubles
                    .iter()
                    .map(|why| format!("{}: {why}", program.name())),
            );
        }
        reasons.join("; ")
    }
}

/// A figure that is told of every program.
struct Figure {
    name: &'static str,
    unit: &'static str,
    of: Measure,
    read: fn(&Turn) -> Option<f64>,
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

const FIGURES: &[Figure] = &[
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
const ADDED: &[Figure] = &[
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

fn gbps(turn: &Turn) -> Option<f64> {
    Some(turn.tcp1?.gbps)
}

/// Of a turn's single streams, both ways.
fn retransmits(turn: &Turn) -> Option<f64> {
    let reverse = turn.reverse.map_or(0.0, |stream| stream.retransmits);
    Some(turn.tcp1?.retransmits + reverse)
}

/// A matrix for a person: a row for each program, a column for each figure.
pub(super) fn matrix(rounds: &Rounds, plan: &Plan) -> String {
    let figures: Vec<&Figure> = FIGURES
        .iter()
        .filter(|figure| plan.has(figure.of))
        .collect();
    let heading = ["program"]
        .into_iter()
        .chain(figures.iter().map(|figure| figure.name));
    let heading: Vec<&str> = heading.collect();
    let cell = |program, figure: &&Figure| {
        let spread = Spread::of(&rounds.values(program, figure.read));
        spread.map_or("–".to_owned(), |spread| {
            rounded(spread.median).to_string()
        })
    };
    let row = |program: &Program| {
        let cells = figures.iter().map(|figure| cell(*program, figure));
        [program.name().to_owned()]
            .into_iter()
            .chain(cells)
            .collect()
    };
    let rows: Vec<Vec<String>> = plan.programs().iter().map(row).collect();
    crate::progress::table(&heading, &rows)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::rounds::tests::round;
    use super::*;
    use crate::cli::Given;

    fn judged(raw: &[f64], absent: &[(Program, String)]) -> Report {
        let rounds = Rounds(raw.iter().map(|gbps| round(*gbps)).collect());
        let given = Given::of(&[("--only", "tcp1"), ("--peers", "gotatun,boringtun")]);
        let mut report = Report::begin("bench tunnel");
        judge(&mut report, &rounds, &Plan::read(&given).unwrap(), absent);
        report
    }

    fn value<'a>(report: &'a Report, name: &str) -> (&'a Value, bool, &'a str) {
        let check = report.checks.iter().find(|check| check.name == name);
        let check = check.unwrap_or_else(|| panic!("there is no {name}"));
        (&check.value, check.ok, &check.note)
    }

    #[test]
    fn in_peace_every_figure_meets_its_bar_or_misses_it() {
        let report = judged(&[20.0, 20.0, 19.0], &[]);
        assert_eq!(
            value(&report, "tcp1_vs_gotatun"),
            (&Value::from(8), true, "8 .. 8 in 3")
        );
        assert!(value(&report, "tcp1_vs_raw_veth").1);
        assert!(!value(&report, "cpu_vs_budget").1, "2 misses 1.5");
        assert!(value(&report, "retransmits").1);
        assert!(
            !report
                .checks
                .iter()
                .any(|check| check.name.contains("idle"))
        );
    }

    #[test]
    fn a_restless_cable_judges_nobody() {
        for raw in [&[20.0, 10.0, 30.0][..], &[20.0, 20.0]] {
            let report = judged(raw, &[]);
            let (value, ok, note) = value(&report, "tcp1_vs_gotatun");
            assert!(
                value.is_null() && !ok && note.contains("noise: 8"),
                "{note}"
            );
            assert!(report.missed().any(|check| check.name == "raw_link_moved"));
        }
    }

    #[test]
    fn a_missing_peer_is_missed_and_told() {
        let absent = [(Program::Boringtun, "run: cargo install".to_owned())];
        let report = judged(&[20.0, 20.0, 19.0], &absent);
        let (ratio, ok, note) = value(&report, "tcp1_vs_boringtun");
        assert!(
            ratio.is_null() && !ok && note.contains("cargo install"),
            "{note}"
        );
        assert!(value(&report, "boringtun").0.is_null());
    }
}
