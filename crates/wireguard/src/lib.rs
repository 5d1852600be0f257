//! `wireguard`: a plain WireGuard peer on our data plane; any WireGuard implementation may be at the other end.
//!
//! No sessions, no payments, and none of what they need to compile: for people who bring both ends themselves, and for
//! measuring the tunnel alone. It refuses to give addresses or routes to the device: the caller does.

mod conf;
mod crowd;
mod lanes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use wayfare_transport::{BindError, Frame, Plane, PumpError, Released, Tun};
use wayfare_tunnel::{
    AddPeerError, Endpoint, IpPacket, Lane, PeerConfig, PeerId, StaticSecret, TRANSPORT_HEADER,
};

use crowd::Crowd;
use lanes::{Berth, Exchange};

pub use conf::ConfError;
pub use lanes::{LaneTotals, Lanes, OneLane};
pub use tokio_util::sync::CancellationToken;
pub use wayfare_transport::{TunDevice, TunError, TunOptions};

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
    /// A queue of the device.
    #[error(transparent)]
    Tun(#[from] TunError),
    /// A thread or its runtime.
    #[error("a lane cannot start: {0}")]
    Thread(#[source] std::io::Error),
    /// One lane ended without a word.
    #[error("a lane ended unexpectedly")]
    Lane,
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
        let mut sockets = lanes::bind(self.port, self.mark, 1)?.sockets;
        let (socket, receiver) = sockets.pop().ok_or(WireGuardError::Lane)?.open()?;
        let all = Berth {
            lane: Lane::ONLY,
            secret: self.secret,
            peers: self.peers,
        };
        let lane = all.prepare(socket, receiver, tun)?;
        lane.run(&stop, None).await.map(drop)
    }
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
    /// The first lane's, if there are several.
    exchange: Option<&'a mut Exchange>,
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
        let endpoint = &mut self.endpoint;
        let sealed = endpoint.seal_in_place(frame.bytes, frame.packet, now);
        sealed.destination()
    }

    fn open<'a>(
        &mut self,
        from: SocketAddr,
        datagram: &'a mut [u8],
        now: Instant,
    ) -> Option<&'a [u8]> {
        if let Some(exchange) = &mut self.exchange
            && exchange.takes(self.endpoint, from, datagram, now)
        {
            return None;
        }
        let received = self.endpoint.handle_datagram(from, datagram, now);
        received.packet()
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
        let sealed = endpoint.seal_to_in_place(peer, frame.bytes, frame.packet, now);
        sealed.destination()
    }
}
