//! Paths through a relay, and through other carriers: three shared sockets on loopback, the third
//! with a switch.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use wayfare_transport::{
    Batch, BiStream, Carried, Carrier, FULL_PAYLOAD, LEAST_PAYLOAD, Outgoing, QuicIdentity,
    SharedSocket, SocketOptions, Switch, TunnelReceiver, is_virtual, quic_endpoint, remote_address,
};

fn bind(addr: &str) -> (SharedSocket, TunnelReceiver) {
    SharedSocket::bind(addr.parse().unwrap(), SocketOptions::default()).unwrap()
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what)
        .await
        .unwrap()
}

/// Waits for an event that other tasks bring about; fails instead of hanging.
async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let wait = async {
        while !happened() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect(what);
}

/// A tunnel message of `length` bytes that carries `number`.
fn message(number: u32, length: usize) -> Vec<u8> {
    let mut message = vec![0; length];
    message[0] = 4;
    message[4..8].copy_from_slice(&number.to_be_bytes());
    message
}

fn number(datagram: &[u8]) -> u32 {
    u32::from_be_bytes(datagram[4..8].try_into().unwrap())
}

fn probe(text: &[u8]) -> Vec<u8> {
    [&[5, 0, 0, 0], text].concat()
}

fn frame(channel: u32, inside: &[u8]) -> Vec<u8> {
    [&[6, 0, 0, 0], &channel.to_be_bytes()[..], inside].concat()
}

/// The two ends of each channel.
#[derive(Debug, Default)]
struct Pairs(Mutex<HashMap<u32, [SocketAddr; 2]>>);

impl Switch for Pairs {
    fn forward(
        &self,
        from: SocketAddr,
        channel: u32,
        count: usize,
        bytes: usize,
    ) -> Option<SocketAddr> {
        assert!(count > 0 && bytes > count * 8);
        let pairs = self.0.lock().unwrap();
        let [left, right] = *pairs.get(&channel)?;
        match from {
            from if from == left => Some(right),
            from if from == right => Some(left),
            _ => None,
        }
    }
}

/// A relay on loopback.
struct Relay {
    socket: SharedSocket,
    _tunnel: TunnelReceiver,
    pairs: Arc<Pairs>,
}

impl Relay {
    fn new() -> Self {
        let (socket, tunnel) = bind("127.0.0.1:0");
        let pairs = Arc::new(Pairs::default());
        socket.set_switch(Some(Arc::clone(&pairs) as Arc<dyn Switch>));
        Self {
            socket,
            _tunnel: tunnel,
            pairs,
        }
    }

    fn addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    /// A channel between two sockets, and its two ends.
    fn channel(&self, channel: u32, ends: [&SharedSocket; 2]) -> [Carried; 2] {
        let seen = ends.map(|end| {
            let port = end.local_addr().port();
            SocketAddr::new("127.0.0.1".parse().unwrap(), port)
        });
        self.pairs.0.lock().unwrap().insert(channel, seen);
        ends.map(|end| end.open_relayed(self.addr(), channel).unwrap())
    }
}

async fn dial_and_echo(binds: [&str; 2], leads: bool) {
    let relay = Relay::new();
    let [(client, _client_tunnel), (server, mut server_tunnel)] = binds.map(bind);
    let [there, here] = relay.channel(77, [&client, &server]);
    let endpoints = [(&client, 1), (&server, 2)].map(|(socket, seed)| {
        let identity = QuicIdentity::from_ed25519_seed([seed; 32]).unwrap();
        quic_endpoint(socket, &identity).unwrap()
    });
    let [client_quic, server_quic] = &endpoints;
    let reading = tokio::spawn(async move {
        if leads {
            server_tunnel.lead();
        }
        let _ = server_tunnel.recv(&mut Batch::new()).await;
    });
    let serving = {
        let (quic, expected) = (server_quic.clone(), here.address());
        tokio::spawn(async move {
            let connection = quic.accept().await.unwrap();
            assert_eq!(remote_address(&connection), expected);
            let stream = BiStream::accept(&connection).await.unwrap();
            let (mut read, mut write) = tokio::io::split(stream);
            tokio::io::copy(&mut read, &mut write).await.unwrap();
            write.shutdown().await.unwrap();
            connection.closed().await;
        })
    };
    let dialed = client_quic.dial(there.address(), server_quic.node_key());
    let connection = within(dialed).await.unwrap();
    assert_eq!(remote_address(&connection), there.address());
    let (mut read, mut write) = tokio::io::split(BiStream::open(&connection).await.unwrap());
    const BYTES: usize = 1 << 20;
    let writing = tokio::spawn(async move {
        let bytes: Vec<u8> = (0..BYTES).map(|n| (n / 1000) as u8).collect();
        write.write_all(&bytes).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    within(read.read_to_end(&mut back)).await.unwrap();
    writing.await.unwrap();
    assert_eq!(back.len(), BYTES);
    assert!(
        back.iter()
            .enumerate()
            .all(|(n, byte)| *byte == (n / 1000) as u8)
    );
    // All of it went through the relay, in both directions.
    let switched = relay.socket.stats().frames_switched;
    // Loopback carries the largest that QUIC asks for.
    let largest = usize::from(2 * FULL_PAYLOAD - LEAST_PAYLOAD);
    assert!(switched as usize > 2 * BYTES / largest, "{switched}");
    let stats = client.stats();
    assert_eq!((stats.quic_in, stats.junk_in), (stats.frames_in, 0));
    assert!(stats.frames_sent > 0);
    client_quic.close().await;
    within(serving).await.unwrap();
    reading.abort();
}

#[tokio::test]
async fn quic_runs_through_a_relay_as_through_any_path() {
    dial_and_echo(["127.0.0.1:0", "127.0.0.1:0"], false).await;
    dial_and_echo(["127.0.0.1:0", "127.0.0.1:0"], true).await;
    // A dual-stack socket writes the virtual address as IPv6, and quinn must find its own again.
    dial_and_echo(["[::]:0", "[::]:0"], false).await;
}

/// Trains from two peers by two channels of one relay, and from a third directly.
async fn trains(leads: bool, many: bool) {
    const ROUNDS: u32 = 60;
    const TRAIN: u32 = 40;
    let relay = Relay::new();
    let (receiver, mut tunnel) = bind("127.0.0.1:0");
    let senders = [(); 3].map(|()| bind("127.0.0.1:0").0);
    let [to_one, from_one] = relay.channel(1, [&senders[0], &receiver]);
    let [to_two, from_two] = relay.channel(2, [&senders[1], &receiver]);
    let ways = [
        (&senders[0], to_one.address(), from_one.address()),
        (&senders[1], to_two.address(), from_two.address()),
        (&senders[2], receiver.local_addr(), senders[2].local_addr()),
    ];
    if leads {
        tunnel.lead();
    }
    let mut batch = Batch::new();
    let mut next: HashMap<SocketAddr, u32> = HashMap::new();
    for round in 0..ROUNDS {
        // The last of a train is shorter; no two trains are of one length.
        let length = 1000 + round as usize;
        for (socket, to, _) in &ways {
            let train: Vec<u8> = (0..TRAIN)
                .flat_map(|n| message(round * TRAIN + n, if n + 1 < TRAIN { length } else { 99 }))
                .collect();
            if many {
                let [half, other] = [&train[..20 * length], &train[20 * length..]];
                let outgoing = [half, other].map(|bytes| Outgoing {
                    to: *to,
                    bytes,
                    segment: length,
                });
                assert_eq!(socket.try_send_many(&outgoing).unwrap(), train.len());
            } else {
                socket.send_segments(*to, &train, length).await.unwrap();
            }
        }
        let mut missing = 3 * TRAIN;
        while missing > 0 {
            within(tunnel.recv(&mut batch)).await.unwrap();
            for (from, datagram) in batch.iter_mut() {
                let next = next.entry(from).or_default();
                assert_eq!(number(datagram), *next, "from {from}");
                let last = *next % TRAIN == TRAIN - 1;
                assert_eq!(datagram.len(), if last { 99 } else { length });
                assert!(datagram[8..].iter().all(|byte| *byte == 0));
                *next += 1;
                missing -= 1;
            }
        }
    }
    for (_, _, from) in ways {
        assert_eq!(next.remove(&from), Some(ROUNDS * TRAIN));
    }
    assert!(next.is_empty());
    let stats = relay.socket.stats();
    assert_eq!(stats.frames_switched, u64::from(2 * ROUNDS * TRAIN));
    assert_eq!(
        (stats.frames_lost, stats.frames_refused, stats.junk_in),
        (0, 0, 0)
    );
    assert_eq!(receiver.stats().frames_in, stats.frames_switched);
    assert_eq!(receiver.stats().tunnel_in, u64::from(3 * ROUNDS * TRAIN));
    assert_eq!(senders[0].stats().segmentation_refused, 0);
    assert_eq!(senders[0].stats().frames_sent, u64::from(ROUNDS * TRAIN));
    // Whole frames, at both ends alike: 39 of a train and its last.
    let of_round = |round: u64| 39 * (1000 + round + 8) + 99 + 8;
    let bytes: u64 = (0..u64::from(ROUNDS)).map(of_round).sum();
    for (near, far) in [(&to_one, &from_one), (&to_two, &from_two)] {
        assert_eq!(near.meter().passed(), [bytes, 0]);
        assert_eq!(far.meter().passed(), [0, bytes]);
    }
}

#[tokio::test]
async fn trains_arrive_in_order_and_unmixed_in_both_reading_roles() {
    for leads in [false, true] {
        for many in [false, true] {
            trains(leads, many).await;
        }
    }
}

#[tokio::test]
async fn one_train_for_everybody_is_sorted_in_order() {
    for leads in [false, true] {
        let (receiver, mut tunnel) = bind("127.0.0.1:0");
        let mut probes = receiver.probes().unwrap();
        assert!(receiver.probes().is_none(), "there is one line");
        let (relay, _unused) = bind("127.0.0.1:0");
        let open = receiver.open_relayed(relay.local_addr(), 9).unwrap();
        let again = receiver.open_relayed(relay.local_addr(), 9).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        if leads {
            tunnel.lead();
        }
        let fill = |mut datagram: Vec<u8>| {
            datagram.resize(100, 0);
            datagram
        };
        let train = [
            message(0, 100),
            fill(frame(9, &message(1, 92))),
            fill(frame(9, &probe(b"inside"))),
            fill(frame(9, &message(2, 92))),
            fill(frame(9, &frame(9, b"deeper"))),
            fill(frame(8, &message(3, 92))),
            fill(probe(b"outside")),
            fill(frame(9, b"\0junk")),
            fill(frame(9, &message(4, 92))),
            fill(frame(9, &message(5, 92))),
            message(6, 60),
        ];
        relay
            .send_segments(receiver.local_addr(), &train.concat(), 100)
            .await
            .unwrap();
        let [direct, inside] = [relay.local_addr(), open.address()];
        let mut seen = Vec::new();
        let mut batch = Batch::new();
        while seen.len() < 6 {
            within(tunnel.recv(&mut batch)).await.unwrap();
            seen.extend(batch.iter().map(|(from, d)| (from, number(d), d.len())));
        }
        let expected = [
            (direct, 0, 100),
            (inside, 1, 92),
            (inside, 2, 92),
            (inside, 4, 92),
            (inside, 5, 92),
            (direct, 6, 60),
        ];
        assert_eq!(seen, expected);
        for (from, text) in [(inside, &b"inside"[..]), (direct, b"outside")] {
            let probe = within(probes.recv()).await.unwrap();
            assert_eq!(probe.from, from);
            assert_eq!(&probe.bytes[4..4 + text.len()], text);
        }
        let stats = receiver.stats();
        // A frame in a frame, another's channel, and plain junk.
        assert_eq!((stats.junk_in, stats.frames_in), (3, 7));
        drop(probes);
        assert!(receiver.probes().is_some(), "the line is free again");
    }
}

#[tokio::test]
async fn what_is_not_open_is_refused_and_never_sent() {
    let relay = Relay::new();
    let [(left, _left_tunnel), (right, mut right_tunnel)] = [bind("127.0.0.1:0"), bind("[::]:0")];
    let [there, here] = relay.channel(5, [&left, &right]);
    left.try_send(there.address(), &message(1, 50)).unwrap();
    let mut batch = Batch::new();
    within(right_tunnel.recv(&mut batch)).await.unwrap();
    assert_eq!(batch.iter().next().unwrap().0, here.address());
    let ttl = left.try_send_ttl(there.address(), b"x", 3).unwrap_err();
    assert_eq!(ttl.kind(), ErrorKind::Unsupported);

    let closed = there.address();
    drop(there);
    let mapped: SocketAddr = format!("[::ffff:240.9.9.9]:{}", closed.port())
        .parse()
        .unwrap();
    let sent = (left.stats().sent, right.stats().sent);
    for never in [closed, mapped, "255.255.255.255:9".parse().unwrap()] {
        assert!(is_virtual(never));
        for socket in [&left, &right] {
            let datagram = message(2, 50);
            let outgoing = Outgoing {
                to: never,
                bytes: &datagram,
                segment: 50,
            };
            let refusals = [
                socket.try_send(never, &datagram).unwrap_err(),
                socket.send(never, &datagram).await.unwrap_err(),
                socket.try_send_segments(never, &datagram, 10).unwrap_err(),
                socket.try_send_many(&[outgoing]).unwrap_err(),
                socket.try_send_ttl(never, &datagram, 9).unwrap_err(),
                socket.open_relayed(never, 5).unwrap_err(),
            ];
            for refusal in refusals {
                assert_eq!(refusal.kind(), ErrorKind::NotConnected, "{refusal}");
                assert!(refusal.to_string().contains("not open"), "{refusal}");
            }
        }
    }
    assert_eq!((left.stats().sent, right.stats().sent), sent);
    // QUIC is told nothing, as with any address that does not answer, and hears nothing.
    let quic = quic_endpoint(&left, &QuicIdentity::from_ed25519_seed([1; 32]).unwrap()).unwrap();
    let dial = quic.dial_within(closed, [9; 32], Duration::from_millis(100));
    assert!(dial.await.is_err());
    assert_eq!(left.stats().sent, sent.0);
    // What still comes from the other end is junk, and the next address is another.
    let before = left.stats().junk_in;
    right.try_send(here.address(), &message(3, 50)).unwrap();
    eventually("junk", || left.stats().junk_in == before + 1).await;
    let reopened = left.open_relayed(relay.addr(), 5).unwrap();
    assert_ne!(reopened.address(), closed);
}

#[tokio::test]
async fn foreign_channels_and_foreign_sources_are_dropped() {
    let relay = Relay::new();
    let [(left, mut tunnel), (right, _right_tunnel)] = [bind("127.0.0.1:0"), bind("127.0.0.1:0")];
    let [here, there] = relay.channel(5, [&left, &right]);
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    // The right channel from a stranger, and another channel from the relay.
    stranger
        .send_to(&frame(5, &message(1, 50)), left.local_addr())
        .unwrap();
    relay
        .socket
        .try_send(left.local_addr(), &frame(6, &message(2, 50)))
        .unwrap();
    eventually("junk", || left.stats().junk_in == 2).await;
    // A stranger's frame into somebody's channel is not for the relay to forward.
    stranger
        .send_to(&frame(5, &message(3, 50)), relay.addr())
        .unwrap();
    eventually("refused", || relay.socket.stats().frames_refused == 1).await;
    right.try_send(there.address(), &message(4, 50)).unwrap();
    let mut batch = Batch::new();
    assert_eq!(within(tunnel.recv(&mut batch)).await.unwrap(), 1);
    let (from, datagram) = batch.iter().next().unwrap();
    assert_eq!((from, number(datagram)), (here.address(), 4));
    // Without a switch a frame is junk.
    relay.socket.set_switch(None);
    let before = relay.socket.stats().junk_in;
    right.try_send(there.address(), &message(5, 50)).unwrap();
    eventually("junk", || relay.socket.stats().junk_in == before + 1).await;
}

#[tokio::test]
async fn a_flood_of_frames_and_probes_is_bounded() {
    let (victim, mut tunnel) = bind("127.0.0.1:0");
    let (relay, _unused) = bind("127.0.0.1:0");
    let open = victim.open_relayed(relay.local_addr(), 1).unwrap();
    let mut probes = victim.probes().unwrap();
    let fill = |inside: &[u8]| -> Vec<u8> {
        let mut datagram = frame(1, inside);
        datagram.resize(1400, 0);
        datagram.repeat(40)
    };
    let quic = {
        let mut quic = message(1, 100);
        quic[0] = 0x5a;
        quic
    };
    let floods = [
        fill(&message(7, 100)),
        fill(&quic),
        fill(&probe(b"too long")),
    ];
    let short = frame(1, &probe(b"short")).repeat(40);
    // 200 x 3 x 40 x 1,400 bytes = 34 MB, and 8,000 probes.
    for _ in 0..200 {
        for flood in &floods {
            relay
                .send_segments(victim.local_addr(), flood, 1400)
                .await
                .unwrap();
        }
        relay
            .send_segments(victim.local_addr(), &short, 17)
            .await
            .unwrap();
        tokio::task::yield_now().await;
        let stats = victim.stats();
        assert!(stats.tunnel_queued_bytes <= 4 << 20);
        assert_eq!(stats.quic_queued_bytes, 0, "nobody listens");
    }
    eventually("drops", || {
        let stats = victim.stats();
        stats.tunnel_dropped > 0 && stats.probes_dropped > 0 && stats.kernel_queued_bytes == 0
    })
    .await;
    let stats = victim.stats();
    assert!(stats.junk_in > 0, "probes that are too long");
    assert_eq!(stats.probes_in - stats.probes_dropped, 1_024);
    for _ in 0..1_024 {
        assert_eq!(within(probes.recv()).await.unwrap().from, open.address());
    }
    let mut batch = Batch::new();
    assert!(within(tunnel.recv(&mut batch)).await.unwrap() > 1000);
    assert!(batch.iter().all(|(from, _)| from == open.address()));
}

/// Datagrams for the other end of a line; `room` of them fit.
#[derive(Debug)]
struct Line(mpsc::Sender<Vec<u8>>);

impl Carrier for Line {
    fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.0.try_send(datagram.to_vec()).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => ErrorKind::WouldBlock.into(),
            mpsc::error::TrySendError::Closed(_) => ErrorKind::BrokenPipe.into(),
        })
    }

    fn most(&self) -> usize {
        1300
    }
}

fn carried(socket: &SharedSocket, room: usize) -> (Carried, mpsc::Receiver<Vec<u8>>) {
    let (line, far_end) = mpsc::channel(room);
    (socket.open_carried(Arc::new(Line(line))).unwrap(), far_end)
}

#[tokio::test]
async fn a_carrier_takes_single_datagrams_and_loses_what_has_no_room() {
    let (socket, _tunnel) = bind("[::]:0");
    let (open, mut far) = carried(&socket, 3);
    let train: Vec<u8> = (0..5).flat_map(|n| message(n, 100)).collect();
    let sent = socket
        .try_send_segments(open.address(), &train, 100)
        .unwrap();
    assert_eq!(sent, train.len(), "lost as on any narrow link");
    socket.try_send(open.address(), &message(9, 1301)).unwrap();
    let stats = socket.stats();
    assert_eq!(
        (stats.carried_sent, stats.carried_lost, stats.sent),
        (3, 3, 0)
    );
    for expected in 0..3 {
        assert_eq!(number(&far.recv().await.unwrap()), expected);
    }
    drop(far);
    let broken = socket
        .try_send(open.address(), &message(1, 50))
        .unwrap_err();
    assert_eq!(
        (broken.kind(), socket.stats().send_errors),
        (ErrorKind::BrokenPipe, 1)
    );
}

#[tokio::test]
async fn what_a_carrier_delivers_reaches_waiting_and_busy_receivers_in_both_roles() {
    for leads in [false, true] {
        let (socket, mut tunnel) = bind("[::]:0");
        let mut probes = socket.probes().unwrap();
        let (open, _far) = carried(&socket, 1);
        let (from, own) = (open.address(), socket.local_addr().port());
        if leads {
            tunnel.lead();
        }
        let mut batch = Batch::new();
        for round in 0..200 {
            let (received, ()) = tokio::join!(within(tunnel.recv(&mut batch)), async {
                open.deliver(&message(round, 80));
            });
            assert_eq!(received.unwrap(), 1);
            let (seen, datagram) = batch.iter().next().unwrap();
            assert_eq!((seen, number(datagram)), (from, round));
        }
        // Both at once: neither keeps the other waiting for good.
        let (mut delivered, mut read) = (0, 0);
        let there: SocketAddr = format!("127.0.0.1:{own}").parse().unwrap();
        while read < 50 {
            open.deliver(&message(0, 80));
            socket.try_send(there, &message(0, 80)).unwrap();
            tokio::task::yield_now().await;
            within(tunnel.recv(&mut batch)).await.unwrap();
            let from_carrier = batch.iter().filter(|(seen, _)| *seen == from).count();
            delivered += from_carrier;
            read += batch.len() - from_carrier;
        }
        assert!(delivered >= 25, "{delivered}");
        open.deliver(&probe(b"hello"));
        open.deliver(b"");
        open.deliver(b"\0");
        assert_eq!(within(probes.recv()).await.unwrap().from, from);
        assert_eq!(socket.stats().junk_in, 2);
        drop(tunnel);
        let before = socket.stats().tunnel_dropped;
        open.deliver(&message(1, 80));
        assert_eq!(socket.stats().tunnel_dropped, before + 1);
    }
}

/// A peer whose way to the relay is a carrier, as TLS will be: frames travel in it.
#[tokio::test]
async fn a_relay_is_reached_through_a_carrier() {
    let relay = Relay::new();
    let [(hidden, mut hidden_tunnel), (open, mut open_tunnel)] =
        [bind("127.0.0.1:0"), bind("127.0.0.1:0")];
    let (to_relay, mut at_relay) = carried(&hidden, 100);
    let (to_hidden, mut at_hidden) = carried(&relay.socket, 100);
    let ends = [to_hidden.address(), open.local_addr()];
    relay.pairs.0.lock().unwrap().insert(4, ends);
    let near = hidden.open_relayed(to_relay.address(), 4).unwrap();
    let far = open.open_relayed(relay.addr(), 4).unwrap();
    let nested = hidden.open_relayed(near.address(), 4).unwrap_err();
    assert_eq!(nested.kind(), ErrorKind::InvalidInput, "{nested}");

    let train: Vec<u8> = (0..10).flat_map(|n| message(n, 500)).collect();
    hidden
        .send_segments(near.address(), &train, 500)
        .await
        .unwrap();
    for _ in 0..10 {
        to_hidden.deliver(&at_relay.recv().await.unwrap());
    }
    let mut batch = Batch::new();
    let mut next = 0;
    while next < 10 {
        within(open_tunnel.recv(&mut batch)).await.unwrap();
        for (from, datagram) in batch.iter() {
            assert_eq!((from, number(datagram)), (far.address(), next));
            next += 1;
        }
    }
    open.send_segments(far.address(), &train, 500)
        .await
        .unwrap();
    for expected in 0..10 {
        to_relay.deliver(&within(at_hidden.recv()).await.unwrap());
        within(hidden_tunnel.recv(&mut batch)).await.unwrap();
        let (from, datagram) = batch.iter().next().unwrap();
        assert_eq!((from, number(datagram)), (near.address(), expected));
    }
    // The way to the relay carries what the path through the relay counts.
    for meter in [near.meter(), to_relay.meter(), far.meter()] {
        assert_eq!(meter.passed(), [10 * 508, 10 * 508]);
    }
    drop(to_relay);
    let refused = hidden
        .try_send(near.address(), &message(0, 50))
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotConnected);
}

#[tokio::test]
async fn four_thousand_and_ninety_six_addresses_may_be_open() {
    let (socket, _tunnel) = bind("127.0.0.1:0");
    let relay: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let mut open: Vec<Carried> = (0..4_096)
        .map(|channel| socket.open_relayed(relay, channel).unwrap())
        .collect();
    let full = socket.open_relayed(relay, 4_096).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::QuotaExceeded);
    open.pop();
    let last = socket.open_relayed(relay, 4_096).unwrap();
    assert!(open.iter().all(|other| other.address() != last.address()));
    for bad in ["127.0.0.1:0", "[::1]:9"] {
        let refused = socket.open_relayed(bad.parse().unwrap(), 1).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn a_guard_neither_keeps_the_socket_nor_misses_it() {
    let (socket, tunnel) = bind("127.0.0.1:0");
    let addr = socket.local_addr();
    let (open, _far) = carried(&socket, 1);
    drop((socket, tunnel));
    eventually("free port", || UdpSocket::bind(addr).is_ok()).await;
    open.deliver(&message(1, 50));
}

#[tokio::test]
async fn what_is_sent_before_an_address_leads_anywhere_is_handed_out_and_then_it_is_as_any() {
    let relay = Relay::new();
    let [(left, mut tunnel), (right, mut answers)] = [bind("127.0.0.1:0"), bind("127.0.0.1:0")];
    let held = left.open_held().unwrap();
    assert!(is_virtual(held.address()));
    let sent = left.stats().sent;
    let flight = [message(0, 1_200), message(1, 1_200)];
    let train = flight.concat();
    let taken = left.try_send_segments(held.address(), &train, 1_200);
    assert_eq!(taken.unwrap(), train.len());
    assert_eq!(held.first_flight().await, flight);
    // One flight is kept, and nothing has left.
    left.try_send(held.address(), &message(2, 1_441)).unwrap();
    left.try_send(held.address(), &message(3, 1_440)).unwrap();
    left.try_send(held.address(), &message(4, 60)).unwrap();
    assert_eq!(held.first_flight().await.len(), 3);
    assert_eq!((left.stats().sent, left.stats().carried_lost), (sent, 2));
    assert_eq!(held.meter().passed(), [0, 0]);

    // To a relay nobody can reach, or by a channel that is another path's: nothing changes.
    let other = left.open_relayed(relay.addr(), 6).unwrap();
    let nowhere = held.lead("240.9.9.9:9".parse().unwrap(), 5).unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::NotConnected);
    let taken = held.lead(relay.addr(), 6).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    drop(other);
    // By a channel that turned out to be no good, and by the right one, which is said twice.
    held.lead(relay.addr(), 6).unwrap();
    let there = right.open_relayed(relay.addr(), 4).unwrap();
    let ends = [&left, &right].map(SharedSocket::local_addr);
    relay.pairs.0.lock().unwrap().insert(4, ends);
    held.lead(relay.addr(), 4).unwrap();
    held.lead(relay.addr(), 4).unwrap();
    left.open_relayed(relay.addr(), 6).unwrap();
    let mut batch = Batch::new();
    left.try_send(held.address(), &message(7, 60)).unwrap();
    within(answers.recv(&mut batch)).await.unwrap();
    assert_eq!(batch.iter().next().map(|(_, it)| number(it)), Some(7));
    right.try_send(there.address(), &message(8, 60)).unwrap();
    within(tunnel.recv(&mut batch)).await.unwrap();
    let heard = batch.iter().next();
    let heard = heard.map(|(from, it)| (from, number(it)));
    assert_eq!(heard, Some((held.address(), 8)));
    assert_eq!(held.meter().passed(), [68, 68]);
    held.count_sent(flight.iter().map(Vec::as_slice));
    assert_eq!(held.meter().passed(), [68 + 2 * 1_208, 68]);
}

#[tokio::test]
async fn a_handshake_whose_first_flight_went_another_way_comes_about() {
    let relay = Relay::new();
    let [(client, _client_tunnel), (server, mut server_tunnel)] = ["127.0.0.1:0"; 2].map(bind);
    let _reading = tokio::spawn(async move { server_tunnel.recv(&mut Batch::new()).await });
    let [client_quic, server_quic] = [(&client, 1), (&server, 2)].map(|(socket, seed)| {
        let identity = QuicIdentity::from_ed25519_seed([seed; 32]).unwrap();
        quic_endpoint(socket, &identity).unwrap()
    });
    let there = client.open_held().unwrap();
    let (at, node) = (there.address(), server_quic.node_key());
    let dialed = tokio::spawn(async move { client_quic.dial(at, node).await });
    let flight = within(there.first_flight()).await;
    assert!(!flight.is_empty() && flight.iter().all(|it| (1_200..=1_280).contains(&it.len())));
    let ends = [&client, &server].map(SharedSocket::local_addr);
    relay.pairs.0.lock().unwrap().insert(3, ends);
    there.lead(relay.addr(), 3).unwrap();
    let here = server.open_relayed(relay.addr(), 3).unwrap();
    let frames = here.meter().passed();
    flight.iter().for_each(|datagram| here.deliver(datagram));
    let accepted = within(server_quic.accept()).await.unwrap();
    assert_eq!(remote_address(&accepted), here.address());
    within(dialed).await.unwrap().unwrap();
    assert!(here.meter().passed()[1] > frames[1]);
}
