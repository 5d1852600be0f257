//! TUN devices behind one object-safe trait: the kernel's, and one in memory.
//!
//! A device carries whole IP packets. It refuses to have addresses or routes: `host` gives them.
//! Packets go one per call for now; a batched method with offloads can join the trait as a
//! provided method without breaking implementations.

mod channel;
mod device;
mod error;
mod sys;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::task::{Context, Poll};

pub use channel::ChannelTun;
pub use device::TunDevice;
pub use error::TunError;

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
