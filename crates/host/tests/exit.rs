//! What a consumer can reach through an exit: the internet, and nothing else. Every closed thing is first shown
//! to be reachable through the same machines with an open set-up.
//!
//! consumer (c0) - (tun0) provider (lan0) - (l0) LAN host
//!                        provider (wan0) - (i0) internet host

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests wait in real time"
)]

#[path = "support/lab.rs"]
mod lab;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use lab::{Namespace, PROBE_PORT, Watch, ask, ask_until_answered, link, probe, serve};
use wayfare_host::{ExitConfig, ExitRules, Held, Journal};

/// First, last and an inner address of each special-purpose prefix.
const SPECIAL_V4: &str = "0.0.0.0 0.1.2.3 0.255.255.255 10.0.0.0 10.1.2.3 10.255.255.255 100.64.0.0 100.64.1.1 \
    100.127.255.255 127.0.0.0 127.0.0.1 127.0.0.53 127.255.255.255 169.254.0.0 169.254.169.254 169.254.255.255 \
    172.16.0.0 172.16.5.5 172.31.255.255 192.0.0.0 192.0.0.8 192.0.0.9 192.0.0.170 192.0.0.255 192.0.2.1 \
    192.31.196.1 192.52.193.1 192.88.99.1 192.88.99.2 192.168.0.0 192.168.50.2 192.168.255.255 192.175.48.1 \
    198.18.0.0 198.18.5.5 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 224.0.0.251 239.255.255.250 240.0.0.0 \
    250.1.2.3 255.255.255.254 255.255.255.255";
const SPECIAL_V6: &str = ":: ::1 ::2 ::10.1.2.3 ::ffff:10.1.2.3 ::ffff:192.168.50.2 64:ff9b::10.1.2.3 \
    64:ff9b::192.168.50.2 64:ff9b:1::1 64:ff9b:1:ffff::1 100::1 100:0:0:1::1 2001::1 2001:1::1 2001:1::2 2001:2::1 \
    2001:3::1 2001:4:112::1 2001:10::1 2001:20::1 2001:30::1 2001:1ff:ffff::1 2001:db8::1 2002:a01:203::1 \
    2002:c0a8:3202::1 2620:4f:8000::1 3ffe::1 3fff::1 3fff:fff::1 4000::1 5f00::1 8000::1 fc00::1 fd50::2 fdff::1 \
    fe80::1 fe80::5 febf::1 fec0::1 feff::1 ff02::1 ff02::2 ff02::fb ff05::2 ff0e::1";
/// The provider, every interface and family.
const OWN: &str = "10.77.0.1 192.168.50.1 11.1.1.1 11.9.0.2 fd77::1 fd50::1 2a00:1:1::1 2a00:9::2";
/// Hosts attached to the provider: LAN with private and with public addresses, the router before it, broadcasts.
const ATTACHED: &str = "192.168.50.2 192.168.50.255 11.1.1.2 11.1.1.255 11.9.0.1 11.9.0.77 fd50::2 2a00:1:1::2 2a00:9::1";
/// Another consumer of the same provider.
const OTHER_CONSUMERS: &str = "10.77.0.3 10.77.255.255 fd77::3";

/// Of those, what an open Linux router passes on to the LAN, at least.
const MUST_BE_OPEN: &str = "10.1.2.3 100.64.1.1 169.254.169.254 172.16.5.5 192.0.0.9 192.0.2.1 192.168.50.2 198.18.5.5 \
    203.0.113.1 250.1.2.3 11.1.1.2 2001:db8::1 2002:a01:203::1 64:ff9b::10.1.2.3 fc00::1 fd50::2 2a00:1:1::2 5f00::1 2001::1";

struct Lab {
    consumer: Namespace,
    provider: Namespace,
    lan: Namespace,
    internet: Namespace,
    probes: Vec<String>,
}

impl Lab {
    fn new() -> Self {
        let [consumer, provider, lan, internet] =
            ["cons", "prov", "lan", "inet"].map(Namespace::new);
        link(
            (&consumer, "c0", &["10.77.0.2/16", "fd77::2/64"]),
            (&provider, "tun0", &["10.77.0.1/16", "fd77::1/64"]),
        );
        link(
            (
                &provider,
                "lan0",
                &[
                    "192.168.50.1/24",
                    "11.1.1.1/24",
                    "fd50::1/64",
                    "2a00:1:1::1/64",
                ],
            ),
            (
                &lan,
                "l0",
                &[
                    "192.168.50.2/24",
                    "11.1.1.2/24",
                    "fd50::2/64",
                    "2a00:1:1::2/64",
                ],
            ),
        );
        link(
            (&provider, "wan0", &["11.9.0.2/24", "2a00:9::2/64"]),
            (&internet, "i0", &["11.9.0.1/24", "2a00:9::1/64"]),
        );
        let lists = [SPECIAL_V4, SPECIAL_V6, OWN, ATTACHED, OTHER_CONSUMERS];
        let probes: Vec<String> = lists
            .iter()
            .flat_map(|list| list.split_whitespace())
            .map(normal)
            .collect();
        let lab = Self {
            consumer,
            provider,
            lan,
            internet,
            probes,
        };
        lab.routes();
        lab.disguise();
        for port in [80, 25] {
            serve(&lab.internet, &format!("11.200.0.1:{port}"));
            serve(&lab.internet, &format!("[2a00:200::1]:{port}"));
        }
        lab
    }

    fn routes(&self) {
        self.internet.sh(
            "ip address add 11.200.0.1/32 dev lo; ip address add 2a00:200::1/128 dev lo nodad
             ip route add 10.77.0.0/16 via 11.9.0.2; ip -6 route add fd77::/64 via 2a00:9::2",
        );
        self.lan
            .sh("ip route add default via 192.168.50.1; ip -6 route add default via fd50::1");
        self.consumer
            .sh("ip route add default via 10.77.0.1; ip -6 route add default via fd77::1");
        self.provider
            .sh("ip route add default via 11.9.0.1; ip -6 route add default via 2a00:9::1");
        // The provider's router sends everything special to the LAN, as far as the kernel takes such routes;
        // neighbours that do not exist are known, so that packets to them are seen.
        let lan_mac = self
            .lan
            .sh("ip -j link show l0 | tr ',' '\\n' | grep '\"address\"'");
        let lan_mac = lan_mac.split('"').rev().nth(1).unwrap();
        for probe in &self.probes {
            let (family, via) = if probe.contains(':') {
                ("-6", "fd50::2")
            } else {
                ("-4", "192.168.50.2")
            };
            let attached = ATTACHED
                .split(' ')
                .chain(OWN.split(' '))
                .chain(OTHER_CONSUMERS.split(' '))
                .any(|a| normal(a) == *probe);
            if !attached {
                self.provider.sh(&format!(
                    "ip {family} route add {probe} via {via} 2>/dev/null || true"
                ));
            }
        }
        self.provider.sh(&format!(
            "ip neighbour replace 11.9.0.77 lladdr {lan_mac} dev wan0"
        ));
        for other in ["10.77.0.3", "fd77::3"] {
            self.provider.sh(&format!(
                "ip neighbour replace {other} lladdr {lan_mac} dev tun0"
            ));
        }
    }

    /// No socket sends to 127.0.0.1 or ff02::1 through a gateway: the consumer sends to stand-ins, and the
    /// destination is rewritten on its way out.
    fn disguise(&self) {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (i, probe) in self.probes.iter().enumerate() {
            match stand_in(i, probe) {
                IpAddr::V4(ip) => v4.push(format!("{ip} : {probe}")),
                IpAddr::V6(ip) => v6.push(format!("{ip} : {probe}")),
            }
        }
        self.consumer.nft(&format!(
            "table inet disguise {{
                map m4 {{ type ipv4_addr : ipv4_addr; elements = {{ {} }}\n }}
                map m6 {{ type ipv6_addr : ipv6_addr; elements = {{ {} }}\n }}
                chain raw {{ type filter hook output priority raw; ip daddr @m4 notrack; ip6 daddr @m6 notrack\n }}
                chain out {{
                    type filter hook postrouting priority 300; policy accept;
                    ip daddr set ip daddr map @m4
                    ip6 daddr set ip6 daddr map @m6
                }}
            }}",
            v4.join(", "),
            v6.join(", ")
        ));
    }

    /// Forwarding without any rule.
    fn open(&self) {
        self.provider
            .sh("cd /proc/sys/net; echo 1 > ipv4/ip_forward; echo 1 > ipv6/conf/all/forwarding");
    }

    fn close(&self) {
        self.provider
            .sh("cd /proc/sys/net; echo 0 > ipv4/ip_forward; echo 0 > ipv6/conf/all/forwarding");
    }

    fn ready(&self) {
        self.consumer.run(|| {
            ask_until_answered("11.200.0.1:80");
            ask_until_answered("[2a00:200::1]:80");
        });
    }

    /// Sends UDP and the first packet of TCP to every probe, and waits until an answer that was asked for later
    /// has come back.
    fn sweep(&self) {
        self.consumer.run(|| {
            for (i, name) in self.probes.iter().enumerate() {
                let to = stand_in(i, name);
                probe(&to.to_string(), |_| ()).unwrap();
                let refused = TcpStream::connect_timeout(
                    &SocketAddr::new(to, PROBE_PORT),
                    Duration::from_millis(1),
                );
                assert!(refused.is_err(), "{name} answered");
            }
        });
        self.ready();
    }

    fn everything(&self) -> BTreeSet<String> {
        let both = |probe: &String| ["tcp", "udp"].map(|protocol| format!("{probe} {protocol}"));
        self.probes.iter().flat_map(both).collect()
    }
}

fn normal(address: &str) -> String {
    address.parse::<IpAddr>().unwrap().to_string()
}

fn stand_in(i: usize, probe: &str) -> IpAddr {
    let i = u16::try_from(i).unwrap();
    if probe.contains(':') {
        format!("2a00:250::{:x}", i + 1)
    } else {
        format!("11.250.{}.{}", i / 250, i % 250 + 1)
    }
    .parse()
    .unwrap()
}

/// The provider's own listening sockets, on every address.
struct Daemons {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

impl Daemons {
    fn start(provider: &Namespace) -> Self {
        provider.run(|| {
            let all = [
                "0.0.0.0",
                "::1",
                "2a00:9::2",
                "fd77::1",
                "2a00:1:1::1",
                "fd50::1",
            ];
            let at = |ip: &&str| SocketAddr::new(ip.parse().unwrap(), PROBE_PORT);
            let udp: Vec<_> = all
                .iter()
                .map(|ip| UdpSocket::bind(at(ip)).unwrap())
                .collect();
            let tcp: Vec<_> = all
                .iter()
                .map(|ip| TcpListener::bind(at(ip)).unwrap())
                .collect();
            udp.iter()
                .for_each(|socket| socket.set_nonblocking(true).unwrap());
            tcp.iter()
                .for_each(|socket| socket.set_nonblocking(true).unwrap());
            Self { udp, tcp }
        })
    }

    fn packets(&self) -> usize {
        let mut buffer = [0; 64];
        let udp: usize = self
            .udp
            .iter()
            .map(|s| std::iter::from_fn(|| s.recv(&mut buffer).ok()).count())
            .sum();
        udp + self
            .tcp
            .iter()
            .map(|s| std::iter::from_fn(|| s.accept().ok()).count())
            .sum::<usize>()
    }
}

fn config() -> ExitConfig {
    let mut config = ExitConfig::new("t", "tun0", "10.77.0.0/16".parse().unwrap());
    config.pool_v6 = Some("fd77::/64".parse().unwrap());
    config.listen_ports = vec![51_820];
    config
}

async fn journal(dir: &tempfile::TempDir) -> Journal {
    Journal::recover(dir.path(), "t", Held::Keep)
        .await
        .unwrap()
        .0
}

#[test]
fn a_consumer_reaches_the_internet_and_no_special_own_or_attached_address() {
    let lab = Lab::new();
    let arrived = Watch::new(&lab.provider, "tun0");
    let (at_lan, at_wan, at_consumer) = (
        Watch::new(&lab.lan, "l0"),
        Watch::new(&lab.internet, "i0"),
        Watch::new(&lab.consumer, "c0"),
    );
    let daemons = Daemons::start(&lab.provider);
    let take = || (at_lan.take(), at_wan.take(), at_consumer.take());

    // Positive control: an open router passes the same sweep on.
    lab.open();
    lab.ready();
    lab.sweep();
    assert_eq!(arrived.take(), lab.everything());
    let (lan, wan, consumer) = take();
    for address in MUST_BE_OPEN.split_whitespace().map(normal) {
        for protocol in ["udp", "tcp"] {
            assert!(
                lan.contains(&format!("{address} {protocol}")),
                "control: {address} {protocol} not on the LAN: {lan:?}"
            );
        }
    }
    assert!(
        wan.contains("11.9.0.1 udp") && wan.contains("2a00:9::1 udp"),
        "control: {wan:?}"
    );
    assert!(
        consumer.contains("10.77.0.3 udp") && consumer.contains("fd77::3 udp"),
        "control: {consumer:?}"
    );
    let reached = daemons.packets();
    assert!(
        reached >= 8,
        "control: only {reached} packets reached the provider's sockets"
    );
    println!(
        "control: {} on the LAN, {} on the uplink, {reached} at own sockets",
        lan.len(),
        wan.len()
    );
    lab.close();

    // The same machines, the same sweep, through the exit.
    let dir = tempfile::tempdir().unwrap();
    let exit = lab.provider.block_on(async || {
        ExitRules::apply(config(), &journal(&dir).await)
            .await
            .unwrap()
    });
    assert!(exit.carries_v6());
    lab.ready();
    lab.sweep();
    assert_eq!(arrived.take(), lab.everything());
    let (lan, wan, consumer) = take();
    let none = BTreeSet::<String>::new();
    assert_eq!((&lan, &wan, &consumer), (&none, &none, &none));
    assert_eq!(daemons.packets(), 0);

    // What is left is the internet, by the provider's address, from a port that no daemon has.
    lab.consumer.run(|| {
        for (server, seen) in [
            ("11.200.0.1:80", "11.9.0.2"),
            ("[2a00:200::1]:80", "2a00:9::2"),
        ] {
            let peer = ask_until_answered(server);
            assert_eq!(peer.ip(), seen.parse::<IpAddr>().unwrap());
            assert!((32_768..51_820).contains(&peer.port()), "{peer}");
        }
    });
    println!(
        "exit: {} probes arrived, none got further",
        lab.everything().len()
    );
    lab.provider
        .block_on(async move || exit.undo().await.unwrap());
}

#[test]
fn mail_is_refused_at_once_and_may_be_allowed() {
    let lab = Lab::new();
    let dir = tempfile::tempdir().unwrap();
    let mut open = config();
    open.policy.reject_ports.clear();
    let exit = lab
        .provider
        .block_on(async || ExitRules::apply(open, &journal(&dir).await).await.unwrap());
    lab.ready();
    lab.consumer.run(|| {
        ask_until_answered("11.200.0.1:25");
        ask_until_answered("[2a00:200::1]:25");
    });
    let exit = lab.provider.block_on(async || {
        exit.undo().await.unwrap();
        ExitRules::apply(config(), &journal(&dir).await)
            .await
            .unwrap()
    });
    lab.ready();
    lab.consumer.run(|| {
        for server in ["11.200.0.1:25", "[2a00:200::1]:25"] {
            let refused = ask(server, lab::PATIENCE).unwrap_err();
            assert_ne!(
                refused.kind(),
                std::io::ErrorKind::TimedOut,
                "{server}: {refused}"
            );
        }
    });
    lab.provider.run(|| drop(exit));
}

#[test]
fn without_an_ipv6_default_route_consumers_ipv6_is_rejected_and_ipv4_works() {
    let lab = Lab::new();
    let at_wan = Watch::new(&lab.internet, "i0");
    // Everything except the default route is there: control.
    lab.provider
        .sh("ip -6 route del default; ip -6 route add 2a00:200::/64 via 2a00:9::1");
    lab.open();
    lab.ready();
    lab.consumer.run(|| probe("2a00:200::1", |_| ()).unwrap());
    lab.ready();
    assert!(at_wan.take().contains("2a00:200::1 udp"));
    lab.close();

    let dir = tempfile::tempdir().unwrap();
    let exit = lab.provider.block_on(async || {
        ExitRules::apply(config(), &journal(&dir).await)
            .await
            .unwrap()
    });
    assert!(!exit.carries_v6());
    assert_eq!(
        lab.provider
            .sh("cat /proc/sys/net/ipv6/conf/all/forwarding")
            .trim(),
        "0"
    );
    // Even on a host that forwards IPv6 already.
    lab.provider
        .sh("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    lab.consumer.run(|| {
        ask_until_answered("11.200.0.1:80");
        probe("2a00:200::1", |_| ()).unwrap();
        let refused = ask("[2a00:200::1]:80", lab::PATIENCE).unwrap_err();
        assert_ne!(refused.kind(), std::io::ErrorKind::TimedOut, "{refused}");
    });
    assert_eq!(at_wan.take(), BTreeSet::new());

    // The route comes: the next look carries IPv6.
    lab.provider.sh("ip -6 route add default via 2a00:9::1");
    let exit = lab.provider.block_on(async move || {
        let mut exit = exit;
        exit.refresh().await.unwrap();
        exit
    });
    assert!(exit.carries_v6());
    lab.ready();
}

#[test]
fn a_network_attached_later_is_closed_by_a_refresh_also_for_running_flows() {
    let lab = Lab::new();
    let at_lan = Watch::new(&lab.lan, "l0");
    let dir = tempfile::tempdir().unwrap();
    // Special prefixes may be opened for a laboratory; own and attached networks stay closed.
    let mut config = config();
    config.allow = ["10.0.0.0/8", "192.168.0.0/16", "fc00::/7"]
        .map(|net| net.parse().unwrap())
        .to_vec();
    config.also_ours = vec![
        "203.0.113.1".parse().unwrap(),
        "11.201.0.9".parse().unwrap(),
    ];
    let mut exit = lab.provider.block_on(async || {
        ExitRules::apply(config, &journal(&dir).await)
            .await
            .unwrap()
    });
    lab.provider.sh(
        "ip route add 11.66.5.0/24 via 192.168.50.2; ip route add 11.201.0.0/16 via 192.168.50.2",
    );
    lab.ready();
    let socket = lab.consumer.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let knock = || {
        socket.send_to(b"flow", ("11.66.5.2", PROBE_PORT)).unwrap();
        socket.send_to(b"flow", ("11.201.0.8", PROBE_PORT)).unwrap();
        socket.send_to(b"flow", ("11.201.0.9", PROBE_PORT)).unwrap();
        lab.sweep();
        at_lan.take()
    };
    let seen = knock();
    assert!(
        seen.contains("11.66.5.2 udp") && seen.contains("11.201.0.8 udp"),
        "control: {seen:?}"
    );
    assert!(
        seen.contains("10.1.2.3 udp") && seen.contains("fc00::1 udp"),
        "allowed: {seen:?}"
    );
    for closed in [
        "192.168.50.2 udp",
        "fd50::2 udp",
        "11.1.1.2 udp",
        "203.0.113.1 udp",
        "11.201.0.9 udp",
        "172.16.5.5 udp",
    ] {
        assert!(!seen.contains(closed), "{closed}");
    }

    lab.provider.sh(
        "ip address add 11.66.5.1/24 dev lan0; ip route del 11.66.5.0/24 via 192.168.50.2 || true",
    );
    lab.provider.sh("ip neighbour replace 11.66.5.2 lladdr $(ip neighbour show 192.168.50.2 | grep -o '02:77[^ ]*') dev lan0");
    assert!(
        knock().contains("11.66.5.2 udp"),
        "control: reachable until the refresh"
    );
    lab.provider
        .block_on(async || exit.refresh().await.unwrap());
    let seen = knock();
    assert!(
        !seen.contains("11.66.5.2 udp") && seen.contains("11.201.0.8 udp"),
        "{seen:?}"
    );
}

#[test]
fn only_answers_come_in_and_strangers_are_not_forwarded() {
    let lab = Lab::new();
    let (at_consumer, at_wan) = (
        Watch::new(&lab.consumer, "c0"),
        Watch::new(&lab.internet, "i0"),
    );
    let knock = || {
        for from in [&lab.internet, &lab.lan] {
            from.run(|| {
                ["10.77.0.2", "fd77::2"]
                    .iter()
                    .for_each(|to| probe(to, |_| ()).unwrap())
            });
        }
        lab.lan.run(|| {
            ["11.200.0.1", "2a00:200::1"]
                .iter()
                .for_each(|to| probe(to, |_| ()).unwrap())
        });
        lab.ready();
        (at_consumer.take(), at_wan.take())
    };
    let both = |a: &str, b: &str| BTreeSet::from([format!("{a} udp"), format!("{b} udp")]);
    lab.open();
    lab.ready();
    assert_eq!(
        knock(),
        (
            both("10.77.0.2", "fd77::2"),
            both("11.200.0.1", "2a00:200::1")
        ),
        "control"
    );
    lab.close();

    let dir = tempfile::tempdir().unwrap();
    let exit = lab.provider.block_on(async || {
        ExitRules::apply(config(), &journal(&dir).await)
            .await
            .unwrap()
    });
    assert_eq!(knock(), (BTreeSet::new(), BTreeSet::new()));
    // A forged source: a consumer that takes the LAN's or another consumer's address.
    lab.provider.run(|| drop(exit));
    lab.open();
    let forge = || {
        lab.consumer.sh(
            "ip address add 11.123.0.1/32 dev c0; ip -6 address add 2a00:123::1/128 dev c0 nodad",
        );
        lab.consumer.run(|| {
            for (from, to) in [
                ("11.123.0.1:0", "11.200.0.1"),
                ("[2a00:123::1]:0", "2a00:200::1"),
            ] {
                UdpSocket::bind(from)
                    .unwrap()
                    .send_to(b"forged", (to, PROBE_PORT))
                    .unwrap();
            }
        });
        lab.consumer
            .sh("ip address del 11.123.0.1/32 dev c0; ip -6 address del 2a00:123::1/128 dev c0");
        lab.ready();
        at_wan.take()
    };
    assert_eq!(forge(), both("11.200.0.1", "2a00:200::1"), "control");
    lab.close();
    let exit = lab.provider.block_on(async || {
        ExitRules::apply(config(), &journal(&dir).await)
            .await
            .unwrap()
    });
    assert_eq!(forge(), BTreeSet::new());
    lab.provider.run(|| drop(exit));
}
