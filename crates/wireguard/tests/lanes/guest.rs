//! A guest of these tests: the tunnel's machine over a plain socket, its time in the test's hands. Packets are made here,
//! so that it needs no device.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use wayfare_tunnel::{
    Endpoint, EndpointConfig, Event, OVERHEAD, PeerConfig, PeerId, PublicKey, Received, Sealed,
    StaticSecret,
};

use super::provider::Provider;

/// How long an answer may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const PAYLOAD: &[u8] = b"the same back, please";

pub(crate) struct Guest {
    number: u8,
    pub(crate) socket: UdpSocket,
    endpoint: Endpoint,
    provider: Option<(PeerId, SocketAddr)>,
    now: Instant,
    events: Vec<Event>,
    packets: Vec<Vec<u8>>,
}

impl Guest {
    pub(crate) fn new(number: u8) -> Self {
        let now = Instant::now();
        let config = EndpointConfig {
            rekey_after: Duration::from_secs(5),
            ..EndpointConfig::default()
        };
        let secret = StaticSecret::from_bytes([number + 1; 32]);
        let seed = [number ^ 0x80; 32];
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            number,
            socket,
            endpoint: Endpoint::new(secret, seed, now, SystemTime::now(), config),
            provider: None,
            now,
            events: Vec::new(),
            packets: Vec::new(),
        }
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        self.endpoint.public_key()
    }

    pub(crate) fn inner(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number + 2)
    }

    pub(crate) fn inner_v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(self.number) + 2)
    }

    pub(crate) fn meets(&mut self, provider: &Provider) {
        let mut exit = PeerConfig::new(provider.public_key());
        exit.allowed_ips = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        exit.endpoint = Some(provider.at);
        let id = self.endpoint.add_peer(exit).unwrap();
        self.provider = Some((id, provider.at));
    }

    pub(crate) fn to(&self) -> SocketAddr {
        self.provider.unwrap().1
    }

    /// Lets this guest's time pass, and with it what is due.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.endpoint.handle_timeout(self.now);
        self.send();
    }

    /// New keys, whatever it takes: a cookie, and the five seconds before the next attempt.
    pub(crate) fn call(&mut self) {
        self.events.clear();
        // Later than the keys there are, or it would be taken for overtaken.
        self.now += Duration::from_secs(1);
        self.endpoint.initiate(self.provider.unwrap().0, self.now);
        self.send();
        for _ in 0..20 {
            let keyed = |e: &Event| matches!(e, Event::Established { .. } | Event::Rekeyed { .. });
            if self.events.iter().any(keyed) {
                return;
            }
            self.receive();
            let cookied = self.events.is_empty() && self.packets.is_empty();
            if cookied {
                self.pass(Duration::from_secs(6));
            }
        }
        panic!("no keys after twenty answers");
    }

    /// An initiation that is not sent.
    pub(crate) fn initiation(&mut self) -> Vec<u8> {
        self.now += Duration::from_secs(1);
        self.endpoint.initiate(self.provider.unwrap().0, self.now);
        self.endpoint.poll_transmit().unwrap().payload
    }

    /// A sealed question that is not sent.
    pub(crate) fn question(&mut self, port: u16) -> Vec<u8> {
        let packet = udp(self.inner().into(), [10, 77, 0, 1].into(), port);
        let mut sealed = vec![0; packet.len() + 15 + OVERHEAD];
        match self.endpoint.seal(&packet, self.now, &mut sealed) {
            Sealed::Datagram { len, .. } => sealed.truncate(len),
            other => panic!("guest {}: {other:?}", self.number),
        }
        sealed
    }

    pub(crate) fn echo(&mut self, port: u16, v6: bool) {
        let packet = if v6 {
            let provider = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
            udp(self.inner_v6().into(), provider.into(), port)
        } else {
            udp(self.inner().into(), [10, 77, 0, 1].into(), port)
        };
        let mut sealed = vec![0; packet.len() + 15 + OVERHEAD];
        if let Sealed::Datagram { to, len, .. } = self.endpoint.seal(&packet, self.now, &mut sealed)
        {
            self.socket.send_to(&sealed[..len], to).unwrap();
        }
        self.send();
        self.answer();
    }

    pub(crate) fn answer(&mut self) {
        let packet = self.packet();
        assert!(packet.ends_with(PAYLOAD), "guest {}", self.number);
    }

    /// The next packet out of the tunnel.
    pub(crate) fn packet(&mut self) -> Vec<u8> {
        while self.packets.is_empty() {
            self.receive();
        }
        self.packets.remove(0)
    }

    /// Receives until there was such an event, and forgets those before it.
    pub(crate) fn until(&mut self, wanted: impl Fn(&Event) -> bool) {
        loop {
            if let Some(at) = self.events.iter().position(&wanted) {
                self.events.drain(..=at);
                return;
            }
            self.receive();
        }
    }

    fn receive(&mut self) {
        let mut datagram = [0; 2048];
        let heard = std::iter::repeat_with(|| self.socket.recv_from(&mut datagram))
            // A process that was stopped for a while.
            .find(|heard| !matches!(heard, Err(error) if error.kind() == ErrorKind::Interrupted));
        let (length, from) = heard
            .expect("repeated without end")
            .unwrap_or_else(|error| panic!("guest {} hears nothing: {error}", self.number));
        let received = self
            .endpoint
            .handle_datagram(from, &mut datagram[..length], self.now);
        match received {
            Received::Packet { packet, .. } => self.packets.push(packet.to_vec()),
            Received::Keepalive { .. } | Received::Handshake { .. } => {}
            Received::Dropped(why) => panic!("guest {}: {why:?}", self.number),
        }
        self.send();
    }

    fn send(&mut self) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            self.socket.send_to(&transmit.payload, transmit.to).unwrap();
        }
        while let Some(event) = self.endpoint.poll_event() {
            self.events.push(event);
        }
    }
}

/// A UDP packet from `from`, port 9, with its checksums.
fn udp(from: IpAddr, to: IpAddr, port: u16) -> Vec<u8> {
    let length = 8 + PAYLOAD.len() as u16;
    let mut segment = [9_u16, port, length, 0].map(u16::to_be_bytes).concat();
    segment.extend(PAYLOAD);
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let addresses = [octets(from), octets(to)].concat();
    let pseudo = [&addresses[..], &[0, 17], &length.to_be_bytes(), &segment].concat();
    segment[6..8].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    if from.is_ipv6() {
        let [high, low] = length.to_be_bytes();
        let head = [0x60, 0, 0, 0, high, low, 17, 64];
        return [&head[..], &addresses, &segment].concat();
    }
    let [high, low] = (20 + length).to_be_bytes();
    let mut head = [
        &[0x45, 0, high, low, 0, 0, 0, 0, 64, 17, 0, 0],
        &addresses[..],
    ]
    .concat();
    let sum = checksum(&head);
    head[10..12].copy_from_slice(&sum.to_be_bytes());
    [head, segment].concat()
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2);
    let sum = words.fold(0_u32, |sum, word| {
        let low = word.get(1).copied().unwrap_or(0);
        sum + u32::from(u16::from_be_bytes([word[0], low]))
    });
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum + (sum >> 16)) as u16)
}
