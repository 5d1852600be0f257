//! A caller, a relay and a callee on loopback: what goes along with a call, and what is left of one that was not taken.

#![allow(clippy::unwrap_used)]

use tokio::sync::mpsc;
use wayfare_identity::NodeKey;
use wayfare_nat::{RelayLimits, SwarmConfig, SwarmEvent};
use wayfare_transport::{
    QuicEndpoint, QuicIdentity, SharedSocket, SocketOptions, TunnelReceiver, quic_endpoint,
    remote_address,
};

use super::super::super::{Reach, ReachConfig, swarm_on};
use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

struct Feet {
    key: NodeKey,
    socket: SharedSocket,
    endpoint: QuicEndpoint,
    identity: QuicIdentity,
    _tunnel: TunnelReceiver,
}

fn feet(seed: u8) -> Feet {
    let key = NodeKey::from_seed([seed; 32]);
    let any = "127.0.0.1:0".parse().unwrap();
    let (socket, tunnel) = SharedSocket::bind(any, SocketOptions::default()).unwrap();
    let identity = QuicIdentity::from_ed25519_seed(*key.seed()).unwrap();
    Feet {
        key,
        endpoint: quic_endpoint(&socket, &identity).unwrap(),
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

    /// A callee that decides itself about its calls.
    async fn attached(&self, relay: NodeAddress) -> (Swarm, mpsc::Receiver<SwarmEvent>) {
        let config = SwarmConfig {
            key: self.key.clone(),
            relay: None,
            dht: None,
        };
        let (swarm, mut events) =
            swarm_on(&self.socket, &self.endpoint, &self.identity, config).unwrap();
        swarm.attach(relay).await;
        while !matches!(within(events.recv()).await, Some(SwarmEvent::Attached(_))) {}
        (swarm, events)
    }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_dialed_while_it_is_called_answers_both_at_once() {
    let [caller, relay, callee] = [51, 52, 53].map(feet);
    let carrying = relay.reach(&[], Some(RelayLimits::default()));
    let ringing = callee.reach(&[relay.address()], None);
    ringing.attached(PATIENCE).await;
    let calling = caller.reach(&[], None);
    let call = within(calling.call(callee.key.id(), &[relay.address()])).await;
    let call = call.unwrap();
    let at = call.at;
    let dialed = caller.endpoint.dial(at, callee.key.id().0);
    let accepted = callee.endpoint.accept();
    let (dialed, accepted, link) =
        within(async { tokio::join!(dialed, accepted, call.answered()) }).await;
    let link = link.unwrap();
    assert_eq!(remote_address(&dialed.unwrap()), at);
    assert!(wayfare_transport::is_virtual(remote_address(
        &accepted.unwrap()
    )));
    // The caller counts what went along, as the relay does: a frame when it has been sent.
    let relayed = carrying.board().unwrap().used()[0].bytes[0];
    assert!(relayed > 2_400, "{relayed}");
    let counts = async {
        while link.relay.borrow().meter.passed()[0] < relayed {
            tokio::task::yield_now().await;
        }
    };
    within(counts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_flight_of_a_handshake_is_rung_with_and_a_call_that_is_not_taken_leaves_nothing()
{
    let [caller, relay, callee] = [61, 62, 63].map(feet);
    let carrying = relay.reach(&[], Some(RelayLimits::default()));
    let (_swarm, mut events) = callee.attached(relay.address()).await;
    let calling = caller.reach(&[], None);
    let call = within(calling.call(callee.key.id(), &[relay.address()])).await;
    let call = call.unwrap();
    let at = call.at;
    let endpoint = caller.endpoint.clone();
    let node = callee.key.id().0;
    let dialing = tokio::spawn(async move { endpoint.dial(at, node).await });
    let ring = loop {
        if let Some(SwarmEvent::Rung(ring)) = within(events.recv()).await {
            break ring;
        }
    };
    let long = |datagram: &Vec<u8>| datagram.len() >= 1_200 && datagram[0] & 0xc0 == 0xc0;
    assert!(!ring.first.is_empty() && ring.first.iter().all(long));
    assert_eq!(carrying.board().unwrap().used().len(), 1);
    // Frames reach nobody who has not taken the call.
    assert_eq!(callee.socket.stats().junk_in, 0);
    drop(ring);
    let error = within(call.answered()).await.unwrap_err();
    assert!(error.to_string().contains("does not take"), "{error}");
    assert_eq!(carrying.board().unwrap().used(), []);
    let closed = caller.socket.try_send(at, &[5, 0, 0, 0]).unwrap_err();
    assert_eq!(closed.kind(), std::io::ErrorKind::NotConnected);
    dialing.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_nobody_dials_is_made_all_the_same() {
    let [caller, relay, callee] = [71, 72, 73].map(feet);
    let _carrying = relay.reach(&[], Some(RelayLimits::default()));
    let ringing = callee.reach(&[relay.address()], None);
    ringing.attached(PATIENCE).await;
    let calling = caller.reach(&[], None);
    let call = within(calling.call(callee.key.id(), &[relay.address()])).await;
    let link = within(call.unwrap().answered()).await.unwrap();
    let at = link.path.borrow().at;
    let dialed = caller.endpoint.dial(at, callee.key.id().0);
    let (dialed, accepted) = within(async { tokio::join!(dialed, callee.endpoint.accept()) }).await;
    assert!(dialed.is_ok() && accepted.is_some());
}
