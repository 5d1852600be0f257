//! Frames on their way to the socket: sealed where they lie, and sent from there in trains.
//!
//! Neighbours for one address, all as long as the first but for a shorter last one, are one train, which leaves as one
//! segmented datagram; several trains leave in one call. It refuses to reorder, and to forget a frame that the kernel
//! had no room for.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use super::PumpStats;
use crate::socket::{Outgoing, SharedSocket};
use crate::tun::{Framing, PacketBatch};

/// Trains sent in one call.
const TRAINS: usize = 16;

/// A batch of packets, and where each goes once it is sealed.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) packets: PacketBatch,
    /// One for each packet: where its frame goes, `None` if it does not.
    pub(super) to: Vec<Option<SocketAddr>>,
    /// Frames before this one are sent or dropped.
    sent: usize,
}

impl Outbox {
    pub(super) fn new(framing: Framing, capacity: usize) -> Self {
        Self {
            packets: PacketBatch::new(framing, capacity),
            to: Vec::new(),
            sent: 0,
        }
    }

    /// Whether no sealed frame waits for the kernel.
    pub(super) fn is_sent(&self) -> bool {
        self.sent == self.to.len()
    }

    /// Whether packets are there that nobody has sealed yet.
    pub(super) fn is_unsealed(&self) -> bool {
        self.to.is_empty() && !self.packets.is_empty()
    }

    /// Forgets all packets.
    pub(super) fn clear(&mut self) {
        self.packets.clear();
        self.to.clear();
        self.sent = 0;
    }

    /// How often a frame goes elsewhere than the one before it.
    pub(super) fn turns(&self) -> usize {
        let pairs = self.to.windows(2);
        pairs.filter(|pair| pair[0] != pair[1]).count()
    }

    /// Sends, waiting for the kernel's room, until all are sent.
    ///
    /// # Errors
    /// The socket is broken for good.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        socket: &SharedSocket,
        stats: &mut PumpStats,
    ) -> Poll<io::Result<()>> {
        while !self.is_sent() {
            ready!(socket.poll_writable(cx))?;
            self.send(socket, stats);
        }
        Poll::Ready(Ok(()))
    }

    /// Sends sealed frames until all are sent or the kernel takes no more.
    pub(super) fn send(&mut self, socket: &SharedSocket, stats: &mut PumpStats) {
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
            if trains.is_empty() {
                self.sent = next;
                return;
            }
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
            match socket.try_send_many(&outgoing[..count]) {
                Ok(taken) => self.advance(trains, taken, next),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::trace!(%error, "datagrams could not be sent");
                    // The first train is the one that was refused.
                    let refused = trains.first().map_or(next, |train| train.last);
                    let skipped = self.to[self.sent..refused].iter().flatten().count();
                    stats.socket_refused += skipped as u64;
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
