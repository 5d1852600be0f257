//! The consumers: one machine, one UDP socket each, one device for all. A packet of the device
//! belongs to the consumer whose address it comes from. It refuses to queue: what a socket or the
//! device does not take is lost, as on any road.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use wayfare_transport::{
    Batch, Framing, PacketBatch, SharedSocket, SocketOptions, Tun as _, TunDevice, TunnelReceiver,
};
use wayfare_tunnel::{
    Endpoint, EndpointConfig, Event, IpPacket, PeerConfig, PeerId, PublicKey, Received, Sealed,
    StaticSecret, TAG, TRANSPORT_HEADER,
};

use super::plan;

const MTU: usize = 1_420;

/// Two super-packets of the device, framed.
const DEVICE_TURN: usize = 160 << 10;

/// How often timers are looked at; the protocol's shortest is 5 s.
const TICK: Duration = Duration::from_millis(50);

/// Handshakes begun in one tick: 160 a second, below what puts a provider under load.
const CALLS: usize = 8;

/// An answer that got lost is asked for again by the machine itself, after 5 s.
const RECEIVE_BUFFER: usize = 4 << 20;
const SEND_BUFFER: usize = 1 << 20;

/// One consumer.
struct Consumer {
    endpoint: Endpoint,
    provider: PeerId,
    socket: SharedSocket,
    /// The provider's address.
    to: SocketAddr,
}

/// All of them.
struct Swarm {
    consumers: Vec<RefCell<Consumer>>,
    device: TunDevice,
    /// The kernel writes here; one for all, as one thread works on one batch at a time.
    received: RefCell<Batch>,
    established: Cell<usize>,
}

/// Runs `count` consumers until the process is ended. Says `ready` when the device is there and
/// `established` when every consumer has keys.
pub(crate) async fn run(
    count: u16,
    provider: PublicKey,
    to: SocketAddr,
    device: &str,
) -> anyhow::Result<()> {
    let device = TunDevice::create(device, MTU)?;
    let mut consumers = Vec::new();
    let mut receivers = Vec::new();
    for number in 0..count {
        let options = SocketOptions {
            mark: None,
            receive_buffer: RECEIVE_BUFFER,
            send_buffer: SEND_BUFFER,
        };
        let from = (plan::outer(number), to.port()).into();
        let (socket, receiver) = SharedSocket::bind(from, options)?;
        let (endpoint, provider) = endpoint(number, provider, to)?;
        receivers.push(receiver);
        consumers.push(RefCell::new(Consumer {
            endpoint,
            provider,
            socket,
            to,
        }));
    }
    let swarm = Rc::new(Swarm {
        consumers,
        device,
        received: RefCell::new(Batch::new()),
        established: Cell::new(0),
    });
    println!("ready");
    for (number, receiver) in receivers.into_iter().enumerate() {
        tokio::task::spawn_local(receive(Rc::clone(&swarm), number, receiver));
    }
    tokio::task::spawn_local(keep_time(Rc::clone(&swarm)));
    send(&swarm).await
}

fn endpoint(
    number: u16,
    provider: PublicKey,
    to: SocketAddr,
) -> anyhow::Result<(Endpoint, PeerId)> {
    let wall = SystemTime::now();
    let since = wall.duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
    // Never the same twice, which is all that a laboratory needs.
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(&since.to_be_bytes());
    seed[16..18].copy_from_slice(&number.to_be_bytes());
    let secret: StaticSecret = plan::secret(number);
    let config = EndpointConfig::default();
    let mut endpoint = Endpoint::new(secret, seed, Instant::now(), wall, config);
    let mut peer = PeerConfig::new(provider);
    peer.allowed_ips = vec!["0.0.0.0/0".parse()?];
    peer.endpoint = Some(to);
    let provider = endpoint.add_peer(peer)?;
    Ok((endpoint, provider))
}

/// From one consumer's socket to the device.
async fn receive(swarm: Rc<Swarm>, number: usize, mut receiver: TunnelReceiver) {
    receiver.lead();
    loop {
        let received = poll_fn(|cx| {
            let mut batch = swarm.received.borrow_mut();
            let outcome = ready!(receiver.poll_recv(cx, &mut batch));
            Poll::Ready(outcome.map(|_| swarm.open(number, &mut batch)))
        });
        if let Err(error) = received.await {
            eprintln!("the socket of consumer {number} failed: {error}");
            return;
        }
    }
}

/// From the device to the consumers' sockets.
async fn send(swarm: &Swarm) -> anyhow::Result<()> {
    let framing = Framing {
        head: TRANSPORT_HEADER,
        tail: TAG,
        multiple: 16,
        mtu: MTU,
    };
    let mut packets = PacketBatch::new(framing, DEVICE_TURN);
    let mut owners: Vec<Option<usize>> = Vec::new();
    loop {
        packets.clear();
        poll_fn(|cx| swarm.device.poll_recv_batch(cx, &mut packets))
            .await
            .context("the device failed")?;
        let now = Instant::now();
        owners.clear();
        owners.extend(packets.frames().map(|frame| {
            let packet = &frame.bytes[TRANSPORT_HEADER..TRANSPORT_HEADER + frame.packet];
            let owner = owner(packet)?;
            let consumer = swarm.consumers.get(owner)?;
            let mut consumer = consumer.borrow_mut();
            let provider = consumer.provider;
            let endpoint = &mut consumer.endpoint;
            let sealed = endpoint.seal_to_in_place(provider, frame.bytes, frame.packet, now);
            matches!(sealed, Sealed::Datagram { .. }).then_some(owner)
        }));
        swarm.transmit(&packets, &owners);
    }
}

/// The consumer whose packet it is.
fn owner(packet: &[u8]) -> Option<usize> {
    match IpPacket::parse(packet).ok()?.source() {
        IpAddr::V4(source) => plan::number(source).map(usize::from),
        IpAddr::V6(_) => None,
    }
}

/// Begins handshakes, and lets the machines' time pass.
async fn keep_time(swarm: Rc<Swarm>) {
    let mut tick = tokio::time::interval(TICK);
    let mut called = 0;
    loop {
        tick.tick().await;
        let now = Instant::now();
        let next = swarm.consumers.iter().skip(called).take(CALLS);
        for consumer in next {
            let mut consumer = consumer.borrow_mut();
            let provider = consumer.provider;
            consumer.endpoint.initiate(provider, now);
            called += 1;
        }
        for consumer in &swarm.consumers {
            let mut consumer = consumer.borrow_mut();
            let due = consumer.endpoint.poll_timeout();
            if due.is_some_and(|deadline| deadline.at <= now) {
                consumer.endpoint.handle_timeout(now);
            }
            consumer.flush();
        }
    }
}

impl Swarm {
    fn open(&self, number: usize, batch: &mut Batch) {
        let now = Instant::now();
        let mut consumer = self.consumers[number].borrow_mut();
        let mut opened: Vec<&[u8]> = Vec::with_capacity(batch.len());
        for (from, datagram) in batch.iter_mut() {
            match consumer.endpoint.handle_datagram(from, datagram, now) {
                Received::Packet { packet, .. } => opened.push(packet),
                Received::Keepalive { .. } | Received::Handshake { .. } | Received::Dropped(_) => {}
            }
        }
        if !opened.is_empty() {
            self.device.send_batch(&opened);
        }
        while let Some(event) = consumer.endpoint.poll_event() {
            if matches!(event, Event::Established { .. }) {
                self.count_established();
            }
        }
        consumer.flush();
    }

    fn count_established(&self) {
        self.established.set(self.established.get() + 1);
        if self.established.get() == self.consumers.len() {
            println!("established");
        }
    }

    /// Neighbours of one consumer, all as long as the first but for a shorter last one, leave in
    /// one call.
    fn transmit(&self, packets: &PacketBatch, owners: &[Option<usize>]) {
        let mut at = 0;
        while at < owners.len() {
            let (Some(owner), Some(first)) = (owners[at], packets.place(at)) else {
                at += 1;
                continue;
            };
            let segment = first.len();
            let mut train = first;
            let mut count = 1;
            while let Some(next) = packets.place(at + count) {
                let full = train.len().is_multiple_of(segment);
                let fits = owners[at + count] == Some(owner) && next.len() <= segment && full;
                if !fits || train.len() + next.len() > 65_000 {
                    break;
                }
                train.end = next.end;
                count += 1;
            }
            let consumer = self.consumers[owner].borrow();
            let mut bytes = &packets.bytes()[train];
            while !bytes.is_empty() {
                match consumer
                    .socket
                    .try_send_segments(consumer.to, bytes, segment)
                {
                    Ok(sent) => bytes = &bytes[sent..],
                    Err(_) => break,
                }
            }
            at += count;
        }
    }
}

impl Consumer {
    /// Sends what the machine has to say of its own.
    fn flush(&mut self) {
        while let Some(message) = self.endpoint.poll_transmit() {
            // Timers repeat what matters.
            let _ = self.socket.try_send(message.to, &message.payload);
        }
    }
}
