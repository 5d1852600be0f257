//! Consumers on narrow paths: what their connections find out becomes a route with an MTU on this computer.
//!
//! A provider must not send datagrams that vanish on the way, and could itself answer packets of the internet that are
//! too large for a consumer. The kernel does that better: with a host route that carries an MTU it forwards to this
//! consumer as to any narrow link, with *fragmentation needed* or *packet too big* from an address that the translation
//! knows, with fragments where they are allowed, and with TCP told by the clamp of the exit's table before it sends
//! anything. Most consumers are on paths that carry everything, and cost nothing here. One thing the kernel does not do:
//! IPv6 below 1,280 bytes. There TCP is clamped all the same; other IPv6 packets between the limit and 1,280 are lost.
//!
//! It refuses to know packets and payments; a consumer's limit ends with its connection or with the next holder of its
//! address, and all of them with the device.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use tokio::sync::{mpsc, watch};
use wayfare_host::{ConsumerLimit, limit_consumers};
use wayfare_session::TunnelNetwork;
use wayfare_transport::{PathPace, discovered, path_payload, watch_path};

use crate::path::{FIRST_SEARCH, inner_mtu};

/// Changes put in force by one program; as many more may wait, and their connections with them.
pub(crate) const AT_ONCE: usize = 256;
/// Sessions of one connection that are looked after; it has one.
const MOST_SESSIONS: usize = 8;

/// News of a connection, by its id.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PathChange {
    /// A session was opened on it.
    Opened {
        connection: usize,
        network: TunnelNetwork,
        payload: u16,
    },
    /// Its path carries another size.
    Carries { connection: usize, payload: u16 },
    /// It is lost.
    Gone { connection: usize },
}

/// Follows the path of one connection until it is lost. `opened`: the networks of the sessions opened on it.
pub(crate) async fn follow(
    connection: &quinn::Connection,
    mut opened: mpsc::Receiver<TunnelNetwork>,
    changes: mpsc::Sender<PathChange>,
) {
    let id = connection.stable_id();
    let (tell, mut payload) = watch::channel(path_payload(connection));
    let watching = watch_path(connection, tell, PathPace::default());
    tokio::pin!(watching);
    let mut in_use = false;
    loop {
        let change = tokio::select! {
            () = &mut watching => break,
            // The first search began with the connection: what it finds spares this computer routes for a moment.
            Some(network) = opened.recv() => PathChange::Opened {
                connection: id,
                network,
                payload: discovered(connection, FIRST_SEARCH).await,
            },
            Ok(()) = payload.changed(), if in_use => PathChange::Carries {
                connection: id,
                payload: *payload.borrow_and_update(),
            },
        };
        in_use = true;
        if changes.send(change).await.is_err() {
            return;
        }
    }
    // Whoever does not listen any more has forgotten it, too.
    let _ = changes.send(PathChange::Gone { connection: id }).await;
}

/// Puts changes in force on the device until nobody sends any.
pub(crate) async fn keep(device: String, mut inbox: mpsc::Receiver<PathChange>) {
    let mut narrow = NarrowPaths::default();
    let mut changes = Vec::with_capacity(AT_ONCE);
    while inbox.recv_many(&mut changes, AT_ONCE).await > 0 {
        let mut limits = Vec::new();
        for change in changes.drain(..) {
            narrow.handle(change, &mut limits);
        }
        if limits.is_empty() {
            continue;
        }
        tracing::debug!(changes = limits.len(), "consumers on narrow paths");
        if let Err(error) = limit_consumers(&device, limits).await {
            tracing::warn!(%error, "packets that are too large for a consumer's path may be lost");
        }
    }
}

/// Who has which limit; bounded by the connections that are served.
#[derive(Debug, Default)]
struct NarrowPaths {
    /// By connection.
    sessions: BTreeMap<usize, Vec<TunnelNetwork>>,
    /// By the consumer's IPv4 address: whose word counts, and what is in force.
    limits: BTreeMap<Ipv4Addr, (usize, Option<u16>)>,
}

impl NarrowPaths {
    fn handle(&mut self, change: PathChange, limits: &mut Vec<ConsumerLimit>) {
        match change {
            PathChange::Opened {
                connection,
                network,
                payload,
            } => {
                let sessions = self.sessions.entry(connection).or_default();
                if sessions.len() == MOST_SESSIONS {
                    return;
                }
                sessions.push(network);
                let (owner, _) = self
                    .limits
                    .entry(network.consumer_v4)
                    .or_insert((connection, None));
                *owner = connection;
                self.limit(connection, &network, Some(payload), limits);
            }
            PathChange::Carries {
                connection,
                payload,
            } => {
                for network in self.sessions.get(&connection).cloned().unwrap_or_default() {
                    self.limit(connection, &network, Some(payload), limits);
                }
            }
            PathChange::Gone { connection } => {
                for network in self.sessions.remove(&connection).unwrap_or_default() {
                    self.limit(connection, &network, None, limits);
                    if self
                        .limits
                        .get(&network.consumer_v4)
                        .is_some_and(|(owner, _)| *owner == connection)
                    {
                        self.limits.remove(&network.consumer_v4);
                    }
                }
            }
        }
    }

    /// What is to be done so that a consumer's limit is that of `payload`; `None`: of a path that carries everything.
    fn limit(
        &mut self,
        connection: usize,
        network: &TunnelNetwork,
        payload: Option<u16>,
        limits: &mut Vec<ConsumerLimit>,
    ) {
        let mtu = payload
            .map(|payload| inner_mtu(payload, network.mtu))
            .filter(|mtu| *mtu < network.mtu);
        // The address may be somebody else's by now.
        let Some((_, in_force)) = self
            .limits
            .get_mut(&network.consumer_v4)
            .filter(|(owner, _)| *owner == connection)
        else {
            return;
        };
        if std::mem::replace(in_force, mtu) != mtu {
            let v6 = network.consumer_v6.map(IpAddr::from);
            limits.extend(
                [Some(network.consumer_v4.into()), v6]
                    .into_iter()
                    .flatten()
                    .map(|address| ConsumerLimit { address, mtu }),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: u16 = 1_452;
    const V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

    fn network() -> TunnelNetwork {
        TunnelNetwork {
            consumer_v4: V4,
            consumer_v6: Some("fd77::2".parse().expect("an address")),
            mtu: 1_420,
        }
    }

    fn opened(connection: usize, payload: u16) -> PathChange {
        PathChange::Opened {
            connection,
            network: network(),
            payload,
        }
    }

    fn carries(connection: usize, payload: u16) -> PathChange {
        PathChange::Carries {
            connection,
            payload,
        }
    }

    /// The new limit of the IPv4 address, which is that of the IPv6 address as well; `None`: nothing is to be done.
    fn handle(narrow: &mut NarrowPaths, change: PathChange) -> Option<Option<u16>> {
        let mut limits = Vec::new();
        narrow.handle(change, &mut limits);
        assert!(matches!(limits.len(), 0 | 2), "both families: {limits:?}");
        let same = limits.iter().all(|limit| limit.mtu == limits[0].mtu);
        assert!(same, "{limits:?}");
        limits.first().map(|limit| limit.mtu)
    }

    #[test]
    fn only_narrow_paths_cost_a_route_and_it_ends_with_the_connection() {
        let mut narrow = NarrowPaths::default();
        assert_eq!(handle(&mut narrow, opened(1, FULL)), None);
        assert_eq!(handle(&mut narrow, carries(1, 1_372)), Some(Some(1_328)));
        assert_eq!(handle(&mut narrow, carries(1, 1_373)), None, "no news");
        assert_eq!(handle(&mut narrow, carries(1, FULL)), Some(None));
        assert_eq!(handle(&mut narrow, carries(1, 1_200)), Some(Some(1_168)));
        let gone = PathChange::Gone { connection: 1 };
        assert_eq!(handle(&mut narrow, gone), Some(None));
        assert_eq!(handle(&mut narrow, gone), None);
        assert!(narrow.limits.is_empty() && narrow.sessions.is_empty());
    }

    #[test]
    fn an_address_belongs_to_the_last_session_that_got_it() {
        let mut narrow = NarrowPaths::default();
        assert_eq!(handle(&mut narrow, opened(1, 1_372)), Some(Some(1_328)));
        // Its first holder was given up while its connection lives on.
        assert_eq!(handle(&mut narrow, opened(2, FULL)), Some(None));
        assert_eq!(handle(&mut narrow, carries(1, 1_200)), None);
        assert_eq!(
            handle(&mut narrow, PathChange::Gone { connection: 1 }),
            None
        );
        assert_eq!(handle(&mut narrow, carries(2, 1_372)), Some(Some(1_328)));
    }

    #[test]
    fn a_connection_with_many_sessions_costs_no_more_memory() {
        let mut narrow = NarrowPaths::default();
        for _ in 0..100 {
            handle(&mut narrow, opened(1, 1_372));
        }
        assert_eq!(narrow.sessions[&1].len(), MOST_SESSIONS);
    }
}
