//! Packets of one flow put together into the super-packets that the kernel would have made of them, with nothing copied
//! but their headers.
//!
//! The rules are those of Linux's GRO, or stricter: what would not come out again bit for bit, but for IPv4
//! identification under DF, is written alone and untouched, above all what carries a wrong checksum. Packets of one flow
//! are never reordered; those of different flows may be. One rule is wider: PSH ends no super-packet, it is set on one
//! whose members had it. Linux sets it on every burst (`tcp: force a PSH flag on TSO packets`, 5.4) so that nobody waits
//! for more; what came in one batch waits for nothing, and RFC 9293 §3.9.1.2 lets successive pushes become one. Where a
//! crowd's bursts are of two packets each, a train would arrive, and be acknowledged, in two dozen pieces otherwise.

mod flow;
mod group;

use std::io::{self, IoSlice};

use flow::Glance;
use group::{GROUP_MAX, Group};

use super::vnet::{Super, VNET_LEN, VnetHeader};

/// Flows whose packets may alternate and still be put together.
const OPEN_GROUPS: usize = 8;

/// Which super-packets the kernel takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowed {
    pub(super) tcp: bool,
    pub(super) udp: bool,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Coalesced {
    /// Packets there were.
    pub(super) offered: usize,
    /// Packets the kernel took, in whichever form.
    pub(super) taken: usize,
    /// Super-packets among what it took.
    pub(super) supers: usize,
    /// Packets in them.
    pub(super) segments: usize,
    /// Kinds of which the kernel refused a super-packet: not to be tried again.
    pub(super) tcp_refused: bool,
    pub(super) udp_refused: bool,
}

/// Hands `packets` to `write`, each write one packet or super-packet behind its vnet header. A packet is asked for when
/// those before it have their places, and a full super-packet is written before the next is asked for: what was just
/// worked on is still in the cache.
///
/// A super-packet that `write` refuses as invalid is written again as the packets it was made of.
pub(super) fn coalesce<'a, W>(
    packets: impl Iterator<Item = &'a [u8]>,
    allowed: Allowed,
    write: W,
) -> Coalesced
where
    W: FnMut(&[IoSlice<'_>]) -> io::Result<()>,
{
    let mut turn = Turn {
        allowed,
        write,
        groups: std::array::from_fn(|_| Group::default()),
        order: std::array::from_fn(|slot| slot as u8),
        open: 0,
        outcome: Coalesced::default(),
    };
    for packet in packets {
        turn.place(packet);
    }
    while turn.open > 0 {
        turn.flush(0);
    }
    turn.outcome
}

struct Turn<'a, W> {
    allowed: Allowed,
    write: W,
    groups: [Group<'a>; OPEN_GROUPS],
    /// Slots of the open groups, oldest first, then the free ones.
    order: [u8; OPEN_GROUPS],
    open: usize,
    outcome: Coalesced,
}

impl<'a, W: FnMut(&[IoSlice<'_>]) -> io::Result<()>> Turn<'a, W> {
    fn place(&mut self, packet: &'a [u8]) {
        self.outcome.offered += 1;
        let Some(glance) = Glance::at(packet) else {
            return self.alone(packet);
        };
        let candidate = glance.candidate.filter(|it| match it.kind {
            Super::Tcp4 | Super::Tcp6 => self.allowed.tcp,
            Super::Udp => self.allowed.udp,
        });
        // From the end, so that flushing one moves none that is still to be looked at.
        for place in (0..self.open).rev() {
            let group = &mut self.groups[usize::from(self.order[place])];
            if !group.shares_flow(&glance, packet) {
                continue;
            }
            if let Some(candidate) = &candidate
                && group.append(candidate, packet)
            {
                if group.is_complete() {
                    self.flush(place);
                }
                return;
            }
            self.flush(place);
        }
        match candidate {
            Some(candidate) => {
                if self.open == OPEN_GROUPS {
                    self.flush(0);
                }
                let slot = usize::from(self.order[self.open]);
                self.groups[slot].open(&glance, candidate, packet);
                self.open += 1;
            }
            None => self.alone(packet),
        }
    }

    fn flush(&mut self, place: usize) {
        let slot = usize::from(self.order[place]);
        self.order[place..self.open].rotate_left(1);
        self.open -= 1;
        let group = &self.groups[slot];
        let members = group.members();
        if let [only] = members {
            return self.alone(only);
        }
        let head = group.head();
        let mut parts = [IoSlice::new(&[]); GROUP_MAX + 1];
        parts[0] = IoSlice::new(head.bytes());
        for (part, member) in parts[1..].iter_mut().zip(members) {
            *part = IoSlice::new(&member[group.headers()..]);
        }
        match (self.write)(&parts[..=members.len()]) {
            Ok(()) => {
                self.outcome.taken += members.len();
                self.outcome.supers += 1;
                self.outcome.segments += members.len();
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                match group.kind() {
                    Super::Tcp4 | Super::Tcp6 => {
                        self.allowed.tcp = false;
                        self.outcome.tcp_refused = true;
                    }
                    Super::Udp => {
                        self.allowed.udp = false;
                        self.outcome.udp_refused = true;
                    }
                }
                for place in 0..members.len() {
                    let member = self.groups[slot].members()[place];
                    self.alone(member);
                }
            }
            Err(_) => {}
        }
    }

    fn alone(&mut self, packet: &[u8]) {
        const PLAIN: [u8; VNET_LEN] = [0; VNET_LEN];
        debug_assert_eq!(VnetHeader::default().encode(), PLAIN);
        let parts = [IoSlice::new(&PLAIN), IoSlice::new(packet)];
        if (self.write)(&parts).is_ok() {
            self.outcome.taken += 1;
        }
    }
}

#[cfg(test)]
mod tests;
