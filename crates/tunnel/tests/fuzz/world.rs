//! The worlds that the bodies play in: endpoints in virtual time, all chance from fixed seeds.
//! It refuses to differ between two runs: an `Instant` must begin with the clock, but only differences are used.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use wayfare_tunnel::{Endpoint, EndpointConfig, PeerConfig, PeerId, StaticSecret, Transmit};

use super::forger::{self, Keys};

pub const CONSUMER: [u8; 32] = [1; 32];
pub const PROVIDER: [u8; 32] = [2; 32];

/// Where the consumer is, where the provider is, and where neither is.
pub const HERE: u8 = 1;
pub const THERE: u8 = 2;
pub const ELSEWHERE: u8 = 66;

pub fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 51_820))
}

pub fn transmits(from: &mut Endpoint) -> Vec<Transmit> {
    std::iter::from_fn(|| from.poll_transmit()).collect()
}

/// A consumer that routes everything to a provider, which knows it as 10.8.0.2 and fd00::2.
#[derive(Debug)]
pub struct Pair {
    pub now: Instant,
    pub consumer: Endpoint,
    pub provider: Endpoint,
    pub exit: PeerId,
    pub guest: PeerId,
}

impl Pair {
    #[allow(
        clippy::disallowed_methods,
        reason = "an Instant cannot be made otherwise; only differences are used"
    )]
    pub fn new() -> Self {
        let now = Instant::now();
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        // Small bounds, so that an input reaches them.
        let config = EndpointConfig {
            handshakes_per_second: 20,
            max_transmits: 64,
            max_events: 64,
            max_queued_packets: 4,
            ..EndpointConfig::default()
        };
        let end = |secret, seed, config| {
            Endpoint::new(
                StaticSecret::from_bytes(secret),
                [seed; 32],
                now,
                wall,
                config,
            )
        };
        let mut consumer = end(CONSUMER, 11, config.clone());
        let mut provider = end(PROVIDER, 12, config);
        let mut exit = PeerConfig::new(provider.public_key());
        exit.allowed_ips = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        exit.endpoint = Some(address(THERE));
        let mut guest = PeerConfig::new(consumer.public_key());
        guest.allowed_ips = vec![
            "10.8.0.2/32".parse().unwrap(),
            "fd00::2/128".parse().unwrap(),
        ];
        let exit = consumer.add_peer(exit).unwrap();
        let guest = provider.add_peer(guest).unwrap();
        Self {
            now,
            consumer,
            provider,
            exit,
            guest,
        }
    }

    /// With keys at both ends, confirmed.
    pub fn established() -> Self {
        let mut pair = Self::new();
        pair.handshake();
        pair
    }

    pub fn handshake(&mut self) {
        self.consumer.initiate(self.exit, self.now);
        self.settle();
    }

    /// Delivers what both ends send until neither sends any more, and forgets what they tell.
    pub fn settle(&mut self) {
        for _ in 0..20 {
            let (up, down) = (transmits(&mut self.consumer), transmits(&mut self.provider));
            if up.is_empty() && down.is_empty() {
                while self.consumer.poll_event().is_some() {}
                while self.provider.poll_event().is_some() {}
                return;
            }
            for mut sent in up {
                self.provider
                    .handle_datagram(address(HERE), &mut sent.payload, self.now);
            }
            for mut sent in down {
                self.consumer
                    .handle_datagram(address(THERE), &mut sent.payload, self.now);
            }
        }
        panic!("the two ends do not come to rest");
    }

    /// A provider whose consumer is a forger with good keys, confirmed by a first packet (counter 0, empty).
    pub fn forged() -> (Self, Keys) {
        let mut pair = Self::new();
        let responder = *pair.provider.public_key().as_bytes();
        let asked = forger::ask(CONSUMER, responder, [9; 32], 0x0102_0304, stamp(0));
        let mut message = asked.message.clone();
        pair.provider
            .handle_datagram(address(HERE), &mut message, pair.now);
        let response = pair.provider.poll_transmit().expect("a response");
        let keys = asked.answered(&response.payload).expect("it answers us");
        let mut first = keys.seal(0, &[]);
        pair.provider
            .handle_datagram(address(HERE), &mut first, pair.now);
        while pair.provider.poll_event().is_some() {}
        (pair, keys)
    }
}

/// A TAI64N label for the forger: `number` steps after its first.
pub fn stamp(number: u32) -> [u8; 12] {
    let mut label = [0; 12];
    label[0] = 0x40;
    label[8..].copy_from_slice(&number.to_be_bytes());
    label
}
