//! The consumer's side of one session: seals what goes out, opens what comes in, counts both, and answers invoices with what its
//! payer signed.
//!
//! The payer itself is not here: many sessions of one consumer share one channel and one writer. An invoice leaves this machine as
//! [`ConsumerOutput::Bill`] together with the machine's own meter reading, and comes back through [`ConsumerSession::handle_payment`].

mod start;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wayfare_payment::{Amount, Exchange, Invoice, SignedAgreement, Usage};
use wayfare_tunnel::{AddPeerError, Endpoint, Event, PeerId, Received, Sealed, Transmit};

use crate::meter::Meter;
use crate::paying::Paying;
use crate::toll::{TollEvent, TollOutput};
use crate::{ConsumerFrame, Deadline, GateState, OpenReply, ProviderFrame, Refusal, Why};

pub use start::{TunnelSetup, TunnelStart};

/// The answer to a handshake that began with the request for terms comes with theirs. Without it, it is begun anew after this: the
/// provider did not keep it.
const EARLY_PATIENCE: Duration = Duration::from_millis(50);
/// Keeps address translators on the way open; the shortest common mapping lasts 30 s.
const KEEPALIVE: Duration = Duration::from_secs(25);
/// Frames and events waiting for the driver. The driver drains after every call; more than this means that it does not.
const MAX_OUTPUTS: usize = 1_024;

/// What the driver must do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerOutput {
    /// Send this frame to the provider.
    Frame(ConsumerFrame),
    /// Show this invoice and our own meter to the payer.
    Bill {
        /// The demand.
        invoice: Invoice,
        /// What we counted.
        usage: Usage,
    },
    /// Something to tell people.
    Event(ConsumerEvent),
}

/// What happens in a session, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerEvent {
    /// The tunnel is up.
    Active,
    /// Keys were renewed.
    Rekeyed,
    /// The provider confirmed that this total is paid.
    Paid(Amount),
    /// The provider lets traffic pass, or not.
    Gate(GateState),
    /// The provider will stop within so many seconds.
    Draining(u32),
    /// The session is over.
    Closed(CloseReason),
}

impl From<TollOutput> for ConsumerOutput {
    /// What is done about payments is the same for whatever is paid.
    fn from(output: TollOutput) -> Self {
        match output {
            TollOutput::Frame(frame) => Self::Frame(frame),
            TollOutput::Bill { invoice, usage } => Self::Bill { invoice, usage },
            TollOutput::Event(event) => Self::Event(match event {
                TollEvent::Paid(total) => ConsumerEvent::Paid(total),
                TollEvent::Gate(state) => ConsumerEvent::Gate(state),
                TollEvent::Draining(seconds) => ConsumerEvent::Draining(seconds),
                TollEvent::Closed(reason) => ConsumerEvent::Closed(reason),
            }),
        }
    }
}

/// Why a consumer's session ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// As asked.
    #[error("closed by this side")]
    Ours,
    /// The provider's words.
    #[error(transparent)]
    Provider(Refusal),
    /// Nothing is heard any more.
    #[error("the provider has been silent for 15 s")]
    Silence,
    /// No handshake within 90 s.
    #[error("the provider's tunnel does not answer: UDP may be blocked on the way")]
    NoTunnel,
}

/// One session, seen by the consumer.
#[derive(Debug)]
pub struct ConsumerSession {
    agreement: SignedAgreement,
    endpoint: Endpoint,
    peer: PeerId,
    /// When a handshake that began before the terms were agreed upon is taken for lost.
    greet_anew_at: Option<Instant>,
    meter: Meter,
    /// Its signs of life are those of the tunnel, too.
    paying: Paying<ConsumerOutput>,
}

/// What a session is made of.
pub struct ConsumerSetup {
    /// Terms, signed by both.
    pub agreement: SignedAgreement,
    /// The provider's consent (its tunnel key and our addresses).
    pub reply: OpenReply,
    /// The tunnel, whose handshake has begun.
    pub tunnel: TunnelStart,
}

impl std::fmt::Debug for ConsumerSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsumerSetup")
            .field("agreement", &self.agreement.agreement.id)
            .finish_non_exhaustive()
    }
}

impl ConsumerSession {
    /// Goes on with the tunnel's handshake.
    ///
    /// # Errors
    /// [`AddPeerError`] when the provider's tunnel key is unusable.
    pub fn new(setup: ConsumerSetup, now: Instant) -> Result<Self, AddPeerError> {
        let ConsumerSetup {
            agreement,
            reply,
            mut tunnel,
        } = setup;
        tunnel.agreed(reply.binding.tunnel_key, now)?;
        let TunnelStart {
            endpoint,
            peer,
            since,
            ..
        } = tunnel;
        Ok(Self {
            agreement,
            endpoint,
            peer,
            greet_anew_at: (since < now).then(|| now + EARLY_PATIENCE),
            meter: Meter::default(),
            paying: Paying::new(MAX_OUTPUTS, now),
        })
    }

    /// The terms.
    #[must_use]
    pub fn agreement(&self) -> &SignedAgreement {
        &self.agreement
    }

    /// Our meter.
    #[must_use]
    pub fn usage(&self, now: Instant) -> Usage {
        self.meter.usage(now)
    }

    /// What the provider confirmed as paid.
    #[must_use]
    pub fn paid(&self) -> Amount {
        self.paying.paid()
    }

    /// What we have promised within this session.
    #[must_use]
    pub fn signed(&self) -> Amount {
        self.paying.signed()
    }

    /// Whether the session is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.paying.is_closed()
    }

    /// Seals one packet of an application into `into`.
    pub fn seal(&mut self, packet: &[u8], now: Instant, into: &mut [u8]) -> Sealed {
        let sealed = self.endpoint.seal_to(self.peer, packet, now, into);
        if matches!(sealed, Sealed::Datagram { .. } | Sealed::Queued { .. }) {
            self.meter.count_up(packet.len());
        }
        sealed
    }

    /// Seals one packet of an application where it lies, see [`Endpoint::seal_in_place`].
    pub fn seal_in_place(&mut self, frame: &mut [u8], length: usize, now: Instant) -> Sealed {
        let sealed = self
            .endpoint
            .seal_to_in_place(self.peer, frame, length, now);
        if matches!(sealed, Sealed::Datagram { .. } | Sealed::Queued { .. }) {
            self.meter.count_up(length);
        }
        sealed
    }

    /// Opens one datagram in place; a packet that comes out is for the applications.
    pub fn open<'a>(
        &mut self,
        from: SocketAddr,
        datagram: &'a mut [u8],
        now: Instant,
    ) -> Received<'a> {
        let received = self.endpoint.handle_datagram(from, datagram, now);
        match &received {
            Received::Packet { packet, .. } => {
                self.meter.count_down(packet.len());
                self.paying.heard(now);
            }
            Received::Keepalive { .. } | Received::Handshake { .. } => self.paying.heard(now),
            Received::Dropped(_) => {}
        }
        self.drain_tunnel(now);
        received
    }

    /// Lets the provider know where we are now: our address may have changed, or a NAT may have forgotten us.
    pub fn greet(&mut self, now: Instant) {
        self.endpoint.greet(self.peer, now);
    }

    /// From now on packets go along this path; the provider follows them.
    pub fn choose_path(&mut self, to: SocketAddr, now: Instant) {
        self.endpoint.pin_endpoint(self.peer, to, now);
    }

    /// A datagram to send, if any.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.endpoint.poll_transmit()
    }

    /// What the provider says.
    pub fn handle_frame(&mut self, frame: ProviderFrame, now: Instant) {
        self.paying.handle_frame(frame, self.meter.usage(now), now);
    }

    /// What the payer signed, durable already.
    pub fn handle_payment(&mut self, exchange: Exchange) {
        self.paying.handle_payment(exchange);
    }

    /// Asks the provider for the last invoice.
    pub fn close(&mut self) {
        self.paying.close();
    }

    /// Ends the session on this side at once.
    pub fn abort(&mut self) {
        self.paying.finish(CloseReason::Ours);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
        if self.greet_anew_at.take_if(|at| *at <= now).is_some() {
            self.endpoint.initiate_again(self.peer, now);
        }
        self.drain_tunnel(now);
        let meter = &self.meter;
        self.paying
            .handle_timeout(now, || match meter.is_started() {
                true => ConsumerFrame::Usage(meter.usage(now)),
                false => ConsumerFrame::KeepAlive,
            });
    }

    /// When [`ConsumerSession::handle_timeout`] wants to be called, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let tunnel = self.endpoint.poll_timeout().map(|deadline| Deadline {
            at: deadline.at,
            why: Why::Tunnel,
        });
        let anew = self.greet_anew_at.map(|at| Deadline {
            at,
            why: Why::Tunnel,
        });
        [self.paying.poll_timeout(), tunnel, anew]
            .into_iter()
            .flatten()
            .min_by_key(|deadline| deadline.at)
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<ConsumerOutput> {
        self.paying.poll_output()
    }

    fn drain_tunnel(&mut self, now: Instant) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Established { .. } => {
                    self.meter.start(now);
                    self.greet_anew_at = None;
                    self.event(ConsumerEvent::Active);
                }
                Event::Rekeyed { .. } => self.event(ConsumerEvent::Rekeyed),
                Event::HandshakeFailed { .. } => self.paying.finish(CloseReason::NoTunnel),
                Event::Roamed { .. } | Event::Expired { .. } => {}
            }
        }
    }

    fn event(&mut self, event: ConsumerEvent) {
        self.paying.push(ConsumerOutput::Event(event));
    }
}

#[cfg(test)]
mod tests;
