//! A provider's exit: every session of one provider behind one tunnel endpoint, one address plan and one payment channel.
//!
//! A packet passes only while its session's credit gate is open: what is consumed and not yet covered by the Hermes stays below one
//! chunk. Packets are counted where they pass, by this side's meter alone.

mod admission;
mod credit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ipnet::{Ipv4Net, Ipv6Net};
use wayfare_identity::{Address, Signer};
use wayfare_payment::{
    AgreementId, Amount, Batch, ChannelId, Collector, CollectorOutput, Hashlock, HermesAccount,
    IssueFailure, IssueReply, IssueRequest, Preimage, Price, SettleMaterial, Ticket,
};
use wayfare_tunnel::{
    Endpoint, EndpointConfig, Event, IpPacket, PeerId, Received, Sealed, StaticSecret,
    TRANSPORT_HEADER, Transmit,
};

use crate::pool::AddressPool;
use crate::provider::{CLOSING, Closing, IDLE, ProviderSession, SessionStatus};
use crate::{
    ConsumerFrame, Deadline, GateState, ProviderFrame, Refusal, RefusalCode, SessionToken, Why,
};

pub use admission::AdmissionFacts;
use credit::Direction;

/// The consumer hears our meter this often.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Ended agreements that are remembered, so that none is used twice; 32 bytes each, twice: 4 MiB.
const MAX_SPENT: usize = 65_536;
/// Outputs waiting for the driver, which drains after every call: about 1 KiB each at worst.
const MAX_OUTPUTS: usize = 65_536;

/// What an exit offers and how it is built.
#[derive(Debug, Clone)]
pub struct ExitConfig {
    /// The Hermes that it is paid through.
    pub hermes: Address,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The vault.
    pub vault: Address,
    /// The price of new sessions.
    pub price: Price,
    /// The largest first chunk that is accepted.
    pub chunk: Amount,
    /// The largest credit that is ever given to one session.
    pub chunk_limit: Amount,
    /// Tunnel addresses of consumers.
    pub pool_v4: Ipv4Net,
    /// IPv6 tunnel addresses; `None` when the exit carries no IPv6.
    pub pool_v6: Option<Ipv6Net>,
    /// Largest inner packet.
    pub mtu: u16,
    /// Most sessions at a time.
    pub max_sessions: usize,
    /// Tunnel timers.
    pub tunnel: EndpointConfig,
}

/// What the driver must do next.
#[derive(Debug, Clone)]
pub enum ExitOutput {
    /// Write, then call [`Exit::handle_durable`].
    Persist {
        /// Names the write.
        ticket: Ticket,
        /// What to write.
        batch: Batch,
    },
    /// Send to that session's consumer.
    Frame {
        /// Which session.
        token: SessionToken,
        /// What to say.
        frame: ProviderFrame,
    },
    /// Ask the Hermes to cover this payment.
    Issue(Box<IssueRequest>),
    /// Reveal R to the Hermes.
    Reveal {
        /// Our channel.
        channel: ChannelId,
        /// The lock.
        hashlock: Hashlock,
        /// Its preimage.
        preimage: Preimage,
    },
    /// A promise that can be cashed.
    Settleable(SettleMaterial),
    /// A session ended; its streams may be closed.
    Ended {
        /// Which.
        token: SessionToken,
        /// Its last numbers.
        status: Box<SessionStatus>,
        /// Why.
        reason: Refusal,
    },
    /// A payment went wrong; for the log.
    Trouble {
        /// The session, where one is concerned.
        agreement: Option<AgreementId>,
        /// In words.
        why: String,
    },
}

/// All sessions of one provider.
#[derive(Debug)]
pub struct Exit {
    config: ExitConfig,
    signer: Arc<dyn Signer>,
    tunnel_key: [u8; 32],
    endpoint: Endpoint,
    collector: Collector,
    pool: AddressPool<PeerId>,
    sessions: BTreeMap<PeerId, ProviderSession>,
    by_agreement: BTreeMap<AgreementId, PeerId>,
    by_token: BTreeMap<SessionToken, PeerId>,
    spent: BTreeSet<AgreementId>,
    spent_in_order: VecDeque<AgreementId>,
    dirty: BTreeSet<PeerId>,
    outputs: VecDeque<ExitOutput>,
    next_report: Instant,
    draining: bool,
    dropped_outputs: u64,
}

/// What became of a datagram or packet.
#[derive(Debug)]
pub enum Opened<'a> {
    /// A packet for the internet.
    Packet(&'a [u8]),
    /// Nothing to forward: a handshake, a keepalive, or dropped.
    Nothing,
    /// Held back: the consumer's credit is used up.
    GateClosed,
}

impl Exit {
    /// An exit without sessions. `collector` carries the restored payments.
    #[must_use]
    pub fn new(
        config: ExitConfig,
        signer: Arc<dyn Signer>,
        tunnel_secret: StaticSecret,
        collector: Collector,
        seed: [u8; 32],
        wall: SystemTime,
        now: Instant,
    ) -> Self {
        let tunnel_key = tunnel_secret.public().0;
        let endpoint = Endpoint::new(tunnel_secret, seed, now, wall, config.tunnel.clone());
        let pool = AddressPool::new(config.pool_v4, config.pool_v6);
        let mut exit = Self {
            config,
            signer,
            tunnel_key,
            endpoint,
            collector,
            pool,
            sessions: BTreeMap::new(),
            by_agreement: BTreeMap::new(),
            by_token: BTreeMap::new(),
            spent: BTreeSet::new(),
            spent_in_order: VecDeque::new(),
            dirty: BTreeSet::new(),
            outputs: VecDeque::new(),
            next_report: now + REPORT_EVERY,
            draining: false,
            dropped_outputs: 0,
        };
        exit.end_former_sessions(now);
        exit
    }

    /// Agreements of an earlier run have no tunnel any more: what is covered stays ours, the rest is not asked for again.
    fn end_former_sessions(&mut self, now: Instant) {
        let former: Vec<_> = self
            .collector
            .agreements()
            .map(|terms| terms.agreement.id)
            .collect();
        for id in former {
            let usage = self.collector.usage(id).unwrap_or_default();
            self.collector.close(id, &usage, now);
            self.spend(id);
        }
        self.drain_collector(now);
    }

    /// An agreement's preimages follow from its id and total: used again, old payments would fit the new invoices, and the Hermes
    /// would answer them with old promises.
    fn spend(&mut self, id: AgreementId) {
        if !self.spent.insert(id) {
            return;
        }
        self.spent_in_order.push_back(id);
        if self.spent_in_order.len() > MAX_SPENT
            && let Some(oldest) = self.spent_in_order.pop_front()
        {
            self.spent.remove(&oldest);
        }
    }

    /// The exit's own addresses on the tunnel device.
    #[must_use]
    pub fn device_addresses(&self) -> (Ipv4Addr, Option<Ipv6Addr>) {
        (self.pool.exit_v4(), self.pool.exit_v6())
    }

    /// Opens one datagram of the socket in place.
    pub fn open<'a>(
        &mut self,
        from: SocketAddr,
        datagram: &'a mut [u8],
        now: Instant,
    ) -> Opened<'a> {
        let received = self.endpoint.handle_datagram(from, datagram, now);
        let outcome = match received {
            Received::Packet { peer, packet } => {
                self.heard(peer, now);
                if self.may_pass(peer, now) {
                    self.count(peer, packet.len(), Direction::Up);
                    Opened::Packet(packet)
                } else {
                    Opened::GateClosed
                }
            }
            Received::Keepalive { peer } | Received::Handshake { peer } => {
                self.heard(peer, now);
                Opened::Nothing
            }
            Received::Dropped(_) => Opened::Nothing,
        };
        self.drain_tunnel(now);
        outcome
    }

    /// Seals one packet of the internet for the consumer that it belongs to. `None`: nobody's, or held back by the gate.
    pub fn seal(&mut self, packet: &[u8], now: Instant, into: &mut [u8]) -> Option<Sealed> {
        let destination = IpPacket::parse(packet).ok()?.destination();
        let peer = self.pool.owner(destination)?;
        if !self.may_pass(peer, now) {
            return None;
        }
        let sealed = self.endpoint.seal_to(peer, packet, now, into);
        // What is dropped here never reaches the consumer's meter, so it is not for sale.
        if matches!(sealed, Sealed::Datagram { .. } | Sealed::Queued { .. }) {
            self.count(peer, packet.len(), Direction::Down);
        }
        Some(sealed)
    }

    /// As [`Exit::seal`], where the packet of `length` bytes lies; see [`Endpoint::seal_in_place`].
    pub fn seal_in_place(
        &mut self,
        frame: &mut [u8],
        length: usize,
        now: Instant,
    ) -> Option<Sealed> {
        let packet = frame.get(TRANSPORT_HEADER..TRANSPORT_HEADER + length)?;
        let destination = IpPacket::parse(packet).ok()?.destination();
        let peer = self.pool.owner(destination)?;
        if !self.may_pass(peer, now) {
            return None;
        }
        let sealed = self.endpoint.seal_to_in_place(peer, frame, length, now);
        // What is dropped here never reaches the consumer's meter, so it is not for sale.
        if matches!(sealed, Sealed::Datagram { .. } | Sealed::Queued { .. }) {
            self.count(peer, length, Direction::Down);
        }
        Some(sealed)
    }

    /// A datagram to send, if any.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.endpoint.poll_transmit()
    }

    /// Ends a batch of packets: tells the payments what was used. Cheap when nothing was.
    pub fn handle_batch_end(&mut self, now: Instant) {
        while let Some(peer) = self.dirty.pop_first() {
            self.update_payments(peer, now);
        }
        self.drain_collector(now);
    }

    /// What a consumer says on its stream.
    ///
    /// # Errors
    /// [`RefusalCode::Unknown`] when the token names no session.
    pub fn handle_frame(
        &mut self,
        token: SessionToken,
        frame: ConsumerFrame,
        now: Instant,
    ) -> Result<(), Refusal> {
        let unknown = || {
            Refusal::new(
                RefusalCode::Unknown,
                "there is no such session: open a new one",
            )
        };
        let peer = *self.by_token.get(&token).ok_or_else(unknown)?;
        let session = self.sessions.get_mut(&peer).ok_or_else(unknown)?;
        session.heard_at = now;
        match frame {
            ConsumerFrame::Attach(_) => {
                let (gate, id) = (session.gate.clone(), session.agreement.id);
                let usage = session.meter.usage(now);
                self.push(ExitOutput::Frame {
                    token,
                    frame: ProviderFrame::Gate(gate),
                });
                // What was asked for while nobody listened (the first chunk, or whatever the broken stream lost) is asked again.
                self.collector.invoice_now(id, &usage, now);
            }
            ConsumerFrame::Payment(exchange) => {
                self.collector.handle_exchange(exchange, now);
                self.ask_for_the_rest(peer, now);
            }
            ConsumerFrame::Usage(usage) => session.claimed = usage,
            ConsumerFrame::KeepAlive => {}
            ConsumerFrame::Close => self.start_closing(peer, None, now),
        }
        self.drain_collector(now);
        Ok(())
    }

    /// A write is durable.
    pub fn handle_durable(&mut self, ticket: Ticket, now: Instant) {
        self.collector.handle_durable(ticket, now);
        self.drain_collector(now);
    }

    /// The Hermes covered a payment.
    pub fn handle_issued(&mut self, reply: IssueReply, now: Instant) {
        self.collector.handle_issued(reply, now);
        self.drain_collector(now);
    }

    /// The Hermes did not cover a payment.
    pub fn handle_issue_failed(&mut self, hashlock: Hashlock, why: IssueFailure, now: Instant) {
        self.collector.handle_issue_failed(hashlock, why, now);
        self.drain_collector(now);
    }

    /// The Hermes knows R.
    pub fn handle_revealed(&mut self, hashlock: Hashlock, now: Instant) {
        self.collector.handle_revealed(hashlock, now);
        self.drain_collector(now);
    }

    /// The chain's view of the Hermes.
    pub fn handle_hermes(&mut self, account: HermesAccount, now: Instant) {
        self.collector.handle_hermes(account, now);
        self.drain_collector(now);
    }

    /// The chain's view of what is settled.
    pub fn handle_settled(&mut self, total: Amount, now: Instant) {
        self.collector.handle_settled(total, now);
        self.drain_collector(now);
    }

    /// Asks every session for its last payment; new ones are refused from now on.
    pub fn drain(&mut self, now: Instant) {
        self.draining = true;
        let peers: Vec<_> = self.sessions.keys().copied().collect();
        for peer in peers {
            let token = self.sessions[&peer].token;
            let seconds = u32::try_from(CLOSING.as_secs()).unwrap_or(u32::MAX);
            self.push(ExitOutput::Frame {
                token,
                frame: ProviderFrame::Draining { seconds },
            });
            self.start_closing(peer, Some(RefusalCode::Draining), now);
        }
        self.drain_collector(now);
    }

    /// The numbers of every session.
    #[must_use]
    pub fn sessions(&self, now: Instant) -> Vec<SessionStatus> {
        self.sessions
            .values()
            .map(|session| session.status(now))
            .collect()
    }

    /// How many sessions there are.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// The payments, for status pages.
    #[must_use]
    pub fn collector(&self) -> &Collector {
        &self.collector
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
        self.drain_tunnel(now);
        self.collector.handle_timeout(now);
        if now >= self.next_report {
            self.next_report = now + REPORT_EVERY;
            self.report(now);
        }
        self.tell_time(now);
        let ended: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, s)| now >= s.gives_up_at())
            .map(|(peer, _)| *peer)
            .collect();
        for peer in ended {
            self.give_up(peer, now);
        }
        self.drain_collector(now);
    }

    /// When [`Exit::handle_timeout`] wants to be called, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let tunnel = self.endpoint.poll_timeout().map(|deadline| Deadline {
            at: deadline.at,
            why: Why::Tunnel,
        });
        let payment = self.collector.poll_timeout().map(|deadline| Deadline {
            at: deadline.at,
            why: Why::Payment,
        });
        let report = (!self.sessions.is_empty()).then_some(Deadline {
            at: self.next_report,
            why: Why::Report,
        });
        let silence = self
            .sessions
            .values()
            .map(|session| Deadline {
                at: session.gives_up_at(),
                why: Why::Silence,
            })
            .min_by_key(|deadline| deadline.at);
        let time = self
            .sessions
            .values()
            .filter_map(|session| session.tell_at)
            .min()
            .map(|at| Deadline {
                at,
                why: Why::Payment,
            });
        [tunnel, payment, report, silence, time]
            .into_iter()
            .flatten()
            .min_by_key(|deadline| deadline.at)
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<ExitOutput> {
        self.outputs.pop_front()
    }

    /// A sign of life.
    fn heard(&mut self, peer: PeerId, now: Instant) {
        if let Some(session) = self.sessions.get_mut(&peer) {
            session.heard_at = now;
        }
    }

    fn report(&mut self, now: Instant) {
        let peers: Vec<_> = self.sessions.keys().copied().collect();
        for peer in peers {
            self.update_payments(peer, now);
            self.update_gate(peer, now);
            let session = &self.sessions[&peer];
            let (token, usage) = (session.token, session.meter.usage(now));
            self.push(ExitOutput::Frame {
                token,
                frame: ProviderFrame::Usage(usage),
            });
        }
    }

    fn start_closing(&mut self, peer: PeerId, code: Option<RefusalCode>, now: Instant) {
        let Some(session) = self.sessions.get_mut(&peer) else {
            return;
        };
        if session.closing.is_some() {
            return;
        }
        session.closing = Some(Closing {
            until: now + CLOSING,
            code,
        });
        session.set_gate(GateState::Closed("the session is closing".into()), now);
        session.meter.stop(now);
        let usage = session.meter.usage(now);
        self.collector.close(session.agreement.id, &usage, now);
    }

    /// The last payment is covered, or will not come.
    fn handle_ended(&mut self, agreement: AgreementId, unpaid: Amount, now: Instant) {
        let Some(peer) = self.by_agreement.get(&agreement).copied() else {
            return;
        };
        let closing = self.sessions.get(&peer).and_then(|session| session.closing);
        let code = closing
            .and_then(|closing| closing.code)
            .unwrap_or(RefusalCode::Draining);
        let reason = if unpaid.is_zero() {
            Refusal::new(code, "closed after the last payment")
        } else {
            Refusal::new(RefusalCode::Unpaid, format!("closed with {unpaid} unpaid"))
        };
        self.end(peer, reason, now);
    }

    fn give_up(&mut self, peer: PeerId, now: Instant) {
        let Some(session) = self.sessions.get(&peer) else {
            return;
        };
        let reason = if let Some(closing) = session.closing {
            Refusal::new(
                closing.code.unwrap_or(RefusalCode::Unpaid),
                "closed before the last payment came",
            )
        } else if now >= session.heard_at + IDLE {
            Refusal::new(RefusalCode::Unknown, "nothing was heard for 60 s")
        } else {
            Refusal::new(
                RefusalCode::Unpaid,
                format!("nothing was paid for 120 s: {:?}", session.gate),
            )
        };
        self.end(peer, reason, now);
    }

    fn end(&mut self, peer: PeerId, reason: Refusal, now: Instant) {
        let Some(session) = self.sessions.remove(&peer) else {
            return;
        };
        self.endpoint.remove_peer(peer);
        self.pool.release(&session.lease);
        self.by_agreement.remove(&session.agreement.id);
        self.by_token.remove(&session.token);
        self.dirty.remove(&peer);
        self.spend(session.agreement.id);
        if session.closing.is_none() {
            self.collector
                .close(session.agreement.id, &session.meter.usage(now), now);
        }
        let token = session.token;
        self.push(ExitOutput::Frame {
            token,
            frame: ProviderFrame::Closed(reason.clone()),
        });
        self.push(ExitOutput::Ended {
            token,
            status: Box::new(session.status(now)),
            reason,
        });
    }

    fn drain_tunnel(&mut self, now: Instant) {
        while let Some(event) = self.endpoint.poll_event() {
            if let Event::Established { peer } = event
                && let Some(session) = self.sessions.get_mut(&peer)
            {
                session.meter.start(now);
                session.heard_at = now;
                session.tell_at = session.next_telling(now);
            }
        }
    }

    fn drain_collector(&mut self, now: Instant) {
        while let Some(output) = self.collector.poll_output() {
            match output {
                CollectorOutput::Persist { ticket, batch } => {
                    self.push(ExitOutput::Persist { ticket, batch })
                }
                CollectorOutput::Invoice(invoice) => {
                    if let Some(token) = self.token_of(invoice.agreement) {
                        self.push(ExitOutput::Frame {
                            token,
                            frame: ProviderFrame::Invoice(invoice),
                        });
                    }
                }
                CollectorOutput::Issue(request) => self.push(ExitOutput::Issue(Box::new(request))),
                CollectorOutput::Reveal {
                    channel,
                    hashlock,
                    preimage,
                } => {
                    self.push(ExitOutput::Reveal {
                        channel,
                        hashlock,
                        preimage,
                    });
                }
                CollectorOutput::Paid { agreement, total } => {
                    self.handle_paid(agreement, total, now)
                }
                CollectorOutput::Settleable(material) => {
                    self.push(ExitOutput::Settleable(material))
                }
                CollectorOutput::Refused { agreement, why } => {
                    self.push(ExitOutput::Trouble {
                        agreement: Some(agreement),
                        why: why.to_string(),
                    });
                }
                CollectorOutput::HermesRefused { agreement, why } => {
                    self.push(ExitOutput::Trouble {
                        agreement: Some(agreement),
                        why: why.to_string(),
                    });
                }
                CollectorOutput::WrongReply(fault) => {
                    self.push(ExitOutput::Trouble {
                        agreement: None,
                        why: fault.to_string(),
                    });
                }
                CollectorOutput::Ended {
                    agreement,
                    covered: _,
                    unpaid,
                } => self.handle_ended(agreement, unpaid, now),
            }
        }
    }

    fn handle_paid(&mut self, agreement: AgreementId, total: Amount, now: Instant) {
        let Some(peer) = self.by_agreement.get(&agreement).copied() else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(&peer) {
            session.paid = total;
            let token = session.token;
            self.push(ExitOutput::Frame {
                token,
                frame: ProviderFrame::Paid(total),
            });
        }
        let is_open = |session: &ProviderSession| session.closing.is_none();
        if self.sessions.get(&peer).is_some_and(is_open) {
            self.update_gate(peer, now);
        } else {
            self.ask_for_the_rest(peer, now);
        }
    }

    fn token_of(&self, agreement: AgreementId) -> Option<SessionToken> {
        let peer = self.by_agreement.get(&agreement)?;
        self.sessions.get(peer).map(|session| session.token)
    }

    fn push(&mut self, output: ExitOutput) {
        if self.outputs.len() < MAX_OUTPUTS {
            self.outputs.push_back(output);
        } else {
            self.dropped_outputs += 1;
        }
    }
}

#[cfg(test)]
mod tests;
