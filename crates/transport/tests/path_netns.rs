//! What a QUIC connection finds out about a path whose routers say nothing. Needs root.
//!
//! a (out) - (left) router (right) - (out) b; the link between router and b is narrow, and neither end knows.

#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "of the namespaces a part is used here")]

#[path = "wireguard/netns.rs"]
mod netns;

use std::net::SocketAddr;
use std::time::Duration;

use netns::{Namespace, cable};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;
use wayfare_transport::{
    FULL_PAYLOAD, PathPace, QuicEndpoint, QuicIdentity, SharedSocket, SocketOptions, discovered,
    path_payload, quic_endpoint, watch_path,
};

const PATIENCE: Duration = Duration::from_secs(15);

struct Lab {
    a: Namespace,
    router: Namespace,
    b: Namespace,
}

impl Lab {
    fn new(mtu: usize) -> Self {
        let [a, router, b] = std::array::from_fn(|_| Namespace::new());
        for (end, name, net) in [(&a, "left", 1), (&b, "right", 2)] {
            let addresses = [format!("10.9.{net}.2/24"), format!("10.9.{net}.1/24")];
            cable(end, &router, [&addresses[0], &addresses[1]]);
            router.ip("link set out down");
            router.ip(&format!("link set out name {name}"));
            router.ip(&format!("link set {name} up"));
            end.ip(&format!("route add default via 10.9.{net}.1"));
        }
        // It carries on, and does not complain.
        router.enter(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            for rule in [
                "add table ip silence",
                "add chain ip silence out { type filter hook output priority 0; }",
                "add rule ip silence out meta l4proto icmp drop",
            ] {
                netns::run("nft", rule);
            }
        });
        let lab = Self { a, router, b };
        lab.narrow(mtu);
        lab
    }

    fn narrow(&self, mtu: usize) {
        self.router.ip(&format!("link set right mtu {mtu}"));
    }
}

fn endpoint(namespace: &Namespace, address: &str, seed: u8) -> (QuicEndpoint, SocketAddr) {
    let runtime = Handle::current();
    let (socket, _tunnel) = namespace.enter(|| {
        let _inside = runtime.enter();
        SharedSocket::bind(address.parse().unwrap(), SocketOptions::default()).unwrap()
    });
    let identity = QuicIdentity::from_ed25519_seed([seed; 32]).unwrap();
    let endpoint = quic_endpoint(&socket, &identity).unwrap();
    (endpoint, socket.local_addr())
}

/// Both ends of a connection.
async fn connect(lab: &Lab) -> [(quinn::Connection, QuicEndpoint); 2] {
    let (server, at) = endpoint(&lab.b, "10.9.2.2:0", 1);
    let (client, _) = endpoint(&lab.a, "10.9.1.2:0", 2);
    let accepting = async { server.accept().await.unwrap() };
    let (near, far) = tokio::join!(client.dial(at, server.node_key()), accepting);
    [(near.unwrap(), client), (far, server)]
}

#[tokio::test]
async fn what_the_path_carries_is_found_in_both_directions() {
    for (mtu, least) in [(1_500, FULL_PAYLOAD), (1_400, 1_352), (1_280, 1_230)] {
        let lab = Lab::new(mtu);
        let ends = connect(&lab).await;
        // The search may take its time on a busy machine; how far it comes is what counts.
        let most = FULL_PAYLOAD.min(u16::try_from(mtu).unwrap() - 28);
        for (connection, _) in &ends {
            let found = async {
                while path_payload(connection) < least {
                    discovered(connection, Duration::from_millis(20)).await;
                }
            };
            timeout(PATIENCE, found).await.unwrap();
            let known = discovered(connection, Duration::from_millis(200)).await;
            assert!((least..=most).contains(&known), "{known} on {mtu}");
        }
    }
}

#[tokio::test]
async fn a_path_that_becomes_narrower_is_noticed_and_searched_again() {
    let lab = Lab::new(1_500);
    let ends = connect(&lab).await;
    let pace = PathPace {
        look: Duration::from_millis(50),
        looks_per_datagram: 2,
    };
    let mut known = Vec::new();
    for (connection, _) in &ends {
        let (tell, told) = watch::channel(0);
        let connection = connection.clone();
        tokio::spawn(async move { watch_path(&connection, tell, pace).await });
        known.push(told);
    }
    let until = async |known: &mut watch::Receiver<u16>, range: std::ops::RangeInclusive<u16>| {
        let seen = known.wait_for(|payload| range.contains(payload));
        *timeout(PATIENCE, seen).await.unwrap().unwrap()
    };
    for known in &mut known {
        until(known, FULL_PAYLOAD..=FULL_PAYLOAD).await;
    }
    lab.narrow(1_400);
    for known in &mut known {
        until(known, 1_352..=1_372).await;
    }
    // With its last owner gone, so is the watcher's ear; with the connection, the watcher.
    ends[0].0.close(0u32.into(), b"");
    for known in &mut known {
        let ended = async { while known.changed().await.is_ok() {} };
        timeout(PATIENCE, ended).await.unwrap();
    }
}
