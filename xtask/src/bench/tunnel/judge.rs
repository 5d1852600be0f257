//! The run's figures held to their bars. It refuses to judge anything while the bare cable itself
//! was restless, or the machine busy with something else: its figures are then told in notes, and their values are null.

use super::cpu;
use super::crowd::{COUNTS, MOST, Streams};
use super::figures::{ADDED, FIGURES, gbps, retransmits};
use super::junk::Junked;
use super::plan::{Measure, Plan};
use super::program::Program;
use super::rounds::Rounds;
use super::spread::{Spread, rounded};
use crate::report::{Bar, Report};

const MIB: f64 = 1_048_576.0;

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
    let others: Vec<f64> = rounds.0.iter().map(|round| round.others).collect();
    let quiet = cpu::tell_others(report, &others);
    let mut judge = Judge {
        report,
        rounds,
        noise: unrest.is_none_or(|unrest| unrest > CALM) || !quiet,
        absent,
    };
    judge.ratios(plan);
    judge.single_figures(plan);
    judge.crowd(plan);
    judge.junk(plan);
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
            let cipher: Vec<f64> = self
                .rounds
                .0
                .iter()
                .filter_map(|r| r.seal_and_open)
                .collect();
            self.told(
                "seal_and_open_ns_per_byte",
                &cipher,
                "ns/byte",
                Program::Wayfare,
            );
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

    /// Many consumers on one provider of ours.
    fn crowd(&mut self, plan: &Plan) {
        let ours = [Program::Wayfare];
        if plan.has(Measure::Consumers) {
            let scaled = self.rounds.crowd(|crowd| {
                let total = |count: u16| Some(crowd.get(&count)?.streams?.gbps);
                Some(total(MOST)? / total(1)?)
            });
            let name = format!("consumers{MOST}_vs_single");
            self.held(&name, &scaled, "times", &Bar::AtLeast(0.80), &ours);
            let fair = self
                .rounds
                .crowd(|crowd| Some(crowd.get(&MOST)?.streams?.fairness));
            self.held(
                "jain_fairness",
                &fair,
                "Jain's index",
                &Bar::AtLeast(0.95),
                &ours,
            );
        }
        if plan.has(Measure::Sessions) {
            let idle = self.rounds.crowd(|crowd| {
                let memory = |count: u16| Some(crowd.get(&count)?.idle as f64);
                Some((memory(MOST)? - memory(0)?) / f64::from(MOST))
            });
            let bar = Bar::AtMost(65_536.0);
            self.held("idle_session_bytes", &idle, "bytes", &bar, &ours);
        }
        if plan.has(Measure::Consumers) {
            for count in COUNTS {
                self.streams(count);
            }
        }
    }

    fn streams(&mut self, count: u16) {
        type Read = fn(&Streams) -> f64;
        let figures: [(&str, &str, Read); 6] = [
            ("gbps", "Gb/s", |streams| streams.gbps),
            ("fairness", "Jain's index", |streams| streams.fairness),
            ("retransmitted", "of all segments", |streams| streams.again),
            ("cpu_ns_per_byte", "ns/byte", |streams| {
                streams.provider.machine
            }),
            ("provider_cpu_ns_per_byte", "ns/byte", |streams| {
                streams.provider.processes
            }),
            ("swarm_cpu_ns_per_byte", "ns/byte", |streams| streams.swarm),
        ];
        for (what, unit, read) in figures {
            let values = self
                .rounds
                .crowd(|crowd| Some(read(&crowd.get(&count)?.streams?)));
            let name = format!("consumers{count}_{what}");
            self.told(&name, &values, unit, Program::Wayfare);
        }
    }

    /// A download beside junk.
    fn junk(&mut self, plan: &Plan) {
        if !plan.has(Measure::Junk) {
            return;
        }
        let ours = [Program::Wayfare];
        let of = |read: fn(&Junked) -> f64| self.rounds.junk(read);
        let (goodput, memory) = (of(|junk| junk.goodput), of(|junk| junk.memory / MIB));
        let (replies, rate) = (of(|junk| junk.replies), of(|junk| junk.rate / 1e3));
        let (elsewhere, peace) = (of(|junk| junk.beside_elsewhere), of(|junk| junk.peace));
        self.held(
            "junk_goodput",
            &goodput,
            "times",
            &Bar::AtLeast(0.80),
            &ours,
        );
        self.held("junk_memory_mib", &memory, "MiB", &Bar::AtMost(32.0), &ours);
        self.held(
            "junk_replies",
            &replies,
            "packets",
            &Bar::Exactly(0.0),
            &ours,
        );
        // A flood that was not one proves nothing.
        self.held("junk_kpps", &rate, "kpps", &Bar::AtLeast(190.0), &ours);
        self.told(
            "junk_goodput_vs_junk_elsewhere",
            &elsewhere,
            "times",
            Program::Wayfare,
        );
        self.told("junk_peace_gbps", &peace, "Gb/s", Program::Wayfare);
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
    fn a_machine_with_other_work_judges_nobody() {
        let mut rounds = Rounds(vec![round(20.0); 3]);
        for round in &mut rounds.0 {
            round.others = 0.5;
        }
        let given = Given::of(&[("--only", "tcp1"), ("--peers", "gotatun")]);
        let mut report = Report::begin("bench tunnel");
        judge(&mut report, &rounds, &Plan::read(&given).unwrap(), &[]);
        assert!(value(&report, "tcp1_vs_gotatun").0.is_null());
        assert!(report.missed().any(|check| check.name == "others_busy"));
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
