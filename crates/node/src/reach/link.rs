//! One peer that is reached: its finder, its channel through a relay, and who wants to know. It refuses to read sockets.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::sync::watch;
use wayfare_identity::{NodeAddress, NodeId, NodeKey};
use wayfare_nat::Sight;
use wayfare_path::{
    Answer, Attempt, Description, EphemeralPublic, Event, Finder, Offer, Role, Socket, Tier,
    Transmit, Verified,
};
use wayfare_transport::{Carried, SharedSocket};

use super::birthday::{Extras, Heard};
use super::carriers::Carrier;
use super::{PathNow, RelayInUse};

/// Where a link's words go: the relay and the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Channel {
    pub(super) relay: NodeId,
    pub(super) number: u32,
}

pub(super) struct Link {
    pub(super) finder: Finder,
    pub(super) channel: Channel,
    pub(super) peer: NodeId,
    pub(super) attempt: Attempt,
    pub(super) ephemeral: EphemeralPublic,
    pub(super) theirs: Verified,
    /// Of our last word.
    pub(super) serial: u32,
    pub(super) heard_at: Instant,
    pub(super) carried: Carried,
    /// The relay's address if a pipe leads to it.
    pub(super) by_pipe: Option<SocketAddr>,
    /// Relays that the peer can be called through; a callee has none.
    pub(super) relays: Vec<NodeAddress>,
    /// A call through another relay is under way.
    pub(super) recalling: bool,
    /// Such calls in vain, since one was taken.
    pub(super) recalls: u32,
    carrier: Carrier,
    extras: Extras,
    path: watch::Sender<PathNow>,
    relay: watch::Sender<RelayInUse>,
}

/// What a link's driver must know.
pub(super) enum Told {
    /// Somebody sees us there.
    Seen { by: SocketAddr, us: SocketAddr },
    /// The path in use works no more; `stranded` if it was the relay's, or there is no other.
    Lost { stranded: bool },
}

/// Lets a finder fall back to a path through a relay.
pub(super) fn add_fallback(finder: &mut Finder, carrier: Carrier, path: SocketAddr) {
    match carrier {
        Carrier::Udp => finder.add_fallback(path),
        Carrier::Quic | Carrier::Tls => finder.add_carried_fallback(path),
    }
}

impl Link {
    pub(super) fn new(
        finder: Finder,
        channel: Channel,
        theirs: Verified,
        ephemeral: EphemeralPublic,
        (carried, carrier, relay): (Carried, Carrier, SocketAddr),
        extras: Extras,
        now: Instant,
    ) -> (Self, watch::Receiver<PathNow>) {
        let (path, shown) = watch::channel(PathNow {
            at: carried.address(),
            tier: match carrier {
                Carrier::Udp => Tier::Relayed,
                Carrier::Quic | Carrier::Tls => Tier::Carried,
            },
            carrier,
            rtt: None,
            outcome: String::new(),
        });
        let (in_use, _) = watch::channel(RelayInUse {
            node: channel.relay,
            at: relay,
            meter: carried.meter(),
        });
        let link = Self {
            relay: in_use,
            finder,
            channel,
            peer: theirs.peer(),
            attempt: theirs.attempt(),
            ephemeral,
            theirs,
            serial: 0,
            heard_at: now,
            carried,
            by_pipe: (carrier != Carrier::Udp).then_some(relay),
            relays: Vec::new(),
            recalling: false,
            recalls: 0,
            carrier,
            extras,
            path,
        };
        (link, shown)
    }

    /// Through whom the peer is called.
    pub(super) fn relay_in_use(&self) -> watch::Receiver<RelayInUse> {
        self.relay.subscribe()
    }

    /// A probe that came from the peer, or claims to.
    pub(super) fn handle_probe(&mut self, heard: &Heard, now: Instant) {
        let on = match heard.on {
            Socket::Main => self.extras.received_on(heard.from),
            Socket::Extra(_) => heard.on,
        };
        let handled = self.finder.handle_probe(heard.from, on, &heard.bytes, now);
        match handled {
            wayfare_path::Handled::Dropped(why) => tracing::trace!(?why, "a probe is dropped"),
            _ => self.heard_at = now,
        }
    }

    /// Sends what is to be sent and does what is to be done.
    pub(super) fn carry_out(&mut self, socket: &SharedSocket) -> Vec<Told> {
        while let Some(transmit) = self.finder.poll_transmit() {
            self.send(socket, &transmit);
        }
        let mut told = Vec::new();
        while let Some(event) = self.finder.poll_event() {
            match event {
                Event::Selected {
                    path,
                    on,
                    tier,
                    rtt,
                } => {
                    if let Socket::Extra(number) = on {
                        self.extras.adopt(number, path);
                    }
                    tracing::debug!(?tier, ?rtt, "a path is chosen");
                    self.path.send_modify(|shown| {
                        shown.at = path;
                        shown.tier = tier;
                        shown.carrier = match path == self.carried.address() {
                            true => self.carrier,
                            false => Carrier::Udp,
                        };
                        shown.rtt = rtt;
                    });
                }
                Event::Lost { path } => {
                    tracing::debug!("a path is lost");
                    let stranded =
                        path == self.carried.address() || self.finder.selected().is_none();
                    told.push(Told::Lost { stranded });
                }
                Event::OpenSockets { count } => {
                    let opened = self.extras.open(count);
                    self.finder.sockets_opened(opened);
                    while let Some(transmit) = self.finder.poll_transmit() {
                        self.send(socket, &transmit);
                    }
                }
                Event::CloseSockets { .. } => self.extras.close(),
                Event::SeenAs { by, seen } => told.push(Told::Seen { by, us: seen }),
                Event::Settled(outcome) => {
                    let outcome = outcome.to_string();
                    tracing::info!(%outcome, "path finding");
                    self.path.send_modify(|shown| shown.outcome = outcome);
                }
            }
        }
        told
    }

    /// What we are now, for the peer.
    pub(super) fn word(&mut self, key: &NodeKey, ours: &Description) -> Vec<u8> {
        self.serial += 1;
        match self.finder.role() {
            Role::Caller => Offer::sign(key, self.peer, self.attempt, self.serial, ours).to_bytes(),
            Role::Callee => Answer::sign(key, &self.theirs, self.serial, ours).to_bytes(),
        }
    }

    /// The peer is reached through another relay from now on; the channel before it is not used any more.
    pub(super) fn move_to(
        &mut self,
        channel: Channel,
        (carried, carrier, relay): (Carried, Carrier, SocketAddr),
    ) {
        let (old, new) = (self.carried.address(), carried.address());
        add_fallback(&mut self.finder, carrier, new);
        self.finder.remove_fallback(old);
        self.relay.send_replace(RelayInUse {
            node: channel.relay,
            at: relay,
            meter: carried.meter(),
        });
        self.channel = channel;
        self.carried = carried;
        self.carrier = carrier;
        self.by_pipe = (carrier != Carrier::Udp).then_some(relay);
        self.recalls = 0;
    }

    /// What the peer says it is now. `us`: our own node.
    pub(super) fn hear(&mut self, word: &[u8], us: NodeId, seen: Option<Sight>) {
        let verified = match self.finder.role() {
            Role::Caller => Answer::from_bytes(word)
                .and_then(|answer| answer.verify(self.peer, us, self.attempt)),
            Role::Callee => Offer::from_bytes(word).and_then(|offer| offer.verify(self.peer, us)),
        };
        match verified {
            Ok(newer) if newer.supersedes(&self.theirs) => {
                let attested = seen.map_or_else(Vec::new, |seen| seen.ips());
                self.finder
                    .update_theirs(newer.description().clone(), attested);
                self.theirs = newer;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "a peer's word is not taken"),
        }
    }

    fn send(&self, socket: &SharedSocket, transmit: &Transmit) {
        let sent = match (transmit.on, transmit.ttl) {
            (Socket::Main, None) => socket.try_send(transmit.to, &transmit.bytes),
            (Socket::Main, Some(ttl)) => socket.try_send_ttl(transmit.to, &transmit.bytes, ttl),
            (Socket::Extra(number), ttl) => {
                self.extras.send(number, transmit.to, &transmit.bytes, ttl)
            }
        };
        if let Err(error) = sent {
            tracing::trace!(%error, "a probe was not sent");
        }
    }
}
