//! The undo journal: what was changed on this computer, written down before it is done.
//!
//! One file of JSON lines per node, `host-<node>.journal`, in the node's state directory, beside a lock file of
//! the same name. A `change` line carries the undo record, the process that owns the change (pid and start
//! time, so that a reused pid is not mistaken for it) and the place it was made in (boot and network
//! namespace). An `undone` line closes it. The file is gone when nothing is open.
//!
//! Refuses to undo what a living process owns, what was made in another namespace (it would hit a stranger's
//! network), and what a reboot already undid.

mod lines;
mod owner;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{info, warn};

use crate::undo::Undo;
use crate::{HostError, blocking, name};
use lines::{Change, Lines};
use owner::Owner;
pub(crate) use owner::Place;

/// What [`Journal::recover`] does with changes that were asked to outlive a crash (a held kill switch).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Leave them in place.
    Keep,
    /// Undo them like everything else.
    Release,
}

/// What a recovery did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Changes of dead processes that were taken back (or found gone).
    pub undone: usize,
    /// Changes left because their process lives.
    pub alive: usize,
    /// Changes left because they are held, see [`Held::Keep`].
    pub held: usize,
    /// Changes left because they were made in another network namespace.
    pub elsewhere: usize,
    /// Changes forgotten because the computer was restarted since.
    pub rebooted: usize,
    /// Lines that could not be read; they were moved to `host-<node>.journal.corrupt`.
    pub corrupt: usize,
}

/// The journal of one node. Clones share the file; so may other processes.
#[derive(Debug, Clone)]
pub struct Journal {
    file: Arc<Lines>,
}

impl Journal {
    /// Takes back everything that dead processes of this node left behind on this computer, last first, and
    /// returns the journal for the changes to come. May be called at any time and any number of times.
    ///
    /// # Errors
    /// The first undo that failed (the others were still tried, and the failed ones stay recorded), or a
    /// journal that cannot be read.
    pub async fn recover(
        state_dir: impl Into<PathBuf>,
        node: &str,
        held: Held,
    ) -> Result<(Self, Recovered), HostError> {
        let (state_dir, node) = (state_dir.into(), node.to_owned());
        blocking(move || {
            let journal = Self::open(&state_dir, &node)?;
            let recovered = journal.undo_the_dead(held)?;
            Ok((journal, recovered))
        })
        .await
    }

    fn open(state_dir: &Path, node: &str) -> Result<Self, HostError> {
        name::check_node(node)?;
        Ok(Self {
            file: Arc::new(Lines::new(state_dir, node)?),
        })
    }

    /// Writes a change down, durably, and returns its number.
    pub(crate) fn begin(&self, undo: &Undo, hold: bool) -> Result<u64, HostError> {
        let (me, here) = (Owner::current(), Place::here());
        let mut open = self.file.lock()?;
        let same = |change: &&Change| {
            change.undo == *undo && change.place == here && change.owner.is_alive()
        };
        if let Some(other) = open.changes().find(same) {
            return Err(HostError::InUse {
                what: undo.what(),
                pid: other.owner.pid,
            });
        }
        let id = open.changes().map(|change| change.id).max().unwrap_or(0) + 1;
        open.append(Change {
            id,
            owner: me,
            place: here,
            hold,
            undo: undo.clone(),
        })?;
        Ok(id)
    }

    /// Closes a change. Equal changes of dead processes are closed with it: they were the same object.
    pub(crate) fn undone(&self, id: u64) -> Result<(), HostError> {
        let mut open = self.file.lock()?;
        let Some(this) = open.changes().find(|change| change.id == id).cloned() else {
            return Ok(());
        };
        open.close(|change| {
            change.id == id
                || (change.undo == this.undo
                    && change.place == this.place
                    && !change.owner.is_alive())
        })
    }

    fn undo_the_dead(&self, held: Held) -> Result<Recovered, HostError> {
        let here = Place::here();
        let mut recovered = Recovered::default();
        let mut mine = Vec::new();
        {
            let mut open = self.file.lock()?;
            recovered.corrupt = open.set_corrupt_aside()?;
            let before = open.changes().count();
            open.close(|change| change.place.boot != here.boot)?;
            recovered.rebooted = before - open.changes().count();
            for change in open.changes() {
                if change.owner.is_alive() {
                    recovered.alive += 1;
                } else if change.place != here {
                    recovered.elsewhere += 1;
                } else if change.hold && held == Held::Keep {
                    recovered.held += 1;
                } else {
                    mine.push((change.id, change.undo.clone()));
                }
            }
        }
        mine.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
        let mut first = Ok(());
        for (id, undo) in mine {
            match undo.execute().and_then(|()| self.undone(id)) {
                Ok(()) => {
                    info!(change = undo.what(), "undone after a crash");
                    recovered.undone += 1;
                }
                Err(error) => {
                    warn!(change = undo.what(), %error, "not undone after a crash");
                    first = first.and(Err(error));
                }
            }
        }
        if recovered.corrupt > 0 {
            warn!(
                lines = recovered.corrupt,
                "the undo journal had unreadable lines, set aside"
            );
        }
        first.map(|()| recovered)
    }
}

#[cfg(test)]
mod tests;
