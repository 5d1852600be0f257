//! The socket's side: several sockets of one port, and the kernel's choice between them.
//!
//! It refuses to share the port with anybody: the first socket is bound alone, as any other
//! socket is, and only then opened to those beside it. So a port in use is an error, and a second
//! program, though it may be ours, cannot take half of our datagrams.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::Socket;

use super::{SteerError, checked, program};
use crate::socket::{BindError, SharedSocket, SocketOptions, TunnelReceiver, open};

/// A socket that belongs to a lane and is not read yet.
#[derive(Debug)]
pub struct LaneSocket {
    socket: UdpSocket,
    addr: SocketAddr,
}

/// The sockets of all lanes, in their order.
#[derive(Debug)]
pub struct LaneSockets {
    /// At least one; as many as were asked for unless they were refused.
    pub sockets: Vec<LaneSocket>,
    /// Why there is only one.
    pub refused: Option<SteerError>,
}

impl LaneSocket {
    /// The address, with the port the kernel chose if 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Starts the socket's reader on the current tokio runtime: the lane's.
    ///
    /// # Errors
    /// There is no runtime, or the system is out of resources.
    pub fn open(self) -> Result<(SharedSocket, TunnelReceiver), BindError> {
        SharedSocket::over(self.socket, self.addr)
    }
}

/// Opens `lanes` sockets on `addr`. Socket *k* gets the tunnel messages whose receiver index has a
/// first byte of *k* modulo `lanes`, socket 0 besides that everything that names no index:
/// handshake initiations, QUIC, junk.
///
/// Two things make exceptions, so a lane must cope with what is another's: datagrams that come
/// while this function runs, and those that the kernel has put together (GRO) with one before them
/// from the same address and port, which it keeps with that one.
///
/// # Errors
/// As [`SharedSocket::bind`], for the first of them. If anything else is refused there is one
/// socket, as if one had been asked for.
pub fn lane_sockets(
    addr: SocketAddr,
    options: SocketOptions,
    lanes: usize,
) -> Result<LaneSockets, BindError> {
    let first = open::open(addr, options)?;
    let os = |source| BindError::os(addr, "prepare", source);
    let local = first.local_addr().map_err(os)?;
    let local = local.as_socket().unwrap_or(addr);
    let (others, refused) = match beside(&first, local, options, lanes) {
        Ok(others) => (others, None),
        Err(why) => {
            // Nobody has joined it, and nobody shall.
            let _ = setsockopt(&first, sockopt::ReusePort, &false);
            (Vec::new(), Some(why))
        }
    };
    let all = std::iter::once(first).chain(others);
    let sockets = all.map(|socket| LaneSocket {
        socket: socket.into(),
        addr: local,
    });
    Ok(LaneSockets {
        sockets: sockets.collect(),
        refused,
    })
}

/// The sockets of the other lanes, and the program that chooses.
fn beside(
    first: &Socket,
    local: SocketAddr,
    options: SocketOptions,
    lanes: usize,
) -> Result<Vec<Socket>, SteerError> {
    let mut program = program::by_receiver_index(checked(lanes)?);
    let refused = |step| move |source| SteerError::Sockets { step, source };
    let mut others = Vec::new();
    if lanes == 1 {
        return Ok(others);
    }
    share(first).map_err(refused("share the port"))?;
    for number in 1..lanes {
        let other = open::unbound(local, options).map_err(io::Error::other);
        let other = other.map_err(refused("open"))?;
        share(&other).map_err(refused("share the port"))?;
        other.bind(&local.into()).map_err(refused("bind"))?;
        others.push(other);
        if number == 1 {
            // Now there is a group to attach it to. What it says of lanes that are not there yet
            // the kernel decides by itself.
            let words = libc::sock_fprog {
                len: program.len() as libc::c_ushort,
                filter: program.as_mut_ptr(),
            };
            setsockopt(first, sockopt::AttachReusePortCbpf, &words)
                .map_err(|errno| refused("attach the program")(errno.into()))?;
        }
    }
    Ok(others)
}

fn share(socket: &Socket) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::ReusePort, &true)?)
}
