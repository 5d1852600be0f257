//! Sending by a detour: into relay frames, to a carrier, through an adopted socket.
//!
//! It refuses to queue. Before a relay a full send buffer is told to the sender, as on the plain
//! way; a carrier or an adopted socket without room loses the datagram, and it is counted.

use std::io;
use std::net::SocketAddr;
use std::sync::PoisonError;

use super::super::canonical;
use super::super::demux::{self, HEAD};
use super::super::inner::Inner;
use super::super::port::Port;
use super::table::{Way, closed};
use super::{CarriedMeter, Carrier, is_virtual};

impl Inner {
    /// Sends `buffer`, datagrams of `segment` bytes, to what [`Detours::concern`] found to be worth
    /// a look. Says how many bytes, whole datagrams, have left or are lost.
    ///
    /// [`Detours::concern`]: super::Detours::concern
    pub(in super::super) fn detour(
        &self,
        to: SocketAddr,
        buffer: &[u8],
        segment: usize,
    ) -> io::Result<usize> {
        match self.detours.way(to) {
            Some(Way::Relayed {
                relay,
                channel,
                meter,
            }) => self.relay((relay, channel), &meter, buffer, segment),
            Some(Way::Carried(carrier, meter)) => self.carry(&*carrier, &meter, buffer, segment),
            Some(Way::Held(held)) => {
                self.counters.carried_lost.add(held.keep(buffer, segment));
                Ok(buffer.len())
            }
            Some(Way::Adopted(port)) => self.send_adopted(&port, to, buffer, segment),
            None if is_virtual(to) => Err(closed(canonical(to))),
            None => self
                .port
                .segments(&self.counters, self.port.wire(to)?, buffer, segment),
        }
    }

    /// As [`detour`](Self::detour), of one datagram that passes `ttl` hops at most.
    pub(in super::super) fn detour_ttl(
        &self,
        to: SocketAddr,
        datagram: &[u8],
        ttl: u8,
    ) -> io::Result<()> {
        match self.detours.way(to) {
            Some(Way::Relayed { .. } | Way::Carried(..) | Way::Held(_)) => {
                let why = "hops to a virtual address cannot be counted";
                Err(io::Error::new(io::ErrorKind::Unsupported, why))
            }
            Some(Way::Adopted(port)) => {
                port.transmit_ttl(&self.counters, port.wire(to)?, datagram, ttl)
            }
            None if is_virtual(to) => Err(closed(canonical(to))),
            None => self
                .port
                .transmit_ttl(&self.counters, self.port.wire(to)?, datagram, ttl),
        }
    }

    /// Puts a head before every datagram and sends the train to the relay.
    fn relay(
        &self,
        (relay, channel): (SocketAddr, u32),
        meter: &CarriedMeter,
        buffer: &[u8],
        segment: usize,
    ) -> io::Result<usize> {
        let framed = segment + HEAD;
        if segment == 0 {
            let why = "a relay frame carries at least one byte";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let at_once = self.port.segments_at_once(framed)?;
        let mut scratch = self.take_scratch();
        let mut sent = 0;
        let mut outcome = Ok(());
        for train in buffer.chunks(at_once * segment) {
            frame(&mut scratch, channel, train, segment);
            match self.try_send_segments(relay, &scratch, framed) {
                Ok(bytes) if bytes == scratch.len() => {
                    meter.add_sent(bytes);
                    sent += train.len();
                }
                Ok(bytes) => {
                    meter.add_sent(bytes);
                    // Not all, hence whole frames of full length.
                    sent += bytes / framed * segment;
                    break;
                }
                Err(e) => {
                    outcome = Err(e);
                    break;
                }
            }
        }
        self.give_back(scratch);
        self.counters.frames_sent.add(sent.div_ceil(segment));
        // What was sent is the answer; the error will show again on the next call.
        if sent > 0 {
            Ok(sent)
        } else {
            outcome.map(|()| 0)
        }
    }

    fn carry(
        &self,
        carrier: &dyn Carrier,
        meter: &CarriedMeter,
        buffer: &[u8],
        segment: usize,
    ) -> io::Result<usize> {
        let most = carrier.most();
        let mut sent = 0;
        for datagram in buffer.chunks(segment.max(1)) {
            let outcome = if datagram.len() > most {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                carrier.send(datagram)
            };
            match outcome {
                Ok(()) => {
                    meter.add_sent(datagram.len());
                    self.counters.carried_sent.add(1);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.counters.carried_lost.add(1);
                }
                Err(e) => {
                    self.counters.send_errors.add(1);
                    return if sent > 0 { Ok(sent) } else { Err(e) };
                }
            }
            sent += datagram.len();
        }
        Ok(sent)
    }

    /// A full buffer is not told: who waits for room waits for the other socket, and would not
    /// wait at all.
    fn send_adopted(
        &self,
        port: &Port,
        to: SocketAddr,
        buffer: &[u8],
        segment: usize,
    ) -> io::Result<usize> {
        let sent = match port.segments(&self.counters, port.wire(to)?, buffer, segment) {
            Ok(sent) => sent,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            Err(e) => return Err(e),
        };
        let lost = (buffer.len() - sent).div_ceil(segment.max(1));
        self.counters.adopted_lost.add(lost);
        Ok(buffer.len())
    }

    fn take_scratch(&self) -> Vec<u8> {
        let mut scratch = self.detours.scratch.lock();
        std::mem::take(scratch.as_mut().unwrap_or_else(|e| e.get_mut()))
    }

    /// Of several that were in use the last is kept: one of at most 64 KiB.
    fn give_back(&self, scratch: Vec<u8>) {
        let kept = self.detours.scratch.lock();
        *kept.unwrap_or_else(PoisonError::into_inner) = scratch;
    }
}

/// Fills `scratch` with the datagrams of `train`, each behind a head. At most 65,507 bytes.
fn frame(scratch: &mut Vec<u8>, channel: u32, train: &[u8], segment: usize) {
    let head = demux::head(channel);
    scratch.clear();
    scratch.reserve_exact(train.len() + train.len().div_ceil(segment) * HEAD);
    for datagram in train.chunks(segment) {
        scratch.extend_from_slice(&head);
        scratch.extend_from_slice(datagram);
    }
}
