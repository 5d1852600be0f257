//! Opening the kernel socket: family, mark, buffers, address. It refuses to give up a port for the
//! want of IPv6: where the kernel has none, all addresses are those of IPv4.

use std::net::{Ipv4Addr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::error::BindError;

/// 12 MiB, which the kernel doubles: it may charge 24 MiB for unread datagrams.
///
/// One TCP stream inside the tunnel may have a window of 6 MiB under way, that is 4,599 segments
/// of 1,368 bytes (MTU 1,420, timestamps) in datagrams of 1,452. For each the kernel charges,
/// measured over veth and loopback, 1,470 bytes when it arrives coalesced (`UDP_GRO`), 2,304
/// alone, and with network drivers that spend a page on every packet 4,096 + 256 = 4,352; a
/// datagram of 60 bytes costs 832. That is 7, 10 and 20 MiB (4,599 x 4,352 = 20.0 million), so
/// that the stream is stopped by its own window and never by a loss here.
const RECEIVE_BUFFER: usize = 12 << 20;
/// 4 MiB, doubled too: what waits for the network card. More would only be delay.
const SEND_BUFFER: usize = 4 << 20;

/// How to open the socket.
#[derive(Debug, Clone, Copy)]
pub struct SocketOptions {
    /// Firewall mark of every packet sent (`SO_MARK`), so that a kill switch and policy routing
    /// can tell our own traffic from what must enter the tunnel. Needs `CAP_NET_ADMIN`.
    pub mark: Option<u32>,
    /// Kernel receive buffer, bytes; the kernel charges up to twice that. A best effort: without
    /// `CAP_NET_ADMIN` the kernel silently caps it at `net.core.rmem_max`.
    pub receive_buffer: usize,
    /// Kernel send buffer, bytes; likewise, with `net.core.wmem_max`.
    pub send_buffer: usize,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            mark: None,
            receive_buffer: RECEIVE_BUFFER,
            send_buffer: SEND_BUFFER,
        }
    }
}

/// Bound to `addr`; `[::]` means both families, or IPv4 alone where the kernel has no IPv6.
pub(crate) fn open(addr: SocketAddr, options: SocketOptions) -> Result<Socket, BindError> {
    bound(addr, options).or_else(|error| {
        let instead = instead(addr, &error).ok_or(error)?;
        tracing::info!(%addr, %instead, "IPv6 is off on this computer: IPv4 alone is served");
        bound(instead, options)
    })
}

/// What to open when `addr` could not be. A named IPv6 address has no substitute.
fn instead(addr: SocketAddr, error: &BindError) -> Option<SocketAddr> {
    let wants_all = addr.is_ipv6() && addr.ip().is_unspecified();
    let lacks_v6 = matches!(error, BindError::NoIpv6 { .. });
    (wants_all && lacks_v6).then(|| (Ipv4Addr::UNSPECIFIED, addr.port()).into())
}

fn bound(addr: SocketAddr, options: SocketOptions) -> Result<Socket, BindError> {
    let socket = unbound(addr, options)?;
    socket
        .bind(&addr.into())
        .map_err(|source| BindError::os(addr, "bind", source))?;
    Ok(socket)
}

/// All but the address, which it is meant for.
pub(crate) fn unbound(addr: SocketAddr, options: SocketOptions) -> Result<Socket, BindError> {
    let os = |step| move |source| BindError::os(addr, step, source);
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))
        .map_err(os("open"))?;
    if addr.is_ipv6() {
        // Dual stack only when every address was asked for; a named IPv6 address is that one.
        socket
            .set_only_v6(!addr.ip().is_unspecified())
            .map_err(os("configure"))?;
    }
    if let Some(mark) = options.mark {
        setsockopt(&socket, sockopt::Mark, &mark)
            .map_err(|errno| BindError::os(addr, "mark", errno.into()))?;
    }
    size_buffers(&socket, options);
    Ok(socket)
}

/// A best effort: a smaller buffer costs throughput, not correctness.
pub(super) fn size_buffers(socket: &Socket, options: SocketOptions) {
    if setsockopt(socket, sockopt::RcvBufForce, &options.receive_buffer).is_err() {
        let _ = socket.set_recv_buffer_size(options.receive_buffer);
    }
    if setsockopt(socket, sockopt::SndBufForce, &options.send_buffer).is_err() {
        let _ = socket.set_send_buffer_size(options.send_buffer);
    }
    // Both are read back doubled.
    let receive = socket.recv_buffer_size().unwrap_or(0) / 2;
    let send = socket.send_buffer_size().unwrap_or(0) / 2;
    if receive < options.receive_buffer {
        tracing::info!(
            asked = options.receive_buffer,
            granted = receive,
            "small UDP receive buffer: fast downloads may lose packets; raise net.core.rmem_max"
        );
    }
    tracing::debug!(receive, send, "UDP buffers");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io;

    use super::*;

    /// As on a computer that was started with `ipv6.disable=1`.
    #[test]
    fn without_ipv6_every_address_is_every_address_of_ipv4() {
        let instead_of = |addr: &str, code| {
            let addr = addr.parse().unwrap();
            let error = BindError::os(addr, "open", io::Error::from_raw_os_error(code));
            instead(addr, &error)
        };
        let four = Some("0.0.0.0:51820".parse().unwrap());
        assert_eq!(instead_of("[::]:51820", libc::EAFNOSUPPORT), four);
        assert_eq!(instead_of("[2001:db8::1]:7", libc::EAFNOSUPPORT), None);
        assert_eq!(instead_of("[::]:51820", libc::EADDRINUSE), None);
        assert_eq!(instead_of("0.0.0.0:51820", libc::EAFNOSUPPORT), None);
    }
}
