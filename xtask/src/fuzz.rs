//! `fuzz`: libFuzzer on the fuzz targets of the rooms, built by the same stable compiler as
//! everything else. It refuses to install anything, and to keep what it found by itself: inputs
//! enter the committed corpus by `--minimise` alone, and every test run replays that corpus.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::cli::{Given, Outcome};
use crate::need::TOOLS;
use crate::process::{capture, cargo, command, last_lines, told};
use crate::report::{Bar, Report};
use crate::{progress, tree};

/// Rooms with a `fuzz` crate (a workspace of its own) and a `corpus` folder per target.
const ROOMS: &[&str] = &["crates/tunnel", "crates/path", "crates/nat"];

/// What it takes to compile them: libFuzzer is C++, AWS-LC is C.
const BUILD: &[&str] = &["cc", "clang"];

/// The counters that libFuzzer steers by. The compiler's own pass makes them, so nothing here is
/// nightly; only sanitizers would be, and the rooms that are fuzzed have no `unsafe`.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// A cold build with AWS-LC on two slow cores.
const BUILDING: Duration = Duration::from_secs(40 * 60);

/// To read the corpora, beyond the time that was asked for.
const READING: Duration = Duration::from_secs(10 * 60);

/// One fuzz target and where its things are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    name: String,
    room: &'static str,
}

impl Target {
    /// The inputs that are committed.
    fn committed(&self) -> PathBuf {
        let room = tree::root().join(self.room);
        room.join("corpus").join(&self.name)
    }

    /// The inputs of earlier runs on this machine.
    fn grown(&self) -> PathBuf {
        built().join("corpus").join(&self.name)
    }
}

/// Runs the subcommand.
///
/// # Errors
/// When a target is unknown, cannot be built or started, or the report cannot be written.
pub fn run(given: &Given) -> anyhow::Result<Outcome> {
    let targets = chosen(&targets()?, &given.rest)?;
    let seconds = given.number("--seconds", 60)?;
    let seed = given.number("--seed", 0)?;
    tools_at_hand()?;
    let mut report = Report::begin("fuzz");
    for room in ROOMS {
        if targets.iter().any(|target| target.room == *room) {
            progress::step(&format!("building the fuzz targets of {room}"));
            build(room)?;
        }
    }
    for target in &targets {
        let name = &target.name;
        progress::step(&format!("{name} for {seconds} s"));
        let explored = explore(target, seconds, seed)?;
        let note = format!("seed {}", explored.seed.as_deref().unwrap_or("unknown"));
        let inputs = explored.inputs.map(|inputs| inputs as f64);
        let bar = Bar::AtLeast(1.0);
        report.number(&format!("{name}_inputs"), inputs, "inputs", &bar, &note);
        let found = Some(f64::from(u8::from(explored.finding.is_some())));
        let note = explored.finding.as_deref().unwrap_or("");
        let bar = Bar::Exactly(0.0);
        report.number(&format!("{name}_findings"), found, "findings", &bar, note);
        if given.has("--minimise") && explored.finding.is_none() {
            minimise(target)?;
        }
    }
    report.finish(given.value("--json"))
}

/// Where all of it is built and grows, beside the workspace's own target folder.
fn built() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| PathBuf::from("target"));
    tree::root().join(folder).join("fuzz")
}

/// Every target of every room, by name.
fn targets() -> anyhow::Result<Vec<Target>> {
    let mut targets = Vec::new();
    for room in ROOMS {
        for path in files(&tree::root().join(room).join("fuzz/fuzz_targets"))? {
            let name = path.file_stem().unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            targets.push(Target { name, room });
        }
    }
    Ok(targets)
}

/// The files of a folder, sorted.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed = std::fs::read_dir(folder);
    let listed = listed.with_context(|| format!("cannot read {}", folder.display()))?;
    let entries = listed.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).collect();
    files.sort();
    Ok(files)
}

fn chosen(targets: &[Target], names: &[String]) -> anyhow::Result<Vec<Target>> {
    for name in names {
        if !targets.iter().any(|target| target.name == *name) {
            let valid: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
            bail!("no target `{name}`; there are: {}", valid.join(", "));
        }
    }
    let asked = |target: &&Target| names.is_empty() || names.contains(&target.name);
    Ok(targets.iter().filter(asked).cloned().collect())
}

/// Nothing is installed here, unlike elsewhere in the workshop: who fuzzes chose to.
fn tools_at_hand() -> anyhow::Result<()> {
    let needed = TOOLS.iter().filter(|tool| BUILD.contains(&tool.name));
    let lines: Vec<String> = needed
        .filter(|tool| !tool.present())
        .map(|tool| tool.line())
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    bail!(
        "fuzzing needs more than this machine has; run: {}",
        lines.join(" && ")
    )
}

/// The triple that this machine compiles for. Named to cargo, so that the coverage counters stay
/// out of build scripts.
fn host() -> anyhow::Result<String> {
    let said = capture(&mut command("rustc", ["-vV"]), READING)?.stdout_if_ok("rustc -vV")?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say its host")?.to_owned())
}

fn build(room: &str) -> anyhow::Result<()> {
    let manifest = tree::root().join(room).join("fuzz/Cargo.toml");
    let mut command = cargo(["build", "--release", "--locked", "--target", &host()?]);
    command
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(built())
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", COVERAGE);
    crate::process::run(&mut command, BUILDING)
}

/// The program of a target.
fn program(target: &Target) -> anyhow::Result<String> {
    let path = built().join(host()?).join("release").join(&target.name);
    Ok(path.to_string_lossy().into_owned())
}

/// What a run of libFuzzer came to.
#[derive(Debug, PartialEq, Eq)]
struct Explored {
    inputs: Option<u64>,
    seed: Option<String>,
    finding: Option<String>,
}

/// Runs one target, from the committed corpus and what grew out of it on this machine.
fn explore(target: &Target, seconds: u64, seed: u64) -> anyhow::Result<Explored> {
    let findings = built().join("findings");
    for folder in [&target.grown(), &findings] {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let prefix = findings.join(format!("{}-", target.name));
    let mut command = command(
        &program(target)?,
        [
            format!("-max_total_time={seconds}"),
            format!("-seed={seed}"),
            format!("-artifact_prefix={}", prefix.display()),
            "-max_len=2048".to_owned(),
            "-timeout=20".to_owned(),
            "-rss_limit_mb=1024".to_owned(),
            "-print_final_stats=1".to_owned(),
        ],
    );
    command.arg(target.grown()).arg(target.committed());
    let said = capture(&mut command, Duration::from_secs(seconds) + READING)?;
    let ending = (!said.status.success()).then(|| told(said.status));
    Ok(read(&said.stderr, ending))
}

/// Reads what libFuzzer said; `ending` is how it ended, unless well.
fn read(said: &str, ending: Option<String>) -> Explored {
    let after = |mark: &str| {
        let found = said.lines().find_map(|line| line.split_once(mark));
        found.map(|(_, rest)| rest.trim().to_owned())
    };
    let finding = ending.map(|ending| match after("Test unit written to ") {
        Some(file) => format!("{file}: {}", last_lines(&panic_of(said), 3)),
        None => format!("{ending}: {}", last_lines(said, 3)),
    });
    Explored {
        inputs: after("stat::number_of_executed_units:").and_then(|n| n.parse().ok()),
        seed: after("INFO: Seed:"),
        finding,
    }
}

/// The message of the panic, as far as there is one.
fn panic_of(said: &str) -> String {
    let lines = said
        .lines()
        .skip_while(|line| !line.contains("panicked at"));
    lines.take(3).collect::<Vec<_>>().join("; ")
}

/// Replaces what was once found, in the committed corpus, by the smallest set that reaches as much
/// as all that is known. What was written by hand stays: it says more than what it reaches.
fn minimise(target: &Target) -> anyhow::Result<()> {
    let small = built().join("minimised").join(&target.name);
    if small.exists() {
        std::fs::remove_dir_all(&small)?;
    }
    std::fs::create_dir_all(&small)?;
    // Edges only: how often each was passed would keep hundreds of inputs.
    let options = ["-set_cover_merge=1", "-use_counters=0", "-max_len=2048"];
    let mut command = command(&program(target)?, options);
    command
        .arg(&small)
        .arg(target.committed())
        .arg(target.grown());
    let line = crate::process::shown(&command);
    capture(&mut command, READING)?.stdout_if_ok(&line)?;
    let kept = files(&small)?;
    if kept.is_empty() {
        bail!("nothing is left of the corpus of `{}`", target.name);
    }
    for old in files(&target.committed())? {
        if was_found(&old) {
            std::fs::remove_file(&old)?;
        }
    }
    for file in &kept {
        let name = file.file_name().context("a file has a name")?;
        std::fs::copy(file, target.committed().join(name))?;
    }
    progress::say(&format!("{}: {} inputs are kept", target.name, kept.len()));
    Ok(())
}

/// Whether libFuzzer named this input: by its SHA-1.
fn was_found(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.len() == 40 && name.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_corpus_and_every_corpus_a_target() {
        let targets = targets().unwrap();
        assert!(targets.len() >= 6, "{targets:?}");
        for target in &targets {
            assert!(
                !files(&target.committed()).unwrap().is_empty(),
                "{target:?}"
            );
        }
        for room in ROOMS {
            for folder in files(&tree::root().join(room).join("corpus")).unwrap() {
                let name = folder.file_name().unwrap().to_string_lossy().into_owned();
                assert!(targets.iter().any(|target| target.name == name), "{name}");
            }
        }
    }

    #[test]
    fn targets_are_chosen_by_name() {
        let targets = targets().unwrap();
        assert_eq!(chosen(&targets, &[]).unwrap(), targets);
        let one = chosen(&targets, &["cookie".to_owned()]).unwrap();
        assert_eq!(one.len(), 1);
        let error = chosen(&targets, &["biscuit".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("cookie"), "{error}");
    }

    #[test]
    fn what_was_written_by_hand_is_told_from_what_was_found() {
        assert!(was_found(Path::new(
            "a/0123456789abcdef0123456789abcdef01234567"
        )));
        assert!(!was_found(Path::new("a/hand-00")));
    }

    #[test]
    fn a_quiet_run_has_inputs_a_seed_and_no_finding() {
        let said = "INFO: Seed: 42\n#2\tINITED\nstat::number_of_executed_units: 8699\n";
        let expected = Explored {
            inputs: Some(8_699),
            seed: Some("42".to_owned()),
            finding: None,
        };
        assert_eq!(read(said, None), expected);
    }

    #[test]
    fn a_finding_names_its_file_and_its_panic() {
        let said = "INFO: Seed: 7\nthread '<unnamed>' panicked at a.rs:1:2:\nassertion failed\n\
            artifact_prefix='x/'; Test unit written to x/crash-1\n";
        let explored = read(said, Some("ended with exit code 77".to_owned()));
        let finding = explored.finding.unwrap();
        assert!(finding.starts_with("x/crash-1: "), "{finding}");
        assert!(finding.contains("assertion failed"), "{finding}");
        let explored = read("out of memory", Some("was ended by signal 9".to_owned()));
        assert!(explored.finding.unwrap().contains("signal 9"));
    }
}
