//! Asked to punch at a victim (A21): real nodes in namespaces of their own, an attacker whose words are signed and well-formed,
//! and a count of every packet that leaves for the victim's address or reaches it. Needs root.
//!
//! The attacker is seen by the relay where it really is. What it claims besides is the victim's address, in every kind of
//! candidate, in offers, answers, later words and observations, as a hard peer and as an easy one. That its own, attested address
//! gets probes and guesses meanwhile shows that the attempts were real.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]
#![allow(dead_code, reason = "of the namespaces a part is used here")]

#[path = "../../../transport/tests/wireguard/netns.rs"]
mod netns;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use netns::{Namespace, cable};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use wayfare_identity::{NodeAddress, NodeKey};
use wayfare_nat::{Call, RelayLimits, Swarm, SwarmConfig, SwarmEvent};
use wayfare_path::{
    Answer, Attempt, Candidate, CandidateKind, Capabilities, Cookies, Description, Ephemeral,
    NatClass, Offer, observe_reply, observe_request,
};
use wayfare_transport::{
    Clock, QuicEndpoint, QuicIdentity, SharedSocket, SocketOptions, TunnelReceiver, quic_endpoint,
};

use super::{Reach, ReachConfig, swarm_on};

const VICTIM: Ipv4Addr = Ipv4Addr::new(11, 9, 9, 9);
const RELAYS: [Ipv4Addr; 2] = [Ipv4Addr::new(11, 1, 1, 1), Ipv4Addr::new(11, 2, 1, 1)];
const OPEN: Ipv4Addr = Ipv4Addr::new(11, 3, 1, 1);
/// What a peer behind it looks like: a new port for every destination.
const ROUTER: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 2);
const HARD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const ATTACKERS: [Ipv4Addr; 3] = [
    Ipv4Addr::new(11, 4, 1, 1),
    Ipv4Addr::new(11, 5, 1, 1),
    Ipv4Addr::new(11, 6, 1, 1),
];

const PATIENCE: Duration = Duration::from_secs(10);
/// A plain round, the rest after it, and a birthday punch begin well within it.
const ATTEMPT: Duration = Duration::from_secs(6);

/// Everybody: a network of public addresses, and a home behind a NAT that chooses ports by chance.
struct Ground {
    home: Namespace,
    _router: Namespace,
    world: Namespace,
}

fn rules(counted: &[Ipv4Addr]) -> String {
    let mut rules = String::from("table inet seen {\n");
    for at in counted {
        let name = counter(*at);
        rules += &format!("counter to{name} {{ }}\ncounter probes{name} {{ }}\n");
    }
    // What our own nodes send to an attacker besides frames of its relays are probes.
    for hook in ["input", "output"] {
        rules += &format!("chain {hook} {{ type filter hook {hook} priority 0;\n");
        for at in counted {
            let name = counter(*at);
            rules += &format!("ip daddr {at} counter name to{name}\n");
            rules += &format!(
                "ip daddr {at} ip saddr {{ {OPEN}, {ROUTER}, {HARD} }} counter name probes{name}\n"
            );
        }
        rules += "}\n";
    }
    rules + "}\n"
}

fn counter(at: Ipv4Addr) -> String {
    at.to_string().replace('.', "_")
}

impl Ground {
    fn new() -> Self {
        let [home, router, world] = std::array::from_fn(|_| Namespace::new());
        cable(&home, &router, ["10.0.0.2/24", "10.0.0.1/24"]);
        router.ip("link set out down");
        router.ip("link set out name lan");
        router.ip("link set lan up");
        cable(&world, &router, ["11.0.0.1/24", &format!("{ROUTER}/24")]);
        home.ip("route add default via 10.0.0.1");
        router.ip("route add default via 11.0.0.1");
        let mut all = vec![VICTIM, OPEN];
        all.extend(RELAYS);
        all.extend(ATTACKERS);
        for at in &all {
            world.ip(&format!("address add {at}/32 dev lo"));
        }
        let folder = tempfile::tempdir().unwrap();
        let load = |at: &Namespace, text: &str| {
            let file = folder.path().join("rules.nft");
            std::fs::write(&file, text).unwrap();
            at.enter(|| netns::run("nft", &format!("-f {}", file.display())));
        };
        router.enter(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
        load(
            &router,
            "table ip nat {\nchain post {\ntype nat hook postrouting priority srcnat;\n\
             oifname \"out\" masquerade random,fully-random\n}\n}\n",
        );
        let counted: Vec<Ipv4Addr> = ATTACKERS.into_iter().chain([VICTIM]).collect();
        for at in [&home, &world] {
            load(at, &rules(&counted));
        }
        Self {
            home,
            _router: router,
            world,
        }
    }

    /// Packets that left a node of ours, or arrived, by the kernel's count in both places.
    fn count(&self, what: &str, at: Ipv4Addr) -> u64 {
        let name = format!("{what}{}", counter(at));
        let of = |place: &Namespace| {
            let listed = place.enter(|| {
                let args = ["list", "counter", "inet", "seen", &name];
                let said = std::process::Command::new("nft").args(args).output();
                String::from_utf8(said.unwrap().stdout).unwrap()
            });
            let mut words = listed.split_whitespace();
            words.find(|word| *word == "packets").unwrap();
            words.next().unwrap().parse::<u64>().unwrap()
        };
        of(&self.home) + of(&self.world)
    }
}

/// A runtime whose sockets are all of one namespace.
fn runtime(at: &Namespace) -> Runtime {
    at.enter(|| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    })
}

struct Feet {
    key: NodeKey,
    socket: SharedSocket,
    endpoint: QuicEndpoint,
    identity: QuicIdentity,
    _tunnel: TunnelReceiver,
}

fn feet(seed: u8, at: Ipv4Addr) -> Feet {
    let key = NodeKey::from_seed([seed; 32]);
    let bound = SharedSocket::bind((at, 4_000).into(), SocketOptions::default());
    let (socket, tunnel) = bound.unwrap();
    let identity = QuicIdentity::from_ed25519_seed(*key.seed()).unwrap();
    Feet {
        endpoint: quic_endpoint(&socket, &identity).unwrap(),
        key,
        socket,
        identity,
        _tunnel: tunnel,
    }
}

impl Feet {
    fn address(&self) -> NodeAddress {
        NodeAddress {
            node: self.key.id(),
            at: self.socket.local_addr(),
        }
    }

    fn reach(&self, relays: &[NodeAddress], serves: Option<RelayLimits>) -> Reach {
        let config = ReachConfig {
            key: self.key.clone(),
            relays: relays.to_vec(),
            serves,
            manual: Vec::new(),
            mapping: None,
        };
        Reach::start(self.socket.clone(), &self.endpoint, &self.identity, config).unwrap()
    }

    fn swarm(&self) -> (Swarm, mpsc::Receiver<SwarmEvent>) {
        let config = SwarmConfig {
            key: self.key.clone(),
            relay: None,
            dht: None,
        };
        swarm_on(&self.socket, &self.endpoint, &self.identity, config).unwrap()
    }
}

/// The victim as whatever a peer can be said to be; its own address beside it, so that something happens at all.
fn lies(ephemeral: &Ephemeral, nat: NatClass, own: SocketAddr) -> Description {
    let mut candidates: Vec<Candidate> = (0..3u16)
        .zip(CandidateKind::ALL.repeat(3))
        .map(|(port, kind)| Candidate::new(kind, (VICTIM, 7_000 + port).into()))
        .collect();
    for (port, kind) in (0..).zip(CandidateKind::ALL) {
        candidates.push(Candidate::new(kind, (VICTIM, 8_000 + port).into()));
    }
    candidates.push(Candidate::new(CandidateKind::Predicted, own));
    candidates.push(Candidate::new(CandidateKind::Observed, own));
    Description::new(ephemeral.public(), candidates, nat)
        .with_capabilities(Capabilities::BIRTHDAY)
        .with_depth(Some(64))
}

/// Calls a node with lies, and lies again when it has answered. Returns what the node said of its own NAT.
async fn calls(
    attacker: &Feet,
    swarm: &Swarm,
    relay: NodeAddress,
    to: NodeAddress,
    nat: NatClass,
    number: u8,
) -> NatClass {
    let (attempt, ephemeral) = (Attempt([number; 16]), Ephemeral::from_seed([number; 32]));
    let description = lies(&ephemeral, nat, attacker.socket.local_addr());
    let offer = |serial| Offer::sign(&attacker.key, to.node, attempt, serial, &description);
    let opened = swarm
        .call(
            relay,
            Call::new(to.node, number.into(), offer(0).to_bytes()),
        )
        .await;
    let opened = opened.unwrap();
    let answer = Answer::from_bytes(&opened.answer).unwrap();
    let told = answer.verify(to.node, attacker.key.id(), attempt).unwrap();
    for serial in 1..4 {
        let word = offer(serial).to_bytes();
        swarm.say(relay.node, opened.channel, word).await;
    }
    told.description().nat
}

/// Takes the next call, with lies.
async fn answers(attacker: &Feet, events: &mut mpsc::Receiver<SwarmEvent>, nat: NatClass) {
    loop {
        if let SwarmEvent::Rung(ring) = events.recv().await.unwrap() {
            let offer = Offer::from_bytes(&ring.offer).unwrap();
            let theirs = offer.verify(ring.from, attacker.key.id()).unwrap();
            let ephemeral = Ephemeral::from_seed([77; 32]);
            let description = lies(&ephemeral, nat, attacker.socket.local_addr());
            let answer = Answer::sign(&attacker.key, &theirs, 0, &description);
            ring.accept(answer.to_bytes());
            return;
        }
    }
}

/// Those who are there, and what they run.
struct Cast {
    relays: [(Feet, Reach); 2],
    open: (Feet, Reach),
    hard: (Feet, Reach),
    attackers: [(Feet, Swarm, mpsc::Receiver<SwarmEvent>); 3],
}

fn cast(ground: &Ground, world: &Runtime, home: &Runtime) -> Cast {
    let inside = |at: &Namespace, runtime: &Runtime, seed, ip| {
        let of_runtime = runtime.handle().clone();
        at.enter(move || {
            let _entered = of_runtime.enter();
            feet(seed, ip)
        })
    };
    let reach = |feet: Feet, runtime: &Runtime, relays: &[NodeAddress], serves| {
        let _entered = runtime.enter();
        let reach = feet.reach(relays, serves);
        (feet, reach)
    };
    let relays = [1, 2].map(|seed| {
        let relay = inside(&ground.world, world, seed, RELAYS[usize::from(seed) - 1]);
        reach(relay, world, &[], Some(RelayLimits::default()))
    });
    let both: Vec<NodeAddress> = relays.iter().map(|(relay, _)| relay.address()).collect();
    let open = inside(&ground.world, world, 3, OPEN);
    let hard = inside(&ground.home, home, 4, HARD);
    Cast {
        relays,
        open: reach(open, world, &both, None),
        hard: reach(hard, home, &both, None),
        attackers: [5, 6, 7].map(|seed| {
            let attacker = inside(&ground.world, world, seed, ATTACKERS[usize::from(seed) - 5]);
            let _entered = world.enter();
            let (swarm, events) = attacker.swarm();
            (attacker, swarm, events)
        }),
    }
}

impl Cast {
    /// Everything that is asked; what comes back has to be kept for as long as the attempts.
    async fn ask(&mut self) -> super::Link {
        let both = self.relays.each_ref().map(|(relay, _)| relay.address());
        let ((open, open_reach), (hard, hard_reach)) = (&self.open, &self.hard);
        open_reach.attached(PATIENCE).await;
        hard_reach.attached(PATIENCE).await;
        let relay = both[0];
        let [(first, caller, _), (second, easy, _), (third, callee, rung)] = &mut self.attackers;
        // Whom a random NAT is claimed of: its ports would be guessed.
        let theirs = calls(first, caller, relay, open.address(), NatClass::Random, 10);
        let knows = !theirs.await.is_hard();
        assert!(knows, "the node without a NAT knows that it has none");
        // Whom none is claimed of: a node behind a random NAT would open 256 ways to it.
        let mut number = 20;
        while calls(second, easy, relay, hard.address(), NatClass::Open, number).await
            != NatClass::Random
        {
            number += 1;
            assert!(number < 200, "the node behind the NAT does not learn of it");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // And one that is called.
        callee.attach(relay).await;
        while !matches!(rung.recv().await, Some(SwarmEvent::Attached(_))) {}
        let call = open_reach.call(third.key.id(), &both[..1]).await.unwrap();
        let answer = answers(third, rung, NatClass::Random);
        let (link, ()) = tokio::join!(call.answered(), answer);
        // Strangers say that our nodes are seen there, and answer what nobody asked.
        let seen = observe_reply(
            (VICTIM, 8_000).into(),
            &observe_request([1; 16]),
            &Cookies::new([1; 32], Clock::now()),
            Clock::now(),
        )
        .unwrap();
        for number in 0..20u8 {
            let asked = observe_request([number; 16]);
            for bytes in [&seen[..], &asked[..]] {
                let _ = first.socket.try_send(open.address().at, bytes);
            }
            tokio::task::yield_now().await;
        }
        link.unwrap()
    }
}

#[test]
fn a_node_asked_to_punch_at_a_victim_sends_it_nothing() {
    let ground = Ground::new();
    let (world, home) = (runtime(&ground.world), runtime(&ground.home));
    let witness = ground.world.enter(|| {
        let witness = UdpSocket::bind((VICTIM, 8_000)).unwrap();
        witness.set_nonblocking(true).unwrap();
        witness
    });
    let mut cast = cast(&ground, &world, &home);
    let _link = world.block_on(cast.ask());
    let begun = Instant::now();
    // Nothing tells that nothing came: the time of an attempt does.
    std::thread::sleep(ATTEMPT);
    let probes = ATTACKERS.map(|at| ground.count("probes", at));
    let (at_victim, heard) = (ground.count("to", VICTIM), witness.recv(&mut [0; 64]));
    println!(
        "after {:?}: {at_victim} packets to the victim; probes to who asked: {probes:?}",
        begun.elapsed()
    );
    assert_eq!(
        at_victim, 0,
        "packets that left for the victim, or reached it"
    );
    assert!(heard.is_err(), "the victim heard something");
    let [guessed, opened, answered] = probes;
    // Guessed ports, 256 sockets' openers, guessed ports: what an attested address gets.
    assert!(guessed > 200, "{guessed} guesses");
    assert!(opened > 200, "{opened} openers");
    assert!(answered > 200, "{answered} guesses");
    // What counts would have counted.
    ground.world.enter(|| {
        let one = UdpSocket::bind((OPEN, 0)).unwrap();
        one.send_to(b"one", (VICTIM, 8_000)).unwrap();
    });
    assert!(ground.count("to", VICTIM) > 0);
    drop(cast);
    for runtime in [world, home] {
        runtime.shutdown_timeout(Duration::from_secs(1));
    }
}
