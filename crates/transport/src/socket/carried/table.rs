//! Which destinations do not simply leave by the socket: the open virtual addresses, and the
//! remotes of adopted sockets.
//!
//! INVARIANT: a relay is a real address or one of a carrier's, so a way leads to the kernel or to
//! a carrier after two look-ups.

use std::collections::{HashMap, hash_map};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::super::canonical;
use super::super::port::Port;
use super::address::{self, FIRST_OCTET};
use super::held::Held;
use super::{CarriedMeter, Carrier, is_virtual};

/// Virtual addresses open at once.
const MOST_OPEN: usize = 4_096;
/// Adopted sockets at once: each costs a descriptor, and a reader of 2 MiB of which only what is
/// written to is ever real.
const MOST_ADOPTED: usize = 64;

/// Where datagrams for one destination go.
#[derive(Debug, Clone)]
pub(in super::super) enum Way {
    /// To a relay, in frames.
    Relayed {
        relay: SocketAddr,
        channel: u32,
        meter: CarriedMeter,
    },
    /// To a carrier.
    Carried(Arc<dyn Carrier>, CarriedMeter),
    /// Nowhere yet.
    Held(Arc<Held>),
    /// Through another socket, to the same address.
    Adopted(Arc<Port>),
}

/// All detours of one socket.
#[derive(Debug)]
pub(in super::super) struct Detours {
    /// The lowest first octet of a destination that must be looked up: 240 for the virtual ones
    /// alone, 0 for all while a socket is adopted. So a plain send costs one comparison.
    from_octet: AtomicU8,
    table: RwLock<Table>,
    /// Memory for frames, when nobody is using it; whoever finds none allocates.
    pub(super) scratch: Mutex<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Table {
    /// By canonical address.
    ways: HashMap<SocketAddr, Way>,
    /// The virtual address of each relay's channel.
    channels: HashMap<(SocketAddr, u32), (SocketAddr, CarriedMeter)>,
    adopted: usize,
}

impl Default for Detours {
    fn default() -> Self {
        Self {
            from_octet: AtomicU8::new(FIRST_OCTET),
            table: RwLock::default(),
            scratch: Mutex::default(),
        }
    }
}

impl Table {
    /// `address` leads there from now on, and not where it led before. A failure changes nothing.
    fn lead(&mut self, address: SocketAddr, way: Way) -> io::Result<()> {
        if let Way::Relayed {
            relay,
            channel,
            ref meter,
        } = way
        {
            if is_virtual(relay) {
                match self.ways.get(&relay) {
                    Some(Way::Carried(..)) => {}
                    Some(Way::Relayed { .. } | Way::Held(_) | Way::Adopted(_)) => {
                        let why = "a relay is not reached through another relay";
                        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
                    }
                    None => return Err(closed(relay)),
                }
            }
            match self.channels.entry((relay, channel)) {
                hash_map::Entry::Occupied(by) if by.get().0 == address => return Ok(()),
                hash_map::Entry::Occupied(_) => {
                    let why = "this relay's channel is open already";
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
                }
                hash_map::Entry::Vacant(place) => {
                    place.insert((address, meter.clone()));
                }
            }
        }
        // What held datagrams, or another channel: neither asks for the lock when it goes.
        if let Some(Way::Relayed { relay, channel, .. }) = self.ways.insert(address, way) {
            self.channels.remove(&(relay, channel));
        }
        Ok(())
    }
}

impl Detours {
    /// Whether a destination must be looked up.
    pub(in super::super) fn concern(&self, to: SocketAddr) -> bool {
        address::octet(to) >= self.from_octet.load(Relaxed)
    }

    /// Where datagrams for `to` go, in whatever family it is written; `None`: by the socket, if it
    /// is not virtual.
    pub(super) fn way(&self, to: SocketAddr) -> Option<Way> {
        self.read().ways.get(&canonical(to)).cloned()
    }

    /// The virtual address of what comes from `relay` by `channel`; its `bytes` are counted.
    pub(in super::super) fn relayed(
        &self,
        relay: SocketAddr,
        channel: u32,
        bytes: usize,
    ) -> Option<SocketAddr> {
        let table = self.read();
        let (address, meter) = table.channels.get(&(relay, channel))?;
        meter.add_received(bytes);
        Some(*address)
    }

    /// Opens a virtual address.
    pub(super) fn open(&self, way: Way) -> io::Result<SocketAddr> {
        let mut table = self.write();
        if table.ways.len() - table.adopted >= MOST_OPEN {
            let why = "4,096 virtual addresses are open; close one first";
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, why));
        }
        let address = address::next();
        table.lead(address, way)?;
        Ok(address)
    }

    /// Lets an address that is held, or leads through a relay, lead elsewhere.
    pub(super) fn lead(&self, address: SocketAddr, way: Way) -> io::Result<()> {
        let mut table = self.write();
        match table.ways.get(&address) {
            Some(Way::Held(_) | Way::Relayed { .. }) => table.lead(address, way),
            Some(Way::Carried(..) | Way::Adopted(_)) => {
                let why = "this address leads to a carrier";
                Err(io::Error::new(io::ErrorKind::InvalidInput, why))
            }
            None => Err(closed(address)),
        }
    }

    /// Closes a virtual address; what it held goes when nobody is sending by it any more.
    pub(super) fn close(&self, address: SocketAddr) {
        let mut table = self.write();
        let way = table.ways.remove(&address);
        if let Some(Way::Relayed { relay, channel, .. }) = &way {
            table.channels.remove(&(*relay, *channel));
        }
        drop(table);
        // Not under the lock: a carrier may hold what asks for the lock when it goes.
        drop(way);
    }

    /// From now on datagrams for `remote`, canonical and real, leave through `port`.
    pub(in super::super) fn adopt(&self, remote: SocketAddr, port: Arc<Port>) -> io::Result<()> {
        let mut table = self.write();
        if table.adopted >= MOST_ADOPTED {
            let why = "64 sockets are adopted; let one go first";
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, why));
        }
        match table.ways.entry(remote) {
            hash_map::Entry::Occupied(_) => {
                let why = "another adopted socket serves that address";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
            }
            hash_map::Entry::Vacant(place) => {
                place.insert(Way::Adopted(port));
            }
        }
        table.adopted += 1;
        self.from_octet.store(0, Relaxed);
        Ok(())
    }

    /// Ends what [`adopt`](Self::adopt) began.
    pub(in super::super) fn release(&self, remote: SocketAddr) {
        let mut table = self.write();
        if table.ways.remove(&remote).is_some() {
            table.adopted -= 1;
        }
        if table.adopted == 0 {
            self.from_octet.store(FIRST_OCTET, Relaxed);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing panics under it.
    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why nothing is sent to `address`.
pub(super) fn closed(address: SocketAddr) -> io::Error {
    let why = format!("the virtual address {address} is not open, or no longer");
    io::Error::new(io::ErrorKind::NotConnected, why)
}
