//! `test`: the README's test command, a table of named parts. It refuses to stop at the first
//! part that fails: the closing table tells them all, and its last line counts them.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::cli::{Given, Outcome};
use crate::process::{self, cargo};
use crate::report::{Bar, Report};
use crate::{crash, demo, interrupt, natlab, need, progress, tidy, vectors};

/// One part of the tests.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// As in the README and on the command line.
    pub name: &'static str,
    /// What it shows.
    pub shows: &'static str,
    /// Tools it cannot do without, installed first where that is allowed.
    pub needs: &'static [&'static str],
    /// `Err` when it fails.
    pub run: fn() -> anyhow::Result<()>,
}

/// What it takes to compile the workspace.
const BUILD: &[&str] = &["cc", "clang", "libclang"];

/// The quick ones first. A new part is one more row here, and a row of the README's table.
pub const PARTS: &[Part] = &[
    Part {
        name: "fmt",
        shows: "every file is formatted",
        needs: &[],
        run: || run_cargo(&["fmt", "--all", "--check"]),
    },
    Part {
        name: "tidy",
        shows: "the house rules hold",
        needs: &["git"],
        run: tidy::part,
    },
    Part {
        name: "deny",
        shows: "licences, sources and bans of the dependencies hold",
        needs: &["cargo-deny"],
        run: deny,
    },
    Part {
        name: "clippy",
        shows: "no lint is left, in any target",
        needs: BUILD,
        run: || run_built(&["clippy"], &["--", "-D", "warnings"]),
    },
    Part {
        name: "contracts",
        shows: "the contract artifacts are what the sources compile to",
        needs: &["npm"],
        run: contracts,
    },
    Part {
        name: "unit",
        shows: "unit, machine, model, contract, interoperation and namespace tests",
        needs: &[
            "cargo-nextest",
            "cc",
            "clang",
            "libclang",
            "ip",
            "nft",
            "wg",
            "wireguard-go",
            "boringtun-cli",
        ],
        run: || run_built(&["nextest", "run"], &[]),
    },
    Part {
        name: "doc",
        shows: "the examples in the documentation run",
        needs: BUILD,
        run: || run_cargo(&["test", "--doc", "--workspace", FEATURES]),
    },
    Part {
        name: "vectors",
        shows: "the payment vectors are answered as expected",
        needs: BUILD,
        run: vectors::part,
    },
    Part {
        name: "demo",
        shows: "the whole network: top up, connect, browse, pay, settle, leave",
        needs: &["ip", "nft", "curl", "tcpdump"],
        run: || run_here(demo::run, &[]),
    },
    Part {
        name: "crash",
        shows: "three rounds of kill -9 under traffic lose nothing",
        needs: &["ip", "nft", "curl"],
        run: || run_here(crash::run, &[("--rounds", "3")]),
    },
    Part {
        name: "natlab",
        shows: "one pair of routers of each class is connected as it should be, and a dead relay survived",
        needs: natlab::NEEDED,
        run: natlab::part,
    },
];

/// One set of features everywhere: another set would compile the dependencies again.
const FEATURES: &str = "--features=wayfare-chain/devchain";

/// A cold build of everything on two cores, with room.
const LIMIT: Duration = Duration::from_secs(80 * 60);

/// Runs the subcommand.
///
/// # Errors
/// On a name that is no part, on a signal, or when the report cannot be written.
pub fn run(given: &Given) -> anyhow::Result<Outcome> {
    if given.has("--list") {
        for part in PARTS {
            progress::out(&format!("{:<10} {}", part.name, part.shows));
        }
        return Ok(Outcome::Passed);
    }
    let parts = chosen(&given.rest)?;
    let mut report = Report::begin("test");
    let mut rows = Vec::new();
    let mut failed = 0;
    for (at, part) in parts.iter().enumerate() {
        progress::step(&format!(
            "{}/{} {}: {}",
            at + 1,
            parts.len(),
            part.name,
            part.shows
        ));
        let begun = Instant::now();
        let ending = need(part.needs).and_then(|()| (part.run)());
        interrupt::check()?;
        let seconds = begun.elapsed().as_secs_f64();
        let problem = ending.err().map(|error| format!("{error:#}"));
        if let Some(problem) = &problem {
            progress::say(&format!("{} failed: {problem}", part.name));
            failed += 1;
        }
        let result = if problem.is_some() {
            "FAILED"
        } else {
            "passed"
        };
        rows.push(vec![
            part.name.to_owned(),
            result.to_owned(),
            format!("{seconds:.1} s"),
        ]);
        let held = f64::from(u8::from(problem.is_none()));
        let note = problem.map_or_else(
            || format!("{seconds:.1} s"),
            |problem| process::last_lines(&problem, 3),
        );
        report.number(part.name, Some(held), "passed", &Bar::Exactly(1.0), &note);
    }
    let outcome = report.finish(given.value("--json"))?;
    progress::out(&format!(
        "\n{}",
        progress::table(&["part", "result", "time"], &rows)
    ));
    progress::out(&closing_line(parts.len() - failed, failed));
    Ok(outcome)
}

/// Build machines read this line.
fn closing_line(passed: usize, failed: usize) -> String {
    format!("{passed} passed, {failed} failed")
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<Part>> {
    if names.is_empty() {
        return Ok(PARTS.to_vec());
    }
    for name in names {
        if !PARTS.iter().any(|part| part.name == name) {
            let valid: Vec<_> = PARTS.iter().map(|part| part.name).collect();
            bail!("no part `{name}`; there are: {}", valid.join(", "));
        }
    }
    let asked = |part: &&Part| names.iter().any(|name| name == part.name);
    Ok(PARTS.iter().filter(asked).copied().collect())
}

fn run_cargo(args: &[&str]) -> anyhow::Result<()> {
    process::run(&mut cargo(args), LIMIT)
}

/// A subcommand of this program, run in place: the file it was started from may have been rebuilt since.
fn run_here(
    run: fn(&Given) -> anyhow::Result<Outcome>,
    flags: &[(&'static str, &str)],
) -> anyhow::Result<()> {
    match run(&Given::of(flags))? {
        Outcome::Passed => Ok(()),
        Outcome::Failed => bail!("a check missed its bar"),
    }
}

/// Brings the pinned compiler and reference chain, then compiles and compares.
fn contracts() -> anyhow::Result<()> {
    let folder = crate::tree::root().join("crates/chain/contracts");
    for (program, words) in [
        (
            "npm",
            &["ci", "--ignore-scripts", "--no-audit", "--no-fund"][..],
        ),
        ("node", &["build.mjs", "--check"][..]),
        ("node", &["mysterium/build.mjs", "--check"][..]),
    ] {
        let mut command = process::command(program, words);
        command.current_dir(&folder);
        process::run(&mut command, LIMIT)?;
    }
    Ok(())
}

/// A cargo command over the whole workspace with the one set of targets and features.
fn run_built(verb: &[&str], rest: &[&str]) -> anyhow::Result<()> {
    let mut args = verb.to_vec();
    args.extend(["--workspace", "--all-targets", FEATURES]);
    args.extend(rest);
    run_cargo(&args)
}

/// The gate is bans, licences and sources. Advisories are judged by a fresh database, else by the
/// copy at hand, and said to be unjudged where there is neither.
fn deny() -> anyhow::Result<()> {
    run_cargo(&["deny", "check", "bans", "licenses", "sources"])?;
    let ask = |network: &[&str]| {
        let mut command = cargo(["deny"]);
        command.args(network).args(["check", "advisories"]);
        process::capture(&mut command, LIMIT)
    };
    let mut said = ask(&[])?;
    if !said.status.success() && said.stderr.contains(NO_FETCH) {
        if !advisories_at_hand() {
            progress::say("advisories: NOT judged, their database cannot be fetched from here");
            return Ok(());
        }
        progress::say("advisories: judged by the copy at hand, which may be old");
        said = ask(&["--offline"])?;
    }
    said.stdout_if_ok("cargo deny check advisories").map(drop)
}

/// What cargo-deny says where it cannot reach the database.
const NO_FETCH: &str = "failed to fetch advisory database";

fn advisories_at_hand() -> bool {
    let homes = need::cargo_home().map(|home| home.join("advisory-dbs"));
    let entries = homes.and_then(|home| std::fs::read_dir(home).ok());
    let mut folders = entries.into_iter().flatten().flatten();
    folders.any(|entry| entry.path().join(".git").exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_unique_names_and_known_needs() {
        for (at, part) in PARTS.iter().enumerate() {
            assert!(PARTS[at + 1..].iter().all(|other| other.name != part.name));
            for tool in part.needs {
                assert!(
                    need::TOOLS.iter().any(|known| known.name == *tool),
                    "{tool}"
                );
            }
        }
    }

    #[test]
    fn parts_are_chosen_by_name_in_the_order_of_the_table() {
        let names = ["tidy", "fmt"].map(str::to_owned);
        let parts: Vec<_> = chosen(&names)
            .unwrap()
            .iter()
            .map(|part| part.name)
            .collect();
        assert_eq!(parts, ["fmt", "tidy"]);
        let error = chosen(&["units".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("fmt, tidy"), "{error}");
    }

    #[test]
    fn the_last_line_is_the_one_build_machines_read() {
        assert_eq!(closing_line(5, 1), "5 passed, 1 failed");
    }
}
