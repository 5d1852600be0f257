//! Packets that do not fit: TCP is told so from the first packet on, the rest is answered or cut, in both families and
//! before it is sealed. Every limit is first shown not to be there.
//!
//! consumer (c0) - (tun0) provider (wan0) - (i0) internet host

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests wait in real time"
)]

#[path = "support/lab.rs"]
mod lab;

use std::net::UdpSocket;
use std::time::Instant;

use lab::{Namespace, PATIENCE, PROBE_PORT, ask_until_answered, link, serve};
use wayfare_host::{
    ConsumerLimit, ConsumerRoutes, ExitConfig, ExitRules, Held, Journal, RoutesConfig,
    limit_consumers,
};

const V4: &str = "11.200.0.1";
const V6: &str = "2a00:200::1";
const OURS4: &str = "10.77.0.2";
const OURS6: &str = "fd77::2";

struct Lab {
    consumer: Namespace,
    provider: Namespace,
    internet: Namespace,
    dir: tempfile::TempDir,
}

impl Lab {
    /// The tunnel carries 1,420 bytes, which the consumer does not know; everything else carries 1,500.
    fn new() -> Self {
        let [consumer, provider, internet] = ["cons", "prov", "inet"].map(Namespace::new);
        link(
            (&consumer, "c0", &["10.77.0.2/16", "fd77::2/64"]),
            (&provider, "tun0", &["10.77.0.1/16", "fd77::1/64"]),
        );
        link(
            (&provider, "wan0", &["11.9.0.2/24", "2a00:9::2/64"]),
            (&internet, "i0", &["11.9.0.1/24", "2a00:9::1/64"]),
        );
        provider.sh("ip link set dev tun0 mtu 1420
             ip route add default via 11.9.0.1; ip -6 route add default via 2a00:9::1");
        consumer.sh("ip route add default via 10.77.0.1; ip -6 route add default via fd77::1");
        internet
            .sh("ip address add 11.200.0.1/32 dev lo; ip address add 2a00:200::1/128 dev lo nodad");
        serve(&internet, "11.200.0.1:80");
        serve(&internet, "[2a00:200::1]:80");
        Self {
            consumer,
            provider,
            internet,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    async fn journal(&self) -> Journal {
        Journal::recover(self.dir.path(), "t", Held::Keep)
            .await
            .unwrap()
            .0
    }

    fn exit(&self) -> ExitRules {
        let mut config = ExitConfig::new("t", "tun0", "10.77.0.0/16".parse().unwrap());
        config.pool_v6 = Some("fd77::/64".parse().unwrap());
        self.provider.block_on(async || {
            ExitRules::apply(config, &self.journal().await)
                .await
                .unwrap()
        })
    }

    fn limit(&self, limits: [(&str, Option<u16>); 2]) {
        let limits = limits.map(|(address, mtu)| ConsumerLimit {
            address: address.parse().unwrap(),
            mtu,
        });
        self.provider
            .block_on(async || limit_consumers("tun0", limits.to_vec()).await.unwrap());
    }

    /// Opens a connection in each family and tells the segment sizes that were asked for: by the consumer as the
    /// internet host sees it, by the internet host as the consumer sees it; IPv4, then IPv6.
    fn asked(&self) -> [[u16; 2]; 2] {
        for namespace in [&self.consumer, &self.internet] {
            namespace.nft(
                "table inet sizes
                 delete table inet sizes
                 table inet sizes {
                    set seen4 { typeof tcp option maxseg size; flags dynamic; size 64; }
                    set seen6 { typeof tcp option maxseg size; flags dynamic; size 64; }
                    chain in {
                        type filter hook prerouting priority raw; policy accept;
                        meta nfproto ipv4 tcp flags & syn == syn add @seen4 { tcp option maxseg size }
                        meta nfproto ipv6 tcp flags & syn == syn add @seen6 { tcp option maxseg size }
                    }
                 }",
            );
        }
        self.consumer.run(|| {
            ask_until_answered(&format!("{V4}:80"));
            ask_until_answered(&format!("[{V6}]:80"));
        });
        ["seen4", "seen6"].map(|set| {
            [&self.internet, &self.consumer].map(|namespace| {
                let text = namespace.sh(&format!("nft -n list set inet sizes {set}"));
                let (_, elements) = text.split_once("elements = {").expect(&text);
                let element = elements.split('}').next().unwrap().trim();
                element.parse().expect(element)
            })
        })
    }
}

/// Sends `bytes` of payload from the internet host to a socket of the consumer, through the flow that the consumer
/// opened, until `done` answers with a value.
fn answer_until<T>(
    lab: &Lab,
    server: &str,
    bytes: usize,
    done: impl Fn(&UdpSocket) -> Option<T>,
) -> T {
    let listener = lab
        .internet
        .run(|| UdpSocket::bind((server, PROBE_PORT)).unwrap());
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    let any = if server.contains(':') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let asking = lab.consumer.run(|| UdpSocket::bind(any).unwrap());
    asking.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 8];
    let payload = vec![7; bytes];
    loop {
        asking.send_to(b"?", (server, PROBE_PORT)).unwrap();
        let (_, peer) = listener.recv_from(&mut buffer).unwrap();
        // Too large for what is known by now: that is an answer as well.
        let _refused = listener.send_to(&payload, peer);
        if let Some(value) = done(&asking) {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "{server}: nothing of {bytes} bytes"
        );
    }
}

/// What the internet host has learnt of the path to the provider's address.
fn learnt(lab: &Lab, provider: &str) -> Option<u16> {
    let text = lab.internet.sh(&format!("ip route get {provider}"));
    let (_, mtu) = text.split_once(" mtu ")?;
    mtu.split_whitespace().next()?.parse().ok()
}

#[test]
fn tcp_asks_for_what_fits_in_both_directions_and_families() {
    let lab = Lab::new();
    lab.provider
        .sh("cd /proc/sys/net; echo 1 > ipv4/ip_forward; echo 1 > ipv6/conf/all/forwarding");
    lab.internet
        .sh("ip route add 10.77.0.0/16 via 11.9.0.2; ip -6 route add fd77::/64 via 2a00:9::2");
    assert_eq!(lab.asked(), [[1_460; 2], [1_440; 2]], "control: no clamp");
    let exit = lab.exit();
    // 1,420 less 20 and 40 bytes of IP and 20 of TCP.
    assert_eq!(lab.asked(), [[1_380; 2], [1_360; 2]]);
    lab.limit([(OURS4, Some(1_328)), (OURS6, Some(1_312))]);
    assert_eq!(lab.asked(), [[1_288; 2], [1_252; 2]], "a narrow consumer");
    // Below what IPv6 guarantees, TCP goes on.
    lab.limit([(OURS4, Some(1_184)), (OURS6, Some(1_184))]);
    assert_eq!(lab.asked(), [[1_144; 2], [1_124; 2]], "a very narrow one");
    lab.limit([(OURS4, None), (OURS6, None)]);
    assert_eq!(lab.asked(), [[1_380; 2], [1_360; 2]]);
    // Never raised.
    lab.internet.sh("ip link set dev i0 mtu 1300");
    assert_eq!(lab.asked(), [[1_380, 1_260], [1_360, 1_240]]);
    lab.provider.run(|| drop(exit));
}

#[test]
fn what_is_too_large_is_answered_in_both_families() {
    let lab = Lab::new();
    let exit = lab.exit();
    for (server, provider, headers) in [(V4, "11.9.0.2", 28), (V6, "2a00:9::2", 48)] {
        // Control: what fits comes through, and teaches nothing.
        let fits = answer_until(&lab, server, 1_420 - headers, |asking| {
            asking.recv(&mut [0; 2_000]).ok()
        });
        assert_eq!(fits, 1_420 - headers);
        assert_eq!(learnt(&lab, provider), None);
        let mtu = answer_until(&lab, server, 1_421 - headers, |_| learnt(&lab, provider));
        assert_eq!(mtu, 1_420);
    }
    lab.limit([(OURS4, Some(1_328)), (OURS6, Some(1_312))]);
    for (server, provider, narrow) in [(V4, "11.9.0.2", 1_328), (V6, "2a00:9::2", 1_312)] {
        let mtu = answer_until(&lab, server, 1_340, |_| {
            learnt(&lab, provider).filter(|mtu| *mtu < 1_420)
        });
        assert_eq!(mtu, narrow);
    }
    lab.provider.run(|| drop(exit));
}

#[test]
fn what_may_be_cut_is_cut_before_it_is_sealed() {
    let lab = Lab::new();
    lab.internet
        .sh("echo 1 > /proc/sys/net/ipv4/ip_no_pmtu_disc");
    let exit = lab.exit();
    lab.limit([(OURS4, Some(1_184)), (OURS6, Some(1_184))]);
    lab.consumer.nft(
        "table netdev sizes {
            counter large { }
            counter parts { }
            chain in {
                type filter hook ingress device \"c0\" priority 0; policy accept;
                ip length > 1184 counter name large
                ip frag-off & 0x3fff != 0 counter name parts
            }
         }",
    );
    let whole = answer_until(&lab, V4, 1_400, |asking| asking.recv(&mut [0; 2_000]).ok());
    assert_eq!(whole, 1_400);
    let counted = |name: &str| {
        let text = lab
            .consumer
            .sh(&format!("nft list counter netdev sizes {name}"));
        let (_, rest) = text.split_once("packets ").unwrap();
        rest.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(counted("large"), 0);
    assert!(counted("parts") >= 2, "control: it came in parts");
    lab.provider.run(|| drop(exit));
}

#[test]
fn a_consumer_keeps_its_packets_small_and_ipv6_stays() {
    let lab = Lab::new();
    lab.provider
        .sh("cd /proc/sys/net; echo 1 > ipv4/ip_forward; echo 1 > ipv6/conf/all/forwarding");
    lab.internet
        .sh("ip route add 10.77.0.0/16 via 11.9.0.2; ip -6 route add fd77::/64 via 2a00:9::2");
    // A real tunnel needs no neighbour: the stand-in knows the far end for every destination.
    let text = lab.provider.sh("ip -o link show tun0");
    let (_, rest) = text.split_once("link/ether ").unwrap();
    let mac = rest.split(' ').next().unwrap();
    for to in [V4, V6] {
        lab.consumer.sh(&format!(
            "ip neighbour replace {to} lladdr {mac} dev c0 nud permanent"
        ));
    }
    lab.provider.nft(
        "table netdev sizes {
            counter large { }
            chain in {
                type filter hook ingress device \"tun0\" priority 0; policy accept;
                meta length > 1184 counter name large
            }
         }",
    );
    let large = || {
        let text = lab.provider.sh("nft reset counter netdev sizes large");
        let (_, rest) = text.split_once("packets ").unwrap();
        rest.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let addresses = ["10.77.0.2/16", "fd77::2/64"].map(|net| net.parse().unwrap());
    let routes = lab.consumer.block_on(async || {
        let config = RoutesConfig::new("t", "c0", addresses.to_vec());
        ConsumerRoutes::apply(config, &lab.journal().await)
            .await
            .unwrap()
    });
    let limiter = routes.limiter();
    let set = |mtu| {
        let limiter = limiter.clone();
        lab.consumer
            .block_on(async move || limiter.set(mtu).await.unwrap());
    };
    // 1,232 bytes of payload: 1,260 bytes with IPv4's headers, 1,280 with IPv6's.
    let through = || {
        [V4, V6].map(|server| {
            let listener = lab
                .internet
                .run(|| UdpSocket::bind((server, PROBE_PORT)).unwrap());
            listener.set_read_timeout(Some(PATIENCE)).unwrap();
            let any = if server == V6 { "[::]:0" } else { "0.0.0.0:0" };
            let socket = lab.consumer.run(|| UdpSocket::bind(any).unwrap());
            let sent = socket.send_to(&[1; 1_232], (server, PROBE_PORT));
            assert_eq!(sent.unwrap(), 1_232);
            listener.recv(&mut [0; 2_000]).unwrap()
        })
    };
    set(1_420);
    assert_eq!(through(), [1_232; 2]);
    assert_eq!(large(), 2, "control: they go whole");
    set(1_184);
    assert_eq!(through(), [1_232; 2]);
    assert_eq!(large(), 0, "they go in parts");
    let text = lab.consumer.sh("ip address show dev c0");
    assert!(
        text.contains("mtu 1280") && text.contains("fd77::2/64"),
        "{text}"
    );
    assert_eq!(lab.asked()[0], [1_144, 1_460]);
    set(1_420);
    assert_eq!(through(), [1_232; 2]);
    assert_eq!(large(), 2);
    assert_eq!(lab.asked(), [[1_380, 1_460], [1_360, 1_440]]);
    lab.consumer
        .block_on(async move || routes.undo().await.unwrap());
    let rules = lab
        .consumer
        .sh("ip route show table 30566; ip -6 route show table 30566");
    assert_eq!(rules.trim(), "");
}
