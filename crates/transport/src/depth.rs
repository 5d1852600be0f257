//! How many routers of its own a computer sits behind, as the routers themselves say: datagrams that die after so many hops, and the
//! ICMP errors that come back. It refuses to guess: where routers keep silent nothing is known.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::canonical;

/// Hops that are looked at: seven NATs, and what lies behind them.
const MOST: u8 = 10;
/// The first router may be a firewall, which notes only what passes it.
const LEAST: u8 = 2;
/// Between two answers. Our own routers are near; whoever sits behind a satellite learns it in the next network.
const PATIENCE: Duration = Duration::from_millis(500);
/// What is nearer than a public router answers sooner, or not: routers ration such answers.
const GRACE: Duration = Duration::from_millis(20);
/// Means nothing to anybody: whoever gets it drops it as junk.
const KNOCK: [u8; 8] = [0; 8];
/// A control message with an error and an address takes 48.
const CONTROL: usize = 256;

/// The TTL with which a datagram passes this computer's own routers and dies at the first public one, `2..=10`. Ten datagrams are
/// sent towards `to`, an address on the internet. `None` for IPv6, which no NAT stands before, and when no public router answers.
pub async fn router_depth(to: SocketAddr) -> Option<u8> {
    let SocketAddr::V4(to) = canonical(to) else {
        return None;
    };
    let mut hops: FuturesUnordered<_> = (1..=MOST)
        .map(|ttl| async move { (ttl, dies_at(to, ttl).await) })
        .collect();
    let mut nearest: Option<u8> = None;
    let mut own = 0;
    // Those before the nearest public one are our own: when all of them are heard nothing nearer can come.
    while nearest != Some(own + 1) {
        let patience = nearest.map_or(PATIENCE, |_| GRACE);
        let Ok(Some((ttl, router))) = timeout(patience, hops.next()).await else {
            break;
        };
        match router {
            Ok(router) if is_public(router) => {
                nearest = Some(nearest.map_or(ttl, |known| known.min(ttl)));
            }
            Ok(_) => own += 1,
            Err(error) => tracing::trace!(ttl, %error, "no router says that a hop ended there"),
        }
    }
    nearest.map(|ttl| ttl.max(LEAST))
}

/// The router at which a datagram with this TTL dies; waits for ever where none says so.
async fn dies_at(to: SocketAddrV4, ttl: u8) -> io::Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
    socket.set_ttl(u32::from(ttl))?;
    socket.connect(to).await?;
    socket.send(&KNOCK).await?;
    socket
        .async_io(Interest::ERROR, || who_let_it_die(&socket))
        .await
}

/// Reads one error of the socket.
fn who_let_it_die(socket: &UdpSocket) -> io::Result<Ipv4Addr> {
    let mut datagram = [0; KNOCK.len()];
    let mut into = [IoSliceMut::new(&mut datagram)];
    let mut control = [0; CONTROL];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let fd = socket.as_raw_fd();
    let told = recvmsg::<SockaddrStorage>(fd, &mut into, Some(&mut control[..]), flags)?;
    for message in told.cmsgs()? {
        if let ControlMessageOwned::Ipv4RecvErr(error, Some(router)) = message
            && (error.ee_origin, error.ee_type) == (libc::SO_EE_ORIGIN_ICMP, ICMP_TIME_EXCEEDED)
        {
            return Ok(Ipv4Addr::from(u32::from_be(router.sin_addr.s_addr)));
        }
    }
    Err(io::Error::other("another error than the end of a life"))
}

/// RFC 792.
const ICMP_TIME_EXCEEDED: u8 = 11;

/// Whether a router with this address is nobody's own: not at home, not at a carrier's NAT (RFC 6598), not between the two (RFC 7335).
fn is_public(router: Ipv4Addr) -> bool {
    let [a, b, c, _] = router.octets();
    let carrier = a == 100 && b & 0xc0 == 64;
    let between = [a, b, c] == [192, 0, 0];
    !(router.is_private()
        || router.is_loopback()
        || router.is_link_local()
        || router.is_unspecified()
        || carrier
        || between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routers_at_home_and_at_carriers_are_our_own() {
        for own in [
            [192, 168, 1, 1],
            [10, 0, 0, 1],
            [172, 31, 0, 1],
            [100, 64, 0, 1],
            [100, 127, 255, 1],
            [192, 0, 0, 2],
            [169, 254, 0, 1],
        ] {
            assert!(!is_public(own.into()), "{own:?}");
        }
        for public in [
            [100, 63, 0, 1],
            [100, 128, 0, 1],
            [192, 0, 1, 1],
            [11, 0, 0, 1],
        ] {
            assert!(is_public(public.into()), "{public:?}");
        }
    }

    #[tokio::test]
    async fn nothing_is_known_of_ipv6_and_of_ways_without_routers() {
        assert_eq!(
            router_depth(([0, 0, 0, 0, 0, 0, 0, 1], 9).into()).await,
            None
        );
        assert_eq!(router_depth(([127, 0, 0, 1], 9).into()).await, None);
    }
}
