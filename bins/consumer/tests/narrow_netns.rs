//! A whole session over a path that carries less than everybody thinks and says nothing of it: TCP of both families moves
//! in both directions, and nothing is ever cut outside the tunnel. Needs root.
//!
//! consumer (up0) - (m0) modem (m1) = narrow = (c0) core, with the internet host (p0) - (wan0) provider

#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    reason = "the test waits for real programs and times real transfers"
)]

#[path = "../../../crates/host/tests/support/lab.rs"]
mod lab;
#[path = "../../../crates/cli/tests/binary/services.rs"]
mod services;
#[path = "../../../crates/cli/tests/binary/world.rs"]
mod world;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use wayfare_chain::devchain::developer;
use wayfare_identity::{Address, LocalSigner, SecretKey, Signer};
use wayfare_node::{
    Amount, ConnectOptions, ConsumerEvent, GateState, Limits, Network, Node, Offer, Preset, Price,
    Proposal, ProviderBuilder, Query, SessionEvent, SettlePolicy, SystemTunnel, memory_ledger,
};

use crate::lab::{Namespace, PATIENCE, link};
use crate::services::{LiveHermes, LiveIndex};
use crate::world::{ONE, World};

const V4: &str = "11.200.0.1:80";
const V6: &str = "[2a00:200::1]:80";
/// Moved in each direction and family: a few thousand packets.
const VOLUME: usize = 3 << 20;

/// Cables and routers. Nothing in it runs a program of ours.
struct Underlay {
    consumer: Namespace,
    modem: Namespace,
    core: Namespace,
    provider: Namespace,
}

impl Underlay {
    fn new(mtu: u16) -> Self {
        let [consumer, modem, core, provider] =
            ["cons", "modem", "core", "prov"].map(Namespace::new);
        link(
            (&consumer, "up0", &["11.5.0.2/24"]),
            (&modem, "m0", &["11.5.0.1/24"]),
        );
        link(
            (&modem, "m1", &["11.6.0.2/24"]),
            (&core, "c0", &["11.6.0.1/24"]),
        );
        link(
            (&core, "p0", &["11.7.0.1/24", "2a00:7::1/64"]),
            (&provider, "wan0", &["11.7.0.2/24", "2a00:7::2/64"]),
        );
        consumer.sh("ip route add default via 11.5.0.1");
        modem.sh(&format!(
            "ip link set dev m1 mtu {mtu}; ip route add default via 11.6.0.1"
        ));
        core.sh(&format!(
            "ip link set dev c0 mtu {mtu}; ip route add 11.5.0.0/24 via 11.6.0.2
             ip address add 11.200.0.1/32 dev lo; ip address add 2a00:200::1/128 dev lo nodad"
        ));
        provider.sh("ip route add default via 11.7.0.1; ip -6 route add default via 2a00:7::1");
        for (router, ends) in [(&modem, "\"m0\", \"m1\""), (&core, "\"c0\", \"p0\"")] {
            router.sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
            // They complain of nothing, and remember whether consumer and provider have sent parts.
            router.nft(&format!(
                "table netdev eyes {{
                    counter parts {{ }}
                    counter datagrams {{ }}
                    chain in {{
                        type filter hook ingress devices = {{ {ends} }} priority 0; policy accept;
                        ip saddr != {{ 11.5.0.2, 11.7.0.2 }} accept
                        ip daddr != {{ 11.5.0.2, 11.7.0.2 }} accept
                        ip frag-off & 0x3fff != 0 counter name parts
                        ip protocol udp counter name datagrams
                    }}
                 }}
                 table inet silence {{
                    chain out {{
                        type filter hook output priority 0; policy accept;
                        icmp type destination-unreachable drop
                        icmpv6 type {{ destination-unreachable, packet-too-big }} drop
                    }}
                 }}"
            ));
        }
        Self {
            consumer,
            modem,
            core,
            provider,
        }
    }

    /// Control: one byte too many vanishes, and that is all there is to be seen of it.
    fn is_narrow(&self, mtu: u16) {
        let listener = self.core.run(|| UdpSocket::bind("11.6.0.1:7").unwrap());
        listener.set_read_timeout(Some(PATIENCE)).unwrap();
        let fits = usize::from(mtu) - 28;
        self.consumer.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for bytes in [fits + 1, fits] {
                let sent = socket.send_to(&vec![0; bytes], "11.6.0.1:7");
                assert_eq!(sent.unwrap(), bytes);
            }
        });
        assert_eq!(listener.recv(&mut [0; 2_000]).unwrap(), fits);
    }

    /// Parts and datagrams (trains of them, mostly) between consumer and provider that came to the routers.
    fn counted(&self) -> [u64; 2] {
        ["parts", "datagrams"].map(|name| {
            let of = |router: &Namespace| {
                let text = router.sh(&format!("nft list counter netdev eyes {name}"));
                let (_, rest) = text.split_once("packets ").unwrap();
                rest.split(' ').next().unwrap().parse::<u64>().unwrap()
            };
            of(&self.modem) + of(&self.core)
        })
    }
}

/// Lets programs of a namespace reach a service of this one at the same address of theirs. Ends with the process.
fn lend(to: &Namespace, url: &str) {
    let address: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
    let listener = to.run(|| TcpListener::bind(address).unwrap());
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(address) else {
                return;
            };
            for (mut from, mut into) in [
                (near.try_clone().unwrap(), far.try_clone().unwrap()),
                (far, near),
            ] {
                std::thread::spawn(move || {
                    let _broken = std::io::copy(&mut from, &mut into);
                    let _gone = into.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
}

/// What flows: no two packets alike.
fn stream() -> Vec<u8> {
    let words = (0..VOLUME as u32 / 4).map(|word| word.wrapping_mul(0x9e37_79b9));
    words.flat_map(u32::to_le_bytes).collect()
}

/// An internet host that gives (`d`) and takes (`u`) the stream. Ends with the process.
fn serve(core: &Namespace, address: &str) {
    let listener = core.run(|| TcpListener::bind(address).unwrap());
    std::thread::spawn(move || {
        for mut visitor in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut wish = [0];
                visitor.read_exact(&mut wish).unwrap();
                if wish == *b"d" {
                    let _gone = visitor.write_all(&stream());
                } else {
                    let mut taken = vec![0; VOLUME];
                    visitor.read_exact(&mut taken).unwrap();
                    let whole = taken == stream();
                    let _gone = visitor.write_all(if whole { b"y" } else { b"n" });
                }
            });
        }
    });
}

fn download(address: &str) {
    let mut server = connect(address);
    server.write_all(b"d").unwrap();
    let mut taken = vec![0; VOLUME];
    server.read_exact(&mut taken).unwrap();
    assert!(taken == stream(), "{address} down");
}

fn upload(address: &str) {
    let mut server = connect(address);
    server.write_all(b"u").unwrap();
    server.write_all(&stream()).unwrap();
    let mut verdict = [0];
    server.read_exact(&mut verdict).unwrap();
    assert_eq!(verdict, *b"y", "{address} up");
}

fn connect(address: &str) -> TcpStream {
    let server = TcpStream::connect_timeout(&address.parse().unwrap(), PATIENCE).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    server.set_write_timeout(Some(PATIENCE)).unwrap();
    server
}

fn signer(byte: u8) -> Arc<LocalSigner> {
    Arc::new(LocalSigner::new(SecretKey::from_bytes([byte; 32]).unwrap()))
}

fn provider(network: Network, state: &std::path::Path) -> ProviderBuilder {
    let units = Amount::from_units;
    ProviderBuilder {
        network,
        signer: signer(3),
        secret: [4; 32],
        ledger: memory_ledger(),
        offer: Offer {
            price: Price {
                per_hour: units(ONE / 1_000),
                per_gib: units(ONE),
            },
            chunk: units(ONE),
            chunk_limit: units(ONE),
            country: "NL".into(),
            contact: vec!["11.7.0.2:51820".parse().unwrap()],
            relays: vec![],
        },
        listen: (Ipv4Addr::UNSPECIFIED, 51_820).into(),
        port_mapping: false,
        device: "wfp0".into(),
        pool_v4: "10.77.0.0/16".parse().unwrap(),
        pool_v6: Some("fd77::/64".parse().unwrap()),
        uplink: Some("wan0".into()),
        allow: Vec::new(),
        max_sessions: 8,
        limits: Limits::default(),
        settle: SettlePolicy {
            enabled: false,
            threshold: units(ONE),
            max_age: Duration::from_secs(86_400),
            beneficiary: Address::repeat_byte(9),
        },
        state: state.to_owned(),
    }
}

/// Runs a daemon in a namespace: `work` is done when it says so, and ends when its owner lets go.
fn daemon<'scope, T: Send + 'scope, F: Future<Output = ()>>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    at: &'scope Namespace,
    work: impl FnOnce(mpsc::Sender<T>, oneshot::Receiver<()>) -> F + Send + 'scope,
) -> (T, oneshot::Sender<()>) {
    let (say, said) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    scope.spawn(move || at.block_on(move || work(say, stopped)));
    (said.recv_timeout(PATIENCE).unwrap(), stop)
}

async fn proposal(node: &Node) -> Proposal {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = node.discover(&Query::any()).await.unwrap();
        if let Some(proposal) = found.into_iter().next() {
            return proposal;
        }
        assert!(Instant::now() < deadline, "no proposal");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Opens a session, waits until packets pass and until the path is known; says that and how large packets are then.
async fn consume(
    network: Network,
    expected: RangeInclusive<u16>,
    say: mpsc::Sender<u16>,
    stopped: oneshot::Receiver<()>,
) {
    let state = tempfile::tempdir().unwrap();
    let builder = Node::builder(network)
        .signer(signer(5))
        .ledger(memory_ledger());
    let node = builder.build().await.unwrap();
    let proposal = proposal(&node).await;
    let journal = SystemTunnel::recover(state.path(), "wfc0").await.unwrap();
    let options = ConnectOptions::default();
    let up = SystemTunnel::up(&node, &proposal, &journal, "wfc0", true, options);
    let mut tunnel = up.await.unwrap();
    let open = SessionEvent::Session(ConsumerEvent::Gate(GateState::Open));
    let mut mtu = tunnel.session.mtu();
    let ready = async {
        loop {
            let happened = tunnel.session.next_event().await.unwrap();
            if happened == open {
                break;
            }
        }
        while !expected.contains(&mtu.mtu()) {
            mtu.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.unwrap();
    say.send(mtu.mtu()).unwrap();
    // Its owner lets go, by word or by panic.
    let _ = stopped.await;
    let session = tunnel.down().await.unwrap();
    session.close().await;
    session.ended().await.unwrap();
}

/// Something behind the Hermes' promises.
fn collateral(world: &World, hermes: Address) {
    world.give_tokens(developer().address(), 100 * ONE);
    let added = async {
        let sum = Amount::from_units(100 * ONE);
        world.rich.add_collateral(hermes, sum).await.unwrap();
    };
    world.runtime.block_on(added);
}

fn journey(mtu: u16, expected: RangeInclusive<u16>) {
    let underlay = Underlay::new(mtu);
    underlay.is_narrow(mtu);
    for address in [V4, V6] {
        serve(&underlay.core, address);
    }
    let world = World::new();
    let hermes = world.hermes();
    collateral(&world, hermes);
    let live = (LiveHermes::new(&world, hermes), LiveIndex::new(&world));
    let mut network = Network::new(Preset::Local, world.vault, hermes);
    network.rpc.clone_from(&world.rpc);
    network.hermes_url.clone_from(&live.0.url);
    network.index_url.clone_from(&live.1.url);
    for namespace in [&underlay.provider, &underlay.consumer] {
        for url in [&network.rpc, &network.hermes_url, &network.index_url] {
            lend(namespace, url);
        }
    }
    let deposit = world.rich.deposit_address(signer(5).address(), hermes);
    world.give_tokens(deposit, ONE);
    let state = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let (provider, consumer) = (provider(network.clone(), state.path()), network.clone());
        let ((), _provider) = daemon(scope, &underlay.provider, async |say, stopped| {
            let provider = provider.start().await.unwrap();
            say.send(()).unwrap();
            let _ = stopped.await;
            provider.stop().await.unwrap();
        });
        let (found, _consumer) = daemon(scope, &underlay.consumer, |say, stopped| {
            consume(consumer, expected, say, stopped)
        });
        println!("packets of up to {found} bytes over a path of {mtu}");
        underlay.consumer.run(|| {
            for address in [V4, V6] {
                let begun = Instant::now();
                download(address);
                upload(address);
                println!("{address}: {:?}", begun.elapsed());
            }
        });
        // Also what is not TCP, and may be cut: inside the tunnel.
        let listener = underlay
            .core
            .run(|| UdpSocket::bind("11.200.0.1:7").unwrap());
        listener.set_read_timeout(Some(PATIENCE)).unwrap();
        underlay.consumer.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.send_to(&[7; 1_392], "11.200.0.1:7").unwrap();
        });
        assert_eq!(listener.recv(&mut [0; 2_000]).unwrap(), 1_392);
        let device = underlay.consumer.sh("ip -o address show dev wfc0");
        assert!(device.contains("inet6 fd77::"), "{device}");
        let [parts, datagrams] = underlay.counted();
        assert_eq!(parts, 0, "of {datagrams}");
        assert!(datagrams > 100, "control: {datagrams}");
    });
}

#[test]
fn a_session_over_a_path_of_1400_bytes_carries_both_families() {
    journey(1_400, 1_300..=1_328);
}

#[test]
fn a_session_over_a_path_of_1280_bytes_carries_both_families() {
    journey(1_280, 1_168..=1_216);
}
