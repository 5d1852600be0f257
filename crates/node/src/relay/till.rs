//! The task that owns a relay's tolls: reads what has passed for those who pay, lets them pass as far as they have paid for, and
//! carries promises to ledger, Hermes and chain.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use wayfare_identity::{Address, NodeId};
use wayfare_nat::RelayBoard;
use wayfare_session::{
    AdmissionFacts, ConsumerFrame, Refusal, RefusalCode, TollKeeper, TollKeeperOutput, TollReply,
    TollRequest,
};
use wayfare_transport::Clock;

use crate::NodeError;
use crate::persistence::Persistence;
use crate::provider::{
    Ask, Command, HermesAnswer, HermesLink, ProviderStatus, Settlement, Streams, sleep_until,
};

/// How often the board's accounts are read: 1.25 MB at the 25 MB/s of a fast channel, of an allowance of 16 MiB. So nothing waits
/// for payments that take 300 ms; with 100 ms between looks one part in forty did.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A request, and the node on whose connection it came.
#[derive(Debug)]
pub(super) struct TollAsked {
    pub(super) node: NodeId,
    pub(super) request: TollRequest,
}

/// Everything that the task owns.
#[derive(Debug)]
pub(super) struct Till {
    pub(super) keeper: TollKeeper,
    pub(super) board: Arc<RelayBoard>,
    pub(super) persistence: Persistence,
    pub(super) hermes: HermesLink,
    pub(super) settlement: Settlement,
    pub(super) commands: mpsc::Receiver<Command<TollAsked, TollReply>>,
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) streams: Streams,
    pub(super) identity: Address,
    pub(super) seen: u64,
    pub(super) tolls: watch::Sender<usize>,
}

impl Till {
    /// Runs until cancelled, or until the ledger fails. Then nobody has credit any more.
    ///
    /// # Errors
    /// The ledger's: fail-stop; a write whose fate is unknown must not be built upon.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), NodeError> {
        let ended = self.take(stop).await;
        for node in self.keeper.nodes() {
            self.board.dismiss(node);
        }
        ended
    }

    async fn take(&mut self, stop: CancellationToken) -> Result<(), NodeError> {
        let mut look_at = Clock::now();
        loop {
            self.carry_out(Clock::now());
            let looks = self.keeper.nodes().next().is_some();
            let keeper = self.keeper.poll_timeout().map(|deadline| deadline.at);
            let settlement = self.settlement.poll_timeout();
            let deadline = [keeper, settlement, looks.then_some(look_at)]
                .into_iter()
                .flatten()
                .min();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                command = self.commands.recv() => match command {
                    Some(command) => self.handle_command(command),
                    None => return Ok(()),
                },
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.handle_ask(ask),
                    None => return Ok(()),
                },
                ticket = self.persistence.next() => self.keeper.handle_durable(ticket?, Clock::now()),
                answer = self.hermes.next() => self.handle_hermes(answer),
                returned = self.settlement.next() => {
                    if let Some(total) = self.settlement.handle(returned?) {
                        self.keeper.handle_settled(total, Clock::now());
                    }
                }
                () = sleep_until(deadline) => {
                    let now = Clock::now();
                    if now >= look_at {
                        look_at = now + LOOK_EVERY;
                        self.look(now);
                    }
                    self.keeper.handle_timeout(now);
                    self.settlement.handle_timeout(now);
                }
            }
        }
    }

    /// Reads what has passed for those who pay.
    fn look(&mut self, now: Instant) {
        let nodes: Vec<_> = self.keeper.nodes().collect();
        for node in nodes {
            if let Some(account) = self.board.account(node) {
                self.keeper.handle_passed(node, account.bytes, now);
            }
        }
    }

    fn handle_command(&mut self, command: Command<TollAsked, TollReply>) {
        let now = Clock::now();
        match command {
            Command::Open {
                request,
                facts,
                answer,
            } => {
                // A consumer that went away meanwhile is noticed by its silence.
                let _ = answer.send(self.open(&request, &facts, now));
            }
            Command::Attach { token, answer } => {
                let frame = ConsumerFrame::Attach(token);
                let accept = || self.keeper.handle_frame(token, frame, now);
                let _ = answer.send(self.streams.attach(token, accept));
            }
            Command::Frame { token, frame } => {
                if frame == ConsumerFrame::Close {
                    // What has passed since the last look is on the last invoice.
                    self.look(now);
                }
                if let Err(refusal) = self.keeper.handle_frame(token, frame, now) {
                    tracing::debug!(%refusal, "a frame for no toll");
                }
            }
        }
    }

    fn open(
        &mut self,
        asked: &TollAsked,
        facts: &AdmissionFacts,
        now: Instant,
    ) -> Result<TollReply, Refusal> {
        let TollAsked { node, request } = asked;
        let full = || Refusal::new(RefusalCode::Full, "the relay has no room: choose another");
        let passed = self.board.enroll(*node, now).ok_or_else(full)?;
        let opened = self.keeper.admit(*node, passed, request, facts, now);
        match &opened {
            Ok(_) => {
                self.seen += 1;
                tracing::info!(agreement = %request.agreement.id.0, "toll agreed upon");
            }
            Err(refusal) => {
                tracing::info!(code = ?refusal.code, reason = %refusal.message, "toll refused");
                self.dismiss_unless_paid(*node);
            }
        }
        opened
    }

    fn dismiss_unless_paid(&self, node: NodeId) {
        if !self.keeper.nodes().any(|pays| pays == node) {
            self.board.dismiss(node);
        }
    }

    fn handle_ask(&mut self, ask: Ask) {
        let now = Clock::now();
        match ask {
            Ask::Chain { hermes, settled } => {
                self.keeper.handle_hermes(hermes, now);
                self.keeper.handle_settled(settled, now);
                self.settlement.handle_chain(settled);
            }
            Ask::Status { answer } => {
                let _ = answer.send(self.status());
            }
            Ask::Settle { answer } => self.settlement.settle_now(answer),
            Ask::Drain => {
                self.look(now);
                self.keeper.drain(now);
            }
        }
    }

    fn handle_hermes(&mut self, answer: HermesAnswer) {
        let now = Clock::now();
        match answer {
            HermesAnswer::Issued(reply) => self.keeper.handle_issued(*reply, now),
            HermesAnswer::Revealed(hashlock) => self.keeper.handle_revealed(hashlock, now),
            HermesAnswer::IssueFailed(hashlock, why) => {
                self.keeper.handle_issue_failed(hashlock, why, now);
            }
        }
    }

    /// Does what the machine asks for, until it asks for nothing more.
    fn carry_out(&mut self, now: Instant) {
        while let Some(output) = self.keeper.poll_output() {
            match output {
                TollKeeperOutput::Persist { ticket, batch } => self.persistence.push(ticket, batch),
                TollKeeperOutput::Frame { token, frame } => self.streams.send(token, frame),
                TollKeeperOutput::Allow { node, until } => {
                    self.board.allow(node, until);
                    self.dismiss_unless_paid(node);
                }
                TollKeeperOutput::Issue(request) => self.hermes.issue(*request),
                TollKeeperOutput::Reveal {
                    channel,
                    hashlock,
                    preimage,
                } => self.hermes.reveal(channel, hashlock, preimage),
                TollKeeperOutput::Settleable(material) => {
                    self.settlement.handle_material(material, now);
                }
                TollKeeperOutput::Ended {
                    token,
                    node: _,
                    status,
                    reason,
                } => {
                    self.streams.remove(token);
                    tracing::info!(
                        agreement = %status.agreement.id.0, bytes = status.usage.bytes(), paid = %status.paid,
                        %reason, "toll ended"
                    );
                }
                // Any consumer can send bad payments, as many as it likes: that wakes nobody.
                TollKeeperOutput::Trouble {
                    agreement: Some(agreement),
                    why,
                } => tracing::debug!(agreement = %agreement.0, %why, "a payment was not taken"),
                TollKeeperOutput::Trouble {
                    agreement: None,
                    why,
                } => tracing::warn!(%why, "the Hermes answered wrongly"),
            }
        }
        self.tolls.send_replace(self.keeper.toll_count());
    }

    fn status(&self) -> ProviderStatus {
        ProviderStatus {
            identity: self.identity,
            sessions: self.keeper.tolls(),
            sessions_seen: self.seen,
            promised: self.keeper.collector().promised(),
            settled: self.settlement.settled(),
        }
    }
}
