//! `transport`: bytes in and out of the process.
//!
//! One clock, one UDP socket shared by tunnel messages, QUIC, probes and relay frames, a QUIC
//! endpoint on that socket whose peers are named by their ed25519 node keys, and TUN devices behind one trait.
//! It refuses to know what a session, a price or a proposal is, and it never changes routes,
//! addresses or firewall rules: that is the work of `host`.

pub mod carrier;
pub mod clock;
mod depth;
pub mod pump;
pub mod quic;
pub mod socket;
pub mod steer;
pub mod tun;

pub use carrier::{Kind as PipeKind, Pipe, PipeDial, PipeDoor, PipeError, dial_pipe, open_pipe};
pub use clock::Clock;
pub use depth::router_depth;
pub use pump::{Plane, Pump, PumpError, PumpStats, Released};
pub use quic::{
    BiStream, DialError, FULL_PAYLOAD, LEAST_PAYLOAD, PathPace, Protocol, QuicEndpoint, QuicError,
    QuicIdentity, alpn, discovered, gather_randomness, node_key_in, path_payload, peer_node_key,
    quic_endpoint, remote_address, watch_path,
};
pub use socket::{
    Adopted, Batch, BindError, Carried, CarriedMeter, Carrier, Outgoing, Probe, Probes,
    SharedSocket, SocketOptions, SocketStats, Switch, TunnelReceiver, canonical, is_virtual,
};
pub use steer::{
    LaneSocket, LaneSockets, MOST_LANES, SteerError, lane_of, lane_sockets, steer_device,
};
pub use tun::{
    ChannelTun, Frame, Framing, MAX_PACKET, Offloads, PacketBatch, Sent, Tun, TunCounts, TunDevice,
    TunError, TunExt, TunOptions,
};
