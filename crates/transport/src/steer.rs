//! Steering: the kernel gives each datagram and each packet to the lane whose session it is.
//!
//! A lane is a pipeline of its own on a thread of its own: a socket, a queue of the device, a
//! machine between them. Lanes share nothing for a packet, so the kernel must split the traffic,
//! and split it by session: one flow through two lanes would be reordered. On the socket's side a
//! classic BPF program reads it from the receiver index of a tunnel message, on the device's side
//! an eBPF program from the destination address. Whoever assigns sessions to lanes keeps to both:
//! [`lane_of`] for addresses, the first byte on the wire modulo the number of lanes for indices.
//! It refuses a half-working split: where the kernel does not steer there is one lane.

mod device;
mod program;
mod sockets;
mod sys;

use std::io;
use std::net::IpAddr;

pub use device::steer_device;
pub use sockets::{LaneSocket, LaneSockets, lane_sockets};

/// Lanes at most: no machine gains from more, and the programs divide one byte by it.
pub const MOST_LANES: usize = 64;

/// Why the kernel does not steer; everything then goes through one lane.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SteerError {
    /// Datagrams.
    #[error(
        "the kernel does not spread datagrams over several sockets of one port ({step}: {source})"
    )]
    Sockets {
        /// The step that was refused.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Packets.
    #[error(
        "the kernel does not spread packets over the queues of a device ({step}: {source}); it needs Linux 4.16 and CAP_BPF (before 5.8 CAP_SYS_ADMIN) outside of any user namespace"
    )]
    Device {
        /// The step that was refused.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Not a number of lanes.
    #[error("there are 1 to {MOST_LANES} lanes, not {0}")]
    Lanes(usize),
}

/// The lane of `lanes` that gets packets to `destination`: its last **16** bits modulo `lanes`.
///
/// Sixteen, so that for any number of lanes the two addresses of one session agree when both were
/// given by counting from the start of a network of 2^16 addresses, IPv4 and IPv6.
#[must_use]
pub fn lane_of(destination: IpAddr, lanes: usize) -> usize {
    let last = match destination {
        IpAddr::V4(v4) => v4.to_bits() as u16,
        IpAddr::V6(v6) => v6.to_bits() as u16,
    };
    usize::from(last) % lanes.max(1)
}

/// `lanes` as the programs want it.
fn checked(lanes: usize) -> Result<u32, SteerError> {
    let fits = (1..=MOST_LANES).contains(&lanes);
    u32::try_from(lanes)
        .ok()
        .filter(|_| fits)
        .ok_or(SteerError::Lanes(lanes))
}
