//! Whether there is a way to an address at all, before anybody waits for an answer from there.
//!
//! A computer with one address family learns of peers in both. What is sent to the other one the
//! kernel refuses at once, but QUIC takes a datagram that was not sent for a lost one, and waits
//! ten seconds. It refuses to promise anything: that a route begins here says nothing of its end.

use std::io;
use std::net::SocketAddr;

use socket2::{SockAddr, SockRef};

use super::inner::Inner;
use super::is_virtual;

/// `MSG_PROBE` of `linux/socket.h`: look for the path, do not send.
const PROBE: libc::c_int = 0x10;
/// With [`PROBE`] and nothing to send, `sendto` ends where it has found route and source address.
const LOOK: libc::c_int = PROBE | libc::MSG_CONFIRM;

impl Inner {
    /// See [`super::SharedSocket::reaches`].
    pub(super) fn reaches(&self, to: SocketAddr) -> bool {
        if is_virtual(to) {
            return true;
        }
        let Ok(to) = self.port.wire(to) else {
            return false;
        };
        // The socket itself is asked: its mark, its address and its network namespace count.
        let socket = SockRef::from(&self.port.io);
        let looked = socket.send_to_with_flags(&[], &SockAddr::from(to), LOOK);
        // Any other failure is no verdict: sending may do better.
        !looked.is_err_and(|error| is_no_route(&error))
    }
}

/// No route, no address to send from, or none of the family at all.
fn is_no_route(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)
    )
}
