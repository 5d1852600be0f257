//! `tidy`: the house rules that no compiler knows, each a function over plain values with samples
//! it fails on. It refuses to fix anything, and to know a rule that it cannot check.

mod graph;
mod names;
mod rooms;
mod sizes;
mod source;
mod table;
mod toplevel;
mod words;

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, bail};

use crate::cli::{Given, Outcome};
use crate::report::{Bar, Report};
use crate::{progress, tree};
use graph::Workspace;
use source::Source;

/// One place where the house is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    file: String,
    line: usize,
    rule: &'static str,
    message: String,
    /// A warning is told and does not fail.
    warning: bool,
}

impl Violation {
    fn new(file: &str, line: usize, rule: &'static str, message: String) -> Self {
        Self {
            file: file.to_owned(),
            line,
            rule,
            message,
            warning: false,
        }
    }

    fn warning(file: &str, line: usize, rule: &'static str, message: String) -> Self {
        Self {
            warning: true,
            ..Self::new(file, line, rule, message)
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.warning { "warning: " } else { "" };
        let Self {
            file,
            line,
            rule,
            message,
            ..
        } = self;
        write!(f, "{file}:{line}: {kind}{rule}: {message}")
    }
}

/// Every rule, with what it asks. A violation names one of these.
const RULES: &[(&str, &str)] = &[
    (
        "layers",
        "crates depend downwards, along declared edges only",
    ),
    (
        "depth",
        "the crate graph is at most seven crates deep, without cycles",
    ),
    ("bans", "each third-party crate lives in its own room"),
    (
        "manifest",
        "licence, lints and features as the workspace has them",
    ),
    ("lock", "Cargo.lock is committed and up to date"),
    (
        "toplevel",
        "the top level holds what it must and nothing else",
    ),
    (
        "header",
        "every file opens with what it is and what it refuses",
    ),
    ("file-size", "a file tells one story"),
    ("function-size", "a function does one thing"),
    ("names", "a noun lives in the room that gives it meaning"),
    (
        "words",
        "nothing unfinished, and no path of a build machine",
    ),
    (
        "sans-io",
        "the thinking rooms have no clock, chance, async or IO",
    ),
    (
        "unsafe",
        "unsafe only in transport and ffi, each with its SAFETY",
    ),
];

/// Runs the subcommand.
///
/// # Errors
/// When the tree cannot be read, or the report cannot be written.
pub fn run(given: &Given) -> anyhow::Result<Outcome> {
    let mut report = Report::begin("tidy");
    let found = examine()?;
    for violation in &found {
        progress::out(&violation.to_string());
    }
    let mut counts: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for violation in &found {
        let count = counts.entry(violation.rule).or_default();
        if violation.warning {
            count.1 += 1;
        } else {
            count.0 += 1;
        }
    }
    for (rule, asks) in RULES {
        let (violations, warnings) = counts.get(rule).copied().unwrap_or_default();
        let note = if warnings == 0 {
            (*asks).to_owned()
        } else {
            format!("{asks}; {warnings} warnings")
        };
        let value = Some(f64::from(violations));
        report.number(rule, value, "violations", &Bar::Exactly(0.0), &note);
    }
    report.finish(given.value("--json"))
}

/// The part of the test command.
///
/// # Errors
/// When a rule is broken.
pub fn part() -> anyhow::Result<()> {
    match run(&Given::default())? {
        Outcome::Passed => Ok(()),
        Outcome::Failed => bail!("a house rule is broken"),
    }
}

fn examine() -> anyhow::Result<Vec<Violation>> {
    let files = tree::files()?;
    let (workspace, mut found) = Workspace::load()?;
    found.extend(graph::layers(&workspace));
    found.extend(graph::depth(&workspace));
    found.extend(graph::bans(&workspace));
    found.extend(graph::manifests(&workspace));
    found.extend(toplevel::check(&files));
    for file in &files {
        let bytes = std::fs::read(tree::root().join(file));
        let bytes = bytes.with_context(|| format!("cannot read {file}"))?;
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        found.extend(words::check(file, &text));
        if file.ends_with(".rs") {
            found.extend(rust_rules(&Source::new(file, text)));
        }
    }
    found.sort();
    Ok(found)
}

fn rust_rules(source: &Source) -> Vec<Violation> {
    let rules = [
        sizes::header,
        sizes::files,
        sizes::functions,
        names::check,
        rooms::sans_io,
        rooms::no_unsafe,
    ];
    rules.iter().flat_map(|rule| rule(source)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_reads_as_file_line_rule_message() {
        let violation = Violation::new("a.rs", 3, "header", "none".to_owned());
        assert_eq!(violation.to_string(), "a.rs:3: header: none");
        let warning = Violation::warning("a.rs", 3, "header", "none".to_owned());
        assert_eq!(warning.to_string(), "a.rs:3: warning: header: none");
    }

    #[test]
    fn a_bad_file_breaks_many_rules_and_every_rule_named_is_in_the_table() {
        let text = "use std::fs;\nstruct PeerManager;\nfn f() { unsafe { g() } }\n";
        let found = rust_rules(&Source::new("crates/payment/src/utils.rs", text.to_owned()));
        let rules: Vec<&str> = found.iter().map(|violation| violation.rule).collect();
        for rule in ["header", "names", "sans-io", "unsafe"] {
            assert!(rules.contains(&rule), "{rule} in {rules:?}");
        }
        assert!(
            rules
                .iter()
                .all(|rule| RULES.iter().any(|(name, _)| name == rule))
        );
    }
}
