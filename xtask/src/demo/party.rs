//! One participant as a stranger would run it: a program, a configuration file, a state folder, a
//! namespace. It refuses to reach into the program: questions go through its command line.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{Background, Namespace, wait_for};
use crate::process::{GRACE, SHORT, capture, last_lines, shown, told};

use super::json;

/// A participant.
#[derive(Clone, Debug)]
pub struct Party {
    /// What it is called here, which names its logs and files too.
    pub name: String,
    /// Where it runs.
    pub at: Namespace,
    /// Its identity.
    pub identity: String,
    program: PathBuf,
    folder: PathBuf,
    settings: Vec<(String, String)>,
}

impl Party {
    /// A participant with a fresh identity.
    ///
    /// # Errors
    /// When its program refuses to make one.
    pub fn new(name: &str, at: &Namespace, program: PathBuf, lab: &Path) -> anyhow::Result<Self> {
        let folder = lab.join(name);
        let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let settings = [
            ("state_dir", file("state")),
            ("passphrase_file", file("passphrase")),
            ("dev_keys", "true".to_owned()),
        ];
        let mut party = Self {
            name: name.to_owned(),
            at: at.clone(),
            identity: String::new(),
            program,
            folder: folder.clone(),
            settings: settings.map(|(key, value)| (key.to_owned(), value)).into(),
        };
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(folder.join("passphrase"), "only for the laboratory\n"))
            .with_context(|| format!("cannot prepare {}", folder.display()))?;
        party.write_settings()?;
        party.identity = json::text(&party.ask(&["identity", "new"])?, "address")?;
        Ok(party)
    }

    /// Adds settings to its configuration file, or replaces them.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set(&mut self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        for (key, value) in settings {
            self.settings.retain(|(known, _)| known != key);
            self.settings.push(((*key).to_owned(), (*value).to_owned()));
        }
        self.write_settings()
    }

    /// Runs a command of its program and returns the JSON that it answers with.
    ///
    /// # Errors
    /// When the program fails, with its own words.
    pub fn ask(&self, args: &[&str]) -> anyhow::Result<Value> {
        let mut command = self.command(args);
        let line = shown(&command);
        let said = capture(&mut command, SHORT)?;
        if !said.status.success() {
            let why = last_lines(&said.stderr, 3);
            bail!(
                "{}: {} {}: {why}",
                self.name,
                args.join(" "),
                told(said.status)
            );
        }
        let last = said.stdout.trim_end().lines().last().unwrap_or_default();
        serde_json::from_str(last)
            .with_context(|| format!("`{line}` said `{last}`, which is no JSON"))
    }

    /// Starts a command of its program that goes on.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, args: &[&str]) -> anyhow::Result<Daemon> {
        let log = format!("{}-{}", self.name, args.first().unwrap_or(&"main"));
        // Earlier runs of the same program are earlier chapters of the same log.
        let told = std::fs::metadata(self.at.log(&log)).map_or(0, |file| file.len());
        let background = self.at.spawn_command(&log, self.command(args))?;
        Ok(Daemon {
            what: log,
            background,
            told: usize::try_from(told).context("the log is too long")?,
        })
    }

    fn command(&self, args: &[&str]) -> Command {
        let config = self.folder.join("config.toml");
        let config = config.to_string_lossy();
        let mut all = vec!["--json", "--config", &config];
        all.extend(args);
        let mut command = self.at.command(&self.program, all);
        for (name, _) in std::env::vars_os() {
            // The person's own settings are not the lab's. What to log is, and the lab's mark.
            let text = name.to_string_lossy();
            if text.starts_with("WAYFARE_") && !matches!(&*text, "WAYFARE_LOG" | "WAYFARE_LAB") {
                command.env_remove(&name);
            }
        }
        command
    }

    fn write_settings(&self) -> anyhow::Result<()> {
        let mut text = String::new();
        for (key, value) in &self.settings {
            let _ = writeln!(text, "{key} = '{value}'");
        }
        let file = self.folder.join("config.toml");
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// A program that goes on, and what it tells.
#[derive(Debug)]
pub struct Daemon {
    what: String,
    background: Background,
    told: usize,
}

impl Daemon {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.background.id()
    }

    /// Everything it has told so far, oldest first: documents with an `event`.
    pub fn events(&self) -> Vec<Value> {
        let said = std::fs::read(self.background.log()).unwrap_or_default();
        let own = said.get(self.told..).unwrap_or_default();
        let mut events = json::documents(&String::from_utf8_lossy(own));
        events.retain(|document| document["event"].is_string());
        events
    }

    /// The last event of a kind so far.
    pub fn last(&self, kind: &str) -> Option<Value> {
        let mut events = self.events();
        events.retain(|event| event["event"] == kind);
        events.pop()
    }

    /// How many events of a kind it has told.
    pub fn count(&self, kind: &str) -> usize {
        let events = self.events();
        events.iter().filter(|event| event["event"] == kind).count()
    }

    /// Waits until it has told an event of a kind.
    ///
    /// # Errors
    /// After `limit`, or when it ends before.
    pub fn wait_for(&mut self, kind: &str, limit: Duration) -> anyhow::Result<Value> {
        let what = format!("`{kind}` of {}", self.what);
        wait_for(&what, limit, || match self.last(kind) {
            Some(event) => Ok(Some(event)),
            None => self.must_live().map(|()| None),
        })
    }

    /// An error once it is no more.
    ///
    /// # Errors
    /// As said.
    pub fn must_live(&mut self) -> anyhow::Result<()> {
        self.background.must_live()
    }

    /// Asks it to stop as a person at a terminal would, and waits until it has.
    ///
    /// # Errors
    /// When it does not stop within `limit` or complains.
    pub fn interrupt(&mut self, limit: Duration) -> anyhow::Result<()> {
        self.background.signal(Signal::SIGINT)?;
        let status = self.background.wait(limit)?;
        self.judge(status)
    }

    /// Asks it to stop as a service supervisor would, and waits until it has.
    ///
    /// # Errors
    /// As [`Daemon::interrupt`].
    pub fn terminate(&mut self, limit: Duration) -> anyhow::Result<()> {
        self.background.signal(Signal::SIGTERM)?;
        let status = self.background.wait(limit)?;
        self.judge(status)
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it does not end.
    pub fn crash(&mut self) -> anyhow::Result<()> {
        self.background.signal(Signal::SIGKILL)?;
        self.background.wait(GRACE).map(drop)
    }

    fn judge(&self, status: ExitStatus) -> anyhow::Result<()> {
        if status.success() {
            return Ok(());
        }
        let said = last_lines(&self.background.said(), 10);
        bail!(
            "{} {} after it was asked to stop:\n{said}",
            self.what,
            told(status)
        )
    }
}
