//! How far a NAT that numbers its flows has counted: a socket of its own asks a relay, just before a peer is told what to expect.
//! It refuses to wait long, and to keep the socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;
use wayfare_path::{observe_request, observe_result};

use crate::chance;

/// The peer waits for this; longer than a round trip to another continent.
const PATIENCE: Duration = Duration::from_millis(300);
/// More than an answer has.
const DATAGRAM: usize = 256;

/// Where the relay sees a flow that begins now; `None` when it does not say so in time.
pub(super) async fn newest_flow(relay: SocketAddr) -> Option<SocketAddr> {
    timeout(PATIENCE, ask(relay)).await.ok()?
}

async fn ask(relay: SocketAddr) -> Option<SocketAddr> {
    let anywhere: IpAddr = match relay {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((anywhere, 0)).await.ok()?;
    // Only the relay is heard.
    socket.connect(relay).await.ok()?;
    let question = chance::bytes().ok()?;
    socket.send(&observe_request(question)).await.ok()?;
    let mut bytes = [0; DATAGRAM];
    loop {
        let len = socket.recv(&mut bytes).await.ok()?;
        match observe_result(&bytes[..len]) {
            Some(observed) if observed.transaction == question => return Some(observed.seen),
            _ => {}
        }
    }
}
