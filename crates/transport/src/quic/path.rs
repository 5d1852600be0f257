//! How large datagrams to a peer may be, as its QUIC connection finds out (DPLPMTUD, RFC 8899).
//!
//! Everything shares one socket, which forbids fragments and ignores what routers say of the path (`IP_PMTUDISC_PROBE`):
//! a datagram that is too large vanishes without a word. QUIC searches upward by itself, when a connection begins and
//! every other minute; that a path has become narrower it can only tell from lost large packets, which a control
//! connection does not send. So [`watch_path`] sends one QUIC datagram as large as the path is thought to carry now and
//! then, and at once again while packets get lost: four of them that are not acknowledged mean a narrower path.
//!
//! It refuses to know what the room is used for.

use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, MtuDiscoveryConfig};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

/// What a path is asked for at most: 1,500 bytes less 40 (IPv6) and 8 (UDP), which is what a tunnelled packet of 1,420
/// bytes with the 32 bytes of its seal needs.
pub const FULL_PAYLOAD: u16 = 1_452;
/// What every path that QUIC runs on carries (RFC 9000 section 14).
pub const LEAST_PAYLOAD: u16 = 1_200;

/// What QUIC is told to search up to. It searches by halves, so the first size that it asks for is [`FULL_PAYLOAD`], which most paths
/// carry: they are known after one round trip. What it finds beyond is of no use to us, and costs a few lost datagrams.
pub(super) const SEARCHED: u16 = 2 * FULL_PAYLOAD - LEAST_PAYLOAD;

/// Between two searches upward: a path that became wider is used this soon. Costs three lost datagrams.
const SEARCH: Duration = Duration::from_secs(120);
/// After the path became narrower, until it is searched: nothing but [`LEAST_PAYLOAD`] is used meanwhile.
const COOLDOWN: Duration = Duration::from_secs(1);
/// Looks until a path that has just become narrower is searched: more than [`COOLDOWN`] at the usual pace.
const AFTER_NARROWING: u32 = 2;
/// Between two looks of [`discovered`].
const SHORT_LOOK: Duration = Duration::from_millis(10);

/// How often a path is looked at.
#[derive(Debug, Clone, Copy)]
pub struct PathPace {
    /// Between two looks at what is known, which cost a lock and nothing else.
    pub look: Duration,
    /// Looks between two datagrams as large as the path is thought to carry.
    pub looks_per_datagram: u32,
}

impl Default for PathPace {
    /// A look a second; a datagram every ten seconds, as often as the connection is kept alive: 1.2 kbit/s.
    fn default() -> Self {
        Self {
            look: Duration::from_secs(1),
            looks_per_datagram: 10,
        }
    }
}

/// How QUIC searches.
pub(super) fn discovery() -> MtuDiscoveryConfig {
    let mut config = MtuDiscoveryConfig::default();
    config
        .upper_bound(SEARCHED)
        .interval(SEARCH)
        .black_hole_cooldown(COOLDOWN);
    config
}

/// The largest UDP payload that the path to the peer is known to carry, bytes: [`LEAST_PAYLOAD`] to [`FULL_PAYLOAD`].
#[must_use]
pub fn path_payload(connection: &Connection) -> u16 {
    connection.stats().path.current_mtu.min(FULL_PAYLOAD)
}

/// Waits until the path is known to carry [`FULL_PAYLOAD`], for `patience` at most, and tells what it is known to carry
/// then. The first search takes one round trip on a path that carries all of it, and an unanswered probe's timeout three
/// times for each size that is too large.
pub async fn discovered(connection: &Connection, patience: Duration) -> u16 {
    let found = async {
        while path_payload(connection) < FULL_PAYLOAD && connection.close_reason().is_none() {
            sleep(SHORT_LOOK).await;
        }
    };
    // How it ended does not matter: what is known then counts.
    let _ = timeout_at(Instant::now() + patience, found).await;
    path_payload(connection)
}

/// Keeps `tell` at what the path carries, until the connection is lost or nobody listens. Takes the peer's own
/// datagrams of this kind off its hands, so that they fill no buffer. One for each connection.
pub async fn watch_path(connection: &Connection, tell: watch::Sender<u16>, pace: PathPace) {
    let mut looks = interval(pace.look);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut until_datagram = pace.looks_per_datagram;
    let mut lost_before = 0;
    loop {
        tokio::select! {
            () = tell.closed() => return,
            datagram = connection.read_datagram() => match datagram {
                Ok(_) => {}
                Err(_) => return,
            },
            _ = looks.tick() => {
                let path = connection.stats().path;
                let payload = path.current_mtu.min(FULL_PAYLOAD);
                let narrower = payload < *tell.borrow();
                tell.send_if_modified(|known| std::mem::replace(known, payload) != payload);
                let losing = path.lost_packets > lost_before;
                lost_before = path.lost_packets;
                until_datagram = if narrower {
                    AFTER_NARROWING
                } else {
                    until_datagram.saturating_sub(1)
                };
                if !narrower && (losing || until_datagram == 0) {
                    until_datagram = pace.looks_per_datagram;
                    send_datagram(connection);
                }
            }
        }
    }
}

/// A datagram as large as the path is thought to carry. On a path that is thought to carry the least there is nothing to
/// be learnt from a large one: an empty one then, for QUIC searches only when it has something to send.
fn send_datagram(connection: &Connection) {
    let room = connection.max_datagram_size();
    let searching = path_payload(connection) <= LEAST_PAYLOAD;
    if let Some(room) = room.map(|room| if searching { 0 } else { room }) {
        // Fails with the connection only.
        let _ = connection.send_datagram(Bytes::from(vec![0; room]));
    }
}
