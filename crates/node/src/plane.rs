//! The machines as the pump drives them: sessions and exits seal and open packets where they lie. It refuses to decide
//! anything: each call is one call of the machine.

use std::net::SocketAddr;
use std::time::Instant;

use wayfare_session::{ConsumerSession, Exit, Opened};
use wayfare_transport::{Frame, Framing, Plane};
use wayfare_tunnel::{Received, Sealed, TAG, TRANSPORT_HEADER};

/// The room that a transport message has around its packet.
pub(crate) fn framing(mtu: usize) -> Framing {
    Framing {
        head: TRANSPORT_HEADER,
        tail: TAG,
        multiple: 16,
        mtu,
    }
}

/// A consumer's session.
pub(crate) struct ConsumerPlane<'a>(pub(crate) &'a mut ConsumerSession);

/// A provider's exit.
pub(crate) struct ExitPlane<'a>(pub(crate) &'a mut Exit);

impl Plane for ConsumerPlane<'_> {
    fn seal(&mut self, frame: Frame<'_>, now: Instant) -> Option<SocketAddr> {
        destination(self.0.seal_in_place(frame.bytes, frame.packet, now))
    }

    fn open<'a>(
        &mut self,
        from: SocketAddr,
        datagram: &'a mut [u8],
        now: Instant,
    ) -> Option<&'a [u8]> {
        packet(self.0.open(from, datagram, now))
    }
}

impl Plane for ExitPlane<'_> {
    fn seal(&mut self, frame: Frame<'_>, now: Instant) -> Option<SocketAddr> {
        destination(self.0.seal_in_place(frame.bytes, frame.packet, now)?)
    }

    fn open<'a>(
        &mut self,
        from: SocketAddr,
        datagram: &'a mut [u8],
        now: Instant,
    ) -> Option<&'a [u8]> {
        match self.0.open(from, datagram, now) {
            Opened::Packet(packet) => Some(packet),
            Opened::Nothing | Opened::GateClosed => None,
        }
    }
}

fn destination(sealed: Sealed) -> Option<SocketAddr> {
    match sealed {
        Sealed::Datagram { to, .. } => Some(to),
        Sealed::Queued { .. } | Sealed::Dropped(_) => None,
    }
}

fn packet(received: Received<'_>) -> Option<&[u8]> {
    match received {
        Received::Packet { packet, .. } => Some(packet),
        Received::Keepalive { .. } | Received::Handshake { .. } | Received::Dropped(_) => None,
    }
}
