//! What a relay does: frames of others are passed on, straight from where the kernel wrote them.
//!
//! Who may send what to whom is the [`Switch`]'s to say, which the house supplies. It refuses to
//! look behind a frame's head, and to keep a frame: what cannot leave at once is lost and counted.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use super::inner::Inner;

/// Says where frames go.
pub trait Switch: Send + Sync + Debug {
    /// Where frames of `channel` that came from `from` (canonical, and virtual if they came through
    /// a carrier) go, unchanged; `None`: nowhere. Asked for consecutive frames of one channel
    /// together: `datagrams` of them, of `bytes` altogether as received, their heads included.
    ///
    /// Called by whoever reads the socket, for every train of frames: it must not wait.
    fn forward(
        &self,
        from: SocketAddr,
        channel: u32,
        datagrams: usize,
        bytes: usize,
    ) -> Option<SocketAddr>;
}

/// Where the socket's switch sits, if it has one.
#[derive(Debug, Default)]
pub(super) struct SwitchSeat(RwLock<Option<Arc<dyn Switch>>>);

impl SwitchSeat {
    pub(super) fn take(&self, switch: Option<Arc<dyn Switch>>) {
        let before = std::mem::replace(
            &mut *self.0.write().unwrap_or_else(PoisonError::into_inner),
            switch,
        );
        // Not under the lock: it may hold what asks for the lock when it goes.
        drop(before);
    }

    fn switch(&self) -> Option<Arc<dyn Switch>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Inner {
    /// Passes `frames`, of one channel and of `stride` bytes each, on.
    pub(super) fn forward(&self, from: SocketAddr, channel: u32, frames: &[u8], stride: usize) {
        let counters = &self.counters;
        let datagrams = frames.len().div_ceil(stride);
        let Some(switch) = self.switch.switch() else {
            counters.junk_in.add(datagrams);
            return;
        };
        let Some(to) = switch.forward(from, channel, datagrams, frames.len()) else {
            counters.frames_refused.add(datagrams);
            return;
        };
        let sent = self.try_send_segments(to, frames, stride).unwrap_or(0);
        let gone = sent.div_ceil(stride);
        counters.frames_switched.add(gone);
        counters.frames_lost.add(datagrams - gone);
    }
}
