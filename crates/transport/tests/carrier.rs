//! Pipes to a relay on loopback: what passes, in which order, what is refused and what is lost.

#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "of the namespaces a part is used here")]

#[path = "wireguard/netns.rs"]
mod netns;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{FutureExt, SinkExt, StreamExt};
use netns::Namespace;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use wayfare_transport::{
    Batch, BiStream, FULL_PAYLOAD, LEAST_PAYLOAD, Pipe, PipeDoor, PipeError, PipeKind,
    QuicEndpoint, QuicIdentity, SharedSocket, SocketOptions, Switch, TunnelReceiver, discovered,
    is_virtual, open_pipe, path_payload, quic_endpoint, remote_address,
};

const KINDS: [PipeKind; 2] = [PipeKind::Quic, PipeKind::Tls];
const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    socket: SharedSocket,
    tunnel: TunnelReceiver,
    quic: QuicEndpoint,
    identity: QuicIdentity,
}

impl Node {
    fn new(seed: u8) -> Self {
        Self::at("127.0.0.1:0", seed)
    }

    fn at(addr: &str, seed: u8) -> Self {
        let options = SocketOptions::default();
        let (socket, tunnel) = SharedSocket::bind(addr.parse().unwrap(), options).unwrap();
        let identity = QuicIdentity::from_ed25519_seed([seed; 32]).unwrap();
        let quic = quic_endpoint(&socket, &identity).unwrap();
        Self {
            socket,
            tunnel,
            quic,
            identity,
        }
    }

    fn door(&self) -> PipeDoor {
        PipeDoor::open(&self.socket, &self.quic, &self.identity).unwrap()
    }

    fn addr(&self) -> SocketAddr {
        SocketAddr::new([127, 0, 0, 1].into(), self.socket.local_addr().port())
    }

    async fn pipe(&self, kind: PipeKind, relay: &Node) -> Result<Pipe, PipeError> {
        let ours = (&self.socket, &self.quic, &self.identity);
        let key = relay.identity.node_key();
        within(open_pipe(kind, ours, relay.addr(), key)).await
    }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.unwrap()
}

/// Waits for what other tasks bring about; fails instead of hanging.
async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let wait = async {
        while !happened() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect(what);
}

/// A tunnel message of `length` bytes that carries `number`.
fn message(number: u32, length: usize) -> Vec<u8> {
    let mut message = vec![0; length];
    message[0] = 4;
    message[4..8].copy_from_slice(&number.to_be_bytes());
    message
}

/// The next `count` tunnel messages: where they came from, and their numbers and lengths.
async fn receive(tunnel: &mut TunnelReceiver, count: usize) -> Vec<(SocketAddr, u32, usize)> {
    let mut batch = Batch::new();
    let mut all = Vec::new();
    while all.len() < count {
        within(tunnel.recv(&mut batch)).await.unwrap();
        all.extend(batch.iter().map(|(from, datagram)| {
            let number = u32::from_be_bytes(datagram[4..8].try_into().unwrap());
            (from, number, datagram.len())
        }));
    }
    all
}

/// One stream through the pipe, there and back. The connections are kept until the pipe was used.
async fn echo(node: &Node, relay: &Node, pipe: &Pipe) -> [quinn::Connection; 2] {
    let serving = async {
        let connection = relay.quic.accept().await.unwrap();
        let stream = BiStream::accept(&connection).await.unwrap();
        let (mut read, mut write) = tokio::io::split(stream);
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.shutdown().await.unwrap();
        connection
    };
    let calling = async {
        let dialed = node.quic.dial(pipe.address(), relay.quic.node_key()).await;
        let connection = dialed.unwrap();
        assert_eq!(remote_address(&connection), pipe.address());
        let stream = BiStream::open(&connection).await.unwrap();
        let sent: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        let (mut read, mut write) = tokio::io::split(stream);
        let mut back = Vec::new();
        let write_all = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let (_, read) = tokio::join!(write_all, read.read_to_end(&mut back));
        read.unwrap();
        assert!(back == sent);
        connection
    };
    let (there, here) = within(async { tokio::join!(serving, calling) }).await;
    [here, there]
}

#[tokio::test]
async fn quic_and_tunnel_messages_pass_both_ways_in_order() {
    for kind in KINDS {
        for binds in ["127.0.0.1:0", "[::]:0"] {
            let (mut node, mut relay) = (Node::at(binds, 1), Node::at(binds, 2));
            let door = relay.door();
            assert_eq!(door.tcp_addr().unwrap().port(), relay.addr().port());
            let pipe = node.pipe(kind, &relay).await.unwrap();
            assert!(pipe.kind() == kind && is_virtual(pipe.address()));
            let [_here, there] = echo(&node, &relay, &pipe).await;
            // The relay sees the node at a virtual address of its own.
            let back = remote_address(&there);
            assert!(is_virtual(back), "{back}");
            for number in 0..100 {
                let message = message(number, 1_000);
                node.socket.try_send(pipe.address(), &message).unwrap();
                relay.socket.try_send(back, &message).unwrap();
            }
            for (tunnel, from) in [
                (&mut relay.tunnel, back),
                (&mut node.tunnel, pipe.address()),
            ] {
                let expect: Vec<_> = (0..100).map(|number| (from, number, 1_000)).collect();
                assert_eq!(receive(tunnel, 100).await, expect, "{kind:?}");
            }
            assert_eq!(node.socket.stats().send_errors, 0);
        }
    }
}

#[test]
fn what_does_not_fit_is_lost_and_quic_finds_out_what_does() {
    // Loopback carries everything, a cable does not.
    let lab = Namespace::new();
    lab.ip("link set lo mtu 1500");
    lab.enter(|| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(what_fits());
    });
}

async fn what_fits() {
    for (kind, full) in [(PipeKind::Quic, false), (PipeKind::Tls, true)] {
        let (mut node, mut relay) = (Node::new(1), Node::new(2));
        let _door = relay.door();
        let pipe = node.pipe(kind, &relay).await.unwrap();
        let connections = echo(&node, &relay, &pipe).await;
        // A search of a path that does not carry everything ends with losses, some hundred milliseconds long.
        let patience = Duration::from_millis(if full { 20_000 } else { 700 });
        let [here, there] = connections.each_ref();
        let (here, there) = tokio::join!(discovered(here, patience), discovered(there, patience));
        assert!(
            here > LEAST_PAYLOAD && there > LEAST_PAYLOAD,
            "{here} {there}"
        );
        let [here, there] = connections.each_ref().map(path_payload);
        assert_eq!(here == FULL_PAYLOAD && there == FULL_PAYLOAD, full);
        let to = pipe.address();
        let lost = node.socket.stats().carried_lost;
        // No error, which the pump would take for a broken path.
        let widest = message(1, usize::from(FULL_PAYLOAD));
        node.socket.try_send(to, &widest).unwrap();
        let too_large = usize::from(!full) as u64;
        assert_eq!(node.socket.stats().carried_lost - lost, too_large);
        // What the control connection found is what the tunnel will use.
        node.socket
            .try_send(to, &message(2, usize::from(here)))
            .unwrap();
        let arrived = receive(&mut relay.tunnel, 1 + usize::from(full)).await;
        let last = arrived.last().unwrap();
        assert_eq!((last.1, last.2), (2, usize::from(here)), "{kind:?}");
        // A train of both lengths: the short one survives.
        let from = remote_address(&connections[1]);
        let mut train = message(3, usize::from(FULL_PAYLOAD));
        train.extend(message(4, 500));
        let sent = relay
            .socket
            .try_send_segments(from, &train, usize::from(FULL_PAYLOAD));
        assert_eq!(sent.unwrap(), train.len());
        let arrived = receive(&mut node.tunnel, 1 + usize::from(full)).await;
        assert_eq!(arrived.last().unwrap().1, 4);
    }
}

#[tokio::test]
async fn another_node_than_the_one_called_is_refused() {
    let (node, relay, other) = (Node::new(1), Node::new(2), Node::new(3));
    let _door = relay.door();
    for kind in KINDS {
        let ours = (&node.socket, &node.quic, &node.identity);
        let wanted = other.identity.node_key();
        let error = within(open_pipe(kind, ours, relay.addr(), wanted)).await;
        let error = error.unwrap_err();
        match kind {
            PipeKind::Quic => assert!(matches!(error, PipeError::Dial(_)), "{error}"),
            PipeKind::Tls => assert!(matches!(error, PipeError::WrongNode { .. }), "{error}"),
        }
    }
    // Nobody is at home.
    let error = node.pipe(PipeKind::Tls, &other).await.unwrap_err();
    assert!(matches!(error, PipeError::Tcp { .. }), "{error}");
    // A node that is no relay does not keep the connection.
    let pipe = node.pipe(PipeKind::Quic, &other).await;
    if let Ok(pipe) = pipe {
        within(pipe.ended()).await;
    }
}

/// A TLS connection to the relay as a node would make it, and nothing said in it.
async fn tls(relay: &Node, identity: &QuicIdentity) -> tokio_rustls::client::TlsStream<TcpStream> {
    let stream = TcpStream::connect(relay.addr()).await.unwrap();
    let connector = TlsConnector::from(identity.calling().unwrap());
    let name = "node".try_into().unwrap();
    within(connector.connect(name, stream)).await.unwrap()
}

#[tokio::test]
async fn garbage_at_any_stage_harms_nobody() {
    let (node, relay) = (Node::new(1), Node::new(2));
    let _door = relay.door();
    let pipe = node.pipe(PipeKind::Tls, &relay).await.unwrap();
    let hello = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for garbage in [&hello[..], &[0; 4_000], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]] {
        let mut stream = TcpStream::connect(relay.addr()).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // An alert, or a reset: in any case the end, at once.
        let _ = within(stream.read_to_end(&mut answer)).await;
        assert!(answer.len() < 100);
    }
    for garbage in [&hello[..], &[0xff; 20_000], b"\r\n\r\n"] {
        let mut stream = tls(&relay, &node.identity).await;
        let _ = stream.write_all(garbage).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = within(stream.read_to_end(&mut answer)).await;
        assert!(answer.len() < 2_000);
    }
    let wrong: [Message; 3] = [
        Message::Text("hello".into()),
        Message::Binary(vec![4; 1_601].into()),
        Message::Close(None),
    ];
    for message in wrong {
        let stream = tls(&relay, &node.identity).await;
        let request = format!("ws://{}/", relay.addr());
        let upgraded = tokio_tungstenite::client_async(request, stream).await;
        let (mut channel, _) = upgraded.unwrap();
        // Junk inside is counted and stays.
        channel
            .send(Message::Binary(vec![9; 100].into()))
            .await
            .unwrap();
        channel.send(Message::Binary(vec![].into())).await.unwrap();
        channel.send(message).await.unwrap();
        let end = async { while let Some(Ok(_)) = channel.next().await {} };
        within(end).await;
    }
    eventually("junk", || relay.socket.stats().junk_in == 6).await;
    echo(&node, &relay, &pipe).await;
}

/// The head of a request, to its last byte and not farther.
async fn request(stream: &mut TlsStream<TcpStream>) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Opens the WebSocket that was asked for.
async fn agree(
    mut stream: TlsStream<TcpStream>,
    request: &str,
) -> WebSocketStream<TlsStream<TcpStream>> {
    let key = request
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    let accept = derive_accept_key(key.unwrap().as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
    WebSocketStream::from_raw_socket(stream, Role::Server, None).await
}

#[tokio::test]
async fn a_pipe_may_be_used_before_the_relay_has_agreed_and_the_request_leaves_with_the_handshake()
{
    let (mut node, relay) = (Node::new(1), Node::new(2));
    let listener = TcpListener::bind(relay.addr()).await.unwrap();
    let acceptor = TlsAcceptor::from(relay.identity.called().unwrap());
    let serving = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        // What the node's handshake ended with is read at once with what came along.
        let along = stream.get_mut().1.process_new_packets().unwrap();
        (stream, along.plaintext_bytes_to_read())
    };
    let (pipe, (mut stream, along)) =
        tokio::join!(node.pipe(PipeKind::Tls, &relay), within(serving));
    let pipe = pipe.unwrap();
    let sent = message(7, 500);
    node.socket.try_send(pipe.address(), &sent).unwrap();
    let head = request(&mut stream).await;
    assert_eq!(along, head.len(), "the request left in the flight before");
    let wanted = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade",
        relay.addr()
    );
    assert!(head.starts_with(&wanted), "{head}");
    // Nothing was answered yet, and the message is here.
    let mut frames = Vec::new();
    while frames.len() < 6 + 8 + 500 {
        within(stream.read_buf(&mut frames)).await.unwrap();
    }
    let mut ended = Box::pin(pipe.ended());
    assert!(ended.as_mut().now_or_never().is_none());
    let mut channel = agree(stream, &head).await;
    channel.send(Message::Binary(sent.into())).await.unwrap();
    let expect = [(pipe.address(), 7, 500)];
    assert_eq!(receive(&mut node.tunnel, 1).await, expect);
    drop(channel);
    assert!(within(ended).await, "something came through it");
}

#[tokio::test]
async fn a_relay_that_does_not_agree_ends_the_pipe() {
    let (node, relay) = (Node::new(1), Node::new(2));
    let listener = TcpListener::bind(relay.addr()).await.unwrap();
    let acceptor = TlsAcceptor::from(relay.identity.called().unwrap());
    for answer in [&b"HTTP/1.1 503 Service Unavailable\r\n\r\n"[..], b""] {
        let serving = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            request(&mut stream).await;
            stream.write_all(answer).await.unwrap();
            // It stays open: the node ends it, or not even that was said.
            if answer.is_empty() {
                stream.shutdown().await.unwrap();
            }
            stream
        };
        let (pipe, _stream) = tokio::join!(node.pipe(PipeKind::Tls, &relay), within(serving));
        let pipe = pipe.unwrap();
        assert!(!within(pipe.ended()).await, "nothing came through it");
    }
}

#[tokio::test]
async fn a_relay_that_reads_nothing_costs_no_memory() {
    let (node, relay) = (Node::new(1), Node::new(2));
    let listener = TcpListener::bind(relay.addr()).await.unwrap();
    let acceptor = TlsAcceptor::from(relay.identity.called().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let request = request(&mut stream).await;
        let channel = agree(stream, &request).await;
        let _ = stopped.await;
        channel
    });
    let pipe = node.pipe(PipeKind::Tls, &relay).await.unwrap();
    for number in 0..10_000 {
        let sent = node
            .socket
            .try_send(pipe.address(), &message(number, 1_452));
        sent.unwrap();
        if number % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let stats = node.socket.stats();
    assert_eq!(stats.carried_sent + stats.carried_lost, 10_000);
    // Our line of 8 MiB, what the kernels keep at both ends, and a few records of TLS; 14 MiB were sent.
    let kept = stats.carried_sent * 1_452;
    assert!(kept < 11 << 20, "{kept}");
    // When it reads again, what was kept arrives, the oldest first and in order.
    drop(stop);
    let mut channel = within(serving).await.unwrap();
    let mut numbers = Vec::new();
    while numbers.len() < stats.carried_sent as usize {
        if let Message::Binary(datagram) = within(channel.next()).await.unwrap().unwrap() {
            numbers.push(u32::from_be_bytes(datagram[4..8].try_into().unwrap()));
        }
    }
    assert!(numbers[0] == 0 && numbers.is_sorted());
}

/// One channel between two ends.
#[derive(Debug, Default)]
struct Pair(Mutex<Option<[SocketAddr; 2]>>);

impl Switch for Pair {
    fn forward(&self, from: SocketAddr, number: u32, _: usize, _: usize) -> Option<SocketAddr> {
        let [left, right] = self.0.lock().unwrap().filter(|_| number == 5)?;
        match from {
            from if from == left => Some(right),
            from if from == right => Some(left),
            _ => None,
        }
    }
}

#[tokio::test]
async fn a_relay_forwards_between_a_pipe_and_plain_udp() {
    for kind in KINDS {
        let (mut node, relay, mut peer) = (Node::new(1), Node::new(2), Node::new(3));
        let _door = relay.door();
        let pair = Arc::new(Pair::default());
        relay
            .socket
            .set_switch(Some(Arc::clone(&pair) as Arc<dyn Switch>));
        let pipe = node.pipe(kind, &relay).await.unwrap();
        let [_here, there] = echo(&node, &relay, &pipe).await;
        *pair.0.lock().unwrap() = Some([remote_address(&there), peer.addr()]);
        let left = node.socket.open_relayed(pipe.address(), 5).unwrap();
        let right = peer.socket.open_relayed(relay.addr(), 5).unwrap();
        for number in 0..50 {
            let message = message(number, 1_200);
            node.socket.try_send(left.address(), &message).unwrap();
            peer.socket.try_send(right.address(), &message).unwrap();
        }
        for (tunnel, from) in [(&mut peer.tunnel, &right), (&mut node.tunnel, &left)] {
            let expect: Vec<_> = (0..50)
                .map(|number| (from.address(), number, 1_200))
                .collect();
            assert_eq!(receive(tunnel, 50).await, expect, "{kind:?}");
        }
        // QUIC end to end, through the frames inside the pipe.
        let key = peer.quic.node_key();
        let dialing = node.quic.dial(left.address(), key);
        let (dialed, accepted) = within(async { tokio::join!(dialing, peer.quic.accept()) }).await;
        assert_eq!(remote_address(&dialed.unwrap()), left.address());
        assert_eq!(remote_address(&accepted.unwrap()), right.address());
        assert_eq!(relay.socket.stats().frames_refused, 0);
    }
}

#[tokio::test]
async fn a_pipe_ends_with_either_end() {
    for kind in KINDS {
        let (node, relay) = (Node::new(1), Node::new(2));
        let door = relay.door();
        let pipe = node.pipe(kind, &relay).await.unwrap();
        let [_here, there] = echo(&node, &relay, &pipe).await;
        let at = pipe.address();
        drop(pipe);
        let back = remote_address(&there);
        for (socket, to) in [(&node.socket, at), (&relay.socket, back)] {
            let closed = || {
                let sent = socket.try_send(to, &message(1, 100));
                sent.is_err_and(|error| error.kind() == ErrorKind::NotConnected)
            };
            eventually("both ends close", closed).await;
        }
        let pipe = node.pipe(kind, &relay).await.unwrap();
        // Something has come: it was agreed upon.
        let connections = echo(&node, &relay, &pipe).await;
        let ended = pipe.ended();
        drop(door);
        assert!(within(ended).await);
        drop(connections);
    }
}

#[tokio::test]
async fn one_address_gets_sixteen_pipes() {
    let (node, relay) = (Node::new(1), Node::new(2));
    let _door = relay.door();
    let mut pipes = Vec::new();
    for number in 0..16 {
        pipes.push(node.pipe(KINDS[number % 2], &relay).await.unwrap());
    }
    let refused = node.pipe(PipeKind::Tls, &relay).await.unwrap_err();
    assert!(matches!(refused, PipeError::Tls { .. }), "{refused}");
    pipes.pop();
    let again = async {
        loop {
            if let Ok(pipe) = node.pipe(PipeKind::Tls, &relay).await {
                return pipe;
            }
        }
    };
    within(again).await;
}
