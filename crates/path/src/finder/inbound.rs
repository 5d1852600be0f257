//! Probes that come in: what they prove, and what is answered.
//! They refuse to count twice, to be answered at length to an address that nobody vouches for, and to choose for a caller.

use std::net::SocketAddr;
use std::time::Duration;

use super::round::Pending;
use super::{Event, Finder, Origin, Pair, Socket};
use crate::candidate::{Tier, is_usable};
use crate::probe::{NotOurs, Probe};
use crate::secret::Role;

/// The peer's requests to punch again are followed this often at most.
const JOIN_GAP: Duration = Duration::from_secs(1);
/// New addresses that nobody vouches for, per minute.
const STRANGERS: u8 = 32;
const STRANGERS_PER: Duration = Duration::from_secs(60);

/// What became of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// A ping of the peer; a pong was queued.
    Ping,
    /// A pong that answers one of our pings.
    Pong,
    /// Nothing.
    Dropped(DropReason),
}

/// Why a probe was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Not a probe of this attempt by this peer.
    NotOurs(NotOurs),
    /// Counted before, or too old to tell.
    Replayed,
    /// Answers nothing that we asked there.
    Unasked,
    /// From an address that nobody can have.
    NoAddress,
    /// There is no room for more addresses of this peer.
    Crowded,
}

impl Finder {
    pub(super) fn handle_opened(&mut self, from: SocketAddr, on: Socket, probe: Probe) -> Handled {
        match probe {
            Probe::Ping {
                transaction,
                wish,
                again,
                round,
            } => {
                if !self.replay.admit(transaction) {
                    return Handled::Dropped(DropReason::Replayed);
                }
                let Some(at) = self.pair_heard(from, on) else {
                    let known = is_usable(from);
                    return Handled::Dropped(if known {
                        DropReason::Crowded
                    } else {
                        DropReason::NoAddress
                    });
                };
                self.answer(at, transaction);
                if again {
                    self.join(round);
                }
                if wish && self.role == Role::Callee && transaction > self.wish {
                    self.wish = transaction;
                    self.wished = Some((from, on));
                }
                self.notice(at);
                self.follow(at);
                Handled::Ping
            }
            Probe::Pong { transaction, seen } => self.handle_pong(from, on, transaction, seen),
        }
    }

    fn handle_pong(
        &mut self,
        from: SocketAddr,
        on: Socket,
        transaction: u64,
        seen: SocketAddr,
    ) -> Handled {
        let Some(at) = self.pairs.find(from, on) else {
            // One of the guesses of a birthday punch met: only now is it a pair, and only a pong to its ping proves it.
            if transaction <= self.transaction && self.birthday.aims_at(from.ip()) {
                if let Some(at) = self.pair_heard(from, on) {
                    self.ping(at, None);
                    return Handled::Pong;
                }
                return Handled::Dropped(DropReason::Crowded);
            }
            return Handled::Dropped(DropReason::Unasked);
        };
        let now = self.now;
        let pair = &mut self.pairs.all[at];
        if !pair.ponged(transaction, now) {
            return Handled::Dropped(DropReason::Unasked);
        }
        let is_news = pair.seen != Some(seen);
        pair.seen = Some(seen);
        let told = pair.tier.is_direct() && pair.on == Socket::Main && is_usable(seen);
        if is_news && told {
            self.tell(Event::SeenAs { by: from, seen });
        }
        self.schedule_beat(at);
        self.follow(at);
        self.choose();
        self.reconsider_birthday();
        Handled::Pong
    }

    /// The pair of an address that an authenticated probe came from, made if need be.
    fn pair_heard(&mut self, from: SocketAddr, on: Socket) -> Option<usize> {
        let at = match self.pairs.find(from, on) {
            Some(at) => at,
            None if !is_usable(from) => return None,
            None => {
                let pair = if self.permission.allows(from) {
                    Pair::new(from, on, Tier::of_direct(from), Origin::Heard)
                } else {
                    self.count_stranger()?;
                    Pair::stranger(from, on)
                };
                self.pairs.add(pair, self.selected)?
            }
        };
        self.pairs.all[at].heard_at = Some(self.now);
        Some(at)
    }

    fn count_stranger(&mut self) -> Option<()> {
        let (since, count) = &mut self.strangers;
        if self.now.saturating_duration_since(*since) >= STRANGERS_PER {
            (*since, *count) = (self.now, 0);
        }
        *count = count.checked_add(1).filter(|count| *count <= STRANGERS)?;
        Some(())
    }

    /// A pong, and a ping of our own while we do not know that the pair works for us.
    fn answer(&mut self, at: usize, transaction: u64) {
        let pair = &mut self.pairs.all[at];
        if !pair.spend() {
            return;
        }
        let (to, on, is_measured) = (pair.remote, pair.on, pair.rtt.is_some());
        let pong = Probe::Pong {
            transaction,
            seen: to,
        };
        self.send(to, on, &pong, None);
        if !is_measured {
            self.ping(at, None);
        }
    }

    fn join(&mut self, round: u8) {
        let now = self.now;
        let is_early = |at| now.saturating_duration_since(at) < JOIN_GAP;
        match self.joined {
            Some((joined, _)) if joined == round => return,
            Some((_, at)) if is_early(at) => return,
            Some(_) | None => {}
        }
        self.joined = Some((round, now));
        // A round of our own that has just begun serves both.
        let begun = self
            .round
            .as_ref()
            .is_some_and(|round| is_early(round.started));
        if !begun && self.pending.is_none() {
            self.pending = Some(Pending::Joined);
            if self.is_direct() {
                self.suspect(now);
            }
        }
    }

    /// The peer reaches us on another pair than the one in use: perhaps its NAT forgot it, and that one is dead.
    fn notice(&mut self, at: usize) {
        let pair = &self.pairs.all[at];
        let is_back = pair.is_fallback();
        let is_other = self.selected != Some((pair.remote, pair.on));
        let is_as_good = self.selected_tier() == Some(pair.tier) && pair.tier.is_direct();
        if is_other && is_as_good && self.round.is_none() {
            self.suspect(self.now);
        }
        if is_back {
            self.revive(at);
        }
    }
}
