//! Datagrams that may pass a few hops only, behind a router; and virtual addresses that somebody
//! has in earnest. Needs root.
//!
//! a (out) - (left) router (right) - (out) b

#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "of the namespaces a part is used here")]

#[path = "wireguard/netns.rs"]
mod netns;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use netns::{Namespace, cable};
use tokio::runtime::Handle;
use wayfare_transport::{Batch, SharedSocket, SocketOptions, TunnelReceiver};

fn bind(namespace: &Namespace, address: &str) -> (SharedSocket, TunnelReceiver) {
    let runtime = Handle::current();
    namespace.enter(|| {
        let _inside = runtime.enter();
        SharedSocket::bind(address.parse().unwrap(), SocketOptions::default()).unwrap()
    })
}

fn lab() -> [Namespace; 3] {
    let [a, router, b] = std::array::from_fn(|_| Namespace::new());
    for (end, name, net) in [(&a, "left", 1), (&b, "right", 2)] {
        let addresses = [format!("10.9.{net}.2/24"), format!("10.9.{net}.1/24")];
        cable(end, &router, [&addresses[0], &addresses[1]]);
        router.ip("link set out down");
        router.ip(&format!("link set out name {name}"));
        router.ip(&format!("link set {name} up"));
        router.ip(&format!("address add fd09:{net}::1/64 dev {name} nodad"));
        end.ip(&format!("address add fd09:{net}::2/64 dev out nodad"));
        end.ip(&format!("route add default via 10.9.{net}.1"));
        end.ip(&format!("-6 route add default via fd09:{net}::1"));
    }
    router.enter(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    });
    [a, router, b]
}

/// Sends zeroes until one arrives: links come up when they like.
async fn open_the_way(sender: &SharedSocket, at: SocketAddr, tunnel: &mut TunnelReceiver) {
    let mut batch = Batch::new();
    for _ in 0..400 {
        // No route yet is no answer either.
        let _ = sender.try_send(at, &[4, 0, 0, 0, 0]);
        let received = tokio::time::timeout(Duration::from_millis(50), tunnel.recv(&mut batch));
        if received.await.is_ok() {
            return;
        }
    }
    panic!("nothing arrives at {at}");
}

/// The last bytes of the messages that arrive, but zeroes, until there are `count`.
async fn next(tunnel: &mut TunnelReceiver, count: usize) -> Vec<u8> {
    let mut batch = Batch::new();
    let mut seen = Vec::new();
    while seen.len() < count {
        let received = tokio::time::timeout(Duration::from_secs(20), tunnel.recv(&mut batch));
        received.await.unwrap().unwrap();
        seen.extend(batch.iter().map(|(_, message)| message[4]));
        seen.retain(|number| *number != 0);
    }
    seen
}

#[tokio::test]
async fn a_datagram_of_one_hop_ends_at_the_router_and_one_of_64_does_not() {
    let [a, _router, b] = lab();
    for (from, to, there) in [
        ("10.9.1.2:0", "10.9.2.2:0", "10.9.2.2"),
        ("[::]:0", "[::]:0", "10.9.2.2"),
        ("[::]:0", "[::]:0", "fd09:2::2"),
    ] {
        let (sender, _unused) = bind(&a, from);
        let (receiver, mut tunnel) = bind(&b, to);
        let at = SocketAddr::new(there.parse().unwrap(), receiver.local_addr().port());
        open_the_way(&sender, at, &mut tunnel).await;
        for ttl in [1, 2, 1, 64, 1, 255] {
            sender.try_send_ttl(at, &[4, 0, 0, 0, ttl], ttl).unwrap();
        }
        // Nothing overtakes here, so what has not come by then does not come.
        assert_eq!(
            next(&mut tunnel, 3).await,
            [2, 64, 255],
            "{from} to {there}"
        );
        // The socket's own is unchanged.
        sender.send(at, &[4, 0, 0, 0, 9]).await.unwrap();
        assert_eq!(next(&mut tunnel, 1).await, [9]);
        assert!(sender.try_send_ttl(at, b"x", 0).is_err());
    }
}

#[tokio::test]
async fn nobody_is_heard_who_has_a_virtual_address_in_earnest() {
    let namespace = Namespace::new();
    namespace.ip("address add 240.0.0.1/32 dev lo");
    for own in ["127.0.0.1:0", "[::]:0"] {
        let (socket, mut tunnel) = bind(&namespace, own);
        let relay: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let open = socket.open_relayed(relay, 1).unwrap();
        let port = socket.local_addr().port();
        namespace.enter(|| {
            let liar = UdpSocket::bind("240.0.0.1:1").unwrap();
            for lie in [&[4, 0, 0, 0, 1][..], &[5, 0, 0, 0], &[0x40; 50]] {
                liar.send_to(lie, ("127.0.0.1", port)).unwrap();
            }
            let honest = UdpSocket::bind("127.0.0.1:0").unwrap();
            honest
                .send_to(&[4, 0, 0, 0, 2], ("127.0.0.1", port))
                .unwrap();
        });
        assert_eq!(next(&mut tunnel, 1).await, [2]);
        let stats = socket.stats();
        assert_eq!((stats.junk_in, stats.tunnel_in, stats.quic_in), (3, 1, 0));
        drop(open);
    }
}

/// A computer of one family, as it has routes: what is of the other one fails at once.
#[tokio::test]
async fn what_has_no_route_is_known_before_anything_is_sent_there() {
    use wayfare_transport::{DialError, QuicIdentity, quic_endpoint};

    let [a, _router, _b] = lab();
    let (both, four) = (["10.9.2.2:9", "[fd09:2::2]:9"], "0.0.0.0:0");
    let reached = |socket: &SharedSocket| both.map(|at| socket.reaches(at.parse().unwrap()));
    let (dual, _dual_tunnel) = bind(&a, "[::]:0");
    let (old, _old_tunnel) = bind(&a, four);
    // Routes come with their links.
    for _ in 0..400 {
        if reached(&dual) == [true, true] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        (reached(&dual), reached(&old)),
        ([true, true], [true, false])
    );
    a.ip("-6 route delete default");
    assert_eq!(reached(&dual), [true, false]);
    assert!(dual.reaches("240.0.0.1:1".parse().unwrap()), "carried");
    a.ip("-6 route add default via fd09:1::1");
    a.ip("route delete default");
    assert_eq!(reached(&dual), [false, true]);
    assert_eq!(dual.stats().sent + dual.stats().send_errors, 0);

    let identity = QuicIdentity::from_ed25519_seed([7; 32]).unwrap();
    let endpoint = quic_endpoint(&dual, &identity).unwrap();
    let dialed = endpoint.dial(both[0].parse().unwrap(), [1; 32]);
    let dialed = tokio::time::timeout(Duration::from_secs(2), dialed).await;
    assert!(matches!(dialed, Ok(Err(DialError::NoRoute { .. }))));
}
