//! Virtual addresses: paths through relays and carriers that look like any other address.
//!
//! Whoever sends to one need not know: sessions, tunnel, QUIC and pump see an ordinary
//! [`SocketAddr`], taken from the reserved block 240.0.0.0/4, and this module translates. The
//! kernel never sees one: a destination in that block that is not open is refused, and what
//! arrives from the network with such a source is junk.
//!
//! It refuses to negotiate: channels and carriers are set up by others, and handed over.

mod address;
mod held;
mod meter;
mod send;
mod table;

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

pub use address::is_virtual;
use held::Held;
pub use meter::CarriedMeter;
pub(super) use table::Detours;
use table::Way;

use super::SharedSocket;
use super::demux::HEAD;
use super::inner::Inner;
use super::sorting::{self, Heard};

/// Something other than the socket that takes datagrams to a peer: QUIC datagrams, a TLS stream.
///
/// What arrives the other way is handed to [`Carried::deliver`].
pub trait Carrier: Send + Sync + Debug {
    /// Sends one datagram, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room: the datagram is lost and counted, as on any narrow
    /// link, and nobody tries again. Every other error reaches who sent the datagram.
    fn send(&self, datagram: &[u8]) -> io::Result<()>;

    /// The longest datagram it takes now, bytes; longer ones are lost and counted.
    fn most(&self) -> usize;
}

/// A virtual address, open as long as this value lives.
///
/// It does not keep the socket open. A carrier that itself holds the socket is let go of when this
/// value goes, so keep it where both end together.
#[derive(Debug)]
pub struct Carried {
    address: SocketAddr,
    inner: Weak<Inner>,
    /// Whether relay frames may lie in it: no further than one deep.
    frames: bool,
    meter: CarriedMeter,
    /// What was sent before it led anywhere.
    held: Option<Arc<Held>>,
}

impl Carried {
    /// What to send to, and what received datagrams are shown to come from. IPv4.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What passes through it. The handle outlives the path.
    #[must_use]
    pub fn meter(&self) -> CarriedMeter {
        self.meter.clone()
    }

    /// The first datagrams sent to an address that was opened [held](SharedSocket::open_held): waits
    /// until there are any, and a millisecond for the rest of what is sent at once. None of any other
    /// address. Cancel safe.
    pub async fn first_flight(&self) -> Vec<Vec<u8>> {
        match &self.held {
            Some(held) => held.flight().await,
            None => Vec::new(),
        }
    }

    /// An address that was opened held, or led so before, leads through `relay` by its `channel` from
    /// now on, as one of [`SharedSocket::open_relayed`]. Datagrams that were held are not sent.
    ///
    /// # Errors
    /// As [`SharedSocket::open_relayed`], and nothing has changed then.
    pub fn lead(&self, relay: SocketAddr, channel: u32) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let inner = self.inner.upgrade().ok_or_else(gone)?;
        let relay = super::canonical(relay);
        inner.port.wire(relay)?;
        let meter = self.meter();
        let way = Way::Relayed {
            relay,
            channel,
            meter,
        };
        inner.detours.lead(self.address, way)
    }

    /// Counts datagrams that reached the relay in another way than by frames, as if they had been in
    /// such.
    pub fn count_sent<'a>(&self, datagrams: impl IntoIterator<Item = &'a [u8]>) {
        for datagram in datagrams {
            self.meter.add_sent(datagram.len() + HEAD);
        }
    }

    /// Takes in a datagram that arrived through the carrier, as if it had been received from
    /// [`address`](Self::address): tunnel messages, QUIC, probes and, on carriers, relay frames go
    /// where those of the socket go, anything else is junk. Copies, never waits; what finds its
    /// queue full is dropped and counted.
    pub fn deliver(&self, datagram: &[u8]) {
        let Some(inner) = self.inner.upgrade() else {
            return;
        };
        inner.counters.carried_in.add(1);
        self.meter.add_received(datagram.len());
        // Every virtual address can be written in both families.
        let Ok(wire) = inner.port.wire(self.address) else {
            return;
        };
        let heard = Heard::through(self.address, wire);
        sorting::take_in(&inner, &heard, datagram, self.frames);
        inner.wake();
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.detours.close(self.address);
        }
    }
}

impl SharedSocket {
    /// Opens the path through `relay` by its `channel`: what is sent to the address leaves in relay
    /// frames, and frames of that channel from that relay are taken in as from the address.
    ///
    /// The relay is reached directly, or through a carrier opened before.
    ///
    /// At most 4,096 virtual addresses are open at once, of 300 bytes each and two scratch buffers
    /// of 64 KiB for all: below 2 MiB.
    ///
    /// # Errors
    /// `AlreadyExists` if that channel is open, `QuotaExceeded` at 4,096, `InvalidInput` for a
    /// relay nobody can reach from here, or that is itself reached through a relay.
    pub fn open_relayed(&self, relay: SocketAddr, channel: u32) -> io::Result<Carried> {
        let relay = super::canonical(relay);
        self.inner.port.wire(relay)?;
        let meter = CarriedMeter::default();
        let way = Way::Relayed {
            relay,
            channel,
            meter: meter.clone(),
        };
        let address = self.inner.detours.open(way)?;
        Ok(self.carried(address, false, meter))
    }

    /// Opens an address that leads nowhere until [`Carried::lead`] says where: what is sent first is
    /// kept for [`Carried::first_flight`], at most 3,840 bytes, and the rest is lost and counted.
    ///
    /// # Errors
    /// `QuotaExceeded` when 4,096 virtual addresses are open.
    pub fn open_held(&self) -> io::Result<Carried> {
        let held = Arc::<Held>::default();
        let address = self.inner.detours.open(Way::Held(Arc::clone(&held)))?;
        let mut carried = self.carried(address, false, CarriedMeter::default());
        carried.held = Some(held);
        Ok(carried)
    }

    /// Opens a path through `carrier`: what is sent to the address is given to it, datagram by
    /// datagram, and what it receives is for [`Carried::deliver`].
    ///
    /// # Errors
    /// `QuotaExceeded` when 4,096 virtual addresses are open.
    pub fn open_carried(&self, carrier: Arc<dyn Carrier>) -> io::Result<Carried> {
        let meter = CarriedMeter::default();
        let way = Way::Carried(carrier, meter.clone());
        let address = self.inner.detours.open(way)?;
        Ok(self.carried(address, true, meter))
    }

    fn carried(&self, address: SocketAddr, frames: bool, meter: CarriedMeter) -> Carried {
        Carried {
            address,
            inner: Arc::downgrade(&self.inner),
            frames,
            meter,
            held: None,
        }
    }
}
