//! The pump: moves batches between the shared socket and a device, through a machine that seals and opens them.
//!
//! One task drives it, so the packets of one flow keep their order. A turn takes what is ready in both directions,
//! works on it where it lies and hands it on; it never waits while it holds work that can go on. When the kernel does
//! not take datagrams, no more packets are fetched from the device (its queue is the one that overflows then), while
//! the other direction goes on. It refuses to know a key, a session or a price: that is the [`Plane`]'s.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use crate::socket::{Batch, Outgoing, SharedSocket, TunnelReceiver};
use crate::tun::{Frame, Framing, MAX_PACKET, PacketBatch, Tun};

/// Bytes of frames taken from the device in one turn: two super-packets, so that what was read is still in the cache
/// when it is sealed and sent.
const DEVICE_TURN: usize = 160 << 10;
/// Packets opened before they are handed to the device together.
const OPENED_TURN: usize = 256;

/// Packets that waited in the plane, handed on in one turn in each direction; then it is the others' turn again.
const RELEASED_TURN: usize = 256;
/// Trains sent in one call.
const TRAINS: usize = 16;

/// The machine that a pump drives.
pub trait Plane {
    /// Seals a packet of the device where it lies. `Some`: the whole frame is a datagram for that address.
    fn seal(&mut self, frame: Frame<'_>, now: Instant) -> Option<SocketAddr>;

    /// Opens a datagram of the socket where it lies. `Some`: a packet for the device.
    fn open<'a>(
        &mut self,
        from: SocketAddr,
        datagram: &'a mut [u8],
        now: Instant,
    ) -> Option<&'a [u8]>;

    /// A packet of the device that waited in the plane and may leave now: written to `into`, which holds the largest
    /// packet; its length. It comes back through [`Plane::seal_released`].
    fn release_outbound(&mut self, into: &mut [u8], now: Instant) -> Option<usize> {
        let _ = (into, now);
        None
    }

    /// As [`Plane::seal`], for a packet that has waited already.
    fn seal_released(&mut self, frame: Frame<'_>, now: Instant) -> Option<SocketAddr> {
        self.seal(frame, now)
    }

    /// A packet of the socket that waited in the plane and may go to the device now, as for [`Plane::release_outbound`].
    fn release_inbound(&mut self, into: &mut [u8], now: Instant) -> Option<usize> {
        let _ = (into, now);
        None
    }
}

/// Why a pump stopped.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    /// The socket is broken for good.
    #[error("the UDP socket failed: {0}")]
    Socket(#[source] io::Error),
    /// The device is gone.
    #[error("the tunnel device failed: {0}")]
    Device(#[source] io::Error),
}

/// The two doors of a tunnel and the memory between them; nothing is allocated after the first turns.
#[derive(Debug)]
pub struct Pump {
    socket: SharedSocket,
    receiver: TunnelReceiver,
    tun: Arc<dyn Tun>,
    datagrams: Batch,
    packets: PacketBatch,
    /// One for each packet: where its frame goes.
    to: Vec<Option<SocketAddr>>,
    /// Frames before this one are sent or dropped.
    sent: usize,
    /// One packet that waited in the plane.
    released: Vec<u8>,
    stats: PumpStats,
}

/// What a pump could not hand on.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PumpStats {
    /// Packets that the device did not take.
    pub device_refused: u64,
    /// Datagrams that the socket refused for good (no route, say).
    pub socket_refused: u64,
}

impl Pump {
    /// A pump between `receiver`'s socket and `tun`; `framing` is the room that the plane needs to seal.
    #[must_use]
    pub fn new(
        socket: SharedSocket,
        mut receiver: TunnelReceiver,
        tun: Arc<dyn Tun>,
        framing: Framing,
    ) -> Self {
        receiver.lead();
        Self {
            socket,
            receiver,
            tun,
            datagrams: Batch::new(),
            packets: PacketBatch::new(framing, DEVICE_TURN),
            to: Vec::new(),
            sent: 0,
            released: vec![0; MAX_PACKET],
            stats: PumpStats::default(),
        }
    }

    /// The socket, for datagrams that are not packets.
    #[must_use]
    pub fn socket(&self) -> &SharedSocket {
        &self.socket
    }

    /// What could not be handed on so far.
    #[must_use]
    pub fn stats(&self) -> PumpStats {
        self.stats
    }

    /// Waits until there is work for [`Pump::work`]. Cancel safe: what was fetched waits.
    ///
    /// # Errors
    /// Socket or device failed for good.
    pub async fn ready(&mut self) -> Result<(), PumpError> {
        poll_fn(|cx| self.poll_ready(cx)).await
    }

    /// The poll form of [`Pump::ready`].
    ///
    /// # Errors
    /// As [`Pump::ready`].
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        let inbound = self.poll_inbound(cx)?;
        let outbound = self.poll_outbound(cx)?;
        if inbound.is_ready() || outbound.is_ready() {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        if !self.datagrams.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let received = ready!(self.receiver.poll_recv(cx, &mut self.datagrams));
        Poll::Ready(received.map(drop).map_err(PumpError::Socket))
    }

    /// Ready with packets to seal. What waits for the kernel goes first.
    fn poll_outbound(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        while self.sent < self.to.len() {
            ready!(self.socket.poll_writable(cx)).map_err(PumpError::Socket)?;
            self.send();
        }
        if self.to.is_empty() && !self.packets.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.packets.clear();
        self.to.clear();
        self.sent = 0;
        let fetched = ready!(self.tun.poll_recv_batch(cx, &mut self.packets));
        Poll::Ready(fetched.map(drop).map_err(PumpError::Device))
    }

    /// Opens what came from the socket, seals what came from the device, and hands on what waited in the plane and may
    /// leave now. Also to be called when the plane's own deadline is due.
    pub fn work(&mut self, plane: &mut dyn Plane, now: Instant) {
        self.open(plane, now);
        self.release_inbound(plane, now);
        self.seal(plane, now);
    }

    fn open(&mut self, plane: &mut dyn Plane, now: Instant) {
        let mut opened: [&[u8]; OPENED_TURN] = [&[]; OPENED_TURN];
        let mut count = 0;
        let mut refused = 0;
        for (from, datagram) in self.datagrams.iter_mut() {
            if count == OPENED_TURN {
                refused += count - self.tun.send_batch(&opened);
                count = 0;
            }
            if let Some(packet) = plane.open(from, datagram, now) {
                opened[count] = packet;
                count += 1;
            }
        }
        if count > 0 {
            refused += count - self.tun.send_batch(&opened[..count]);
        }
        self.stats.device_refused += refused as u64;
        self.datagrams.clear();
    }

    fn release_inbound(&mut self, plane: &mut dyn Plane, now: Instant) {
        for _ in 0..RELEASED_TURN {
            let Some(length) = plane.release_inbound(&mut self.released, now) else {
                return;
            };
            let taken = self.tun.send_batch(&[&self.released[..length]]);
            self.stats.device_refused += 1 - taken.min(1) as u64;
        }
    }

    fn seal(&mut self, plane: &mut dyn Plane, now: Instant) {
        if self.sent < self.to.len() {
            // Frames that are sealed already wait for the kernel.
            return;
        }
        if !self.to.is_empty() {
            self.packets.clear();
            self.to.clear();
            self.sent = 0;
        }
        self.to
            .extend(self.packets.frames().map(|frame| plane.seal(frame, now)));
        for _ in 0..RELEASED_TURN {
            if !self.packets.has_room(1, self.tun.mtu()) {
                break;
            }
            let Some(length) = plane.release_outbound(&mut self.released, now) else {
                break;
            };
            let packet = &self.released[..length];
            let added = self
                .packets
                .push(length, |frame| frame.copy_from_slice(packet));
            let frame = self.packets.len().checked_sub(1).filter(|_| added);
            if let Some(frame) = frame.and_then(|index| self.packets.frame(index)) {
                self.to.push(plane.seal_released(frame, now));
            }
        }
        self.send();
    }

    /// Sends sealed frames until all are sent or the kernel takes no more. Neighbours for one address, all as long as
    /// the first but for a shorter last one, are one train; several trains leave in one call.
    fn send(&mut self) {
        while self.sent < self.to.len() {
            let mut trains: [Train; TRAINS] = [Train::default(); TRAINS];
            let mut count = 0;
            let mut next = self.sent;
            while count < TRAINS && next < self.to.len() {
                if let Some(to) = self.to[next] {
                    trains[count] = self.train(next, to);
                    next = trains[count].last;
                    count += 1;
                } else {
                    next += 1;
                }
            }
            let trains = &trains[..count];
            let bytes = self.packets.bytes();
            let nobody = Outgoing {
                to: SocketAddr::from(([0, 0, 0, 0], 0)),
                bytes: &[],
                segment: 1,
            };
            let mut outgoing = [nobody; TRAINS];
            for (message, train) in outgoing.iter_mut().zip(trains) {
                *message = Outgoing {
                    to: train.to,
                    bytes: &bytes[train.begin..train.end],
                    segment: train.segment,
                };
            }
            match self.socket.try_send_many(&outgoing[..count]) {
                Ok(taken) => self.advance(trains, taken, next),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::trace!(%error, "datagrams could not be sent");
                    // The first train is the one that was refused.
                    let refused = trains.first().map_or(next, |train| train.last);
                    let skipped = self.to[self.sent..refused].iter().flatten().count();
                    self.stats.socket_refused += skipped as u64;
                    self.sent = refused;
                }
            }
        }
    }

    /// The kernel took `taken` bytes of these trains, whole datagrams; all of them end before frame `next`.
    fn advance(&mut self, trains: &[Train], mut taken: usize, next: usize) {
        for train in trains {
            let length = train.end - train.begin;
            if taken < length {
                self.sent = train.first + taken / train.segment;
                return;
            }
            taken -= length;
        }
        self.sent = next;
    }

    /// The frame number `first` with the neighbours that may leave with it.
    fn train(&self, first: usize, to: SocketAddr) -> Train {
        let place = |index| self.packets.place(index).unwrap_or_default();
        let head = place(first);
        let mut train = Train {
            to,
            first,
            last: first + 1,
            begin: head.start,
            end: head.end,
            segment: head.len().max(1),
        };
        while let Some(next) = self.to.get(train.last) {
            let frame = place(train.last);
            if *next != Some(to) || frame.len() > train.segment {
                break;
            }
            train.end = frame.end;
            train.last += 1;
            if frame.len() < train.segment {
                break;
            }
        }
        train
    }
}

/// Frames that leave as one segmented datagram.
#[derive(Debug, Clone, Copy)]
struct Train {
    to: SocketAddr,
    /// The first frame, and the first after the last.
    first: usize,
    last: usize,
    /// Where they lie.
    begin: usize,
    end: usize,
    /// Length of each but the last.
    segment: usize,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            to: SocketAddr::from(([0, 0, 0, 0], 0)),
            first: 0,
            last: 0,
            begin: 0,
            end: 0,
            segment: 1,
        }
    }
}

#[cfg(test)]
mod tests;
