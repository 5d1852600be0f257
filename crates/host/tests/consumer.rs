//! A consumer's routes and kill switch: unmarked traffic goes into the tunnel or nowhere, whatever happens to the
//! tunnel, to the main routing table or to a running flow. Every leak is first shown to leak.
//!
//! consumer (up0) - (i0) its provider of access
//! consumer (tun0) - (f0) the far end of the tunnel

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests wait in real time"
)]

#[path = "support/lab.rs"]
mod lab;

use std::collections::BTreeSet;
use std::net::UdpSocket;

use lab::{
    Namespace, PATIENCE, PROBE_PORT, Watch, ask_until_answered, assert_same, bound_to, link,
    marked, probe, serve,
};
use wayfare_host::{
    ConsumerRoutes, Gate, GateConfig, Held, HostError, Journal, RoutesConfig, configure_interface,
};

const MARK: u32 = RoutesConfig::DEFAULT_MARK;
const V4: &str = "11.200.0.1";
const V6: &str = "2a00:200::1";

struct Lab {
    consumer: Namespace,
    isp: Namespace,
    far: Namespace,
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let [consumer, isp, far] = ["cons", "isp", "far"].map(Namespace::new);
        link(
            (&consumer, "up0", &["11.5.0.2/24", "2a00:5::2/64"]),
            (&isp, "i0", &["11.5.0.1/24", "2a00:5::1/64"]),
        );
        link(
            (&consumer, "tun0", &["10.8.0.2/16", "fd08::2/64"]),
            (&far, "f0", &["10.8.0.1/16", "fd08::1/64"]),
        );
        consumer.sh("ip route add default via 11.5.0.1; ip -6 route add default via 2a00:5::1");
        for end in [&isp, &far] {
            end.sh(
                "ip address add 11.200.0.1/32 dev lo; ip address add 2a00:200::1/128 dev lo nodad",
            );
            serve(end, "11.200.0.1:80");
            serve(end, "[2a00:200::1]:80");
        }
        // A real tunnel needs no neighbour: the stand-in knows the far end for every destination.
        let mac = far.sh("ip -j link show f0 | tr ',' '\\n' | grep '\"address\"'");
        let mac = mac.split('"').rev().nth(1).unwrap();
        for to in [V4, V6, "11.5.0.9", "2a00:5::9"] {
            consumer.sh(&format!(
                "ip neighbour replace {to} lladdr {mac} dev tun0 nud permanent"
            ));
        }
        let lab = Self {
            consumer,
            isp,
            far,
            dir: tempfile::tempdir().unwrap(),
        };
        lab.consumer.run(|| {
            ask_until_answered("11.200.0.1:80");
            ask_until_answered("[2a00:200::1]:80");
        });
        lab
    }

    async fn journal(&self) -> Journal {
        Journal::recover(self.dir.path(), "t", Held::Keep)
            .await
            .unwrap()
            .0
    }

    fn routes(&self, addresses: &[&str], keep_lan: bool) -> ConsumerRoutes {
        let addresses = addresses.iter().map(|net| net.parse().unwrap()).collect();
        let config = RoutesConfig {
            keep_lan,
            ..RoutesConfig::new("t", "tun0", addresses)
        };
        self.consumer.block_on(async || {
            ConsumerRoutes::apply(config, &self.journal().await)
                .await
                .unwrap()
        })
    }

    fn gate(&self, hold_on_crash: bool) -> Gate {
        let config = GateConfig {
            node: "t".into(),
            tun: "tun0".into(),
            mark: MARK,
            hold_on_crash,
        };
        self.consumer
            .block_on(async || Gate::apply(config, &self.journal().await).await.unwrap())
    }

    /// Sends an unmarked probe; what the kernel said does not matter, what was seen does.
    fn send(&self, to: &str) {
        self.consumer.run(|| {
            let _refused = probe(to, |_| ());
        });
    }

    fn send_beside(&self, to: &str) {
        self.consumer.run(|| {
            let _refused = probe(to, bound_to("up0"));
        });
    }

    /// Waits until everything sent before has crossed the uplink: a marked round trip by the same interface.
    fn settle(&self) {
        self.consumer.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            marked(MARK)(&socket);
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let echo = self.isp.run(|| UdpSocket::bind("11.5.0.1:7").unwrap());
            socket.send_to(b"?", "11.5.0.1:7").unwrap();
            let mut buffer = [0; 8];
            echo.set_read_timeout(Some(PATIENCE)).unwrap();
            let (_, peer) = echo.recv_from(&mut buffer).unwrap();
            echo.send_to(b"!", peer).unwrap();
            socket.recv(&mut buffer).unwrap();
        });
    }
}

fn seen(list: &[&str]) -> BTreeSet<String> {
    list.iter()
        .map(|address| format!("{address} udp"))
        .collect()
}

#[test]
fn unmarked_traffic_takes_the_tunnel_and_marked_traffic_the_uplink() {
    let lab = Lab::new();
    let (up, tunnel) = (Watch::new(&lab.isp, "i0"), Watch::new(&lab.far, "f0"));
    let send_both = || {
        for to in [V4, V6] {
            lab.send(to);
        }
        lab.settle();
        (up.take(), tunnel.take())
    };
    assert_eq!(
        send_both(),
        (seen(&[V4, V6]), seen(&[])),
        "control: no routes yet"
    );

    let before = lab.consumer.snapshot();
    // The strictest reverse path filter a distribution sets: answers to marked packets must still come in.
    lab.consumer
        .sh("echo 1 > /proc/sys/net/ipv4/conf/up0/rp_filter");
    let routes = lab.routes(&["10.8.0.2/16", "fd08::2/64"], false);
    assert_eq!(send_both(), (seen(&[]), seen(&[V4, V6])));
    lab.consumer.run(|| {
        [V4, V6]
            .iter()
            .for_each(|to| probe(to, marked(MARK)).unwrap())
    });
    lab.settle();
    assert_eq!((up.take(), tunnel.take()), (seen(&[V4, V6]), seen(&[])));
    // An attached network is no exception, and neither is a route that a hostile DHCP server pushes.
    lab.consumer
        .sh("ip route add 11.200.0.0/16 via 11.5.0.1 dev up0; ip -6 route add 2a00:200::/64 via 2a00:5::1 dev up0");
    for to in ["11.5.0.9", "2a00:5::9"] {
        lab.send(to);
    }
    assert_eq!(
        send_both(),
        (seen(&[]), seen(&[V4, V6, "11.5.0.9", "2a00:5::9"]))
    );
    lab.consumer
        .block_on(async move || routes.undo().await.unwrap());
    assert_eq!(send_both(), (seen(&[V4, V6]), seen(&[])));

    let routes = lab.routes(&["10.8.0.2/16", "fd08::2/64"], true);
    assert_eq!(
        send_both(),
        (seen(&[V4, V6]), seen(&[])),
        "control: with the LAN kept, pushed routes do win"
    );
    let gate = lab.gate(false);
    assert_eq!(
        send_both(),
        (seen(&[]), seen(&[])),
        "and are stopped by the gate"
    );
    lab.consumer.run(|| drop((gate, routes)));
    lab.consumer.sh(
        "ip route del 11.200.0.0/16 via 11.5.0.1; ip -6 route del 2a00:200::/64 via 2a00:5::1
         echo 0 > /proc/sys/net/ipv4/conf/up0/rp_filter",
    );
    assert_same(&before, &lab.consumer.snapshot(), "after");
}

#[test]
fn a_tunnel_without_ipv6_or_a_lost_tunnel_leaks_nothing() {
    let lab = Lab::new();
    let up = Watch::new(&lab.isp, "i0");
    lab.send(V6);
    lab.settle();
    assert_eq!(up.take(), seen(&[V6]), "control");
    let routes = lab.routes(&["10.8.0.2/16"], false);
    lab.consumer.run(|| {
        let refused = probe(V6, |_| ()).unwrap_err();
        assert!(
            matches!(refused.raw_os_error(), Some(101 | 113)),
            "unreachable at once: {refused}"
        );
    });
    lab.settle();
    assert_eq!(up.take(), seen(&[]));
    lab.consumer.sh("ip link del tun0");
    lab.send(V4);
    lab.send(V6);
    lab.settle();
    assert_eq!(up.take(), seen(&[]), "the device died, the routes hold");
    lab.consumer
        .block_on(async move || routes.undo().await.unwrap());
    lab.send(V4);
    lab.settle();
    assert_eq!(up.take(), seen(&[V4]), "control: after the undo");
}

#[test]
fn the_gate_stops_what_ignores_routes_and_flows_that_ran_before() {
    let lab = Lab::new();
    let (up, tunnel) = (Watch::new(&lab.isp, "i0"), Watch::new(&lab.far, "f0"));
    let routes = lab.routes(&["10.8.0.2/16", "fd08::2/64"], false);
    let old = lab.consumer.run(|| {
        let old = UdpSocket::bind("11.5.0.2:0").unwrap();
        bound_to("up0")(&old);
        old
    });
    let send_all = || {
        lab.send_beside(V4);
        lab.send_beside(V6);
        let _refused = old.send_to(b"old", ("11.5.0.1", PROBE_PORT));
        lab.send(V4);
        lab.settle();
        (up.take(), tunnel.take())
    };
    assert_eq!(
        send_all(),
        (seen(&[V4, V6, "11.5.0.1"]), seen(&[V4])),
        "control: routes alone do not stop these"
    );
    let gate = lab.gate(false);
    assert_eq!(send_all(), (seen(&[]), seen(&[V4])));
    // The link stays alive: neighbours are found again, marked packets pass in both families.
    lab.consumer.sh("ip neighbour flush dev up0 nud permanent; ip neighbour del 11.5.0.1 dev up0 2>/dev/null || true
        ip neighbour del 2a00:5::1 dev up0 2>/dev/null || true");
    lab.consumer.run(|| {
        [V4, V6]
            .iter()
            .for_each(|to| probe(to, marked(MARK)).unwrap())
    });
    let mut marked_seen = BTreeSet::new();
    for _answer in 0..50 {
        lab.settle();
        marked_seen.append(&mut up.take());
        if marked_seen.len() == 2 {
            break;
        }
    }
    assert_eq!(marked_seen, seen(&[V4, V6]));
    // Without routes and tunnel it is closed all the same.
    lab.consumer.run(|| drop(routes));
    lab.consumer.sh("ip link del tun0");
    assert_eq!(send_all(), (seen(&[]), seen(&[])));
    lab.consumer
        .block_on(async move || gate.undo().await.unwrap());
    lab.send(V4);
    lab.settle();
    assert_eq!(up.take(), seen(&[V4]), "control: after the undo");
}

#[test]
fn a_neighbour_cannot_ask_for_the_tunnel_address() {
    let lab = Lab::new();
    lab.isp
        .sh("ip route add 10.8.0.2/32 via 11.5.0.2; ip -6 route add fd08::2/128 via 2a00:5::2");
    let daemons = lab.consumer.run(|| {
        ["10.8.0.2", "fd08::2"].map(|ip| {
            let socket = UdpSocket::bind((ip, PROBE_PORT)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        })
    });
    let knock = || {
        lab.isp.run(|| {
            ["10.8.0.2", "fd08::2"]
                .iter()
                .for_each(|to| probe(to, |_| ()).unwrap())
        });
        lab.settle();
        daemons
            .iter()
            .filter(|socket| socket.recv(&mut [0; 8]).is_ok())
            .count()
    };
    assert_eq!(knock(), 2, "control");
    let _routes = lab.routes(&["10.8.0.2/16", "fd08::2/64"], false);
    assert_eq!(knock(), 0);
}

#[test]
fn an_interface_gets_addresses_and_mtu_and_mistakes_are_named() {
    let lab = Lab::new();
    lab.consumer
        .sh("ip tuntap add dev wf0 mode tun; echo 1 > /proc/sys/net/ipv6/conf/wf0/disable_ipv6");
    let addresses = ["10.9.0.2/16", "fd09::2/64"].map(|net| net.parse().unwrap());
    lab.consumer.block_on(async || {
        configure_interface("wf0", &addresses, 1420).await.unwrap();
        configure_interface("wf0", &addresses, 1400).await.unwrap();
        let error = configure_interface("wf9", &addresses, 1400)
            .await
            .unwrap_err();
        assert!(matches!(error, HostError::NoInterface { .. }), "{error}");
        let error = configure_interface("wf0", &addresses, 576)
            .await
            .unwrap_err();
        assert!(matches!(error, HostError::BadConfig { .. }), "{error}");
    });
    let text = lab.consumer.sh("ip address show dev wf0");
    for part in ["mtu 1400", "inet 10.9.0.2/16", "inet6 fd09::2/64", "UP"] {
        assert!(text.contains(part), "{part} not in {text}");
    }
}
