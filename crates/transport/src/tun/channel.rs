//! A TUN device in memory: two ends, what one sends the other receives.
//!
//! For programs that embed a tunnel without a network device, and for tests. A full queue makes
//! the sender wait; nothing is dropped and packet memory is reused.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Tun;

/// One end of an in-memory device.
#[derive(Debug)]
pub struct ChannelTun {
    outgoing: Arc<Direction>,
    incoming: Arc<Direction>,
    mtu: usize,
}

#[derive(Debug)]
struct Direction {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    packets: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    receiver: Option<Waker>,
    sender: Option<Waker>,
    closed: bool,
}

impl ChannelTun {
    /// Two connected ends that hold up to `capacity` packets (at least 1) of `mtu` bytes in each
    /// direction; the worst case is `2 * capacity * mtu` bytes.
    #[must_use]
    pub fn pair(capacity: usize, mtu: usize) -> (Self, Self) {
        let direction = || {
            Arc::new(Direction {
                capacity: capacity.max(1),
                state: Mutex::default(),
            })
        };
        let (there, back) = (direction(), direction());
        let far = Self {
            outgoing: Arc::clone(&back),
            incoming: Arc::clone(&there),
            mtu,
        };
        (
            Self {
                outgoing: there,
                incoming: back,
                mtu,
            },
            far,
        )
    }
}

impl Tun for ChannelTun {
    fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.incoming.lock();
        let Some(packet) = state.packets.front() else {
            if state.closed {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            state.receiver = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let length = packet.len();
        let Some(target) = buffer.get_mut(..length) else {
            let why = "the buffer is smaller than the packet";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidInput, why)));
        };
        target.copy_from_slice(packet);
        if let Some(used) = state.packets.pop_front() {
            state.spare.push(used);
        }
        wake(state, |state| state.sender.take());
        Poll::Ready(Ok(length))
    }

    fn poll_send(&self, cx: &mut Context<'_>, packet: &[u8]) -> Poll<io::Result<()>> {
        if packet.len() > self.mtu {
            let why = "the packet is larger than the device's MTU";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        let mut state = self.outgoing.lock();
        if state.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if state.packets.len() >= self.outgoing.capacity {
            state.sender = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut memory = state.spare.pop().unwrap_or_default();
        memory.clear();
        memory.extend_from_slice(packet);
        state.packets.push_back(memory);
        wake(state, |state| state.receiver.take());
        Poll::Ready(Ok(()))
    }

    fn mtu(&self) -> usize {
        self.mtu
    }

    fn name(&self) -> &str {
        "memory"
    }
}

impl Drop for ChannelTun {
    /// The other end may still fetch what was sent; it cannot send any more.
    fn drop(&mut self) {
        let mut outgoing = self.outgoing.lock();
        outgoing.closed = true;
        wake(outgoing, |state| state.receiver.take());
        let mut incoming = self.incoming.lock();
        incoming.closed = true;
        wake(incoming, |state| state.sender.take());
    }
}

impl Direction {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes outside the lock.
fn wake(mut state: MutexGuard<'_, State>, whom: impl FnOnce(&mut State) -> Option<Waker>) {
    let waker = whom(&mut state);
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::TunExt;
    use super::*;

    #[tokio::test]
    async fn packets_cross_both_ways_whole_and_in_order() {
        let (near, far) = ChannelTun::pair(4, 1420);
        let mut buffer = [0; 1420];
        for packet in [&b"first"[..], b"second, longer", b"3"] {
            near.send(packet).await.unwrap();
        }
        far.send(b"back").await.unwrap();
        for packet in [&b"first"[..], b"second, longer", b"3"] {
            let length = far.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], packet);
        }
        let length = near.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"back");
    }

    #[tokio::test]
    async fn a_full_queue_makes_the_sender_wait_and_nothing_is_lost() {
        let (near, far) = ChannelTun::pair(2, 16);
        let sender = tokio::spawn(async move {
            for number in 0..1000u16 {
                near.send(&number.to_be_bytes()).await.unwrap();
            }
        });
        let mut buffer = [0; 16];
        for number in 0..1000u16 {
            assert!(far.incoming.lock().packets.len() <= 2);
            let length = far.recv(&mut buffer).await.unwrap();
            assert_eq!(buffer[..length], number.to_be_bytes());
        }
        sender.await.unwrap();
        let end = far.recv(&mut buffer).await.unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
        let broken = far.send(b"x").await.unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn oversize_is_refused_on_both_sides() {
        let device: Box<dyn Tun> = Box::new(ChannelTun::pair(1, 8).0);
        let error = device.send(&[0; 9]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let (near, far) = ChannelTun::pair(1, 8);
        near.send(&[7; 8]).await.unwrap();
        let error = far.recv(&mut [0; 4]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(far.recv(&mut [0; 8]).await.unwrap(), 8);
    }
}
