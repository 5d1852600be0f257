//! A node and relays on loopback: when pipes are opened, and when not.

#![allow(clippy::unwrap_used)]

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use wayfare_identity::NodeKey;
use wayfare_transport::{PipeDoor, SocketOptions, TunnelReceiver, is_virtual, quic_endpoint};

use super::opening::OPEN_AFTER;
use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

struct Node {
    key: NodeKey,
    socket: SharedSocket,
    endpoint: QuicEndpoint,
    identity: QuicIdentity,
    _tunnel: TunnelReceiver,
}

fn node(seed: u8) -> Node {
    let key = NodeKey::from_seed([seed; 32]);
    let any = "127.0.0.1:0".parse().unwrap();
    let (socket, tunnel) = SharedSocket::bind(any, SocketOptions::default()).unwrap();
    let identity = QuicIdentity::from_ed25519_seed(*key.seed()).unwrap();
    Node {
        key,
        endpoint: quic_endpoint(&socket, &identity).unwrap(),
        socket,
        identity,
        _tunnel: tunnel,
    }
}

impl Node {
    fn address(&self) -> NodeAddress {
        NodeAddress {
            node: self.key.id(),
            at: self.socket.local_addr(),
        }
    }

    fn door(&self) -> PipeDoor {
        PipeDoor::open(&self.socket, &self.endpoint, &self.identity).unwrap()
    }

    fn carriers(&self) -> Carriers {
        Carriers::new(
            self.socket.clone(),
            self.endpoint.clone(),
            self.identity.clone(),
        )
    }
}

async fn turn(carriers: &mut Carriers) -> Turn {
    tokio::time::timeout(PATIENCE, carriers.turn())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_silent_relay_is_asked_again_and_then_reached_by_a_pipe_until_it_ends() {
    let (us, relay) = (node(1), node(2));
    let door = relay.door();
    let mut carriers = us.carriers();
    let address = relay.address();
    carriers.watch(address, true, Clock::now());
    assert_eq!(turn(&mut carriers).await, Turn::Ask(address.at));
    let Turn::Stands(pipe) = turn(&mut carriers).await else {
        panic!("no pipe")
    };
    assert!(pipe.node == address.node && is_virtual(pipe.at));
    assert_eq!(carriers.address(address.node), Some(pipe.at));
    assert_ne!(carriers.carrier(pipe.at), Carrier::Udp);
    assert_eq!(carriers.carrier(address.at), Carrier::Udp);
    // A late plain answer does not break the paths in use; nor is a relay of ours let go.
    carriers.heard(address.node);
    carriers.let_go(|_| false, Clock::now() + 2 * SPARE);
    assert_eq!(carriers.address(address.node), Some(pipe.at));
    drop(door);
    let ended = Turn::Ended {
        relay: address,
        at: pipe.at,
    };
    assert_eq!(turn(&mut carriers).await, ended);
    assert_eq!(carriers.address(address.node), None);
}

#[tokio::test]
async fn a_relay_that_answers_gets_no_pipe() {
    let (us, relay) = (node(1), node(2));
    let _door = relay.door();
    let mut carriers = us.carriers();
    let now = Clock::now();
    carriers.watch(relay.address(), false, now);
    carriers.heard(relay.address().node);
    let waited = tokio::time::timeout(2 * OPEN_AFTER, carriers.turn()).await;
    assert!(waited.is_err(), "{waited:?}");
    assert!(!carriers.is_hopeless(relay.key.id()));
    carriers.let_go(|_| false, now);
    assert!(carriers.watched.is_empty());
}

#[tokio::test]
async fn a_plain_answer_ends_a_try_before_a_byte_of_tls() {
    let (us, relay) = (node(1), node(2));
    let listener = TcpListener::bind(relay.socket.local_addr()).await.unwrap();
    let mut carriers = us.carriers();
    let begun = Clock::now();
    carriers.watch(relay.address(), false, begun);
    let accepted = tokio::select! {
        accepted = listener.accept() => accepted,
        turn = carriers.turn() => panic!("{turn:?} before TCP"),
    };
    let (mut stream, _) = accepted.unwrap();
    let took = Clock::now().saturating_duration_since(begun);
    assert!(took >= ASK_AGAIN / 6, "{took:?}");
    carriers.heard(relay.key.id());
    let mut said = Vec::new();
    // The try is given up by whoever waits for the next turn.
    tokio::select! {
        read = stream.read_to_end(&mut said) => assert_eq!(read.unwrap(), 0),
        turn = carriers.turn() => panic!("{turn:?} after the answer"),
        () = tokio::time::sleep(PATIENCE) => panic!("the connection is still open"),
    }
    assert!(carriers.tries.is_empty());
    // It is asked anew, and silent: a new try, and the second question.
    carriers.watch(relay.address(), false, Clock::now());
    let again = tokio::select! {
        accepted = listener.accept() => accepted,
        turn = carriers.turn() => panic!("{turn:?} before TCP"),
    };
    drop(again.unwrap());
    assert_eq!(turn(&mut carriers).await, Turn::Ask(relay.address().at));
}

#[tokio::test]
async fn a_relay_that_refuses_a_pipe_gets_no_other_for_a_while() {
    let (us, relay) = (node(1), node(2));
    let _door = relay.door();
    let mut carriers = us.carriers();
    let (address, id) = (relay.address(), relay.key.id());
    carriers.watch(address, true, Clock::now());
    assert_eq!(turn(&mut carriers).await, Turn::Ask(address.at));
    for failures in 1..4 {
        let Turn::Stands(pipe) = turn(&mut carriers).await else {
            panic!("no pipe")
        };
        let before = Clock::now();
        let ended = carriers.ended((id, pipe.at, false));
        assert!(matches!(ended, Some(Turn::Ended { at, .. }) if at == pipe.at));
        let pause = PAUSE * (1 << (failures - 1));
        assert!(carriers.is_hopeless(id) && carriers.address(id).is_none());
        // As the driver does: it is asked plainly at once, but no pipe is opened.
        carriers.watch(address, true, Clock::now());
        carriers.watch(address, true, before + pause * 9 / 10);
        assert!(carriers.is_hopeless(id));
        let due = carriers.watched[&id].due().unwrap();
        let in_time = before + pause..before + pause + PATIENCE / 10;
        assert!(in_time.contains(&due), "{:?}", due.duration_since(before));
        // The time is over.
        let again_at = Some(Clock::now());
        carriers.watched.get_mut(&id).unwrap().state = State::Unreachable { again_at };
    }
    let Turn::Stands(pipe) = turn(&mut carriers).await else {
        panic!("no pipe")
    };
    // What came of the pipe was good: the next refusal is the first.
    assert!(carriers.ended((id, pipe.at, true)).is_some());
    assert_eq!(carriers.watched[&id].failures, 0);
    // A plain answer ends the wait.
    carriers.watched.get_mut(&id).unwrap().fail(Clock::now());
    carriers.heard(id);
    assert!(!carriers.is_hopeless(id));
    // Others are watched again by who calls through them.
    let later = Clock::now() + 2 * MOST_PAUSE;
    carriers.watched.get_mut(&id).unwrap().fail(later);
    carriers.watch(address, false, later);
    assert!(!carriers.is_hopeless(id));
}

#[tokio::test]
async fn a_relay_that_is_not_there_is_hopeless_and_a_spare_pipe_is_let_go() {
    let (us, relay) = (node(1), node(2));
    let mut carriers = us.carriers();
    let elsewhere = NodeAddress {
        node: relay.key.id(),
        at: us.socket.local_addr(),
    };
    carriers.watch(elsewhere, false, Clock::now());
    assert_eq!(turn(&mut carriers).await, Turn::Ask(elsewhere.at));
    assert_eq!(turn(&mut carriers).await, Turn::Failed);
    assert!(carriers.is_hopeless(relay.key.id()));
    let _door = relay.door();
    carriers.watch(relay.address(), false, Clock::now());
    assert!(matches!(turn(&mut carriers).await, Turn::Ask(_)));
    assert!(matches!(turn(&mut carriers).await, Turn::Stands(_)));
    let later = Clock::now() + 2 * SPARE;
    carriers.let_go(|node| node == relay.key.id(), later);
    assert!(carriers.address(relay.key.id()).is_some());
    carriers.let_go(|_| false, later + SPARE / 2);
    assert!(carriers.address(relay.key.id()).is_some());
    carriers.let_go(|_| false, later + 2 * SPARE);
    assert!(carriers.address(relay.key.id()).is_none());
}
