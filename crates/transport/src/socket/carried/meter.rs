//! How much passes through one virtual address. It refuses to know what for: who is paid by the byte
//! has a meter of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts the bytes of one virtual address; cheap to clone.
///
/// Of a path through a relay it counts whole relay frames, heads included: those that the kernel or
/// the carrier to the relay was given, and those that arrived. So the relay counts the same but for
/// what is lost between.
#[derive(Debug, Clone, Default)]
pub struct CarriedMeter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
}

impl CarriedMeter {
    /// Bytes sent and received by us since the address was opened.
    #[must_use]
    pub fn passed(&self) -> [u64; 2] {
        [&self.0.sent, &self.0.received].map(|counter| counter.load(Relaxed))
    }

    pub(super) fn add_sent(&self, bytes: usize) {
        self.0.sent.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn add_received(&self, bytes: usize) {
        self.0.received.fetch_add(bytes as u64, Relaxed);
    }
}
