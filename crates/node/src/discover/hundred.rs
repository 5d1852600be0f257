//! Every index is stopped, and a fresh consumer knows three first contacts: a hundred real nodes on loopback keep real, signed
//! proposals, then twenty of them die and ten have lied all along.
//!
//! Liars are nodes like all others but for what they take for a record: some keep nothing and deny everything, some keep what
//! nobody signed and tell it as an answer. Liars that chose their keys next to the topic, name ghosts or are silent are in the
//! tests of `nat`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use wayfare_discovery::CountryCode;
use wayfare_identity::Address;
use wayfare_nat::{Admitted, Records, Topic};
use wayfare_payment::Amount;
use wayfare_transport::{QuicEndpoint, TunnelReceiver};

use super::tests::{offer, signed};
use super::*;
use crate::Preset;

/// The bar, and what a machine may take that does other things besides.
const BAR: Duration = Duration::from_secs(5);
const GENEROUS: Duration = Duration::from_secs(10);
/// On such a machine nodes are silent that are alive: a consumer asks again, as people do.
const CONSUMERS: u8 = 3;
/// Nodes that a provider must be sure of: half of those that keep a record.
const KEPT: usize = 8;

const HONEST: u16 = 90;
const DEAD: usize = 20;
const LIARS: u16 = 10;

/// Keeps whatever it is given.
#[derive(Debug)]
struct Gullible;

impl Records for Gullible {
    fn now(&self) -> u64 {
        Clock::unix_ms() / 1_000
    }

    fn admit(&self, _: &Topic, value: &[u8]) -> Option<Admitted> {
        Some(Admitted {
            owner: wayfare_identity::keccak256(value).0,
            slot: [0; 32],
            sequence: 1,
            expires_at: self.now() + 600,
        })
    }
}

/// Keeps nothing.
#[derive(Debug)]
struct Denying;

impl Records for Denying {
    fn now(&self) -> u64 {
        Clock::unix_ms() / 1_000
    }

    fn admit(&self, _: &Topic, _: &[u8]) -> Option<Admitted> {
        None
    }
}

struct Member {
    swarm: Swarm,
    endpoint: QuicEndpoint,
    address: NodeAddress,
    _socket: SharedSocket,
    _tunnel: TunnelReceiver,
}

/// Each in a network of its own.
fn member(number: u16, records: Arc<dyn Records>, serves: bool) -> Member {
    let [a, b] = number.to_be_bytes();
    let at = Ipv4Addr::new(127, a + 1, b, 1);
    let (socket, tunnel) = SharedSocket::bind((at, 0).into(), SocketOptions::default()).unwrap();
    let mut seed = [3; 32];
    seed[..2].copy_from_slice(&number.to_be_bytes());
    let key = NodeKey::from_seed(seed);
    let identity = QuicIdentity::from_ed25519_seed(*key.seed()).unwrap();
    let endpoint = quic_endpoint(&socket, &identity).unwrap();
    let address = NodeAddress {
        node: key.id(),
        at: socket.local_addr(),
    };
    let dht = DhtConfig {
        records,
        serves,
        seeds: Vec::new(),
    };
    let config = SwarmConfig {
        key,
        relay: None,
        dht: Some(dht),
    };
    let (swarm, _) = swarm_on(&socket, &endpoint, &identity, config).unwrap();
    Member {
        swarm,
        endpoint,
        address,
        _socket: socket,
        _tunnel: tunnel,
    }
}

impl Member {
    /// A busy computer may need a second try.
    async fn joins(&self, seeds: &[NodeAddress]) {
        for _ in 0..4 {
            if self.swarm.bootstrap(seeds.to_vec()).await.is_ok() {
                return;
            }
        }
        panic!("{} joins nobody", self.address);
    }

    /// From now on nothing arrives and nothing leaves.
    fn die(&self) {
        let elsewhere = UdpSocket::bind("[::1]:0").unwrap();
        self.endpoint.quinn().rebind(elsewhere).unwrap();
    }

    /// As a provider brings its proposals, again and again.
    async fn offers(&self, signed: &SignedProposal) -> usize {
        let mut most = 0;
        for _ in 0..6 {
            most = most.max(publish(&self.swarm, signed).await.unwrap_or(0));
            if most >= KEPT {
                break;
            }
        }
        most
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_consumer_finds_signed_proposals_in_a_hundred_nodes_though_every_index_is_stopped()
{
    let begun = Clock::now();
    let mut honest: Vec<Member> = (0..HONEST)
        .map(|number| member(number, Arc::new(ProposalRecords), true))
        .collect();
    let seeds: Vec<NodeAddress> = honest[..3].iter().map(|node| node.address).collect();
    let liars: Vec<Member> = (0..LIARS)
        .map(|number| {
            let records: Arc<dyn Records> = match number % 2 {
                0 => Arc::new(Gullible),
                _ => Arc::new(Denying),
            };
            member(1_000 + number, records, true)
        })
        .collect();
    let all: Vec<&Member> = honest.iter().chain(&liars).collect();
    for some in all.chunks(25) {
        join_all(some.iter().map(|node| node.joins(&seeds))).await;
    }
    println!("{} nodes joined after {:?}", all.len(), begun.elapsed());

    let provider = member(2_000, Arc::new(ProposalRecords), false);
    provider.joins(&seeds).await;
    let offered: Vec<SignedProposal> = (1..=2).map(|number| signed(number, 1)).collect();
    for proposal in &offered {
        let kept = provider.offers(proposal).await;
        println!("{kept} nodes keep a proposal");
        assert!(kept >= KEPT, "{kept} nodes keep a proposal");
    }
    // Somebody names a victim as its address and as its relay: finding that sends nothing there.
    let victim = UdpSocket::bind("127.99.99.99:0").unwrap();
    victim.set_nonblocking(true).unwrap();
    let (mut malicious, signer) = offer(5, 1);
    malicious.contact = vec![victim.local_addr().unwrap()];
    malicious.relays = vec![NodeAddress {
        node: NodeKey::from_seed([99; 32]).id(),
        at: victim.local_addr().unwrap(),
    }];
    let malicious = malicious.sign(&signer).unwrap();
    assert!(provider.offers(&malicious).await >= KEPT);
    // Liars are given what nobody signed; the honest do not take it.
    let accomplice = member(2_001, Arc::new(Gullible), false);
    accomplice.joins(&seeds).await;
    let mut forged = offered[0].clone();
    forged.offer.price.per_gib = Amount::ZERO;
    forged.offer.sequence = 9;
    let by_liars = publish(&accomplice.swarm, &forged).await;
    println!("{by_liars:?} nodes keep a forged one");
    assert!(by_liars.unwrap_or(0) <= usize::from(LIARS / 2));

    // A first contact is among the dead.
    let dead: Vec<Member> = honest.drain(2..2 + DEAD).collect();
    dead.iter().for_each(Member::die);
    let country: CountryCode = "NL".parse().unwrap();
    // One index refuses, the other takes the connection and says nothing for ever.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut network = Network::new(
        Preset::Local,
        Address::repeat_byte(3),
        Address::repeat_byte(4),
    );
    network.index_url = format!("http://127.0.0.1:9,http://{}", mute.local_addr().unwrap());
    network.bootstrap = seeds;
    let mut found = Vec::new();
    for consumer in 1..=CONSUMERS {
        let sources = Sources::new(&network).unwrap();
        let asked = Clock::now();
        let answer = sources.ask(&Query::country(country)).await;
        let took = asked.elapsed();
        found = answer.unwrap_or_default();
        let word = if took <= BAR { "within" } else { "BEYOND" };
        println!(
            "consumer {consumer}: {} proposals after {took:?}, {word} the bar of {BAR:?}",
            found.len()
        );
        assert!(took <= GENEROUS, "{took:?}");
        if found.len() == offered.len() + 1 {
            break;
        }
    }
    for proposal in &offered {
        let expected = proposal.clone().verify(Clock::unix_ms() / 1_000).unwrap();
        assert!(found.contains(&expected), "{expected:?} among {found:?}");
    }
    assert_eq!(found.len(), offered.len() + 1, "and nothing that is forged");
    assert!(
        victim.recv(&mut [0; 64]).is_err(),
        "the victim heard something"
    );
}
