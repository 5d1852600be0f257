//! How packets are sealed: the WireGuard protocol as a pure machine.
//! It refuses to know money, sockets, clocks and randomness: datagrams, `now` and a seed are arguments.
//!
//! An [`Endpoint`] speaks the wire format bit for bit (Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, MAC1 and MAC2, cookies,
//! TAI64N, counters, padding), so any WireGuard implementation is a peer. The handshake runs on `snow` with primitives
//! of our choosing; transport data is sealed straight into the caller's buffer and opened in place by AWS-LC.
//!
//! ```
//! use std::time::{Instant, SystemTime};
//! use wayfare_tunnel::{Endpoint, EndpointConfig, PeerConfig, Received, Sealed, StaticSecret};
//!
//! let (now, wall) = (Instant::now(), SystemTime::now());
//! let new = |key, seed| Endpoint::new(StaticSecret::from_bytes(key), seed, now, wall, EndpointConfig::default());
//! let (mut consumer, mut provider) = (new([1; 32], [2; 32]), new([3; 32], [4; 32]));
//! let (here, there) = ("192.0.2.1:1000".parse().unwrap(), "192.0.2.2:51820".parse().unwrap());
//!
//! let mut everything = PeerConfig::new(provider.public_key());
//! everything.allowed_ips = vec!["0.0.0.0/0".parse().unwrap()];
//! everything.endpoint = Some(there);
//! let exit = consumer.add_peer(everything).unwrap();
//! let mut one = PeerConfig::new(consumer.public_key());
//! one.allowed_ips = vec!["10.8.0.2/32".parse().unwrap()];
//! provider.add_peer(one).unwrap();
//!
//! // No keys yet: the packet waits, and a handshake starts.
//! let packet = vec![0x45, 0, 0, 21, 0, 0, 0, 0, 64, 17, 0, 0, 10, 8, 0, 2, 1, 1, 1, 1, 42];
//! let mut buffer = [0; 1500];
//! assert_eq!(consumer.seal(&packet, now, &mut buffer), Sealed::Queued { peer: exit });
//! let mut initiation = consumer.poll_transmit().unwrap().payload;
//! provider.handle_datagram(here, &mut initiation, now);
//! let mut response = provider.poll_transmit().unwrap().payload;
//! consumer.handle_datagram(there, &mut response, now);
//!
//! // One round trip later it leaves, sealed, and arrives as it was.
//! let mut sealed = consumer.poll_transmit().unwrap().payload;
//! match provider.handle_datagram(here, &mut sealed, now) {
//!     Received::Packet { packet: inner, .. } => assert_eq!(inner, packet),
//!     other => panic!("{other:?}"),
//! }
//! ```

mod allowed_ips;
mod chance;
mod config;
mod cookie;
mod endpoint;
mod fair;
mod handshake;
mod hash;
mod key;
mod keypair;
mod lane;
mod limiter;
mod message;
mod noise;
pub mod packet;
mod peer;
mod replay;
mod timers;
mod timestamp;

#[cfg(test)]
mod tests;

pub use config::{AddPeerError, EndpointConfig, PeerConfig};
pub use endpoint::{Call, DropReason, Endpoint, Event, PeerId, Received, Sealed, Transmit};
pub use fair::{Backlog, FairLimits, FairQueue, Losses, Pop, Rate, Verdict};
pub use key::{PublicKey, StaticSecret};
pub use lane::Lane;
pub use message::{
    COOKIE_LEN, INITIATION_LEN, MessageKind, OVERHEAD, RESPONSE_LEN, TAG, TRANSPORT_HEADER,
    classify,
};
pub use packet::IpPacket;
pub use peer::PeerStats;
pub use timers::{
    Deadline, KEEPALIVE_TIMEOUT, REJECT_AFTER_TIME, REKEY_AFTER_TIME, REKEY_ATTEMPT_TIME,
    REKEY_TIMEOUT, TimerKind,
};
