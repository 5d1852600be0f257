//! What an idle peer costs, as the kernel counts it: AWS-LC's heap, allocator and tables included.
//! It refuses to count by hand: the difference in resident memory over many peers is the figure.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use wayfare_tunnel::{Endpoint, EndpointConfig, Event, PeerConfig, StaticSecret};

/// Made before the count begins, so that what is allocated once is there already.
const BEFORE: u32 = 200;
/// What a session may cost at most while idle.
const BAR: u64 = 64 << 10;
/// What `EndpointConfig::max_peers` says.
const STATED: u64 = 9 << 10;

struct Provider {
    endpoint: Endpoint,
    now: Instant,
    wall: SystemTime,
    made: u32,
}

impl Provider {
    #[allow(
        clippy::disallowed_methods,
        reason = "an Instant cannot be made otherwise; only differences are used"
    )]
    fn new() -> Self {
        let (now, wall) = (
            Instant::now(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        );
        let secret = StaticSecret::from_bytes([2; 32]);
        let endpoint = Endpoint::new(secret, [3; 32], now, wall, EndpointConfig::default());
        Self {
            endpoint,
            now,
            wall,
            made: 0,
        }
    }

    /// One more peer, `handshakes` times keyed; its other end is forgotten again. With `unconfirmed`, the last keys
    /// wait for their first use.
    fn grow(&mut self, handshakes: u32, unconfirmed: bool) {
        self.made += 1;
        let mut bytes = [7; 32];
        // Not in the first byte: x25519 clears three of its bits.
        bytes[4..8].copy_from_slice(&self.made.to_le_bytes());
        let secret = StaticSecret::from_bytes(bytes);
        let config = EndpointConfig::default();
        let mut consumer = Endpoint::new(secret, bytes, self.now, self.wall, config);
        let (here, there) = (
            SocketAddr::from((self.made.to_be_bytes(), 1_000)),
            SocketAddr::from(([192, 0, 2, 2], 51_820)),
        );
        let mut guest = PeerConfig::new(consumer.public_key());
        let inner = std::net::Ipv4Addr::from(0x0a00_0000 + self.made);
        guest.allowed_ips = vec![format!("{inner}/32").parse().unwrap()];
        let guest = self.endpoint.add_peer(guest).unwrap();
        let mut exit = PeerConfig::new(self.endpoint.public_key());
        exit.endpoint = Some(there);
        let exit = consumer.add_peer(exit).unwrap();
        for round in 1..=handshakes {
            // Below the rate at which cookies are asked for.
            self.now += Duration::from_millis(20);
            assert!(consumer.initiate(exit, self.now));
            let mut initiation = consumer.poll_transmit().unwrap().payload;
            self.endpoint
                .handle_datagram(here, &mut initiation, self.now);
            let mut response = self.endpoint.poll_transmit().unwrap().payload;
            consumer.handle_datagram(there, &mut response, self.now);
            let mut keepalive = consumer.poll_transmit().unwrap().payload;
            if round < handshakes || !unconfirmed {
                self.endpoint
                    .handle_datagram(here, &mut keepalive, self.now);
                let expect = if round == 1 {
                    Event::Established { peer: guest }
                } else {
                    Event::Rekeyed { peer: guest }
                };
                assert_eq!(self.endpoint.poll_event(), Some(expect));
            }
        }
    }
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib << 10
}

#[test]
fn an_idle_peer_costs_far_less_than_64_kib() {
    // All are kept to the end, so that no case is built in the memory of an earlier one.
    let mut kept = Vec::new();
    for (peers, handshakes, unconfirmed, what) in [
        (2_000_u32, 0, false, "without keys"),
        (2_000, 1, false, "after one handshake"),
        (500, 2, false, "after a renewal"),
        (500, 3, true, "during a renewal, at worst"),
    ] {
        let mut provider = Provider::new();
        (0..BEFORE).for_each(|_| provider.grow(handshakes, unconfirmed));
        let before = resident();
        (0..peers).for_each(|_| provider.grow(handshakes, unconfirmed));
        let each = resident().saturating_sub(before) / u64::from(peers);
        println!("a peer {what}: {each} bytes");
        // Fewer than the replay windows alone would be a mistake of this test.
        let pairs = u64::from(handshakes);
        assert!(each > 300 + pairs * 1_032, "{what}: {each} bytes");
        assert!(each <= STATED && STATED < BAR, "{what}: {each} bytes");
        kept.push(provider);
    }
    assert_eq!(kept.len(), 4);
}
