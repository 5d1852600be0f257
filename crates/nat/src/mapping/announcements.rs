//! What routers call out to everybody: that they have begun anew, or that their address has changed (RFC 6887 section 14.1, RFC
//! 6886 section 3.2.1). It refuses to hear anybody but our gateway.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::epoch::Epoch;
use super::gateway::{Inside, SERVER};
use super::{nat_pmp, pcp};

/// Clients listen here: RFC 6887 section 19.
const CLIENTS: u16 = 5_350;

#[derive(Debug)]
pub(super) struct Announcements(Option<UdpSocket>);

impl Announcements {
    /// Listens, beside whoever else does. Without it, restarts are noticed by asking.
    pub(super) fn listen() -> Self {
        let open = || -> std::io::Result<UdpSocket> {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENTS).into())?;
            UdpSocket::from_std(socket.into())
        };
        match open() {
            Ok(socket) => Self(Some(socket)),
            Err(error) => {
                tracing::debug!(%error, "routers that begin anew are not heard");
                Self(None)
            }
        }
    }

    /// The next clock that our gateway calls out; waits forever if there is none to hear. Safe to be dropped.
    pub(super) async fn next(&self, inside: Inside) -> Epoch {
        let Some(socket) = &self.0 else {
            return std::future::pending().await;
        };
        let gateway = SocketAddr::V4(SocketAddrV4::new(inside.gateway, SERVER));
        let mut datagram = [0; 64];
        loop {
            // An error of a socket that only listens passes, or it never says anything again.
            let Ok((len, from)) = socket.recv_from(&mut datagram).await else {
                return std::future::pending().await;
            };
            if from == gateway
                && let Some(seconds) = clock_in(&datagram[..len])
            {
                return Epoch {
                    seconds,
                    at: Instant::now().into_std(),
                };
            }
        }
    }
}

/// The router's clock in an announcement of either protocol.
pub(super) fn clock_in(datagram: &[u8]) -> Option<u32> {
    let by_pcp = pcp::Reply::parse(datagram).ok();
    let by_pcp = by_pcp.filter(|reply| reply.body == pcp::Body::Announce);
    let by_nat_pmp = nat_pmp::Reply::parse(datagram).ok();
    let by_nat_pmp = by_nat_pmp.filter(|reply| match reply.body {
        nat_pmp::Body::External(_) => true,
        nat_pmp::Body::Mapped { .. } | nat_pmp::Body::Refused => false,
    });
    by_pcp
        .map(|reply| reply.epoch)
        .or(by_nat_pmp.map(|reply| reply.epoch))
}
