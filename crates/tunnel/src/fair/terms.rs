//! The words that a driver and the queue exchange.
//! They refuse to decide anything.

#[cfg(doc)]
use super::FairQueue;

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FairLimits {
    /// Memory of all queues, in bytes; taken once, touched when used. Rounded down to chunks of 2 KiB. Sharing is fair as long as each
    /// session that has something to send finds room for a packet: a thousand that all send super-packets need 64 MiB.
    pub total_bytes: usize,
    /// Memory of one session's queue, in bytes. In a crowd it is less: who holds most loses first.
    pub session_bytes: usize,
    /// What one session may send in its turn, in bytes; less where a total rate would make the rounds long.
    pub quantum: u32,
}

impl FairLimits {
    /// For a crowd that wants more than there is: 64 MiB, a full train for each of a thousand, an eighth of a second at 4 Gb/s; 1 MiB
    /// for one. With half of it as much was carried, but not everybody always had something waiting, and shares differed. A turn is 45 packets of 1,420 bytes, the most that leave as one datagram of 64 KiB once they are sealed.
    pub const CROWD: Self = Self {
        total_bytes: 64 << 20,
        session_bytes: 1 << 20,
        quantum: 45 * 1_420,
    };
}

impl Default for FairLimits {
    /// 8 MiB: a chunk for each of 4,096 sessions, as many as a provider's collector takes. 256 KiB for one: four super-packets, 2 ms
    /// at 1 Gb/s. A quantum of one super-packet, so that coalescing survives the queue.
    fn default() -> Self {
        Self {
            total_bytes: 8 << 20,
            session_bytes: 256 << 10,
            quantum: 64 << 10,
        }
    }
}

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Write it now; nothing was copied, the rates have been charged.
    Pass,
    /// Hand it over by [`FairQueue::push`].
    Queue,
    /// The session's share of the memory is full. A super-packet may be offered again in segments, which fit sooner.
    Drop,
}

/// What [`FairQueue::pop_into`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pop {
    /// A packet of that session, now the first `len` bytes of the buffer.
    Packet {
        /// Whose.
        slot: u32,
        /// Its length in bytes.
        len: usize,
    },
    /// The next packet needs a buffer of this many bytes; it is still there.
    Short(usize),
    /// Nothing may leave now: see [`FairQueue::poll_timeout`].
    Empty,
}

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Sessions with at least one packet.
    pub sessions: usize,
    /// Packets.
    pub packets: usize,
    /// Their bytes.
    pub bytes: usize,
    /// The memory they take, at most [`FairLimits::total_bytes`].
    pub memory: usize,
}

/// Packets that did not pass, since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Losses {
    /// Never queued: the session's share was full.
    pub refused: u64,
    /// Queued, and given up for a session that held less, or with their session.
    pub evicted: u64,
}
