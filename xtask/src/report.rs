//! The report that every measuring command writes: one check per figure that somebody relies on,
//! each with the bar it is held to. It refuses to leave out what could not be measured: that is a
//! check with a null value and a note, and it counts as missed.

use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Number, Value};

use crate::cli::Outcome;
use crate::machine::Machine;
use crate::progress;

/// What a figure is held to.
#[derive(Clone, Debug, PartialEq)]
pub enum Bar {
    /// Equal to this number.
    Exactly(f64),
    /// This number or less.
    AtMost(f64),
    /// This number or more.
    AtLeast(f64),
    /// Between the two, both included.
    Within(f64, f64),
    /// This text.
    Text(String),
    /// Told, not judged: met by being measured at all.
    Measured,
}

impl Bar {
    fn met_by(&self, value: &Value) -> bool {
        let number = value.as_f64();
        match self {
            Self::Exactly(bar) => number == Some(*bar),
            Self::AtMost(bar) => number.is_some_and(|n| n <= *bar),
            Self::AtLeast(bar) => number.is_some_and(|n| n >= *bar),
            Self::Within(low, high) => number.is_some_and(|n| (*low..=*high).contains(&n)),
            Self::Text(bar) => value.as_str() == Some(bar),
            Self::Measured => !value.is_null(),
        }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(bar) => write!(f, "= {bar}"),
            Self::AtMost(bar) => write!(f, "<= {bar}"),
            Self::AtLeast(bar) => write!(f, ">= {bar}"),
            Self::Within(low, high) => write!(f, "{low} .. {high}"),
            Self::Text(bar) => write!(f, "= {bar}"),
            Self::Measured => f.write_str("measured"),
        }
    }
}

/// One figure.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Check {
    /// `snake_case`, stable: other programs look for it.
    pub name: String,
    /// A number or a text; null when it could not be measured.
    pub value: Value,
    /// What the number counts; empty for a text.
    pub unit: String,
    /// The bar, as a person reads it: `<= 1.01`.
    pub bar: String,
    /// Whether the value meets it.
    pub ok: bool,
    /// Why it is null, or what a reader should know.
    pub note: String,
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The subcommand.
    pub command: String,
    /// The commit that was measured.
    pub commit: String,
    /// The machine it was measured on, as it was at the start.
    pub machine: Machine,
    /// The figures, in the order in which they were added.
    pub checks: Vec<Check>,
    /// What a later run of the same command can go on from, where there is such a thing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
}

impl Report {
    /// Begins the report of `command`.
    pub fn begin(command: &str) -> Self {
        Self {
            command: command.to_owned(),
            commit: crate::tree::commit(),
            machine: Machine::ask(),
            checks: Vec::new(),
            detail: None,
        }
    }

    /// Adds a number; `None` when it could not be measured.
    pub fn number(&mut self, name: &str, value: Option<f64>, unit: &str, bar: &Bar, note: &str) {
        let value = value
            .and_then(exact_number)
            .map_or(Value::Null, Value::Number);
        self.add(name, value, unit, bar, note);
    }

    /// Adds a whole number too large for a float to hold, such as wei, held to `expected`. It is
    /// written as a JSON number where that is exact, else as a decimal text.
    pub fn whole(
        &mut self,
        name: &str,
        value: Option<i128>,
        unit: &str,
        expected: i128,
        note: &str,
    ) {
        let shown = |n: i128| i64::try_from(n).map_or(Value::String(n.to_string()), Value::from);
        let ok = value == Some(expected);
        self.checks.push(Check {
            name: name.to_owned(),
            value: value.map_or(Value::Null, shown),
            unit: unit.to_owned(),
            bar: format!("= {expected}"),
            ok,
            note: missing_note(value.is_none(), note),
        });
    }

    /// Adds a text; `None` when it could not be had.
    pub fn text(&mut self, name: &str, value: Option<&str>, bar: &Bar, note: &str) {
        self.add(name, value.map_or(Value::Null, Value::from), "", bar, note);
    }

    fn add(&mut self, name: &str, value: Value, unit: &str, bar: &Bar, note: &str) {
        self.checks.push(Check {
            name: name.to_owned(),
            ok: bar.met_by(&value),
            unit: unit.to_owned(),
            bar: bar.to_string(),
            note: missing_note(value.is_null(), note),
            value,
        });
    }

    /// The checks that miss their bar.
    pub fn missed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.ok)
    }

    /// The checks as a table.
    pub fn table(&self) -> String {
        let rows: Vec<Vec<String>> = self.checks.iter().map(row).collect();
        progress::table(&["", "check", "value", "unit", "bar", "note"], &rows)
    }

    /// Writes the report to `file`, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written, naming the file.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self).context("a report is always JSON")?;
        let partial = file.with_extension("json.partial");
        std::fs::write(&partial, text + "\n")
            .and_then(|()| std::fs::rename(&partial, file))
            .with_context(|| format!("cannot write the report to {}", file.display()))
    }

    /// Writes the report where it was asked for, says which checks miss their bar, and judges.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(&self, file: Option<&str>) -> anyhow::Result<Outcome> {
        if let Some(file) = file {
            self.write(Path::new(file))?;
            progress::say(&format!("report: {file}"));
        }
        for check in self.missed() {
            let note = if check.note.is_empty() {
                String::new()
            } else {
                format!(" ({})", check.note)
            };
            progress::say(&format!(
                "missed: {} is {} {}, the bar is {}{note}",
                check.name, check.value, check.unit, check.bar
            ));
        }
        Ok(Outcome::from_held(self.missed().next().is_none()))
    }
}

fn row(check: &Check) -> Vec<String> {
    let value = match &check.value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    vec![
        if check.ok { "ok" } else { "MISSED" }.to_owned(),
        check.name.clone(),
        shortened(&value),
        check.unit.clone(),
        shortened(&check.bar),
        check.note.clone(),
    ]
}

/// A digest, say, is told by its beginning in a table; the file has it whole.
fn shortened(text: &str) -> String {
    const ROOM: usize = 24;
    if text.chars().count() <= ROOM {
        return text.to_owned();
    }
    text.chars().take(ROOM - 1).chain(['…']).collect()
}

fn missing_note(missing: bool, note: &str) -> String {
    if missing && note.is_empty() {
        return "could not be measured".to_owned();
    }
    note.to_owned()
}

/// 0 and not 0.0 where nothing is lost; none for NaN and infinities, which JSON cannot say.
fn exact_number(value: f64) -> Option<Number> {
    /// 2^53: up to here every whole float is a whole number.
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < WHOLE {
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            command: "demo".to_owned(),
            commit: "c".to_owned(),
            machine: Machine::ask(),
            checks: Vec::new(),
            detail: None,
        }
    }

    fn judged(value: Option<f64>, bar: Bar) -> bool {
        let mut report = report();
        report.number("x", value, "", &bar, "");
        report.checks[0].ok
    }

    #[test]
    fn every_bar_can_be_met_and_missed() {
        for (met, missed, bar) in [
            (0.0, 1.0, Bar::Exactly(0.0)),
            (1.0, 1.1, Bar::AtMost(1.0)),
            (1.0, 0.9, Bar::AtLeast(1.0)),
            (1.0, 1.02, Bar::Within(0.99, 1.01)),
            (1.0, f64::NAN, Bar::Measured),
        ] {
            assert!(judged(Some(met), bar.clone()), "{bar}");
            assert!(!judged(Some(missed), bar.clone()), "{bar}");
            assert!(!judged(None, bar.clone()), "unmeasured misses {bar}");
        }
    }

    #[test]
    fn texts_are_compared_whole() {
        let mut report = report();
        report.text(
            "exit_ip",
            Some("10.0.0.1"),
            &Bar::Text("10.0.0.1".into()),
            "",
        );
        report.text(
            "exit_ip",
            Some("10.0.0.10"),
            &Bar::Text("10.0.0.1".into()),
            "",
        );
        let oks: Vec<bool> = report.checks.iter().map(|check| check.ok).collect();
        assert_eq!(oks, [true, false]);
    }

    #[test]
    fn the_table_tells_long_values_by_their_beginning() {
        let mut report = report();
        let digest = "0123456789".repeat(6);
        report.text("sha256", Some(&digest), &Bar::Text(digest.clone()), "");
        let table = report.table();
        assert!(table.contains("01234567890123456789012…") && !table.contains(&digest));
        assert_eq!(report.checks[0].value, Value::from(digest));
    }

    #[test]
    fn one_wei_is_not_lost_in_a_float() {
        let mut report = report();
        let large = 1_000_000_000_000_000_000_000_i128;
        report.whole("c", Some(large + 1), "wei", large, "");
        assert!(!report.checks[0].ok);
        assert_eq!(
            report.checks[0].value,
            Value::from("1000000000000000000001")
        );
        report.whole("c", Some(0), "wei", 0, "");
        assert!(report.checks[1].ok);
        assert_eq!(report.checks[1].value, Value::from(0));
    }

    #[test]
    fn the_written_form_is_the_documented_one() {
        let mut report = report();
        report.number("left_behind", None, "things", &Bar::Exactly(0.0), "no root");
        let json = serde_json::to_value(&report).unwrap();
        assert!(json["machine"]["cores"].is_u64() && json["machine"]["kernel"].is_string());
        assert_eq!(
            json["checks"][0],
            serde_json::json!({"name": "left_behind", "value": null, "unit": "things",
                "bar": "= 0", "ok": false, "note": "no root"})
        );
    }

    #[test]
    fn a_missed_check_fails_the_command_and_the_file_is_whole() {
        let file = std::env::temp_dir().join(format!("wf-report-{}.json", std::process::id()));
        let mut report = report();
        report.number("a", Some(1.0), "", &Bar::Exactly(1.0), "");
        assert_eq!(report.finish(file.to_str()).unwrap(), Outcome::Passed);
        report.number("b", Some(2.0), "", &Bar::Exactly(1.0), "");
        assert_eq!(report.finish(file.to_str()).unwrap(), Outcome::Failed);
        let read: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(read["checks"].as_array().unwrap().len(), 2);
        assert!(read["checks"][1]["value"].is_i64());
        std::fs::remove_file(&file).unwrap();
    }
}
