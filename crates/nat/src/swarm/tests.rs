//! A relay with few places, on loopback: who is turned away, what it is told, and when it gets in after all.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use wayfare_identity::{NodeAddress, NodeKey};

use super::{CallError, Swarm, SwarmConfig, SwarmEvent};
use crate::ground::plain::PlainGround;
use crate::{Elsewhere, RelayLimits};

const OFFER: &[u8] = b"offer";

struct Node {
    swarm: Swarm,
    ground: PlainGround,
    address: NodeAddress,
    events: mpsc::Receiver<SwarmEvent>,
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
            called = self.swarm.call(relay, to, None, OFFER.to_vec()) => called.map(drop),
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
        let call = caller
            .swarm
            .call(relay.address, callee.address.node, also, OFFER.to_vec());
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
