//! What leaves: pings, pongs and events, in queues that end.
//! It refuses to queue more than it says; what is too much is lost, as on any network.

use std::net::SocketAddr;

use super::{Event, Finder, Socket, Transmit};
use crate::probe::Probe;
use crate::secret::Role;

/// Waiting datagrams: one step of a round for all pairs, openers of 256 sockets, and pongs. 512 of about 110 bytes.
const MAX_TRANSMITS: usize = 512;
const MAX_EVENTS: usize = 64;

impl Finder {
    /// Pings a pair, unless too much was sent there already.
    pub(super) fn ping(&mut self, at: usize, ttl: Option<u8>) {
        let now = self.now;
        let pair = &mut self.pairs.all[at];
        if !pair.spend() {
            return;
        }
        let (remote, on) = (pair.remote, pair.on);
        let transaction = self.ping_to(remote, on, ttl);
        self.pairs.all[at].pinged(transaction, now);
    }

    /// INVARIANT: every ping leaves here, and `remote` is of a pair, or of the attested IP of a birthday punch.
    pub(super) fn ping_to(&mut self, remote: SocketAddr, on: Socket, ttl: Option<u8>) -> u64 {
        self.transaction += 1;
        let probe = Probe::Ping {
            transaction: self.transaction,
            wish: self.role == Role::Caller && self.selected == Some((remote, on)),
            again: self.round.as_ref().is_some_and(|round| round.again),
            round: self.rounds,
        };
        self.send(remote, on, &probe, ttl);
        self.transaction
    }

    pub(super) fn send(&mut self, to: SocketAddr, on: Socket, probe: &Probe, ttl: Option<u8>) {
        if self.transmits.len() < MAX_TRANSMITS {
            let bytes = probe.seal(&self.secret, self.role);
            self.transmits.push_back(Transmit { on, to, bytes, ttl });
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}
