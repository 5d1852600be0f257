//! Every bound of this door, with its arithmetic.

use std::time::Duration;

/// Largest message, either way: sixteen signed proposals of 4 KiB. Everything else is below 2 KiB.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// How long any single answer may take. Two fsyncs, one chain read (≤ 3 s) and a slow link fit many times.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How long a settlement may take until it is confirmed: ten blocks of 12 s, rounded up.
pub(crate) const SETTLE_DEADLINE: Duration = Duration::from_secs(150);

/// How long a TCP connection may take to be made: three lost SYNs (1 + 2 s) and a round trip.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Time that open calls get after a shutdown was asked for, before their connections are cut.
pub const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// A connection on which nothing was heard for this long is asked whether it lives, and given up after as long again.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(10);

/// The same for a connection to a server's address while it owes us an answer: TCP does not notice for minutes that the address it
/// was opened from is gone, and payments wait for the answer.
pub(crate) const WAITING_KEEPALIVE: Duration = Duration::from_secs(2);

/// Time for the first [`PREFACE`] bytes of a connection; after that the keep-alive watches over it.
pub(crate) const PREFACE_DEADLINE: Duration = Duration::from_secs(10);

/// Length of the HTTP/2 client preface.
pub(crate) const PREFACE: usize = 24;

/// Connections at a time of one TCP service. Worst case: 1,024 × 256 KiB window = 256 MiB, all filled by attackers.
pub const MAX_CONNECTIONS: usize = 1_024;

/// Calls at a time of one connection.
pub(crate) const MAX_STREAMS: u32 = 128;

/// Bytes of one call that may wait unread: one largest message.
pub(crate) const STREAM_WINDOW: u32 = 64 * 1024;

/// Bytes of one connection that may wait unread.
pub(crate) const CONNECTION_WINDOW: u32 = 256 * 1024;

/// Bytes of headers of one call.
pub(crate) const MAX_HEADERS: u32 = 16 * 1024;

/// Payments of one stream that are being answered at a time. Worst case: 64 × 2 KiB a stream.
pub(crate) const PAYMENTS_IN_FLIGHT: usize = 64;

/// Frames of one conversation, each way, that wait for their reader. Worst case: 32 × 2 KiB.
pub(crate) const FRAMES: usize = 32;

/// Longest text of a refusal or reason, in bytes.
pub(crate) const MAX_TEXT: usize = 1_024;

/// Most capabilities in a hello, and the longest name of one.
pub(crate) const MAX_CAPABILITIES: usize = 64;
/// Longest capability name in bytes.
pub(crate) const MAX_CAPABILITY: usize = 64;
/// Longest software name in bytes.
pub(crate) const MAX_SOFTWARE: usize = 128;

/// Sessions told in one answer of the control socket: 100 × 300 bytes is half a message.
pub(crate) const MAX_SESSIONS: usize = 100;
