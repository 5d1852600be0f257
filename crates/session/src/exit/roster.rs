//! The sessions of an exit, found by the number of their address without a search, and whose turn it is to be looked at.
//! It refuses to know what a look is for: each session says when it wants one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use wayfare_tunnel::PeerId;

use super::pass::Pass;
use crate::provider::ProviderSession;

/// One session, its tunnel and its standing with the gate.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) peer: PeerId,
    pub(super) session: ProviderSession,
    /// What passes without asking the collector again.
    pub(super) pass: Option<Pass>,
    /// When it is looked at; never later than it wants, often earlier, since what it wants moves on with each packet.
    look_at: Instant,
}

/// All sessions. A few hundred bytes each, allocated one by one.
#[derive(Debug, Default)]
pub(super) struct Roster {
    seats: Vec<Option<Box<Seat>>>,
    by_peer: BTreeMap<PeerId, u32>,
    agenda: BTreeSet<(Instant, u32)>,
}

impl Roster {
    pub(super) fn len(&self) -> usize {
        self.by_peer.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_peer.is_empty()
    }

    /// Puts a session where its address says.
    pub(super) fn insert(&mut self, peer: PeerId, session: ProviderSession) {
        let slot = session.lease.slot;
        let index = slot as usize;
        if self.seats.len() <= index {
            self.seats.resize_with(index + 1, || None);
        }
        let look_at = session.wants_a_look_at();
        self.agenda.insert((look_at, slot));
        self.by_peer.insert(peer, slot);
        self.seats[index] = Some(Box::new(Seat {
            peer,
            session,
            pass: None,
            look_at,
        }));
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Seat> {
        let seat = *self.seats.get_mut(slot as usize)?.take()?;
        self.agenda.remove(&(seat.look_at, slot));
        self.by_peer.remove(&seat.peer);
        Some(seat)
    }

    pub(super) fn seat(&mut self, slot: u32) -> Option<&mut Seat> {
        self.seats.get_mut(slot as usize)?.as_deref_mut()
    }

    pub(super) fn session(&self, slot: u32) -> Option<&ProviderSession> {
        let seat = self.seats.get(slot as usize)?.as_deref()?;
        Some(&seat.session)
    }

    pub(super) fn session_mut(&mut self, slot: u32) -> Option<&mut ProviderSession> {
        self.seat(slot).map(|seat| &mut seat.session)
    }

    /// Whose tunnel this is.
    pub(super) fn slot_of(&self, peer: PeerId) -> Option<u32> {
        self.by_peer.get(&peer).copied()
    }

    pub(super) fn slots(&self) -> Vec<u32> {
        self.values().map(|session| session.lease.slot).collect()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &ProviderSession> {
        self.seats.iter().flatten().map(|seat| &seat.session)
    }

    /// A session may want to be looked at sooner.
    pub(super) fn hasten(&mut self, slot: u32) {
        if let Some(seat) = self.seats.get_mut(slot as usize).and_then(Option::as_mut)
            && seat.session.wants_a_look_at() < seat.look_at
        {
            seat.look_at = reschedule(&mut self.agenda, seat, slot);
        }
    }

    /// Those that are due. Each has to be looked at and then [`Roster::looked_at`].
    pub(super) fn due(&self, now: Instant) -> Vec<u32> {
        let due = self.agenda.iter().take_while(|(at, _)| *at <= now);
        due.map(|(_, slot)| *slot).collect()
    }

    /// A session was looked at: the next look is when it wants one.
    pub(super) fn looked_at(&mut self, slot: u32) {
        if let Some(seat) = self.seats.get_mut(slot as usize).and_then(Option::as_mut) {
            seat.look_at = reschedule(&mut self.agenda, seat, slot);
        }
    }

    /// When the next is due, and which.
    pub(super) fn first_look(&self) -> Option<(Instant, &ProviderSession)> {
        let (at, slot) = self.agenda.first()?;
        Some((*at, self.session(*slot)?))
    }
}

fn reschedule(agenda: &mut BTreeSet<(Instant, u32)>, seat: &Seat, slot: u32) -> Instant {
    let at = seat.session.wants_a_look_at();
    agenda.remove(&(seat.look_at, slot));
    agenda.insert((at, slot));
    at
}
