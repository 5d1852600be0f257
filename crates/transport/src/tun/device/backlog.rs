//! The packets of a super-packet whose receiver wants them one by one.
//!
//! Nothing is allocated for who receives in batches only.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};

use crate::tun::batch::{Framing, PacketBatch};

/// Packets read but not yet handed on; about 180 KiB with its scratch once it is used.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    batch: Option<PacketBatch>,
    /// Packets handed on.
    next: usize,
}

const BARE: Framing = Framing {
    head: 0,
    tail: 0,
    multiple: 1,
    mtu: 0,
};

pub(super) fn lock(backlog: &Mutex<Backlog>) -> MutexGuard<'_, Backlog> {
    backlog.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Backlog {
    /// Copies the next packet into `buffer`, after `fill` where there is none. A packet that is larger than `buffer`,
    /// and so than the device's MTU, is passed over.
    pub(super) fn next(
        &mut self,
        buffer: &mut [u8],
        mut fill: impl FnMut(&mut PacketBatch) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let batch = self.batch.get_or_insert_with(|| PacketBatch::new(BARE, 0));
        loop {
            while let Some(frame) = batch.frame(self.next) {
                self.next += 1;
                if let Some(target) = buffer.get_mut(..frame.packet) {
                    target.copy_from_slice(frame.bytes);
                    return Poll::Ready(Ok(frame.packet));
                }
            }
            batch.clear();
            self.next = 0;
            ready!(fill(batch))?;
        }
    }

    /// Moves what waits into `into` as far as it fits. Returns how many packets that were.
    pub(super) fn move_into(&mut self, into: &mut PacketBatch) -> usize {
        let Some(batch) = &mut self.batch else {
            return 0;
        };
        let mut moved = 0;
        while let Some(frame) = batch.frame(self.next) {
            if !into.push(frame.packet, |packet| packet.copy_from_slice(frame.bytes)) {
                break;
            }
            self.next += 1;
            moved += 1;
        }
        moved
    }
}
