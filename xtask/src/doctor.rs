//! `doctor`: what this machine lacks for building, testing and the demo, each with the exact line
//! to run. It refuses to change anything unless told `--fix`.

use crate::cli::{Given, Outcome};
use crate::machine::{Machine, meminfo};
use crate::need::{self, TOOLS};
use crate::process::{SHORT, command, output};
use crate::progress::{self, table};

/// Linking the largest test binaries and RocksDB side by side stays below this.
const MEMORY_BYTES: u64 = 4 << 30;

/// A full debug target directory is about 10 GB.
const DISK_BYTES: u64 = 15 << 30;

/// One line of the diagnosis.
#[derive(Debug)]
struct Finding {
    what: String,
    purpose: String,
    found: Option<String>,
    cure: String,
}

/// Runs the subcommand: fails when something is missing.
///
/// # Errors
/// When `--fix` cannot install what is missing.
pub fn run(given: &Given) -> anyhow::Result<Outcome> {
    if given.has("--fix") {
        let missing: Vec<_> = TOOLS
            .iter()
            .filter(|tool| !tool.present())
            .copied()
            .collect();
        if !missing.is_empty() {
            need::install(&missing)?;
        }
    }
    let findings = examine();
    let rows: Vec<Vec<String>> = findings.iter().map(row).collect();
    progress::out(&table(&["", "what", "found", "needed for"], &rows));
    let cures: Vec<&Finding> = findings.iter().filter(|f| f.found.is_none()).collect();
    if cures.is_empty() {
        progress::out("\nNothing is missing.");
    } else {
        progress::out("\nTo put right:");
        for finding in &cures {
            progress::out(&format!("  {:<14} {}", finding.what, finding.cure));
        }
        progress::out("`cargo xtask doctor --fix` installs the packages.");
    }
    Ok(Outcome::from_held(cures.is_empty()))
}

fn row(finding: &Finding) -> Vec<String> {
    vec![
        if finding.found.is_some() {
            "ok"
        } else {
            "MISSING"
        }
        .to_owned(),
        finding.what.clone(),
        finding.found.clone().unwrap_or_else(|| "no".to_owned()),
        finding.purpose.clone(),
    ]
}

fn examine() -> Vec<Finding> {
    let mut findings = vec![rustc(), root(), tun(), memory(), disk()];
    findings.extend(TOOLS.iter().map(|tool| Finding {
        what: tool.name.to_owned(),
        purpose: tool.purpose.to_owned(),
        found: tool.present().then(|| "yes".to_owned()),
        cure: tool.line(),
    }));
    findings
}

fn finding(what: &str, purpose: &str, found: Option<String>, cure: &str) -> Finding {
    Finding {
        what: what.to_owned(),
        purpose: purpose.to_owned(),
        found,
        cure: cure.to_owned(),
    }
}

fn rustc() -> Finding {
    let said = output(&mut command("rustc", ["--version"]), SHORT).unwrap_or_default();
    let fit = version(&said).is_some_and(|found| found >= (1, 95));
    let found = fit.then(|| said.trim().to_owned());
    finding(
        "rustc",
        "build: 1.95 or newer",
        found,
        "rustup update stable",
    )
}

/// `rustc 1.95.0 (…)` → (1, 95).
fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.split_whitespace().nth(1)?.split('.');
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

fn root() -> Finding {
    let found = need::is_root().then(|| "yes".to_owned());
    let cure = "run the demo and the namespace tests with sudo -E env PATH=\"$PATH\"";
    finding("root", "demo, namespace tests", found, cure)
}

fn tun() -> Finding {
    let found = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    let cure = "sudo modprobe tun, or give the container --device /dev/net/tun --cap-add NET_ADMIN";
    let found = found.ok().map(|_| "yes".to_owned());
    finding("/dev/net/tun", "run: the tunnel device", found, cure)
}

fn memory() -> Finding {
    let memory = Machine::ask().memory;
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = meminfo(&text, "MemAvailable");
    let shown = format!("{} free of {}", gib(free), gib(memory));
    let found = (free >= MEMORY_BYTES).then_some(shown);
    finding(
        "memory",
        "build: 4 GiB free",
        found,
        "cargo build --jobs 1, or add swap",
    )
}

fn disk() -> Finding {
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_default();
    let folder = if std::path::Path::new(&target).is_dir() {
        target
    } else {
        crate::tree::root().to_string_lossy().into_owned()
    };
    let said = output(&mut command("df", ["-Pk", &folder]), SHORT).unwrap_or_default();
    let free = free_bytes(&said).unwrap_or(0);
    let found = (free >= DISK_BYTES).then(|| format!("{} free", gib(free)));
    let cure = "free some, or set CARGO_TARGET_DIR to a larger disk";
    finding("disk", "build: 15 GiB free", found, cure)
}

/// The fourth column of the second line of `df -Pk`, in bytes.
fn free_bytes(said: &str) -> Option<u64> {
    let kib: u64 = said
        .lines()
        .nth(1)?
        .split_whitespace()
        .nth(3)?
        .parse()
        .ok()?;
    Some(kib * 1024)
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(
            version("rustc 1.95.0 (59807616e 2026-04-14)"),
            Some((1, 95))
        );
        assert!(version("rustc 1.9.0").is_some_and(|found| found < (1, 95)));
        assert_eq!(version(""), None);
    }

    #[test]
    fn df_is_read() {
        let said = "Filesystem 1024-blocks Used Available Capacity Mounted\n/dev/a 9 4 5 44% /\n";
        assert_eq!(free_bytes(said), Some(5 * 1024));
        assert_eq!(free_bytes("nonsense"), None);
    }

    #[test]
    fn every_tool_is_examined_and_every_finding_has_a_cure() {
        let findings = examine();
        assert!(findings.len() > TOOLS.len());
        assert!(findings.iter().all(|finding| !finding.cure.is_empty()));
    }
}
