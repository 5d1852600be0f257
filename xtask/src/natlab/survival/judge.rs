//! Scenarios held to their bars: the file whole, no stall longer than allowed, one session from the
//! first byte to the last, the path that was to be expected, payments that went on. It refuses to
//! let one of them make up for another.

use crate::report::{Bar, Report};

use super::scenario::{STALL, Scenario};
use super::scene::Told;

/// The figures of a scenario beside its own name, in their order.
const FIGURES: [&str; 4] = ["stall_ms", "sessions", "path", "paid"];

/// The names of everything that a report of these scenarios tells.
pub(super) fn names(scenarios: &[Scenario]) -> Vec<String> {
    let of = |scenario: &Scenario| {
        let check = scenario.check();
        let figures = FIGURES.map(|figure| format!("{check} {figure}"));
        std::iter::once(check).chain(figures)
    };
    scenarios.iter().flat_map(of).collect()
}

/// Adds one scenario to the report.
pub(super) fn add(report: &mut Report, scenario: &Scenario, told: Result<&Told, &str>) {
    let check = scenario.check();
    let [stall, sessions, path, paid] = FIGURES.map(|figure| format!("{check} {figure}"));
    let told = match told {
        Ok(told) => told,
        Err(why) => {
            report.number(&check, None, "", &Bar::Measured, why);
            for figure in [&stall, &sessions, &path, &paid] {
                report.number(figure, None, "", &Bar::Measured, why);
            }
            return;
        }
    };
    let whole = f64::from(u8::from(told.whole));
    let note = format!(
        "{}; {} bytes in {:.1} s, undisturbed {:.0} s{}",
        scenario.story,
        told.bytes,
        told.seconds,
        scenario.undisturbed().as_secs_f64(),
        match told.resumed {
            0 => String::new(),
            times => format!("; the downloader went on with another connection {times} times"),
        }
    );
    report.number(&check, Some(whole), "whole", &Bar::Exactly(1.0), &note);
    let all = match told.stalls.as_str() {
        "" => String::new(),
        stalls => format!("; ended: {stalls}"),
    };
    let note = format!("from {:.1} s{all}", told.stall_at);
    let bar = Bar::AtMost(STALL);
    report.number(&stall, Some(told.stall_ms.round()), "ms", &bar, &note);
    let count = told.sessions.len() as f64;
    let note = match told.sessions.len() {
        0 | 1 => "",
        _ => "a successor had to be opened",
    };
    report.number(&sessions, Some(count), "sessions", &Bar::Exactly(1.0), note);
    let shown = told.direct.map(word).join(" to ");
    let expected = [scenario.before, scenario.after].map(|direct| word(Some(direct)));
    let note = told.tiers.join(", ");
    let bar = Bar::Text(expected.join(" to "));
    report.text(&path, Some(&shown), &bar, &note);
    // A successor counts from nothing.
    let grown = told.paid[1].checked_sub(told.paid[0]);
    let grown = grown.filter(|_| told.sessions.len() == 1);
    let note = match grown {
        Some(_) => "after the last event, or the rest",
        None => "not by the same session",
    };
    let bar = Bar::AtLeast(1.0);
    let grown = grown.map(|grown| grown as f64);
    report.number(&paid, grown, "smallest units", &bar, note);
}

fn word(direct: Option<bool>) -> &'static str {
    match direct {
        Some(true) => "direct",
        Some(false) => "relayed",
        None => "untold",
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::SCENARIOS;
    use super::*;

    fn good() -> Told {
        Told {
            whole: true,
            stall_ms: 900.0,
            sessions: vec!["1".to_owned()],
            direct: [Some(false), Some(true)],
            paid: [10, 20],
            ..Told::default()
        }
    }

    fn missed(told: &Told) -> Vec<String> {
        let mut report = Report::begin("natlab --survive");
        add(&mut report, &SCENARIOS[0], Ok(told));
        report.missed().map(|check| check.name.clone()).collect()
    }

    #[test]
    fn each_fault_is_told_by_its_own_name() {
        assert!(missed(&good()).is_empty());
        let two = Told {
            sessions: vec!["1".into(), "2".into()],
            ..good()
        };
        let both = [" sessions", " paid"].map(|name| format!("survive_relay_to_direct{name}"));
        assert_eq!(missed(&two), both);
        let faults: [(Told, &str); 4] = [
            (
                Told {
                    whole: false,
                    ..good()
                },
                "",
            ),
            (
                Told {
                    stall_ms: 10_001.0,
                    ..good()
                },
                " stall_ms",
            ),
            (
                Told {
                    direct: [Some(false); 2],
                    ..good()
                },
                " path",
            ),
            (
                Told {
                    paid: [10, 10],
                    ..good()
                },
                " paid",
            ),
        ];
        for (told, name) in faults {
            assert_eq!(missed(&told), [format!("survive_relay_to_direct{name}")]);
        }
    }

    #[test]
    fn every_name_is_told_whatever_happens() {
        for told in [Ok(&good()), Err("nobody connects")] {
            let mut report = Report::begin("natlab --survive");
            add(&mut report, &SCENARIOS[0], told);
            let told: Vec<&str> = report.checks.iter().map(|check| &*check.name).collect();
            assert_eq!(told, names(&SCENARIOS[..1]));
        }
        let mut report = Report::begin("natlab --survive");
        add(&mut report, &SCENARIOS[0], Err("nobody connects"));
        assert_eq!(report.missed().count(), FIGURES.len() + 1);
    }
}
