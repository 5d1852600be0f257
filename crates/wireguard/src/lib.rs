//! `wireguard`: a plain WireGuard peer on our data plane; any WireGuard implementation may be at the other end.
//!
//! No sessions, no payments, and none of what they need to compile: for people who bring both ends themselves, and for
//! measuring the tunnel alone. It refuses to give addresses or routes to the device: the caller does.

mod conf;
mod crowd;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use wayfare_transport::{
    BindError, Clock, Frame, Framing, Plane, Pump, PumpError, Released, SharedSocket,
    SocketOptions, Tun, TunnelReceiver,
};
use wayfare_tunnel::{
    AddPeerError, Endpoint, EndpointConfig, IpPacket, PeerConfig, PeerId, Received, Sealed,
    StaticSecret, TAG, TRANSPORT_HEADER,
};

use crowd::Crowd;

pub use conf::ConfError;
pub use tokio_util::sync::CancellationToken;
pub use wayfare_transport::{TunDevice, TunError};

/// What a plain peer is; made from a `.conf` file by [`str::parse`].
///
/// Read are `PrivateKey`, `ListenPort` and `FwMark` of `[Interface]`, and `PublicKey`, `PresharedKey`, `AllowedIPs`,
/// `Endpoint` and `PersistentKeepalive` of each `[Peer]`, as `wg setconf` takes them. What `wg-quick` adds (`Address`,
/// `DNS`, `MTU`, ...) is the caller's affair and skipped; an unknown word is an error.
#[derive(Debug, Clone)]
pub struct WireGuard {
    secret: StaticSecret,
    port: u16,
    mark: Option<u32>,
    peers: Vec<PeerConfig>,
}

/// Why a peer did not run, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum WireGuardError {
    /// The UDP port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A peer that cannot be.
    #[error("[Peer]: {0}")]
    Peer(#[from] AddPeerError),
    /// Socket or device.
    #[error(transparent)]
    Pump(#[from] PumpError),
    /// The system has no generator for keys.
    #[error("the system's random generator failed: {0}")]
    Chance(String),
}

impl WireGuard {
    /// Carries packets between `tun` and the peers until `stop`.
    ///
    /// # Errors
    /// The port is taken, a peer is described twice, or socket or device fails.
    pub async fn run(
        self,
        tun: Arc<dyn Tun>,
        stop: CancellationToken,
    ) -> Result<(), WireGuardError> {
        let mtu = tun.mtu();
        let now = Clock::now();
        let config = EndpointConfig {
            mtu,
            ..EndpointConfig::default()
        };
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| WireGuardError::Chance(error.to_string()))?;
        let mut endpoint = Endpoint::new(self.secret, seed, now, Clock::wall(), config);
        let mut peers = Vec::new();
        for peer in self.peers {
            let calls = peer.endpoint.is_some() && peer.keepalive.is_some();
            let id = endpoint.add_peer(peer)?;
            peers.push(id);
            if calls {
                endpoint.initiate(id, now);
            }
        }
        let (socket, receiver) = bind(self.port, self.mark)?;
        let framing = Framing {
            head: TRANSPORT_HEADER,
            tail: TAG,
            multiple: 16,
            mtu,
        };
        let mut crowd = Crowd::default();
        let mut pump = Pump::new(socket, receiver, tun, framing);
        loop {
            while let Some(transmit) = endpoint.poll_transmit() {
                if let Err(error) = pump.socket().send(transmit.to, &transmit.payload).await {
                    tracing::debug!(%error, "a tunnel message could not be sent");
                }
            }
            while endpoint.poll_event().is_some() {}
            let deadline = endpoint.poll_timeout().map(|deadline| deadline.at);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                ready = pump.ready() => {
                    ready?;
                    let mut carried = Carried {
                        endpoint: &mut endpoint,
                        peers: &peers,
                        crowd: &mut crowd,
                    };
                    pump.work(&mut carried, Clock::now());
                }
                () = wait(deadline) => endpoint.handle_timeout(Clock::now()),
            }
        }
    }
}

/// Both families, or IPv4 alone where the system has no IPv6.
fn bind(port: u16, mark: Option<u32>) -> Result<(SharedSocket, TunnelReceiver), BindError> {
    let options = SocketOptions {
        mark,
        ..SocketOptions::default()
    };
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    SharedSocket::bind(both, options).or_else(|error| match error {
        BindError::NoIpv6 { .. } => {
            SharedSocket::bind((Ipv4Addr::UNSPECIFIED, port).into(), options)
        }
        other => Err(other),
    })
}

async fn wait(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// The endpoint as the pump drives it.
struct Carried<'a> {
    endpoint: &'a mut Endpoint,
    /// All of them; one's number is its place.
    peers: &'a [PeerId],
    crowd: &'a mut Crowd,
}

impl Plane for Carried<'_> {
    fn seal(&mut self, frame: Frame<'_>, now: Instant) -> Option<SocketAddr> {
        if self.crowd.is_there() {
            let packet = frame.bytes.get(TRANSPORT_HEADER..)?.get(..frame.packet)?;
            let destination = IpPacket::parse(packet).ok()?.destination();
            let peer = self.endpoint.peer_for(destination)?;
            if !self.crowd.pass(peer.index(), packet, now) {
                return None;
            }
        }
        destination(self.endpoint.seal_in_place(frame.bytes, frame.packet, now))
    }

    fn open<'a>(
        &mut self,
        from: SocketAddr,
        datagram: &'a mut [u8],
        now: Instant,
    ) -> Option<&'a [u8]> {
        match self.endpoint.handle_datagram(from, datagram, now) {
            Received::Packet { packet, .. } => Some(packet),
            Received::Keepalive { .. } | Received::Handshake { .. } | Received::Dropped(_) => None,
        }
    }

    fn hold_outbound(&mut self, hold: bool, now: Instant) -> bool {
        self.crowd.hold(hold, now);
        true
    }

    fn release_outbound(&mut self, into: &mut [u8], now: Instant) -> Option<Released> {
        let (mark, len) = self.crowd.release(into, now)?;
        Some(Released { len, mark })
    }

    fn seal_released(&mut self, frame: Frame<'_>, mark: u32, now: Instant) -> Option<SocketAddr> {
        let peer = *self.peers.get(mark as usize)?;
        let endpoint = &mut self.endpoint;
        destination(endpoint.seal_to_in_place(peer, frame.bytes, frame.packet, now))
    }
}

fn destination(sealed: Sealed) -> Option<SocketAddr> {
    match sealed {
        Sealed::Datagram { to, .. } => Some(to),
        Sealed::Queued { .. } | Sealed::Dropped(_) => None,
    }
}
