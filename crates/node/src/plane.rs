//! The machines as the pump drives them: sessions and exits seal and open packets where they lie. It refuses to decide
//! anything: each call is one call of the machine.

use std::net::SocketAddr;
use std::time::Instant;

use wayfare_session::{ConsumerSession, Exit, Opened};
use wayfare_transport::{Frame, Framing, Plane, Released};
use wayfare_tunnel::{IpPacket, TAG, TRANSPORT_HEADER};

use crate::provider::{Shares, WaitingRoom};

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

/// The mark of a packet that has waited for its payment, and passed the gate to leave.
const PAID: u32 = u32::MAX;

/// A provider's exit, with each consumer's share of the line and what waits for a payment.
pub(crate) struct ExitPlane<'a> {
    pub(crate) exit: &'a mut Exit,
    pub(crate) shares: &'a mut Shares,
    pub(crate) waiting: &'a mut WaitingRoom,
}

impl Plane for ConsumerPlane<'_> {
    fn seal(&mut self, frame: Frame<'_>, now: Instant) -> Option<SocketAddr> {
        let sealed = self.0.seal_in_place(frame.bytes, frame.packet, now);
        sealed.destination()
    }

    fn open<'a>(
        &mut self,
        from: SocketAddr,
        datagram: &'a mut [u8],
        now: Instant,
    ) -> Option<&'a [u8]> {
        self.0.open(from, datagram, now).packet()
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
            Opened::Nothing => return None,
            Opened::GateClosed { slot, packet } => {
                self.waiting.hold_up(self.exit, slot, packet, now);
                return None;
            }
        };
        let passes = self.shares.pass_up(self.exit, packet, now);
        passes.then_some(packet)
    }

    fn hold_outbound(&mut self, hold: bool, _now: Instant) -> bool {
        self.shares.hold_down(hold);
        true
    }

    fn release_outbound(&mut self, into: &mut [u8], now: Instant) -> Option<Released> {
        if let Some(len) = self.waiting.release_down(self.exit, into, now) {
            return Some(Released { len, mark: PAID });
        }
        let len = self.shares.release_down(into, now)?;
        Some(Released { len, mark: 0 })
    }

    /// The credit gate is asked when a packet leaves, not when it began to wait.
    fn seal_released(&mut self, frame: Frame<'_>, mark: u32, now: Instant) -> Option<SocketAddr> {
        if mark != PAID && !self.waiting.down.is_empty() && self.waits_behind(&frame, now) {
            return None;
        }
        match self.exit.seal_in_place(frame.bytes, frame.packet, now) {
            Some(sealed) => sealed.destination(),
            None => {
                self.hold(&frame, now);
                None
            }
        }
    }

    fn release_inbound(&mut self, into: &mut [u8], now: Instant) -> Option<usize> {
        while let Some(len) = self.waiting.release_up(self.exit, into, now) {
            if self.shares.pass_up(self.exit, &into[..len], now) {
                return Some(len);
            }
        }
        self.shares.release_up(into, now)
    }
}

impl ExitPlane<'_> {
    /// Whether earlier packets of the same session wait: then this one waits behind them, or finds no room and is lost.
    fn waits_behind(&mut self, frame: &Frame<'_>, now: Instant) -> bool {
        let Some((slot, packet)) = self.addressed(frame) else {
            return false;
        };
        let waits = self.waiting.down.holds(slot);
        if waits {
            self.waiting.hold_down(self.exit, slot, packet, now);
        }
        waits
    }

    /// Keeps what the gate holds back while a payment is to be expected.
    fn hold(&mut self, frame: &Frame<'_>, now: Instant) {
        if let Some((slot, packet)) = self.addressed(frame) {
            self.waiting.hold_down(self.exit, slot, packet, now);
        }
    }

    fn addressed<'f>(&self, frame: &'f Frame<'_>) -> Option<(u32, &'f [u8])> {
        let packet = frame.bytes.get(TRANSPORT_HEADER..)?.get(..frame.packet)?;
        let destination = IpPacket::parse(packet).ok()?.destination();
        Some((self.exit.slot_of(destination)?, packet))
    }
}
