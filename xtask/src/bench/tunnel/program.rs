//! The programs under test: their names, where they come from and what is asked of them. It
//! refuses to run them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::need;
use crate::process::{SHORT, capture, cargo, command, output};
use crate::progress::step;

/// A cold release build of the data plane on two cores, with room.
const BUILD: Duration = Duration::from_secs(60 * 60);

/// The program of this house that is a plain peer and nothing else, and its package.
const OURS: (&str, &str) = ("wayfare-wireguard", "wayfare-wireguard");

/// Many consumers in one process, and the bare cipher.
const SWARM: (&str, &str) = ("swarm", "wayfare-benches");

/// What carries the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Program {
    /// The cable itself.
    Raw,
    /// Ours.
    Wayfare,
    /// Debian's, without offloads.
    WireguardGo,
    /// Cloudflare's.
    Boringtun,
    /// Mullvad's.
    Gotatun,
    /// Debian's, in its own protocol; an also-ran.
    Openvpn,
}

impl Program {
    /// Those that ours is compared with, in the order of their turns.
    pub(super) const PEERS: [Self; 4] = [
        Self::WireguardGo,
        Self::Boringtun,
        Self::Gotatun,
        Self::Openvpn,
    ];

    /// As in the report and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw_veth",
            Self::Wayfare => "wayfare",
            Self::WireguardGo => "wireguard_go",
            Self::Boringtun => "boringtun",
            Self::Gotatun => "gotatun",
            Self::Openvpn => "openvpn",
        }
    }

    /// The tools that it takes, of [`need::TOOLS`]; the first is its own program.
    fn tools(self) -> &'static [&'static str] {
        match self {
            Self::Raw | Self::Wayfare => &[],
            Self::WireguardGo => &["wireguard-go"],
            Self::Boringtun => &["boringtun-cli"],
            Self::Gotatun => &["gotatun"],
            Self::Openvpn => &["openvpn", "openssl"],
        }
    }

    /// Its file, installed or built first where that is needed and allowed; none for the cable.
    ///
    /// # Errors
    /// When it is not to be had, with the line that would bring it.
    pub(crate) fn file(self, ours: Option<&str>) -> anyhow::Result<Option<PathBuf>> {
        match self {
            Self::Raw => Ok(None),
            Self::Wayfare => own(OURS, ours).map(Some),
            Self::WireguardGo | Self::Boringtun | Self::Gotatun | Self::Openvpn => {
                need::need(self.tools())?;
                Ok(self.tools().first().and_then(|tool| need::program(tool)))
            }
        }
    }

    /// What it says of its version, in one line.
    pub(crate) fn version(self, file: &Path) -> Option<String> {
        let said = capture(&mut command(&file.to_string_lossy(), ["--version"]), SHORT).ok()?;
        let lines = said.stdout.lines().chain(said.stderr.lines());
        let mut told = lines.map(str::trim).filter(|line| !line.is_empty());
        told.next().map(|line| line.chars().take(60).collect())
    }
}

/// The swarm's file.
///
/// # Errors
/// When it cannot be built.
pub(super) fn swarm(folder: Option<&str>) -> anyhow::Result<PathBuf> {
    own(SWARM, folder)
}

/// One of ours, in `folder` or built as a user would.
fn own((program, package): (&str, &str), folder: Option<&str>) -> anyhow::Result<PathBuf> {
    if let Some(folder) = folder {
        let file = std::path::absolute(Path::new(folder).join(program));
        let file = file.context("--programs is no path")?;
        ensure!(file.is_file(), "there is no program {}", file.display());
        return Ok(file);
    }
    step(&format!("building {program}, optimised"));
    build(cargo(["build"]), (program, package))
}

/// Ours, built apart with frame pointers: a stack can be followed then.
///
/// # Errors
/// When it cannot be built.
pub(super) fn with_frame_pointers() -> anyhow::Result<PathBuf> {
    step(&format!("building {}, with frame pointers", OURS.0));
    let mut cargo = cargo([
        "build",
        "--config",
        "build.rustflags=[\"-Cforce-frame-pointers=yes\"]",
    ]);
    // Other flags would build everything that others share anew, each time.
    let named = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    cargo
        .arg("--target-dir")
        .arg(Path::new(&named).join("budget"));
    build(cargo, OURS)
}

fn build(mut cargo: Command, (program, package): (&str, &str)) -> anyhow::Result<PathBuf> {
    cargo.args([
        "--release",
        "--message-format=json-render-diagnostics",
        "--package",
        package,
        "--bin",
        program,
    ]);
    let told = output(&mut cargo, BUILD)?;
    built(&told, program).with_context(|| format!("the build names no program {program}"))
}

/// The program's file, from cargo's messages.
fn built(told: &str, program: &str) -> Option<PathBuf> {
    let messages = told
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let mut files = messages.filter_map(|message: Value| {
        let named = message["target"]["name"].as_str() == Some(program);
        let file = message["executable"].as_str().filter(|_| named)?;
        Some(PathBuf::from(file))
    });
    files.next()
}

/// What sealing and opening a byte costs with the bare cipher on this machine, together, in
/// nanoseconds: from the swarm, which has it.
///
/// # Errors
/// When it does not tell.
pub(super) fn seal_and_open(swarm: &Path) -> anyhow::Result<f64> {
    let told = output(&mut command(&swarm.to_string_lossy(), ["aead"]), SHORT)?;
    sum(&told).with_context(|| format!("`swarm aead` told {told}"))
}

fn sum(told: &str) -> Option<f64> {
    let told: Value = serde_json::from_str(told.trim()).ok()?;
    let figure = |name: &str| told[name].as_f64().filter(|ns| *ns > 0.0);
    Some(figure("seal_ns_per_byte")? + figure("open_ns_per_byte")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_program_is_found_among_the_messages() {
        let name = OURS.0;
        let told = format!(
            "{{\"reason\":\"compiler-artifact\",\"target\":{{\"name\":\"x\"}},\"executable\":\"/x\"}}\n\
             {{\"reason\":\"compiler-artifact\",\"target\":{{\"name\":\"{name}\"}},\"executable\":\"/t/{name}\"}}\n\
             {{\"reason\":\"build-finished\",\"success\":true}}\n"
        );
        assert_eq!(built(&told, name), Some(Path::new("/t").join(name)));
        assert_eq!(built("", name), None);
    }

    #[test]
    fn a_cipher_that_costs_nothing_is_not_believed() {
        let told =
            |seal: f64| format!("{{\"seal_ns_per_byte\":{seal},\"open_ns_per_byte\":0.5}}\n");
        assert_eq!(sum(&told(0.25)), Some(0.75));
        assert_eq!(sum(&told(0.0)), None);
    }

    #[test]
    fn every_tool_is_in_the_table() {
        for tool in Program::PEERS.iter().flat_map(|peer| peer.tools()) {
            assert!(
                need::TOOLS.iter().any(|known| known.name == *tool),
                "{tool}"
            );
        }
    }
}
