//! How deep a computer sits behind routers, as told by real ones. Needs root.
//!
//! host (out) - home - carrier - street - (out) server

#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "of the namespaces a part is used here")]

#[path = "wireguard/netns.rs"]
mod netns;

use netns::{Namespace, cable};
use tokio::runtime::Builder;
use wayfare_transport::router_depth;

const SERVER: &str = "11.9.0.2:443";

fn depth(of: &Namespace) -> Option<u8> {
    of.enter(|| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(router_depth(SERVER.parse().unwrap()))
    })
}

/// A router's end of a cable gets a name of its own, and answers for the network behind it.
fn connect(near: &Namespace, far: &Namespace, net: &str, name: &str) {
    let ends = [format!("{net}.2/24"), format!("{net}.1/24")];
    cable(near, far, [&ends[0], &ends[1]]);
    far.ip("link set out down");
    far.ip(&format!("link set out name {name}"));
    far.ip(&format!("link set {name} up"));
    near.ip(&format!("route replace default via {net}.1"));
}

fn forwards(router: &Namespace) {
    router.enter(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
}

#[test]
fn the_first_public_router_ends_the_own_ones() {
    let [host, home, carrier, street, server] = std::array::from_fn(|_| Namespace::new());
    for router in [&home, &carrier, &street] {
        forwards(router);
    }
    connect(&host, &home, "192.168.7", "lan");
    connect(&home, &carrier, "100.64.0", "lan");
    connect(&carrier, &street, "11.1.0", "west");
    connect(&server, &street, "11.9.0", "east");
    for (router, to, via) in [
        (&carrier, "192.168.7.0/24", "100.64.0.2"),
        (&street, "192.168.7.0/24", "11.1.0.2"),
        (&street, "100.64.0.0/24", "11.1.0.2"),
    ] {
        router.ip(&format!("route add {to} via {via}"));
    }
    // Links come up when they like.
    let ready = (0..20).find_map(|_| depth(&host));
    assert_eq!(ready, Some(3), "home and carrier are its own");
    assert_eq!(depth(&home), Some(2));
    // No router of its own: the first may be a firewall all the same.
    assert_eq!(depth(&carrier), Some(2));
    assert_eq!(depth(&street), None, "nobody in between says anything");
}
