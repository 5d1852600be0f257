//! The programs that the laboratory runs: built here, or brought along. It refuses to run with one
//! missing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::process::{cargo, run};
use crate::progress::step;
use crate::{interrupt, need};

/// A cold build of everything on two cores, with room.
const BUILD: Duration = Duration::from_secs(80 * 60);

/// Paths of the programs.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
    /// This program itself, for the web server; valid while this program runs.
    pub workshop: PathBuf,
}

impl Programs {
    /// Those in `folder`, or else those that a build makes.
    ///
    /// # Errors
    /// When the build fails or a program is missing.
    pub fn at_hand(folder: Option<&str>) -> anyhow::Result<Self> {
        // A test build replaces the file of the program that runs the tests. The kernel keeps the
        // running one reachable under its process, for as long as it runs.
        let workshop = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
        let folder = gather(folder)?;
        let programs = Self { folder, workshop };
        let all = [
            programs.consumer(),
            programs.provider(),
            programs.hermes(),
            programs.chain(),
            programs.wallet(),
        ];
        for program in all {
            if !program.is_file() {
                bail!("there is no program {}", program.display());
            }
        }
        Ok(programs)
    }

    /// `wayfare`.
    pub fn consumer(&self) -> PathBuf {
        self.folder.join("wayfare")
    }

    /// `wayfare-provider`.
    pub fn provider(&self) -> PathBuf {
        self.folder.join("wayfare-provider")
    }

    /// `wayfare-hermes`.
    pub fn hermes(&self) -> PathBuf {
        self.folder.join("wayfare-hermes")
    }

    /// The development chain.
    pub fn chain(&self) -> PathBuf {
        self.folder.join("wayfare-devchain")
    }

    /// Idle peers of a relay; only its bench needs them.
    pub fn idlers(&self) -> PathBuf {
        self.folder.join("idlers")
    }

    /// The ordinary wallet.
    pub fn wallet(&self) -> PathBuf {
        self.folder.join("examples/wallet")
    }
}

/// `folder`, or else the one in which a build has just put every program of the workspace.
///
/// # Errors
/// When the build fails.
pub fn gather(folder: Option<&str>) -> anyhow::Result<PathBuf> {
    if let Some(folder) = folder {
        return std::path::absolute(folder).context("--programs is no path");
    }
    // Asked before the build, which may replace the file.
    let here = std::env::current_exe().context("cannot tell where this program is")?;
    build()?;
    let folder = here.parent().map(Path::to_path_buf);
    folder.context("this program lies in no folder")
}

/// The same selection and features as the tests, so that nothing is compiled twice; without the
/// workshop, which is running.
fn build() -> anyhow::Result<()> {
    need::need(&["cc", "clang", "libclang"])?;
    step("building the programs");
    let mut command = cargo([
        "build",
        "--workspace",
        "--exclude=xtask",
        "--bins",
        "--examples",
        "--features=wayfare-chain/devchain",
    ]);
    run(&mut command, BUILD)?;
    interrupt::check()?;
    Ok(())
}
