//! A relay with few places, on loopback: who is turned away, what it is told, and when it gets in after all.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use wayfare_identity::{NodeAddress, NodeKey};

use super::{Call, CallError, Ring, Swarm, SwarmConfig, SwarmEvent};
use crate::ground::plain::PlainGround;
use crate::{Elsewhere, RelayLimits};

const OFFER: &[u8] = b"offer";

struct Node {
    swarm: Swarm,
    ground: PlainGround,
    address: NodeAddress,
    events: mpsc::Receiver<SwarmEvent>,
}

/// A channel's number that no other call of this process has.
fn chance() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Relaxed)
}

fn start(number: u8, relay: Option<RelayLimits>) -> Node {
    let key = NodeKey::from_seed([number; 32]);
    let (ground, at, incoming) = PlainGround::open(&key, [127, 77, number, 1]);
    let address = NodeAddress { node: key.id(), at };
    let config = SwarmConfig {
        key,
        relay,
        dht: None,
    };
    let (swarm, events) = Swarm::start(config, Arc::new(ground.clone()), incoming).unwrap();
    Node {
        swarm,
        ground,
        address,
        events,
    }
}

impl Node {
    async fn attach(&mut self, relay: NodeAddress) {
        self.swarm.attach(relay).await;
        self.hear(|event| matches!(event, SwarmEvent::Attached(_)))
            .await;
    }

    async fn hear(&mut self, is_it: impl Fn(&SwarmEvent) -> bool) -> SwarmEvent {
        loop {
            let event = self.events.recv().await.unwrap();
            if is_it(&event) {
                return event;
            }
        }
    }

    /// Rings `callee` through the relay, which answers.
    async fn reaches(&self, relay: NodeAddress, callee: &mut Node) -> Result<(), CallError> {
        let to = callee.address.node;
        let answered = async {
            let rung = callee
                .hear(|event| matches!(event, SwarmEvent::Rung(_)))
                .await;
            if let SwarmEvent::Rung(ring) = rung {
                ring.accept(b"answer".to_vec());
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            called = self.swarm.call(relay, Call::new(to, chance(), OFFER.to_vec())) => called.map(drop),
            () = answered => unreachable!("it waits for ever"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_relay_says_so_to_newcomers_serves_its_own_and_takes_the_next_when_one_leaves() {
    let limits = RelayLimits {
        peers: 2,
        ..RelayLimits::default()
    };
    let relay = start(1, Some(limits));
    let at = relay.address;
    let (mut a, mut b, mut c) = (start(2, None), start(3, None), start(4, None));
    a.attach(at).await;
    b.attach(at).await;

    c.swarm.attach(at).await;
    c.hear(|event| matches!(event, SwarmEvent::Detached(_)))
        .await;
    match c.reaches(at, &mut a).await {
        Err(CallError::Relay { cause, .. }) => {
            assert!(cause.contains("try another relay"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
    b.reaches(at, &mut a).await.unwrap();

    // It restarts, and the relay has not heard of its end: its place is its own.
    let mut again = start(2, None);
    again.attach(at).await;
    b.reaches(at, &mut again).await.unwrap();

    b.ground.endpoint.close(0u8.into(), b"bye");
    let mut tries = 0;
    while let Err(error) = c.reaches(at, &mut again).await {
        tries += 1;
        assert!(tries < 1_000, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_tells_of_an_address_of_the_other_family_if_it_was_shown_what_it_sent_there() {
    let relay = start(1, Some(RelayLimits::default()));
    let (caller, mut callee) = (start(2, None), start(3, None));
    callee.attach(relay.address).await;
    let at: SocketAddr = "[2001:db8::1]:7".parse().unwrap();
    // What the ground of this test vouches for.
    let genuine = [7; 8];
    for (cookie, told) in [([8; 8], None), (genuine, Some(at))] {
        let also = Some(Elsewhere { at, cookie });
        let call = Call {
            also,
            ..Call::new(callee.address.node, chance(), OFFER.to_vec())
        };
        let call = caller.swarm.call(relay.address, call);
        let rung = async {
            let rung = callee
                .hear(|event| matches!(event, SwarmEvent::Rung(_)))
                .await;
            let SwarmEvent::Rung(ring) = rung else {
                unreachable!("it was waited for");
            };
            let seen = ring.seen;
            ring.accept(b"answer".to_vec());
            seen
        };
        let (opened, seen) = tokio::join!(call, rung);
        assert_eq!((seen.at, seen.also), (caller.address.at, told));
        assert_eq!(opened.unwrap().seen.also, None, "the callee showed nothing");
    }
}

/// What a callee does when it rings.
async fn rung(callee: &mut Node) -> Ring {
    let rung = callee
        .hear(|event| matches!(event, SwarmEvent::Rung(_)))
        .await;
    match rung {
        SwarmEvent::Rung(ring) => ring,
        _ => unreachable!("it was waited for"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_brings_its_first_datagrams_along_and_its_number_is_nobody_elses() {
    let relay = start(1, Some(RelayLimits::default()));
    let (caller, other, mut callee) = (start(2, None), start(4, None), start(3, None));
    callee.attach(relay.address).await;
    let (to, board) = (callee.address.node, relay.swarm.board().unwrap());
    let first = vec![vec![0xc0; 1_200], vec![0xc1; 1_200]];
    let (begun, at) = oneshot::channel();
    let call = Call {
        first: first.clone(),
        begun: Some(begun),
        ..Call::new(to, 9, OFFER.to_vec())
    };
    let here = Instant::now();
    let ringing = async {
        let ring = rung(&mut callee).await;
        assert_eq!((ring.channel, &ring.first), (9, &first));
        // It is told before the answer where frames will come from; none passes before it either.
        assert_eq!(at.await.unwrap(), relay.address.at);
        assert_eq!(board.used()[0].bytes, [2 * 1_208, 0]);
        assert_eq!(board.forward(caller.address.at, 9, 100, here), None);
        // Somebody else's call of that number does not ring, one of another does.
        let taken = other.swarm.call(relay.address, Call::new(to, 9, vec![1]));
        assert!(matches!(taken.await, Err(CallError::Taken { .. })));
        ring.accept(b"answer".to_vec());
    };
    let (opened, ()) = tokio::join!(caller.swarm.call(relay.address, call), ringing);
    let opened = opened.unwrap();
    assert_eq!((opened.channel, opened.relay), (9, relay.address.at));
    assert_eq!(
        board.forward(caller.address.at, 9, 100, here),
        Some(callee.address.at)
    );
    other.reaches(relay.address, &mut callee).await.unwrap();

    let too_much = Call {
        first: vec![vec![1; 1_281]; 3],
        ..Call::new(to, 10, OFFER.to_vec())
    };
    let refused = caller.swarm.call(relay.address, too_much).await;
    assert_eq!(refused, Err(CallError::TooMuch));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_not_taken_leaves_no_channel_and_no_number_behind() {
    let relay = start(1, Some(RelayLimits::default()));
    let (caller, mut callee) = (start(2, None), start(3, None));
    callee.attach(relay.address).await;
    let (to, board) = (callee.address.node, relay.swarm.board().unwrap());
    for _ in 0..2 {
        let call = Call {
            first: vec![vec![0xc0; 1_200]],
            ..Call::new(to, 9, OFFER.to_vec())
        };
        let refusing = async { drop(rung(&mut callee).await) };
        let (refused, ()) = tokio::join!(caller.swarm.call(relay.address, call), refusing);
        assert!(
            matches!(refused, Err(CallError::Refused { .. })),
            "{refused:?}"
        );
        assert_eq!(board.used(), []);
    }
}
