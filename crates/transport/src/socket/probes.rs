//! The line of received probes, small datagrams by which paths are found, to who looks for paths.
//!
//! It refuses to look into them: whom a probe is from and whether it is true its reader finds out.
//! When the line is full the newest are dropped and counted, and all while nobody listens.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::mpsc;

use super::ReaderTask;
use super::inner::Inner;

/// Longer ones are junk: a probe proves that a path exists, it does not measure its width.
pub(super) const LONGEST: usize = 512;
/// Probes that may wait, of 512 bytes and 56 of bookkeeping: worst case below 600 KiB.
const WAITING: usize = 1_024;

/// A received probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Where it came from: canonical, and virtual if it came through a relay or a carrier.
    pub from: SocketAddr,
    /// All of it, the four bytes that mark a probe included; 4 to 512.
    pub bytes: Vec<u8>,
}

/// The receiving half for probes. There is one per socket.
#[derive(Debug)]
pub struct Probes {
    line: mpsc::Receiver<Probe>,
    inner: Arc<Inner>,
    _reader: Arc<ReaderTask>,
}

impl Probes {
    pub(super) fn claim(inner: Arc<Inner>, reader: Arc<ReaderTask>) -> Option<Self> {
        let line = inner.probes.open()?;
        Some(Self {
            line,
            inner,
            _reader: reader,
        })
    }

    /// The next probe, or `None` once the socket is broken for good. Cancel safe.
    pub async fn recv(&mut self) -> Option<Probe> {
        self.line.recv().await
    }

    /// The poll form of [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Probe>> {
        self.line.poll_recv(cx)
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.inner.probes.close();
    }
}

/// The end where probes are put in.
#[derive(Debug, Default)]
pub(super) struct ProbeLine(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    listener: Option<mpsc::Sender<Probe>>,
    /// Somebody has the other end, even if nothing comes any more.
    taken: bool,
    broken: bool,
}

impl ProbeLine {
    fn open(&self) -> Option<mpsc::Receiver<Probe>> {
        let mut state = self.lock();
        if std::mem::replace(&mut state.taken, true) {
            return None;
        }
        let (tell, told) = mpsc::channel(WAITING);
        state.listener = (!state.broken).then_some(tell);
        Some(told)
    }

    fn close(&self) {
        let mut state = self.lock();
        state.taken = false;
        state.listener = None;
    }

    /// Says whether it was taken.
    pub(super) fn push(&self, from: SocketAddr, bytes: &[u8]) -> bool {
        let state = self.lock();
        let room = state
            .listener
            .as_ref()
            .and_then(|line| line.try_reserve().ok());
        room.map(|room| {
            room.send(Probe {
                from,
                bytes: bytes.to_vec(),
            });
        })
        .is_some()
    }

    pub(super) fn break_off(&self) {
        let mut state = self.lock();
        state.broken = true;
        state.listener = None;
    }

    /// Nothing panics under it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
