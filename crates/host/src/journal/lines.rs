//! The file under the journal: JSON lines, one lock, durable appends.
//!
//! Refuses to lose an open change: a torn last line is a change that was never made, any other unreadable line
//! is set aside and counted, and the file is only ever replaced by rename.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::owner::{Owner, Place};
use crate::HostError;
use crate::undo::Undo;

/// Lines after which a close rewrites the file: a few reconnections' worth, about 40 kB.
const REWRITE_AT: usize = 128;

/// An open change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) id: u64,
    pub(super) owner: Owner,
    pub(super) place: Place,
    pub(super) hold: bool,
    pub(super) undo: Undo,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
enum Line {
    Change(Change),
    Undone { id: u64 },
}

/// The paths of one journal.
#[derive(Debug)]
pub(super) struct Lines {
    folder: PathBuf,
    path: PathBuf,
    lock: PathBuf,
}

impl Lines {
    /// Makes the folder when it is missing.
    pub(super) fn new(state_dir: &Path, node: &str) -> Result<Self, HostError> {
        let path = state_dir.join(format!("host-{node}.journal"));
        let lock = state_dir.join(format!("host-{node}.lock"));
        std::fs::create_dir_all(state_dir).map_err(|source| HostError::Journal {
            path: state_dir.to_owned(),
            source,
        })?;
        Ok(Self {
            folder: state_dir.to_owned(),
            path,
            lock,
        })
    }

    /// Waits for the lock and reads the file. Holders only read and append: the wait is milliseconds.
    pub(super) fn lock(&self) -> Result<OpenLines<'_>, HostError> {
        let file = private()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&self.lock);
        let file = file.map_err(|source| HostError::Journal {
            path: self.lock.clone(),
            source,
        })?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| {
            HostError::Journal {
                path: self.lock.clone(),
                source: errno.into(),
            }
        })?;
        let mut open = OpenLines {
            paths: self,
            _lock: lock,
            changes: Vec::new(),
            corrupt: Vec::new(),
            lines: 0,
            torn: 0,
        };
        open.read()?;
        Ok(open)
    }

    fn error(&self, source: std::io::Error) -> HostError {
        HostError::Journal {
            path: self.path.clone(),
            source,
        }
    }
}

/// The journal while its lock is held.
#[derive(Debug)]
pub(super) struct OpenLines<'a> {
    paths: &'a Lines,
    _lock: Flock<File>,
    changes: Vec<Change>,
    corrupt: Vec<String>,
    lines: usize,
    /// Bytes of an unfinished last line.
    torn: u64,
}

impl OpenLines<'_> {
    /// The open changes, oldest first.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter()
    }

    /// Appends a change; returns when it is on the disk.
    pub(super) fn append(&mut self, change: Change) -> Result<(), HostError> {
        self.write(&[Line::Change(change.clone())], true)?;
        self.changes.push(change);
        Ok(())
    }

    /// Closes the changes that match. Not synced: a lost `undone` line costs a second, harmless undo.
    pub(super) fn close(&mut self, matches: impl Fn(&Change) -> bool) -> Result<(), HostError> {
        let (closed, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.changes)
            .into_iter()
            .partition(matches);
        self.changes = kept;
        if closed.is_empty() {
            return Ok(());
        }
        if self.corrupt.is_empty() && (self.changes.is_empty() || self.lines >= REWRITE_AT) {
            return self.rewrite();
        }
        let notes: Vec<_> = closed
            .into_iter()
            .map(|change| Line::Undone { id: change.id })
            .collect();
        self.write(&notes, false)
    }

    /// Moves unreadable lines to a file beside the journal; returns how many.
    pub(super) fn set_corrupt_aside(&mut self) -> Result<usize, HostError> {
        let count = self.corrupt.len();
        if count == 0 {
            return Ok(0);
        }
        let path = self.paths.path.with_extension("journal.corrupt");
        let text: String = self
            .corrupt
            .iter()
            .map(|line| format!("{line}\n"))
            .collect();
        private()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())
                    .and_then(|()| file.sync_all())
            })
            .map_err(|source| HostError::Journal { path, source })?;
        self.corrupt.clear();
        self.rewrite()?;
        Ok(count)
    }

    fn read(&mut self) -> Result<(), HostError> {
        let bytes = match std::fs::read(&self.paths.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(self.paths.error(source)),
        };
        let whole = bytes
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        self.torn = (bytes.len() - whole) as u64;
        for line in String::from_utf8_lossy(&bytes[..whole]).lines() {
            self.lines += 1;
            match serde_json::from_str(line) {
                Ok(Line::Change(change)) => self.changes.push(change),
                Ok(Line::Undone { id }) => self.changes.retain(|change| change.id != id),
                Err(_) => self.corrupt.push(line.to_owned()),
            }
        }
        Ok(())
    }

    fn write(&mut self, lines: &[Line], durable: bool) -> Result<(), HostError> {
        let text = encode(lines).map_err(|source| self.paths.error(source))?;
        let written = (|| {
            let new = !self.paths.path.exists();
            let mut file = private().create(true).append(true).open(&self.paths.path)?;
            if self.torn > 0 {
                let whole = file.metadata()?.len().saturating_sub(self.torn);
                file.set_len(whole)?;
            }
            file.write_all(text.as_bytes())?;
            if durable {
                file.sync_all()?;
            }
            if durable && new {
                File::open(&self.paths.folder)?.sync_all()?;
            }
            Ok(())
        })();
        written.map_err(|source| self.paths.error(source))?;
        self.torn = 0;
        self.lines += lines.len();
        Ok(())
    }

    fn rewrite(&mut self) -> Result<(), HostError> {
        let lines: Vec<_> = self.changes.iter().cloned().map(Line::Change).collect();
        let replaced = (|| {
            if lines.is_empty() {
                match std::fs::remove_file(&self.paths.path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    Ok(()) | Err(_) => return Ok(()),
                }
            }
            let next = self.paths.path.with_extension("journal.next");
            let mut file = private()
                .create(true)
                .write(true)
                .truncate(true)
                .open(&next)?;
            file.write_all(encode(&lines)?.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&next, &self.paths.path)?;
            File::open(&self.paths.folder)?.sync_all()
        })();
        replaced.map_err(|source| self.paths.error(source))?;
        self.torn = 0;
        self.lines = lines.len();
        Ok(())
    }
}

fn encode(lines: &[Line]) -> std::io::Result<String> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(line)?);
        text.push('\n');
    }
    Ok(text)
}

/// Files that only their owner reads: they tell how the machine is reached.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}
