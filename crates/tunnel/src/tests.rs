//! The room's own tests: two or more endpoints in virtual time, no socket, no sleep.

#![allow(clippy::unwrap_used)]

mod calls;
mod faults;
mod floods;
mod handshakes;
mod hostile;
mod keys;
mod peers;
mod rekeys;
mod replays;
mod timing;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use crate::{
    DropReason, Endpoint, EndpointConfig, Event, PeerConfig, PeerId, Received, Sealed,
    StaticSecret, Transmit,
};

/// Where virtual time starts.
#[allow(
    clippy::disallowed_methods,
    reason = "an Instant cannot be made otherwise; only differences are used"
)]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// An endpoint with a public key and a seed that follow from one number, born at `now`.
pub(crate) fn endpoint(number: u8, now: Instant) -> Endpoint {
    endpoint_with(number, now, EndpointConfig::default())
}

pub(crate) fn endpoint_with(number: u8, now: Instant, config: EndpointConfig) -> Endpoint {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    Endpoint::new(
        StaticSecret::from_bytes([number; 32]),
        [number ^ 0x80; 32],
        now,
        wall,
        config,
    )
}

pub(crate) fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 51_820))
}

/// A UDP-like packet of `len` bytes, IPv4 or IPv6 as the addresses are.
pub(crate) fn packet(source: &str, destination: &str, len: usize) -> Vec<u8> {
    let (source, destination): (IpAddr, IpAddr) =
        (source.parse().unwrap(), destination.parse().unwrap());
    let mut bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
            bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            bytes[12..16].copy_from_slice(&source.octets());
            bytes[16..20].copy_from_slice(&destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            bytes[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, 17, 64]);
            bytes[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
            bytes[8..24].copy_from_slice(&source.octets());
            bytes[24..40].copy_from_slice(&destination.octets());
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("one family per packet")
        }
    }
    bytes
}

/// What a datagram came to, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Got {
    Packet(PeerId, Vec<u8>),
    Keepalive(PeerId),
    Handshake(PeerId),
    Dropped(DropReason),
}

pub(crate) fn receive(to: &mut Endpoint, from: SocketAddr, datagram: &[u8], now: Instant) -> Got {
    match to.handle_datagram(from, &mut datagram.to_vec(), now) {
        Received::Packet { peer, packet } => Got::Packet(peer, packet.to_vec()),
        Received::Keepalive { peer } => Got::Keepalive(peer),
        Received::Handshake { peer } => Got::Handshake(peer),
        Received::Dropped(why) => Got::Dropped(why),
    }
}

pub(crate) fn transmits(from: &mut Endpoint) -> Vec<Transmit> {
    std::iter::from_fn(|| from.poll_transmit()).collect()
}

pub(crate) fn events(from: &mut Endpoint) -> Vec<Event> {
    std::iter::from_fn(|| from.poll_event()).collect()
}

/// Seals for whoever owns the destination; panics unless there are keys.
pub(crate) fn seal(from: &mut Endpoint, packet: &[u8], now: Instant) -> Vec<u8> {
    let mut buffer = vec![0; packet.len() + 15 + crate::OVERHEAD];
    match from.seal(packet, now, &mut buffer) {
        Sealed::Datagram { len, .. } => {
            buffer.truncate(len);
            buffer
        }
        other => panic!("not sealed: {other:?}"),
    }
}

/// A consumer that routes everything to a provider; the provider knows it as 10.8.0.2 and fd00::2.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) consumer: Endpoint,
    pub(crate) provider: Endpoint,
    /// The provider, as the consumer's peer.
    pub(crate) exit: PeerId,
    /// The consumer, as the provider's peer.
    pub(crate) guest: PeerId,
}

pub(crate) const OUT: (&str, &str) = ("10.8.0.2", "1.1.1.1");
pub(crate) const BACK: (&str, &str) = ("1.1.1.1", "10.8.0.2");

impl Pair {
    pub(crate) fn new() -> Self {
        Self::with(EndpointConfig::default(), |_| {})
    }

    pub(crate) fn with(config: EndpointConfig, change: impl Fn(&mut PeerConfig)) -> Self {
        let now = instant();
        let mut consumer = endpoint_with(1, now, config.clone());
        let mut provider = endpoint_with(2, now, config);
        let mut exit = PeerConfig::new(provider.public_key());
        exit.allowed_ips = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        exit.endpoint = Some(address(2));
        change(&mut exit);
        let mut guest = PeerConfig::new(consumer.public_key());
        guest.allowed_ips = vec![
            "10.8.0.2/32".parse().unwrap(),
            "fd00::2/128".parse().unwrap(),
        ];
        guest.preshared_key = exit.preshared_key;
        let (exit, guest) = (
            consumer.add_peer(exit).unwrap(),
            provider.add_peer(guest).unwrap(),
        );
        Self {
            now,
            consumer,
            provider,
            exit,
            guest,
        }
    }

    /// With keys at both ends, confirmed, queues and events drained.
    pub(crate) fn established() -> Self {
        let mut pair = Self::new();
        pair.handshake();
        events(&mut pair.consumer);
        events(&mut pair.provider);
        pair
    }

    pub(crate) fn handshake(&mut self) {
        self.consumer.initiate(self.exit, self.now);
        self.pump();
    }

    /// Delivers what both ends send until neither sends any more.
    pub(crate) fn pump(&mut self) -> Vec<Got> {
        let mut got = Vec::new();
        for _ in 0..20 {
            let (up, down) = (transmits(&mut self.consumer), transmits(&mut self.provider));
            if up.is_empty() && down.is_empty() {
                return got;
            }
            for sent in up {
                got.push(receive(
                    &mut self.provider,
                    address(1),
                    &sent.payload,
                    self.now,
                ));
            }
            for sent in down {
                got.push(receive(
                    &mut self.consumer,
                    address(2),
                    &sent.payload,
                    self.now,
                ));
            }
        }
        panic!("the two ends do not come to rest");
    }

    pub(crate) fn up(&mut self, len: usize) -> Got {
        let datagram = seal(&mut self.consumer, &packet(OUT.0, OUT.1, len), self.now);
        receive(&mut self.provider, address(1), &datagram, self.now)
    }

    pub(crate) fn down(&mut self, len: usize) -> Got {
        let datagram = seal(&mut self.provider, &packet(BACK.0, BACK.1, len), self.now);
        receive(&mut self.consumer, address(2), &datagram, self.now)
    }

    /// Lets time pass to `until`, obeying every deadline, delivering everything.
    pub(crate) fn run_until(&mut self, until: Instant) -> Vec<Got> {
        let mut got = Vec::new();
        for _ in 0..10_000 {
            got.extend(self.pump());
            let next = [self.consumer.poll_timeout(), self.provider.poll_timeout()]
                .into_iter()
                .flatten()
                .min();
            let Some(next) = next.filter(|next| next.at <= until) else {
                self.now = until;
                return got;
            };
            self.now = self.now.max(next.at);
            self.consumer.handle_timeout(self.now);
            self.provider.handle_timeout(self.now);
        }
        panic!("more than 10,000 deadlines");
    }
}
