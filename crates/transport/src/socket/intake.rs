//! One read of the kernel, into memory where tunnel messages may stay.
//!
//! Whoever's turn it is uses it. It refuses to wait, and to copy tunnel messages: they stay where
//! the kernel wrote them until their taker decides.

use std::array;
use std::io::{self, IoSliceMut};

use quinn::udp::RecvMeta;
use tokio::io::Interest;

use super::inner::Inner;
use super::pile::Run;
use super::port::Port;
use super::sorting::{Source, sort};

/// Buffers offered to the kernel per call, as many as it fills at most: small datagrams of many peers need one each.
const BUFFERS: usize = 32;
/// Buffers offered after a call that filled them well: 256 KiB at a time stay in a core's nearest caches but one until they
/// are opened and handed on.
const LARGE_BUFFERS: usize = 4;
/// The largest UDP payload, coalesced or not, rounded up.
const BUFFER: usize = 65_536;
/// What a reader of the kernel needs: 2 MiB, of which only what is written to is ever real.
pub(super) const MEMORY: usize = BUFFERS * BUFFER;

/// What the kernel tells of each buffer.
pub(super) type Metas = [RecvMeta; BUFFERS];

/// Memory the kernel writes to, and the runs of tunnel messages left in it.
#[derive(Debug, Default)]
pub(super) struct Landing {
    /// Empty until it is first used, then of `MEMORY` bytes for ever.
    memory: Vec<u8>,
    /// In order, without overlap. Bounded by the segments the kernel puts into one buffer (at most
    /// 128, `UDP_MAX_SEGMENTS`): 32 x 128 runs, about 400 KiB if a peer alternates kinds.
    runs: Vec<Run>,
    datagrams: usize,
    /// The last read filled its buffers well.
    large: bool,
    /// The last read filled all buffers it offered.
    full: bool,
}

impl Landing {
    pub(super) fn datagrams(&self) -> usize {
        self.datagrams
    }

    pub(super) fn is_empty(&self) -> bool {
        self.datagrams == 0
    }

    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.datagrams = 0;
        self.full = false;
    }

    /// Whether the kernel may have more: it filled all it was given.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    pub(super) fn parts(&self) -> (&[Run], &[u8]) {
        (&self.runs, &self.memory)
    }

    pub(super) fn parts_mut(&mut self) -> (&[Run], &mut [u8]) {
        (&self.runs, &mut self.memory)
    }

    /// Bytes of memory held, used or not.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.memory.capacity() + self.runs.capacity() * size_of::<Run>()
    }

    #[cfg(test)]
    pub(super) fn memory_mut(&mut self) -> &mut [u8] {
        self.ready();
        &mut self.memory
    }

    #[cfg(test)]
    pub(super) fn keep(&mut self, run: Run) {
        self.datagrams += run.datagrams();
        self.runs.push(run);
    }

    fn ready(&mut self) {
        if self.memory.is_empty() {
            self.memory = vec![0; MEMORY];
        }
    }

    /// One read of as many buffers as suit the traffic. Says how many have been filled, at least one.
    ///
    /// # Errors
    /// As [`read`].
    fn read(&mut self, port: &Port, metas: &mut Metas) -> io::Result<usize> {
        self.ready();
        let offered = if self.large { LARGE_BUFFERS } else { BUFFERS };
        let filled = read(port, &mut self.memory, offered, metas)?;
        let bytes: usize = metas[..filled].iter().map(|meta| meta.len).sum();
        self.large = bytes > filled * BUFFER / 4;
        self.full = filled == offered;
        Ok(filled)
    }

    /// Reads once; tunnel messages are kept here, in place.
    ///
    /// # Errors
    /// As [`read`].
    pub(super) fn fill(&mut self, inner: &Inner, metas: &mut Metas) -> io::Result<()> {
        let buffers = self.read(&inner.port, metas)?;
        let Self {
            memory,
            runs,
            datagrams,
            ..
        } = self;
        let brought = (&metas[..buffers], Source::Everybody);
        sort(inner, memory, BUFFER, brought, |run, _| {
            *datagrams += run.datagrams();
            runs.push(run);
            true
        });
        Ok(())
    }

    /// Reads `port`, the shared socket's or an adopted one, once; tunnel messages are copied to
    /// their queue.
    ///
    /// # Errors
    /// As [`read`].
    pub(super) fn pass(
        &mut self,
        inner: &Inner,
        port: &Port,
        source: Source,
        metas: &mut Metas,
    ) -> io::Result<()> {
        let buffers = self.read(port, metas)?;
        let brought = (&metas[..buffers], source);
        sort(inner, &mut self.memory, BUFFER, brought, |run, bytes| {
            inner.tunnel.push(run, bytes)
        });
        Ok(())
    }
}

/// One `recvmmsg` of at most `offered` buffers. Says how many have been filled, at least one.
///
/// # Errors
/// `WouldBlock` if there is nothing, otherwise what the kernel says.
fn read(port: &Port, memory: &mut [u8], offered: usize, metas: &mut Metas) -> io::Result<usize> {
    let mut chunks = memory.chunks_mut(BUFFER);
    let mut buffers: [IoSliceMut<'_>; BUFFERS] =
        array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
    let mut filled = 0;
    let outcome = port.io.try_io(Interest::READABLE, || {
        let buffers = &mut buffers[..offered];
        filled = port.udp.recv((&port.io).into(), buffers, metas)?;
        if filled < offered {
            // The kernel stopped because it had no more. Saying so here spares the call that
            // would only hear it again; what arrives from now on raises a new event.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    });
    if filled > 0 {
        Ok(filled)
    } else {
        outcome.and(Err(io::ErrorKind::WouldBlock.into()))
    }
}
