//! What a caller decides: limits of an endpoint, the description of a peer, and what can be wrong with it.
//! It refuses protocol constants: those are fixed, beside the code that uses them.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::endpoint::PeerId;
use crate::key::PublicKey;
use crate::lane::Lane;
use crate::timers::{REKEY_AFTER_TIME, REKEY_TIMEOUT};

/// Limits of one endpoint. The defaults fit a provider with thousands of consumers.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// The initiator renews keys of this age; values above 120 s (the protocol's) count as 120 s.
    pub rekey_after: Duration,
    /// A first handshake with a peer that is not answered is tried again after this long, then twice as long, and in the end every
    /// 5 s, which is the protocol's and the preset: less is for peers that are known to expect it.
    pub first_retry: Duration,
    /// MTU of the inner network, in bytes: padding never makes a packet longer than this.
    /// 1,420 = 1,500 − 40 (IPv6) − 8 (UDP) − 32 ([`crate::OVERHEAD`]).
    pub mtu: usize,
    /// Peers at most. An idle peer with keys costs at most about 9 KiB, one without keys below 2 KiB.
    pub max_peers: usize,
    /// Prefixes per peer at most; 96 bytes each.
    pub max_allowed_ips: usize,
    /// Packets kept per peer while a handshake runs; the oldest is dropped first.
    pub max_queued_packets: usize,
    /// Bytes kept for all peers together while handshakes run.
    pub max_queued_bytes: usize,
    /// Datagrams waiting in [`crate::Endpoint::poll_transmit`]; beyond it they are dropped (timers repeat what matters).
    pub max_transmits: usize,
    /// Events waiting in [`crate::Endpoint::poll_event`]; beyond it the oldest are dropped.
    pub max_events: usize,
    /// Handshake messages a second (all sources) above which senders must first return a cookie.
    pub handshakes_per_second: u32,
    /// Sources tracked by the per-source limiter; about 64 bytes each.
    pub max_sources: usize,
    /// Which of several endpoints of this key this is: it chooses receiver indices of that lane only.
    pub lane: Lane,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            rekey_after: REKEY_AFTER_TIME,
            first_retry: REKEY_TIMEOUT,
            mtu: 1_420,
            max_peers: 65_536,
            max_allowed_ips: 256,
            max_queued_packets: 64,
            // 4 MiB: 64 packets of 1,420 bytes for 46 peers at once, or one packet each for 2,900.
            max_queued_bytes: 4 << 20,
            // 4,096 × 148 bytes of handshake < 1 MiB; flushed queues add at most `max_queued_bytes`.
            max_transmits: 4_096,
            max_events: 4_096,
            // 200 × 0.2 ms = 4 % of one core.
            handshakes_per_second: 200,
            // 16,384 × 64 bytes = 1 MiB.
            max_sources: 16_384,
            lane: Lane::ONLY,
        }
    }
}

/// One peer as its owner describes it.
#[derive(Clone)]
pub struct PeerConfig {
    /// The peer's static public key.
    pub public_key: PublicKey,
    /// A secret shared beforehand, mixed into every handshake.
    pub preshared_key: Option<[u8; 32]>,
    /// Addresses the peer may use: packets to them go to the peer, packets from it must come from them.
    pub allowed_ips: Vec<IpNet>,
    /// Where the peer is, if known. A peer that calls us needs none.
    pub endpoint: Option<SocketAddr>,
    /// Interval of persistent keepalives, if a path must be kept open while idle. Zero counts as none. Counted from the
    /// first handshake message on: [`crate::Endpoint::initiate`] begins it.
    pub keepalive: Option<Duration>,
}

impl PeerConfig {
    /// A peer with a key and nothing else.
    #[must_use]
    pub fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            preshared_key: None,
            allowed_ips: Vec::new(),
            endpoint: None,
            keepalive: None,
        }
    }
}

impl std::fmt::Debug for PeerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerConfig")
            .field("public_key", &self.public_key)
            .field("preshared_key", &self.preshared_key.map(|_| "redacted"))
            .field("allowed_ips", &self.allowed_ips)
            .field("endpoint", &self.endpoint)
            .field("keepalive", &self.keepalive)
            .finish()
    }
}

/// Why a peer was not added or changed. Always the caller's mistake; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddPeerError {
    /// The key is already a peer's; change that peer instead.
    #[error("this public key already belongs to {0}")]
    DuplicateKey(PeerId),
    /// The key is our own.
    #[error("this public key is our own")]
    OwnKey,
    /// Another peer owns exactly this prefix.
    #[error("the prefix {prefix} already belongs to {owner}")]
    AllowedIpTaken {
        /// The prefix asked for.
        prefix: IpNet,
        /// Who has it.
        owner: PeerId,
    },
    /// More prefixes than the endpoint allows for one peer.
    #[error("more than {0} allowed prefixes for one peer")]
    TooManyAllowedIps(usize),
    /// The endpoint is full.
    #[error("the endpoint already has {0} peers, its limit")]
    TooManyPeers(usize),
    /// No such peer (it was removed, or belongs to another endpoint).
    #[error("no such peer")]
    UnknownPeer,
}
