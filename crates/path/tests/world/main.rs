//! A small deterministic world: two real finders, NAT boxes, a relay, virtual time, and a seed that repeats a failure.
//! It refuses real time and real sockets.
#![allow(clippy::unwrap_used, unreachable_pub)]
#![allow(
    clippy::disallowed_methods,
    reason = "an `Instant` can only begin with the clock"
)]

mod abuse;
mod chance;
mod change;
mod drive;
mod matrix;
mod nat;
mod net;
mod scene;
