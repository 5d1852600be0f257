//! What is sent to an address that leads nowhere yet: the first flight of a handshake, which travels in
//! a call instead of behind it. It refuses more than such a flight.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// Three datagrams of the least size that every path carries; the first flight of a handshake with a
/// hybrid key exchange takes two.
const MOST_BYTES: usize = 3 * 1_280;
const MOST: usize = 3;
/// A flight is sent in one turn, in one call where the kernel can cut it.
const REST: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(in super::super) struct Held {
    kept: Mutex<Vec<Vec<u8>>>,
    told: Notify,
}

impl Held {
    /// Says how many datagrams of `buffer` found no room.
    pub(super) fn keep(&self, buffer: &[u8], segment: usize) -> usize {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lost = 0;
        for datagram in buffer.chunks(segment.max(1)) {
            let bytes: usize = kept.iter().map(Vec::len).sum();
            if kept.len() < MOST && bytes + datagram.len() <= MOST_BYTES {
                kept.push(datagram.to_vec());
            } else {
                lost += 1;
            }
        }
        drop(kept);
        self.told.notify_one();
        lost
    }

    /// What was sent first.
    pub(super) async fn flight(&self) -> Vec<Vec<u8>> {
        while self.kept().is_empty() {
            self.told.notified().await;
        }
        tokio::time::sleep(REST).await;
        self.kept()
    }

    fn kept(&self) -> Vec<Vec<u8>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clone()
    }
}
