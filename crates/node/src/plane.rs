//! The machines as the pump drives them: sessions and exits seal and open packets where they lie. It refuses to decide
//! anything: each call is one call of the machine.

use std::net::SocketAddr;
use std::time::Instant;

use wayfare_session::{ConsumerSession, Exit, Opened};
use wayfare_transport::{Frame, Framing, Plane, Released};
use wayfare_tunnel::{Received, Sealed, TAG, TRANSPORT_HEADER};

use crate::provider::Shares;

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

/// A provider's exit, with each consumer's share of the line.
pub(crate) struct ExitPlane<'a> {
    pub(crate) exit: &'a mut Exit,
    pub(crate) shares: &'a mut Shares,
}

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
        let packet = frame.bytes.get(TRANSPORT_HEADER..)?.get(..frame.packet)?;
        if !self.shares.pass_down(self.exit, packet, now) {
            return None;
        }
        self.seal_released(frame, 0, now)
    }

    fn open<'a>(
        &mut self,
        from: SocketAddr,
        datagram: &'a mut [u8],
        now: Instant,
    ) -> Option<&'a [u8]> {
        let packet = match self.exit.open(from, datagram, now) {
            Opened::Packet(packet) => packet,
            Opened::Nothing | Opened::GateClosed => return None,
        };
        let passes = self.shares.pass_up(self.exit, packet, now);
        passes.then_some(packet)
    }

    fn hold_outbound(&mut self, hold: bool, _now: Instant) -> bool {
        self.shares.hold_down(hold);
        true
    }

    fn release_outbound(&mut self, into: &mut [u8], now: Instant) -> Option<Released> {
        let len = self.shares.release_down(into, now)?;
        Some(Released { len, mark: 0 })
    }

    /// The credit gate is asked when a packet leaves, not when it began to wait.
    fn seal_released(&mut self, frame: Frame<'_>, _mark: u32, now: Instant) -> Option<SocketAddr> {
        let sealed = self.exit.seal_in_place(frame.bytes, frame.packet, now)?;
        destination(sealed)
    }

    fn release_inbound(&mut self, into: &mut [u8], now: Instant) -> Option<usize> {
        self.shares.release_up(into, now)
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
