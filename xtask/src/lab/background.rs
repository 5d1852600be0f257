//! A program that runs beside the lab's main story, ended on drop. It refuses to be forgotten:
//! its log and its ending are always at hand.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;

use crate::process::{GRACE, Group, last_lines, shown, told};

/// Lines of the log that an error shows.
const TAIL: usize = 15;

/// A running program of the lab.
#[derive(Debug)]
pub struct Background {
    name: String,
    log: PathBuf,
    line: String,
    group: Group,
}

impl Background {
    pub(super) fn start(name: &str, log: &Path, mut command: Command) -> anyhow::Result<Self> {
        let file = std::fs::File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("cannot open {}", log.display()))?;
        let errors = file.try_clone().context("cannot share the log")?;
        command.stdout(file).stderr(errors);
        Ok(Self {
            name: name.to_owned(),
            log: log.to_owned(),
            line: shown(&command),
            group: Group::start(&mut command)?,
        })
    }

    /// Its process id: `ip netns exec` becomes the program itself.
    pub fn id(&self) -> u32 {
        self.group.id()
    }

    /// The file that holds its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its output so far, lossily decoded.
    pub fn said(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.group.ended()
    }

    /// An error with the end of its log once it is no more: for probes of [`super::wait_for`].
    ///
    /// # Errors
    /// As said.
    pub fn must_live(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.ended()? else {
            return Ok(());
        };
        bail!(
            "{} {}; it was `{}` and said:\n{}",
            self.name,
            told(status),
            self.line,
            last_lines(&self.said(), TAIL)
        )
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// After `limit`, or when a signal comes.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.group.wait(limit)
    }

    /// Sends a signal to it and its children.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.group.signal(signal)
    }

    /// Asks it to stop as an operator would, and insists after `grace`.
    ///
    /// # Errors
    /// When even SIGKILL does not end it.
    pub fn stop(mut self, grace: Duration) -> anyhow::Result<ExitStatus> {
        self.group.end(grace)
    }

    /// `kill -9`, as a crash would.
    ///
    /// # Errors
    /// When it does not end.
    pub fn crash(mut self) -> anyhow::Result<ExitStatus> {
        self.group.signal(Signal::SIGKILL)?;
        self.group.wait(GRACE)
    }
}
