//! The task that owns an exit: feeds it datagrams, packets, frames, durable writes and Hermes' answers, and carries out what it asks.

use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use wayfare_identity::Address;
use wayfare_session::{
    AdmissionFacts, ConsumerFrame, Exit, ExitOutput, OpenReply, OpenRequest, ProviderFrame,
    Refusal, SessionToken,
};
use wayfare_transport::{Clock, Pump};

use super::hermes::{HermesAnswer, HermesLink};
use super::peer::FundsFound;
use super::remote::Ask;
use super::settlement::Settlement;
use super::streams::Streams;
use super::{ProviderStatus, Shares, WaitingRoom};
use crate::NodeError;
use crate::persistence::Persistence;
use crate::plane::ExitPlane;

/// What consumers ask of the owner of what they open: an exit's sessions, or a relay's tolls.
#[derive(Debug)]
pub(crate) enum Command<Q = OpenRequest, A = OpenReply> {
    /// Open one.
    Open {
        request: Box<Q>,
        facts: AdmissionFacts,
        answer: oneshot::Sender<Result<A, Refusal>>,
    },
    /// A stream belongs to one from now on.
    Attach {
        token: SessionToken,
        answer: oneshot::Sender<Result<mpsc::Receiver<ProviderFrame>, Refusal>>,
    },
    /// A frame of a consumer.
    Frame {
        token: SessionToken,
        frame: ConsumerFrame,
    },
}

/// Everything that the task owns.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) exit: Exit,
    pub(crate) shares: Shares,
    pub(crate) waiting: WaitingRoom,
    pub(crate) pump: Pump,
    pub(crate) persistence: Persistence,
    pub(crate) hermes: HermesLink,
    pub(crate) settlement: Settlement,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) asks: mpsc::Receiver<Ask>,
    pub(crate) funds: mpsc::Receiver<FundsFound>,
    pub(crate) streams: Streams,
    pub(crate) identity: Address,
    pub(crate) sessions_seen: u64,
    pub(crate) sessions: watch::Sender<usize>,
}

impl Driver {
    /// Runs until cancelled, or until ledger, socket or device fails.
    ///
    /// # Errors
    /// The ledger's: fail-stop; a write whose fate is unknown must not be built upon. Without socket or device there is no exit.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), NodeError> {
        loop {
            self.carry_out(Clock::now()).await;
            let exit = self.exit.poll_timeout().map(|deadline| deadline.at);
            let shares = self.shares.poll_timeout();
            let settlement = self.settlement.poll_timeout();
            let waiting = self.waiting.poll_timeout(&self.exit, Clock::now());
            let deadline = [exit, shares, settlement, waiting]
                .into_iter()
                .flatten()
                .min();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                ready = self.pump.ready() => {
                    ready.inspect_err(|error| tracing::error!(%error, "the exit cannot go on"))?;
                    let now = Clock::now();
                    self.work(now);
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.handle_command(command),
                    None => return Ok(()),
                },
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.handle_ask(ask),
                    None => return Ok(()),
                },
                funds = self.funds.recv() => match funds {
                    Some((agreement, funds)) => {
                        if let Err(refusal) = &funds {
                            tracing::warn!(%refusal, "a consumer's means are not known");
                        }
                        self.exit.handle_funds(agreement, funds, Clock::now());
                    }
                    None => return Ok(()),
                },
                ticket = self.persistence.next() => self.exit.handle_durable(ticket?, Clock::now()),
                answer = self.hermes.next() => self.handle_hermes(answer),
                returned = self.settlement.next() => {
                    if let Some(total) = self.settlement.handle(returned?) {
                        self.exit.handle_settled(total, Clock::now());
                    }
                }
                () = sleep_until(deadline) => {
                    let now = Clock::now();
                    self.exit.handle_timeout(now);
                    self.settlement.handle_timeout(now);
                    self.waiting.handle_timeout(&mut self.exit, now);
                    self.work(now);
                }
            }
        }
    }

    /// Packets: those that came, and those whose time has come.
    fn work(&mut self, now: Instant) {
        let mut plane = ExitPlane {
            exit: &mut self.exit,
            shares: &mut self.shares,
            waiting: &mut self.waiting,
        };
        self.pump.work(&mut plane, now);
        self.exit.handle_batch_end(now);
    }

    fn handle_command(&mut self, command: Command) {
        let now = Clock::now();
        match command {
            Command::Open {
                request,
                facts,
                answer,
            } => {
                let opened = self.exit.admit(&request, &facts, now);
                match &opened {
                    Ok(reply) => {
                        self.sessions_seen += 1;
                        let slot = self.exit.slot_of(reply.network.consumer_v4.into());
                        if let Some(slot) = slot {
                            self.waiting.open(slot);
                            self.shares.open(slot);
                        }
                        tracing::info!(agreement = %request.agreement.id.0, "session opened");
                    }
                    Err(refusal) => {
                        tracing::info!(code = ?refusal.code, reason = %refusal.message, "session refused")
                    }
                }
                // A consumer that went away meanwhile is noticed by its silence.
                let _ = answer.send(opened);
            }
            Command::Attach { token, answer } => {
                let frame = ConsumerFrame::Attach(token);
                let accept = || self.exit.handle_frame(token, frame, now);
                let _ = answer.send(self.streams.attach(token, accept));
            }
            Command::Frame { token, frame } => {
                if let Err(refusal) = self.exit.handle_frame(token, frame, now) {
                    tracing::debug!(%refusal, "a frame for no session");
                }
            }
        }
    }

    fn handle_ask(&mut self, ask: Ask) {
        let now = Clock::now();
        match ask {
            Ask::Chain { hermes, settled } => {
                self.exit.handle_hermes(hermes, now);
                self.exit.handle_settled(settled, now);
                self.settlement.handle_chain(settled);
            }
            Ask::Status { answer } => {
                let _ = answer.send(self.status(now));
            }
            Ask::Settle { answer } => self.settlement.settle_now(answer),
            Ask::Drain => self.exit.drain(now),
        }
    }

    fn handle_hermes(&mut self, answer: HermesAnswer) {
        let now = Clock::now();
        match answer {
            HermesAnswer::Issued(reply) => self.exit.handle_issued(*reply, now),
            HermesAnswer::Revealed(hashlock) => self.exit.handle_revealed(hashlock, now),
            HermesAnswer::IssueFailed(hashlock, why) => {
                self.exit.handle_issue_failed(hashlock, why, now)
            }
        }
    }

    /// Does what the machine asks for, until it asks for nothing more.
    async fn carry_out(&mut self, now: Instant) {
        while let Some(transmit) = self.exit.poll_transmit() {
            if let Err(error) = self
                .pump
                .socket()
                .send(transmit.to, &transmit.payload)
                .await
            {
                tracing::trace!(%error, "a tunnel message could not be sent");
            }
        }
        while let Some(output) = self.exit.poll_output() {
            match output {
                ExitOutput::Persist { ticket, batch } => self.persistence.push(ticket, batch),
                ExitOutput::Frame { token, frame } => self.streams.send(token, frame),
                ExitOutput::Issue(request) => self.hermes.issue(*request),
                ExitOutput::Reveal {
                    channel,
                    hashlock,
                    preimage,
                } => self.hermes.reveal(channel, hashlock, preimage),
                ExitOutput::Settleable(material) => self.settlement.handle_material(material, now),
                ExitOutput::Ended {
                    token,
                    status,
                    reason,
                } => {
                    self.streams.remove(token);
                    tracing::info!(
                        agreement = %status.agreement.id.0, bytes = status.usage.bytes(), paid = %status.paid,
                        %reason, "session ended"
                    );
                }
                // Any consumer can send bad payments, as many as it likes: that wakes nobody.
                ExitOutput::Trouble {
                    agreement: Some(agreement),
                    why,
                } => tracing::debug!(agreement = %agreement.0, %why, "a payment was not taken"),
                ExitOutput::Trouble {
                    agreement: None,
                    why,
                } => tracing::warn!(%why, "the Hermes answered wrongly"),
            }
        }
        self.sessions.send_replace(self.exit.session_count());
    }

    fn status(&self, now: Instant) -> ProviderStatus {
        ProviderStatus {
            identity: self.identity,
            sessions: self.exit.sessions(now),
            sessions_seen: self.sessions_seen,
            promised: self.exit.collector().promised(),
            settled: self.settlement.settled(),
        }
    }
}

pub(crate) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
