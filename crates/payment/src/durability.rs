//! Persist before you speak: what a machine withholds until the ledger says that a batch is durable.
//!
//! The rule for drivers of every machine in this room: commit the batches of `Persist` outputs **in the order in which they came**
//! (several may wait in one group commit), then call `handle_durable` for each. After a failed commit call `handle_failed`: the
//! machine stops for good, since nothing is known about what the disk holds, and has to be restored from the ledger.

use std::collections::BTreeMap;

/// Names one `Persist` output of one machine. Tickets count upwards and start again after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Consequences that wait for durability.
#[derive(Debug)]
pub(crate) struct Withheld<W> {
    next: u64,
    waiting: BTreeMap<Ticket, (bool, W)>,
    failed: bool,
}

impl<W> Withheld<W> {
    pub(crate) fn new() -> Self {
        Self {
            next: 0,
            waiting: BTreeMap::new(),
            failed: false,
        }
    }

    /// Withholds `consequence` and hands out the ticket to persist under.
    pub(crate) fn hold(&mut self, consequence: W) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.insert(ticket, (false, consequence));
        ticket
    }

    /// What `ticket` withholds, while it does.
    pub(crate) fn held(&mut self, ticket: Ticket) -> Option<&mut W> {
        self.waiting
            .get_mut(&ticket)
            .map(|(_, consequence)| consequence)
    }

    pub(crate) fn is_held(&self, ticket: Ticket) -> bool {
        self.waiting.contains_key(&ticket)
    }

    /// Takes note of a durable batch.
    ///
    /// INVARIANT: consequences are released in the order of their tickets, so nothing is said that builds on a record which is
    /// not durable yet.
    pub(crate) fn durable(&mut self, ticket: Ticket) -> Vec<W> {
        if let Some((done, _)) = self.waiting.get_mut(&ticket) {
            *done = true;
        }
        let mut released = Vec::new();
        while let Some(first) = self.waiting.first_entry() {
            if !first.get().0 {
                break;
            }
            released.push(first.remove().1);
        }
        released
    }

    /// Nothing withheld will ever be said.
    pub(crate) fn fail(&mut self) -> Vec<W> {
        self.failed = true;
        std::mem::take(&mut self.waiting)
            .into_values()
            .map(|(_, consequence)| consequence)
            .collect()
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_released_before_what_it_builds_on() {
        let mut withheld = Withheld::new();
        let (a, b, c) = (withheld.hold('a'), withheld.hold('b'), withheld.hold('c'));
        assert!(withheld.durable(b).is_empty());
        assert_eq!(withheld.durable(a), ['a', 'b']);
        assert!(withheld.durable(a).is_empty());
        assert_eq!(withheld.fail(), ['c']);
        assert!(withheld.durable(c).is_empty());
        assert!(withheld.failed());
    }
}
