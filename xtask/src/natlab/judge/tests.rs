//! Each bar met and missed, by runs made up for it.

use super::super::programs::Route;
use super::*;

fn run(direct: bool) -> Run {
    Run {
        first_byte_ms: Some(300.0),
        direct_ms: direct.then_some(800.0),
        route: Some(Route {
            direct,
            carrier: "udp".to_owned(),
        }),
        mbps: Some(250.0),
        ..Run::default()
    }
}

fn failed() -> Run {
    Run {
        failed: Some("no way".to_owned()),
        ..Run::default()
    }
}

const WHOLE: fn() -> Form = || Form::new(false, None);

fn judged(name: &str, runs: Vec<Run>) -> Report {
    judged_as(name, runs, WHOLE())
}

fn judged_as(name: &str, runs: Vec<Run>, form: Form) -> Report {
    let mut report = Report::begin("natlab");
    cell(&mut report, &(name.parse().unwrap(), Ok(runs)), form);
    report
}

fn bar<'a>(report: &'a Report, name: &str) -> &'a str {
    let check = report.checks.iter().find(|check| check.name == name);
    &check.unwrap_or_else(|| panic!("{name}")).bar
}

fn is_ok(report: &Report, name: &str) -> bool {
    let check = report.checks.iter().find(|check| check.name == name);
    check.unwrap_or_else(|| panic!("{name}")).ok
}

#[test]
fn percentiles_are_values_that_were_measured() {
    let values: Vec<f64> = (1..=20).rev().map(f64::from).collect();
    assert_eq!(percentile(&values, 50), Some(10.0));
    assert_eq!(percentile(&values, 95), Some(19.0));
    assert_eq!(percentile(&[7.0], 95), Some(7.0));
    assert_eq!(percentile(&[], 50), None);
}

#[test]
fn one_run_in_twenty_may_stay_relayed_where_chance_decides_and_nowhere_else() {
    let mut runs = vec![run(true); 39];
    runs.push(run(false));
    assert!(is_ok(&judged("pr:sym", runs.clone()), "pr:sym"));
    assert!(!is_ok(&judged("pr:pr", runs), "pr:pr"));
    assert!(is_ok(&judged("pr:pr", vec![run(true); 3]), "pr:pr"));
}

#[test]
fn a_failed_run_is_missed_by_every_cell() {
    for name in ["pr:pr", "sym:sym"] {
        let report = judged(name, vec![run(true), failed()]);
        assert!(!is_ok(&report, name));
        assert!(!is_ok(&report, &format!("{name} connected")));
    }
}

#[test]
fn a_path_that_is_not_told_is_not_taken_for_direct() {
    let untold = Run {
        first_byte_ms: Some(100.0),
        ..Run::default()
    };
    let report = judged("pr:pub", vec![untold]);
    assert!(!is_ok(&report, "pr:pub") && is_ok(&report, "pr:pub connected"));
}

fn everything(outcomes: &[Outcome], form: Form) -> Report {
    let mut report = Report::begin("natlab");
    outcomes
        .iter()
        .for_each(|outcome| cell(&mut report, outcome, form));
    circumstances(&mut report, &Book::new(), 1, Some(0.5));
    summary(&mut report, outcomes, form);
    report
}

#[test]
fn every_name_is_told_whatever_happens() {
    let some: Vec<Cell> = ["pr:pr", "sym:sym"]
        .map(|name| name.parse().unwrap())
        .into();
    for (cells, form) in [
        (some.clone(), WHOLE()),
        (some, Form::new(true, None)),
        (cell::all(), WHOLE()),
    ] {
        for runs in [Ok(vec![run(true)]), Err("not proved".to_owned())] {
            let outcomes: Vec<Outcome> = cells
                .iter()
                .map(|cell| (cell.clone(), runs.clone()))
                .collect();
            let report = everything(&outcomes, form);
            let told: Vec<&str> = report.checks.iter().map(|check| &*check.name).collect();
            assert_eq!(told, names(&cells, form));
            assert_eq!(is_ok(&report, "connected_share"), runs.is_ok());
        }
    }
}

/// As the theory has it: every cell direct but those that only a relay is left for.
fn ideal() -> Vec<Outcome> {
    let outcome = |cell: Cell| {
        let direct = cell.class() != Class::Relayed;
        (cell, Ok(vec![run(direct)]))
    };
    cell::all().into_iter().map(outcome).collect()
}

#[test]
fn the_mix_is_weighed_as_a_whole_or_not_at_all() {
    let mut all = ideal();
    let share = weighted(&all).unwrap().unwrap();
    assert!((0.90..0.95).contains(&share), "{share}");
    all[0].1 = Err("not proved".to_owned());
    assert_eq!(weighted(&all), Some(None));
    assert_eq!(weighted(&all[1..]), None);
}

#[test]
fn the_summary_has_its_three_bars_and_each_can_be_missed() {
    let three = [
        "connected_share",
        "weighted_direct_share",
        "first_byte_p95_ms",
    ];
    let held = |outcomes: &[Outcome]| three.map(|name| is_ok(&everything(outcomes, WHOLE()), name));
    let report = everything(&ideal(), WHOLE());
    assert_eq!(
        three.map(|name| bar(&report, name)),
        ["= 1", ">= 0.9", "<= 3000"]
    );
    assert_eq!(held(&ideal()), [true; 3]);

    // One run of one cell that is rare among homes.
    let with = |name: &str, runs: Vec<Run>| {
        let mut outcomes = ideal();
        let mut named = outcomes
            .iter_mut()
            .filter(|(cell, _)| cell.to_string() == name);
        named.next().unwrap().1 = Ok(runs);
        outcomes
    };
    let one_failed = with("adm:adm", vec![run(false), failed()]);
    assert_eq!(held(&one_failed), [false, true, true]);

    // The commonest pair of homes is 0.1156 of all; half of it relayed is too much.
    let relayed = with("pr:pr", vec![run(true), run(false)]);
    assert_eq!(held(&relayed), [true, false, true]);

    let slow = |mut outcome: Outcome| {
        outcome.1.as_mut().unwrap()[0].first_byte_ms = Some(3_000.1);
        outcome
    };
    let tenth = ideal().len() / 10;
    let mut late = ideal();
    late.splice(..tenth, ideal().into_iter().take(tenth).map(slow));
    assert_eq!(held(&late), [true, true, false]);
}

#[test]
fn a_connected_run_in_the_wrong_carrier_is_seen() {
    let by = |carrier: &str| Run {
        route: Some(Route {
            direct: false,
            carrier: carrier.to_owned(),
        }),
        ..run(false)
    };
    for (name, runs, ok) in [
        ("sym:sym", vec![by("udp"); 2], true),
        ("sym:sym", vec![by("udp"), by("tls")], false),
        ("pr:tcp443:pr", vec![by("tls"); 2], true),
        ("pr:tcp443:pr", vec![by("quic"); 2], false),
        ("pr:pr:tcp443", vec![by("udp"); 2], true),
    ] {
        let report = judged(name, runs);
        assert_eq!(is_ok(&report, &format!("{name} carrier")), ok, "{name}");
    }
}

#[test]
fn the_short_form_judges_no_time_and_everything_else() {
    let slow = Run {
        first_byte_ms: Some(9_000.0),
        direct_ms: Some(9_900.0),
        ..run(true)
    };
    let missed = |name: &str, runs: Vec<Run>| {
        let report = judged_as(name, runs, Form::new(true, None));
        report
            .missed()
            .map(|check| check.name.clone())
            .collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(missed("pr:pr", vec![slow.clone(); 2]), none);
    assert_eq!(missed("pr:sym", vec![slow.clone(), run(false)]), none);
    assert_eq!(missed("pr:pr", vec![slow.clone(), run(false)]), ["pr:pr"]);
    let all_relayed = missed("pr:sym", vec![run(false); 2]);
    assert_eq!(all_relayed[0], "pr:sym");
    assert_eq!(
        missed("pr:pr", vec![slow, failed()]),
        ["pr:pr", "pr:pr connected"]
    );
}

#[test]
fn circumstances_tell_of_every_part() {
    use super::super::kept::Kept;
    let kept = |commit: &str, side_by_side, busy| Kept {
        commit: commit.to_owned(),
        side_by_side,
        busy: Some(busy),
        runs: Vec::new(),
    };
    let mut report = Report::begin("natlab");
    let book = Book::from([
        ("pr:pr".to_owned(), kept(&report.commit, 4, 0.9)),
        ("pr:sym".to_owned(), kept("older", 1, 0.5)),
    ]);
    circumstances(&mut report, &book, 4, None);
    assert!(report.missed().next().is_none());
    assert_eq!(report.checks[0].value, 4);
    let note = &report.checks[0].note;
    assert!(
        note.contains("1 cells with 1") && note.contains("older"),
        "{note}"
    );
    assert_eq!(report.checks[1].value, 0.7);
    assert!(report.checks[1].note.contains("most in pr:pr: 0.90"));
}
