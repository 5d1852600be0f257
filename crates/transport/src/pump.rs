//! The pump: moves batches between the shared socket and a device, through a machine that seals and opens them.
//!
//! One task drives it, so the packets of one flow keep their order. A turn takes what is ready in both directions,
//! works on it where it lies and hands it on; it never waits while it holds work that can go on. When the kernel does
//! not take datagrams, no more packets are fetched from the device (its queue is the one that overflows then), while
//! the other direction goes on. It refuses to know a key, a session or a price: that is the [`Plane`]'s.
//!
//! **In a crowd** the device's own queue would overflow and lose packets by lot, and each turn would send two packets
//! here and two there. The device gives more than a turn takes then, for many addresses by turns; so the pump asks the
//! plane to hold what it gets ([`Plane::hold_outbound`]), empties the device in several turns, and lets the plane
//! release its choice, which is one long train for one address after the other. It is over when nothing waits any more.

mod outbox;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use outbox::Outbox;

use crate::socket::{Batch, SharedSocket, TunnelReceiver};
use crate::tun::{Frame, Framing, MAX_PACKET, Tun};

/// Bytes of frames taken from the device in one turn: two super-packets, so that what was read is still in the cache
/// when it is sealed and sent.
const DEVICE_TURN: usize = 160 << 10;
/// Bytes of frames released in one turn: four trains as long as a datagram can be.
const RELEASE: usize = 4 * MAX_PACKET;
/// Packets that waited in the plane, handed on in one turn in each direction; then it is the others' turn again.
const RELEASED_TURN: usize = 1_024;
/// Turns, in a crowd, before anything is released: 3 to 5 MB, 2 ms. Both kernel queues are emptied in them, so that who has
/// little to send or to acknowledge waits for nobody there, and streams see a short way and send long bursts.
const HELD_TURNS: u32 = 32;
/// A crowd it is when a full turn of the device holds less than this for one address after the other, on average: a
/// quarter of the longest train.
const CROWD_TRAIN: usize = 16 << 10;

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

    /// `true`: there is a crowd, and whatever is given to [`Plane::seal`] from now on must wait in the plane; `false`: it
    /// may pass again, unless others wait already, and what waits may be released. Whether the plane does so; if not,
    /// packets go straight on.
    fn hold_outbound(&mut self, hold: bool, now: Instant) -> bool {
        let _ = (hold, now);
        false
    }

    /// A packet of the device that waited in the plane and may leave now: written to `into`, which holds the largest
    /// packet; it comes back through [`Plane::seal_released`]. Packets of one address one after the other leave together.
    fn release_outbound(&mut self, into: &mut [u8], now: Instant) -> Option<Released> {
        let _ = (into, now);
        None
    }

    /// As [`Plane::seal`], for a packet that has waited already, with its [`Released::mark`].
    fn seal_released(&mut self, frame: Frame<'_>, mark: u32, now: Instant) -> Option<SocketAddr> {
        let _ = mark;
        self.seal(frame, now)
    }

    /// A packet of the socket that waited in the plane and may go to the device now, as for [`Plane::release_outbound`].
    fn release_inbound(&mut self, into: &mut [u8], now: Instant) -> Option<usize> {
        let _ = (into, now);
        None
    }
}

/// A packet that has waited in a plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// Its length in bytes.
    pub len: usize,
    /// Whatever the plane wants to be told when it seals it.
    pub mark: u32,
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
    /// What the device gave.
    fresh: Outbox,
    /// What has waited in the plane. INVARIANT: only one of the two holds frames that wait for the kernel.
    waited: Outbox,
    /// The plane holds what it is given.
    crowd: bool,
    /// Turns since the last release.
    held: u32,
    /// The socket may have more than it gave.
    pressed: bool,
    /// The plane may have more to release at once.
    backlog: bool,
    /// One packet for the device that waited in the plane.
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
            fresh: Outbox::new(framing, DEVICE_TURN),
            waited: Outbox::new(framing, RELEASE),
            crowd: false,
            held: 0,
            pressed: false,
            backlog: false,
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
        if self.held > 0 && !self.pressed {
            // The device is being emptied, the socket is empty, and there is something to release.
            return Poll::Pending;
        }
        let received = ready!(self.receiver.poll_recv(cx, &mut self.datagrams));
        Poll::Ready(received.map(drop).map_err(PumpError::Socket))
    }

    /// Ready with packets to seal or to release. What waits for the kernel goes first, but a crowd is held meanwhile.
    fn poll_outbound(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        let stats = &mut self.stats;
        ready!(self.fresh.poll_flush(cx, &self.socket, stats)).map_err(PumpError::Socket)?;
        let flushed = self.waited.poll_flush(cx, &self.socket, stats);
        if flushed.map_err(PumpError::Socket)?.is_pending() && !self.crowd {
            return Poll::Pending;
        }
        if self.fresh.is_unsealed() {
            return Poll::Ready(Ok(()));
        }
        self.fresh.clear();
        let backlog = self.backlog && self.waited.is_sent();
        if backlog {
            // Nothing below would yield to other tasks.
            ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
        }
        match self.tun.poll_recv_batch(cx, &mut self.fresh.packets) {
            Poll::Ready(fetched) => Poll::Ready(fetched.map(drop).map_err(PumpError::Device)),
            Poll::Pending if backlog => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Opens what came from the socket, seals what came from the device, and hands on what waited in the plane and may
    /// leave now. Also to be called when the plane's own deadline is due.
    pub fn work(&mut self, plane: &mut dyn Plane, now: Instant) {
        self.open(plane, now);
        self.release_inbound(plane, now);
        self.seal(plane, now);
    }

    fn open(&mut self, plane: &mut dyn Plane, now: Instant) {
        self.pressed = self.datagrams.is_pressed();
        if self.datagrams.is_empty() {
            return;
        }
        let datagrams = self.datagrams.iter_mut();
        let mut opened = datagrams.filter_map(|(from, datagram)| plane.open(from, datagram, now));
        let sent = self.tun.send_each(&mut opened);
        self.stats.device_refused += sent.lost as u64;
        drop(opened);
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
        if !self.fresh.is_sent() || (!self.waited.is_sent() && !self.crowd) {
            // Frames that are sealed already wait for the kernel.
            return;
        }
        if !self.fresh.is_unsealed() {
            self.fresh.clear();
        }
        if self.crowd {
            plane.hold_outbound(true, now);
        }
        let Outbox { packets, to, .. } = &mut self.fresh;
        to.extend(packets.frames().map(|frame| plane.seal(frame, now)));
        let pressed = packets.is_pressed();
        self.fresh.send(&self.socket, &mut self.stats);
        if pressed && !self.crowd {
            let crowd = self.fresh.turns() * CROWD_TRAIN > self.fresh.packets.bytes().len();
            self.crowd = crowd && plane.hold_outbound(true, now);
        }
        if self.crowd && (pressed || self.pressed) && self.held < HELD_TURNS {
            self.held += 1;
            self.backlog = true;
            return;
        }
        self.release(plane, now);
    }

    /// Lets the plane choose what leaves.
    fn release(&mut self, plane: &mut dyn Plane, now: Instant) {
        self.held = 0;
        if !self.fresh.is_sent() || !self.waited.is_sent() {
            return;
        }
        if self.crowd {
            plane.hold_outbound(false, now);
        }
        self.waited.clear();
        let Outbox { packets, to, .. } = &mut self.waited;
        self.backlog = true;
        while packets.len() < RELEASED_TURN && packets.has_room(1, self.tun.mtu()) {
            let mut released = None;
            packets.compose(|room| {
                released = plane.release_outbound(room, now);
                released.map(|it| it.len)
            });
            let Some(Released { mark, .. }) = released else {
                // With less room than that, it may have been too little for the next one.
                if packets.has_room(1, MAX_PACKET) {
                    self.backlog = false;
                    self.crowd = false;
                }
                break;
            };
            let last = packets.len().saturating_sub(1);
            let sealed = packets.frame(last);
            to.push(sealed.and_then(|frame| plane.seal_released(frame, mark, now)));
        }
        self.waited.send(&self.socket, &mut self.stats);
    }
}

#[cfg(test)]
mod tests;
