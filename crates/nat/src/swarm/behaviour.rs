//! The protocols of the swarm, in one place with their limits.

use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use libp2p_core::muxing::StreamMuxerBox;
use libp2p_core::transport::{Boxed, Transport as _};
use libp2p_core::upgrade::Version;
use libp2p_identity::{Keypair, PeerId};
use libp2p_request_response::{self as request_response, ProtocolSupport};
use libp2p_swarm::behaviour::toggle::Toggle;
use libp2p_swarm::{NetworkBehaviour, Swarm};
use libp2p_yamux as yamux;
use quinn::Connection;
use tokio::sync::mpsc;

use crate::Ground;
use crate::calls::{self, CallCodec};
use crate::candidates::Candidates;
use crate::circuit::CircuitTls;
use crate::connections::Connections;
use crate::dht::{Table, Words, assemble_kad, assemble_words};
use crate::transport::Shared;

const IDENTIFY: &str = "/wayfare/identify/1";
/// A call waits for the other node's answer, and that may wait for a NAT.
const CALL_LIMIT: Duration = Duration::from_secs(8);
/// Requests of one connection at a time.
const CALLS_AT_ONCE: usize = 32;
/// What a circuit may carry: words about paths, no traffic.
const CIRCUIT_BYTES: u64 = 1 << 20;
const CIRCUIT_LIMIT: Duration = Duration::from_secs(120);
const CIRCUITS: usize = 1_024;
const RESERVATIONS: usize = 4_096;
/// Connections are kept by whoever needs them (a channel's ends are known by them), and closed by their own idle timeout when
/// the peer is gone; a day is for ever.
const IDLE: Duration = Duration::from_secs(86_400);

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p_swarm::derive_prelude")]
pub(super) struct Behaviour {
    pub(super) identify: libp2p_identify::Behaviour,
    pub(super) relay_client: libp2p_relay::client::Behaviour,
    pub(super) relay_server: Toggle<libp2p_relay::Behaviour>,
    pub(super) dcutr: libp2p_dcutr::Behaviour,
    pub(super) autonat_client: libp2p_autonat::v2::client::Behaviour,
    pub(super) autonat_server: Toggle<libp2p_autonat::v2::server::Behaviour>,
    pub(super) calls: request_response::Behaviour<CallCodec>,
    pub(super) candidates: Candidates,
    pub(super) kad: Toggle<Table>,
    pub(super) words: Toggle<Words>,
}

/// Puts the swarm together. `serves`: whether it relays for others and tests their addresses;
/// `dht`: whether it takes part in the distributed table, and serves there; `places`: for connections that others make.
pub(super) fn assemble(
    keypair: &Keypair,
    ground: &Arc<dyn Ground>,
    incoming: mpsc::Receiver<Connection>,
    (connections, places): (Connections, usize),
    serves: bool,
    dht: Option<bool>,
) -> Swarm<Behaviour> {
    let us = keypair.public().to_peer_id();
    let (circuits, relay_client) = libp2p_relay::client::new(us);
    let circuits = circuits
        .upgrade(Version::V1Lazy)
        .authenticate(CircuitTls(Arc::clone(ground)))
        .multiplex(yamux::Config::default());
    let shared = Shared::new(Arc::clone(ground), incoming, connections, places);
    let shared = shared.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let transport: Boxed<(PeerId, StreamMuxerBox)> = circuits
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .or_transport(shared)
        .map(|either, _| either.into_inner())
        .boxed();
    let behaviour = Behaviour {
        identify: libp2p_identify::Behaviour::new(
            libp2p_identify::Config::new(IDENTIFY.to_owned(), keypair.public())
                .with_agent_version("wayfare".to_owned()),
        ),
        relay_client,
        relay_server: serves
            .then(|| libp2p_relay::Behaviour::new(us, circuit_limits()))
            .into(),
        dcutr: libp2p_dcutr::Behaviour::new(us),
        autonat_client: libp2p_autonat::v2::client::Behaviour::default(),
        autonat_server: serves
            .then(libp2p_autonat::v2::server::Behaviour::default)
            .into(),
        calls: request_response::Behaviour::with_codec(
            calls::codec(),
            [(calls::PROTOCOL, ProtocolSupport::Full)],
            request_response::Config::default()
                .with_request_timeout(CALL_LIMIT)
                .with_max_concurrent_streams(CALLS_AT_ONCE),
        ),
        candidates: Candidates::default(),
        kad: dht.map(|serves| assemble_kad(us, serves)).into(),
        words: dht.map(assemble_words).into(),
    };
    let config = libp2p_swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE)
        // A stream of ours has one protocol: it is named with the first message, not a round trip before.
        .with_substream_upgrade_protocol_override(Version::V1Lazy)
        .with_dial_concurrency_factor(NonZeroU8::new(8).expect("8 is not 0"));
    Swarm::new(transport, behaviour, us, config)
}

fn circuit_limits() -> libp2p_relay::Config {
    libp2p_relay::Config {
        max_reservations: RESERVATIONS,
        max_circuits: CIRCUITS,
        max_circuits_per_peer: 16,
        max_circuit_duration: CIRCUIT_LIMIT,
        max_circuit_bytes: CIRCUIT_BYTES,
        ..libp2p_relay::Config::default()
    }
}
