//! The runs behind a report, kept in it: a matrix of hours can be stopped and gone on with. It
//! refuses to choose: what was run is taken over as it is, good or bad, or run anew as a whole.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cell::Cell;
use super::form::Form;
use super::trial::Run;

/// One cell's runs and what they were had under.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The commit that was measured.
    pub commit: String,
    /// Worlds that stood side by side.
    pub side_by_side: usize,
    /// The share of the machine's time that was not idle meanwhile, if the kernel told.
    pub busy: Option<f64>,
    /// The runs.
    pub runs: Vec<Run>,
}

/// Cells by their names.
pub type Book = BTreeMap<String, Kept>;

/// Where a report has them.
const FIELD: &str = "cells";

/// The book as a report keeps it.
pub fn shown(book: &Book) -> Value {
    serde_json::json!({ FIELD: book })
}

/// The book of an earlier report.
///
/// # Errors
/// When the file cannot be read, or has none.
pub fn read(file: &str) -> anyhow::Result<Book> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {file}"))?;
    let report: Value = serde_json::from_slice(&bytes).with_context(|| format!("in {file}"))?;
    let cells = report["detail"].get(FIELD);
    let cells = cells.with_context(|| format!("{file} has no runs to go on from"))?;
    serde_json::from_value(cells.clone()).with_context(|| format!("the runs in {file}"))
}

impl Kept {
    /// Whether as much was asked of the cell as this form asks.
    pub fn suffices(&self, cell: &Cell, form: Form) -> bool {
        let enough = |have: usize, asked: u64| u64::try_from(have).is_ok_and(|have| have >= asked);
        // A run without a connection has no stream, and counts as asked.
        let streamed = self
            .runs
            .iter()
            .filter(|run| run.mbps.is_some() || run.failed.is_some());
        enough(self.runs.len(), form.runs_of(cell))
            && (cell.bars().mbps.is_none() || enough(streamed.count(), form.streams_of(cell)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    fn kept(runs: Vec<Run>) -> Kept {
        Kept {
            commit: "c".to_owned(),
            side_by_side: 2,
            busy: Some(0.5),
            runs,
        }
    }

    fn run(mbps: Option<f64>) -> Run {
        Run {
            first_byte_ms: Some(300.0),
            mbps,
            ..Run::default()
        }
    }

    #[test]
    fn a_report_gives_back_the_runs_that_it_was_given() {
        let file = std::env::temp_dir().join(format!("wf-kept-{}.json", std::process::id()));
        let mut report = Report::begin("natlab");
        report.write(&file).unwrap();
        let error = read(&file.to_string_lossy()).unwrap_err();
        assert!(error.to_string().contains("no runs"), "{error:#}");
        let book = Book::from([("pr:pr".to_owned(), kept(vec![run(None), run(Some(9.0))]))]);
        report.detail = Some(shown(&book));
        report.write(&file).unwrap();
        assert_eq!(read(&file.to_string_lossy()).unwrap(), book);
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn a_cell_is_taken_over_when_as_much_was_asked_of_it() {
        let form = Form::new(false, Some(3));
        let suffices =
            |name: &str, runs: Vec<Run>| kept(runs).suffices(&name.parse().unwrap(), form);
        assert!(suffices("pr:pr", vec![run(None); 3]));
        assert!(!suffices("pr:pr", vec![run(Some(9.0)); 2]));
        assert!(suffices("sym:sym", vec![run(Some(9.0)); 3]));
        // A short form's runs have no streams.
        assert!(!suffices("sym:sym", vec![run(None); 3]));
        let failed = Run {
            failed: Some("no way".to_owned()),
            ..Run::default()
        };
        assert!(suffices("sym:sym", vec![failed; 3]), "bad ones are kept");
    }
}
