//! A stack of changes that were made together and are taken back together, last first.
//!
//! INVARIANT: a change is in the journal, durably, before it is made. Refuses to forget: whatever is still on
//! the stack when it is dropped is undone then.

use tracing::warn;

use crate::command::{ip_lines, nft_create};
use crate::journal::{Journal, Place};
use crate::undo::{Family, RoutingStep, Undo};
use crate::{HostError, sysctl};

#[derive(Debug)]
pub(crate) struct Changes {
    journal: Journal,
    /// Where the changes were made, once there is one.
    place: Option<Place>,
    made: Vec<(u64, Undo)>,
}

impl Changes {
    pub(crate) fn new(journal: Journal) -> Self {
        Self {
            journal,
            place: None,
            made: Vec::new(),
        }
    }

    /// Makes the table `inet <name>` anew, which `block` describes. `hold`: keep it after a crash (see [`crate::Held`]).
    pub(crate) fn table(&mut self, name: &str, block: &str, hold: bool) -> Result<(), HostError> {
        self.perform(
            Undo::Table {
                name: name.to_owned(),
            },
            hold,
            || nft_create(name, block),
        )
    }

    /// Adds routes and rules of one family, in this order, by one program.
    pub(crate) fn routing(
        &mut self,
        family: Family,
        steps: &[RoutingStep],
    ) -> Result<(), HostError> {
        self.stay()?;
        let lines: Vec<String> = steps.iter().map(|step| step.line("add")).collect();
        let mut begun = Vec::new();
        let mut outcome = Ok(());
        for step in steps {
            let undo = step.undo(family);
            match self.journal.begin(&undo, false) {
                Ok(id) => begun.push((id, undo)),
                Err(error) => {
                    outcome = Err((0, error));
                    break;
                }
            }
        }
        let outcome = outcome.and_then(|()| ip_lines(family.switch(), &lines));
        let done = outcome
            .as_ref()
            .map_or_else(|(done, _)| *done, |()| begun.len());
        // What was refused changed nothing; undoing it could hit a stranger's equal rule.
        for (id, _) in begun.split_off(done) {
            self.journal.undone(id)?;
        }
        self.made.append(&mut begun);
        outcome.map_err(|(_, error)| error)
    }

    /// Sets a kernel setting that exists and differs; `also` names settings the kernel changes along with it.
    /// Returns whether it had to be changed.
    pub(crate) fn setting(
        &mut self,
        key: &str,
        value: &str,
        also: &[String],
    ) -> Result<bool, HostError> {
        let Some(previous) = sysctl::read(key)? else {
            return Ok(false);
        };
        if previous == value {
            return Ok(false);
        }
        let mut snapshot = Vec::new();
        for key in also {
            if let Some(value) = sysctl::read(key)? {
                snapshot.push((key.clone(), value));
            }
        }
        let undo = Undo::Setting {
            key: key.to_owned(),
            set: value.to_owned(),
            previous,
            also: snapshot,
        };
        self.perform(undo, false, || sysctl::write(key, value))?;
        Ok(true)
    }

    fn perform(
        &mut self,
        undo: Undo,
        hold: bool,
        act: impl FnOnce() -> Result<(), HostError>,
    ) -> Result<(), HostError> {
        self.stay()?;
        let id = self.journal.begin(&undo, hold)?;
        match act() {
            Ok(()) => {
                self.made.push((id, undo));
                Ok(())
            }
            // Nobody knows whether it happened: to be undone with the rest.
            Err(error @ HostError::TimedOut { .. }) => {
                self.made.push((id, undo));
                Err(error)
            }
            // One refused command or write changed nothing; undoing it could hit a stranger's equal rule.
            Err(error) => {
                self.journal.undone(id)?;
                Err(error)
            }
        }
    }

    /// Refuses to go on from a thread that sits in another network namespace: it would hit a stranger's network.
    fn stay(&mut self) -> Result<(), HostError> {
        let here = Place::here();
        if *self.place.get_or_insert_with(|| here.clone()) == here {
            Ok(())
        } else {
            Err(HostError::Elsewhere)
        }
    }

    /// Takes everything back, last first. Goes on after a failure and reports the first; what failed stays in
    /// the journal for the next [`Journal::recover`].
    pub(crate) fn undo(&mut self) -> Result<(), HostError> {
        if self.made.is_empty() {
            return Ok(());
        }
        self.stay()?;
        let mut first = Ok(());
        while let Some((id, undo)) = self.made.pop() {
            let result = undo.execute().and_then(|()| self.journal.undone(id));
            if first.is_ok() {
                first = result;
            }
        }
        first
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        if let Err(error) = self.undo() {
            warn!(%error, "a change of this computer could not be undone; the next start will try again");
        }
    }
}
