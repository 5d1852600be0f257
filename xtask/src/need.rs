//! What the machine must have, how to see that it has it, and the exact line that brings it.
//! It refuses to install anything as an ordinary user or on a system it does not know: there it
//! prints the line. It is silent when nothing is missing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::process::{command, output, run, shown};
use crate::progress;

/// Package downloads on a slow mirror.
const INSTALL: Duration = Duration::from_secs(20 * 60);

/// How the presence of a tool is seen.
#[derive(Clone, Copy, Debug)]
enum Seen {
    /// A program of this name on the path, the system's sbin folders or cargo's bin folder.
    Program(&'static str),
    /// libclang, where clang-sys would look.
    Libclang,
}

/// Where a tool comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Packages of Debian and Ubuntu.
    Apt(&'static [&'static str]),
    /// A crate with a binary, built once and kept in cargo's bin folder.
    Cargo(&'static str),
}

/// One thing the workshop may need.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// What callers of [`need`] say.
    pub name: &'static str,
    /// What it is needed for.
    pub purpose: &'static str,
    seen: Seen,
    source: Source,
}

impl Tool {
    /// Whether the machine has it.
    pub fn present(&self) -> bool {
        match self.seen {
            Seen::Program(name) => program(name).is_some(),
            Seen::Libclang => libclang(),
        }
    }

    /// The line that installs it.
    pub fn line(&self) -> String {
        match self.source {
            Source::Apt(packages) => apt_line(packages),
            Source::Cargo(name) => format!("cargo install --locked {name}"),
        }
    }
}

const fn apt(name: &'static str, packages: &'static [&'static str], purpose: &'static str) -> Tool {
    Tool {
        name,
        purpose,
        seen: Seen::Program(name),
        source: Source::Apt(packages),
    }
}

const fn crate_binary(name: &'static str, purpose: &'static str) -> Tool {
    Tool {
        name,
        purpose,
        seen: Seen::Program(name),
        source: Source::Cargo(name),
    }
}

/// Everything that [`need`] can be asked for.
pub const TOOLS: &[Tool] = &[
    apt("git", &["git"], "tidy: which files belong to the tree"),
    apt("cc", &["build-essential"], "build: linking"),
    apt(
        "clang",
        &["clang"],
        "build: the C and C++ of RocksDB and AWS-LC",
    ),
    Tool {
        name: "libclang",
        purpose: "build: RocksDB's bindings",
        seen: Seen::Libclang,
        source: Source::Apt(&["libclang-dev"]),
    },
    apt("ip", &["iproute2"], "run and test: namespaces, routes"),
    apt("nft", &["nftables"], "run and test: exit policy"),
    apt("curl", &["curl"], "demo: the consumer's application"),
    apt(
        "tcpdump",
        &["tcpdump"],
        "demo: what leaves beside the tunnel",
    ),
    apt("wg", &["wireguard-tools"], "test: interoperation"),
    apt("wireguard-go", &["wireguard-go"], "test: interoperation"),
    apt("tshark", &["tshark"], "test: what is on the wire"),
    apt("iperf3", &["iperf3"], "bench: throughput"),
    apt("conntrack", &["conntrack"], "test: NAT state"),
    apt(
        "iptables-nft",
        &["iptables"],
        "natlab: packets to the delay line",
    ),
    apt(
        "miniupnpd",
        &["miniupnpd-nftables"],
        "natlab: boxes that give out ports",
    ),
    apt(
        "ping",
        &["iputils-ping"],
        "natlab: what the delay line does",
    ),
    apt(
        "npm",
        &["nodejs", "npm"],
        "test: contracts match their sources",
    ),
    crate_binary("cargo-nextest", "test: the runner"),
    crate_binary("cargo-deny", "test: licences, bans, sources"),
    crate_binary("boringtun-cli", "test: interoperation"),
    Tool {
        name: "gotatun",
        purpose: "bench: a peer to be measured against",
        seen: Seen::Program("gotatun"),
        source: Source::Cargo("gotatun-cli"),
    },
    apt(
        "openvpn",
        &["openvpn"],
        "bench: a peer to be measured against",
    ),
    apt("openssl", &["openssl"], "bench: OpenVPN's certificates"),
    apt("perf", &["linux-perf"], "bench: where time goes"),
    Tool {
        name: "inferno-flamegraph",
        purpose: "bench: folds and draws where time goes",
        seen: Seen::Program("inferno-flamegraph"),
        source: Source::Cargo("inferno"),
    },
];

/// Makes sure that the machine has all of `names` (names of [`TOOLS`]), installing what it lacks
/// where it may.
///
/// # Errors
/// When something is missing and may not or could not be installed, with the line to run; or when
/// a name is not in the table.
pub fn need(names: &[&str]) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for name in names {
        let tool = TOOLS.iter().find(|tool| tool.name == *name);
        let tool = tool.with_context(|| format!("`{name}` is not in the table of tools"))?;
        if !tool.present() {
            missing.push(*tool);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
}

/// Installs `missing`.
///
/// # Errors
/// As [`need`].
pub fn install(missing: &[Tool]) -> anyhow::Result<()> {
    let (packages, crates) = sort_by_source(missing);
    if !packages.is_empty() {
        let line = apt_line(&packages);
        if !is_root() || program("apt-get").is_none() {
            bail!("this machine lacks {}; run: {line}", missing_names(missing));
        }
        progress::step(&format!("installing {}", packages.join(" ")));
        apt_get(&["update", "-qq"])?;
        let mut args = vec!["install", "-y", "-qq", "--no-install-recommends"];
        args.extend(&packages);
        apt_get(&args).with_context(|| format!("try by hand: {line}"))?;
    }
    for name in crates {
        progress::step(&format!("building {name}, once"));
        let mut install = crate::process::cargo(["install", "--locked", "--quiet", name]);
        install
            .env_remove("CARGO_TARGET_DIR")
            .current_dir(std::env::temp_dir());
        run(&mut install, INSTALL)?;
    }
    let absent: Vec<Tool> = missing
        .iter()
        .filter(|tool| !tool.present())
        .copied()
        .collect();
    if !absent.is_empty() {
        bail!("installed, yet not found: {}", missing_names(&absent));
    }
    Ok(())
}

/// Whether this process may change the system.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The full path of a program, if the machine has it.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.extend(cargo_home().map(|home| home.join("bin")));
    let mut candidates = folders.into_iter().map(|folder| folder.join(name));
    candidates.find(|candidate| candidate.is_file())
}

/// Where cargo keeps what it installs and fetches.
pub fn cargo_home() -> Option<PathBuf> {
    let named = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let usual = || Some(Path::new(&std::env::var_os("HOME")?).join(".cargo"));
    named.or_else(usual)
}

fn libclang() -> bool {
    let named = std::env::var_os("LIBCLANG_PATH").map(PathBuf::from);
    let mut folders: Vec<PathBuf> = named.into_iter().collect();
    for parent in ["/usr/lib", "/usr/lib64", "/usr/local/lib"] {
        folders.push(parent.into());
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            folders.push(entry.path());
            folders.push(entry.path().join("lib"));
        }
    }
    let is_libclang = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with("libclang.so") || (name.starts_with("libclang-") && name.contains(".so"))
    };
    let entries = folders
        .iter()
        .flat_map(std::fs::read_dir)
        .flatten()
        .flatten();
    entries.into_iter().any(is_libclang)
}

fn apt_get(args: &[&str]) -> anyhow::Result<()> {
    let mut command = command("apt-get", args);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    let line = shown(&command);
    output(&mut command, INSTALL)
        .map(drop)
        .with_context(|| format!("`{line}` failed"))
}

fn apt_line(packages: &[&str]) -> String {
    let sudo = if is_root() { "" } else { "sudo " };
    format!("{sudo}apt-get install -y {}", packages.join(" "))
}

fn sort_by_source(tools: &[Tool]) -> (Vec<&'static str>, Vec<&'static str>) {
    let (mut packages, mut crates) = (Vec::new(), Vec::new());
    for tool in tools {
        match tool.source {
            Source::Apt(names) => packages.extend(names),
            Source::Cargo(name) => crates.push(name),
        }
    }
    packages.sort_unstable();
    packages.dedup();
    (packages, crates)
}

fn missing_names(tools: &[Tool]) -> String {
    let names: Vec<&str> = tools.iter().map(|tool| tool.name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_seen_and_what_is_not_is_not() {
        assert!(program("sh").is_some());
        assert!(program("no-such-program").is_none());
    }

    #[test]
    fn nothing_is_done_for_what_is_there() {
        need(&["cc", "git"]).unwrap();
    }

    #[test]
    fn a_tool_outside_the_table_is_an_error() {
        let error = need(&["teleporter"]).unwrap_err().to_string();
        assert!(error.contains("teleporter"));
    }

    #[test]
    fn names_are_unique_and_every_line_installs_something() {
        for (at, tool) in TOOLS.iter().enumerate() {
            assert!(TOOLS[at + 1..].iter().all(|other| other.name != tool.name));
            assert!(tool.line().contains("install"), "{}", tool.name);
        }
    }

    #[test]
    fn packages_are_asked_for_once() {
        let tools = [
            apt("x", &["b", "a"], ""),
            apt("y", &["a"], ""),
            crate_binary("c", ""),
        ];
        assert_eq!(sort_by_source(&tools), (vec!["a", "b"], vec!["c"]));
    }
}
