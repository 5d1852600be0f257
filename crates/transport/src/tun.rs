//! TUN devices behind one object-safe trait: the kernel's, and one in memory.
//!
//! A device carries whole IP packets, one by one or a batch at a time. It refuses to have addresses
//! or routes: `host` gives them.

mod batch;
mod channel;
mod checksum;
mod coalesce;
mod device;
mod door;
mod error;
mod link;
mod options;
#[cfg(test)]
mod packets;
mod segment;
mod sys;
mod vnet;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::task::{Context, Poll};

pub use batch::{Frame, Framing, MAX_PACKET, PacketBatch};
pub use channel::ChannelTun;
pub use device::TunDevice;
pub use error::TunError;
pub use options::{Offloads, TunCounts, TunOptions};

/// What became of packets for a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Packets that it took.
    pub taken: usize,
    /// Packets that it did not take.
    pub lost: usize,
}

/// A layer-3 device.
///
/// One task may receive and one may send at a time: for each direction only the last caller's
/// waker is kept.
pub trait Tun: Send + Sync + fmt::Debug {
    /// Fetches one packet that the device's user wants carried away, into `buffer`, which must
    /// hold at least [`mtu`](Self::mtu) bytes. Returns its length.
    ///
    /// # Errors
    /// The device is gone, or the buffer is too small.
    fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Hands one packet to the device's user.
    ///
    /// # Errors
    /// The device is gone or down, or it does not take this packet for an IP packet.
    fn poll_send(&self, cx: &mut Context<'_>, packet: &[u8]) -> Poll<io::Result<()>>;

    /// Fetches what is there, at least one packet, until nothing is or `batch` is full; waits only
    /// for the first. Returns how many packets were added.
    ///
    /// # Errors
    /// As [`poll_recv`](Self::poll_recv), if not even the first packet came.
    fn poll_recv_batch(
        &self,
        cx: &mut Context<'_>,
        batch: &mut PacketBatch,
    ) -> Poll<io::Result<usize>> {
        let mut scratch = std::mem::take(&mut batch.scratch);
        let mut added = 0;
        let outcome = loop {
            if added > 0 && !batch.has_room(1, self.mtu()) {
                break Poll::Ready(Ok(added));
            }
            match self.poll_recv(cx, &mut scratch) {
                Poll::Ready(Ok(length)) => {
                    if batch.push(length, |packet| packet.copy_from_slice(&scratch[..length])) {
                        added += 1;
                    }
                }
                _ if added > 0 => break Poll::Ready(Ok(added)),
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        batch.scratch = scratch;
        outcome
    }

    /// Hands packets to the device's user, in order, without waiting. Each is asked for when those before it are done
    /// with, as far as they can be: work that the iterator does on a packet is followed by the device's own on it.
    /// What the device does not take is lost, as in any full queue.
    fn send_each(&self, packets: &mut dyn Iterator<Item = &[u8]>) -> Sent {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut sent = Sent::default();
        for packet in packets {
            match self.poll_send(&mut context, packet) {
                Poll::Ready(Ok(())) => sent.taken += 1,
                Poll::Ready(Err(_)) | Poll::Pending => sent.lost += 1,
            }
        }
        sent
    }

    /// As [`send_each`](Self::send_each), for packets that are there. Returns how many it took.
    fn send_batch(&self, packets: &[&[u8]]) -> usize {
        self.send_each(&mut packets.iter().copied()).taken
    }

    /// The largest packet, in bytes.
    fn mtu(&self) -> usize;

    /// The interface name, for routes and for people.
    fn name(&self) -> &str;
}

/// `async` forms of [`Tun`]'s polls, on every device. All are cancel safe.
pub trait TunExt: Tun {
    /// See [`Tun::poll_recv`].
    fn recv(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send {
        poll_fn(move |cx| self.poll_recv(cx, buffer))
    }

    /// See [`Tun::poll_send`].
    fn send(&self, packet: &[u8]) -> impl Future<Output = io::Result<()>> + Send {
        poll_fn(move |cx| self.poll_send(cx, packet))
    }
}

impl<T: Tun + ?Sized> TunExt for T {}
