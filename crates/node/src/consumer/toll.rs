//! Paying the relay that carries a session's packets: nothing while little passes through it, then by an agreement of its own, over
//! a connection of its own, as long as no direct path is found.
//!
//! It refuses to hold a session up: what cannot be agreed upon is told, and the relay passes what it passes for nothing.

mod line;
mod report;

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use wayfare_payment::{Agreement, Amount, PayRefusal};
use wayfare_session::{CloseReason, ProviderFrame, TollEvent, TollOutput, TollPayer};
use wayfare_transport::{Clock, QuicEndpoint};

use self::line::{Asked, TollLine, Wallet};
use self::report::Tally;
pub use self::report::{TollNews, TollReport};
use super::payer::{DepositReader, PayerAnswer};
use crate::provider::sleep_until;
use crate::reach::{PathNow, RelayInUse};

/// How often the bytes are looked at: a relay at 200 Mb/s passes 2.5 MB meanwhile.
const LOOK: Duration = Duration::from_millis(100);
/// The same, of a relay that is not paid.
const IDLE: Duration = Duration::from_secs(1);
/// A relay is asked what it wants when so much has passed: more than a search for a direct path and the terms with an exit take.
const ASK_FROM: u64 = 32 << 10;
/// Nothing is paid any more when the path has been direct for so long.
const DIRECT_FOR: Duration = Duration::from_secs(60);
/// Between tries, at first; doubled up to [`MOST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);
const MOST_PAUSE: Duration = Duration::from_secs(60);
/// Agreements that a relay ends before what was paid has passed: then it is not paid any more, or it would live on first chunks.
const MOST_BROKEN: u32 = 3;
/// For so long.
const DISTRUST: Duration = Duration::from_secs(600);
/// How long the last payment may take; the session has ended by then, and somebody waits.
const LAST_PAYMENT: Duration = Duration::from_secs(3);
/// News that a session's owner may leave unread.
const NEWS: usize = 64;

/// What a session needs to pay the relays on its way.
pub(super) struct TollSetup {
    pub(super) endpoint: QuicEndpoint,
    pub(super) path: watch::Receiver<PathNow>,
    pub(super) relay: watch::Receiver<RelayInUse>,
    /// Whose session it is; its budget pays for relays, too.
    pub(super) exit: Agreement,
    /// The most that a relay may ask for a gibibyte.
    pub(super) price_most: Amount,
    pub(super) signer: std::sync::Arc<dyn wayfare_identity::Signer>,
    pub(super) deposit: DepositReader,
}

/// The tolls of one session, as its owner sees them.
#[derive(Debug)]
pub(super) struct Tolls {
    report: watch::Receiver<Option<TollReport>>,
    news: mpsc::Receiver<TollNews>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Drop for Tolls {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tolls {
    pub(super) fn start(setup: TollSetup) -> Self {
        let (tell, report) = watch::channel(None);
        let (tell_news, news) = mpsc::channel(NEWS);
        let (stop, stopped) = oneshot::channel();
        let meter = setup.relay.borrow().clone();
        let tally = Tally::new(tell, tell_news, meter.node);
        let task = Task {
            wallet: Wallet {
                exit: setup.exit,
                signer: setup.signer,
                payer: setup.deposit.payer.clone(),
            },
            endpoint: setup.endpoint,
            path: setup.path,
            meter,
            relay: setup.relay,
            price_most: setup.price_most,
            deposit: setup.deposit,
            tally,
            stopped,
            direct_since: None,
            broken: 0,
        };
        Self {
            report,
            news,
            stop: Some(stop),
            task: tokio::spawn(task.run()),
        }
    }

    /// How it stands; `None` while no relay was asked for a price.
    pub(super) fn report(&self) -> Option<TollReport> {
        self.report.borrow().clone()
    }

    /// What happens; waits for ever when nothing does any more.
    pub(super) async fn next(&mut self) -> TollNews {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// Pays what is owed. It takes a round trip, or [`LAST_PAYMENT`] when the relay does not answer.
    pub(super) async fn finish(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = timeout(LAST_PAYMENT * 2, &mut self.task).await;
    }
}

/// Why a relay is not paid any more, for now.
#[derive(Debug, PartialEq, Eq)]
enum Over {
    /// The session has ended.
    Stopped,
    /// Another relay is used, or none for a while.
    Changed,
    /// It did not work out.
    Failed,
}

struct Task {
    wallet: Wallet,
    endpoint: QuicEndpoint,
    path: watch::Receiver<PathNow>,
    relay: watch::Receiver<RelayInUse>,
    /// Of the relay whose bytes are counted.
    meter: RelayInUse,
    price_most: Amount,
    deposit: DepositReader,
    tally: Tally,
    stopped: oneshot::Receiver<()>,
    direct_since: Option<Instant>,
    /// Agreements that this relay has ended too soon.
    broken: u32,
}

impl Task {
    async fn run(mut self) {
        let mut pause = PAUSE;
        loop {
            let over = match self.wait_for_need(ASK_FROM).await {
                Ok(()) => self.serve().await,
                Err(over) => over,
            };
            match over {
                Over::Stopped => return,
                Over::Changed => (pause, self.broken) = (PAUSE, 0),
                Over::Failed => {
                    if self.rest(pause).await == Over::Stopped {
                        return;
                    }
                    pause = (pause * 2).min(MOST_PAUSE);
                }
            }
        }
    }

    /// One relay, from the question for its price until it is not used any more.
    async fn serve(&mut self) -> Over {
        let relay = self.meter.clone();
        let asked = tokio::select! {
            _ = &mut self.stopped => return Over::Stopped,
            asked = line::ask(&self.endpoint, &relay) => asked,
        };
        let Asked {
            connection,
            client,
            tariff,
        } = match asked {
            Ok(Some(asked)) => asked,
            Ok(None) => return self.idle().await,
            Err(error) => {
                tracing::debug!(%error, "the relay does not say what it asks for");
                return Over::Failed;
            }
        };
        self.tally.tariff(relay.node, &tariff);
        if tariff.per_gib.is_zero() {
            return self.idle().await;
        }
        if tariff.per_gib > self.price_most {
            self.tally.tell(TollNews::TooDear {
                per_gib: tariff.per_gib,
                most: self.price_most,
            });
            return self.idle().await;
        }
        if self.broken >= MOST_BROKEN {
            let why = format!("{MOST_BROKEN} agreements ended before what was paid had passed");
            self.tally.tell(TollNews::NotAgreed(why));
            self.broken = 0;
            return self.idle_for(Some(DISTRUST)).await;
        }
        if let Err(over) = self.wait_for_need(tariff.free_bytes / 2).await {
            return over;
        }
        // What passes while terms are signed counts here and not there: an invoice is never above our own count for it.
        let passed = self.passed();
        let opened = tokio::select! {
            _ = &mut self.stopped => return Over::Stopped,
            opened = self.wallet.open(&client, &tariff) => opened,
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(why) => {
                self.tally.tell(TollNews::NotAgreed(why));
                return Over::Failed;
            }
        };
        let toll = TollPayer::new(opened.terms, passed, Clock::now());
        self.tally.agreed(relay.node, &tariff);
        let line = TollLine::new(
            self.endpoint.clone(),
            relay,
            opened.token,
            connection,
            client,
        );
        self.converse(toll, line, opened.payments).await
    }

    /// Pays until the relay is not used any more, or the agreement has ended.
    async fn converse(
        &mut self,
        mut toll: TollPayer,
        mut line: TollLine,
        mut payments: mpsc::Receiver<PayerAnswer>,
    ) -> Over {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut over = None;
        let mut closing_until = None;
        let ended = loop {
            if let Some(reason) = self.carry_out(&mut toll, &mut line).await {
                break reason;
            }
            let deadline = toll.poll_timeout().map(|deadline| deadline.at);
            tokio::select! {
                _ = &mut self.stopped, if over != Some(Over::Stopped) => over = Some(Over::Stopped),
                frame = line.next() => match frame {
                    Some(frame) => self.handle_frame(&mut toll, frame),
                    // The relay has forgotten the agreement, or says that it never was.
                    None => toll.abort(),
                },
                answer = payments.recv() => match answer {
                    Some(PayerAnswer::Pay(exchange)) => {
                        toll.handle_payment(*exchange);
                        self.tally.promised(toll.signed());
                    }
                    Some(PayerAnswer::Refused(why)) => self.refused(&why),
                    None => toll.abort(),
                },
                _ = looks.tick() => {
                    toll.handle_passed(self.passed());
                    self.tally.used(toll.usage());
                    if over.is_none() && (self.meter.node != line.relay() || self.is_needless()) {
                        over = Some(Over::Changed);
                    }
                    line.follow(&self.meter);
                }
                () = sleep_until(deadline) => toll.handle_timeout(Clock::now()),
                () = sleep_until(closing_until) => toll.abort(),
            }
            if over.is_some() && closing_until.is_none() {
                // Another relay that is on the way by now wants to be paid, too.
                let patience = match over {
                    Some(Over::Stopped) => LAST_PAYMENT,
                    _ => LAST_PAYMENT / 3,
                };
                closing_until = Some(Clock::now() + patience);
                toll.handle_passed(self.passed());
                toll.close();
            }
        };
        self.tally.used(toll.usage());
        self.tally.ended();
        self.wallet.payer.close(toll.agreement().agreement.id).await;
        let over = over.unwrap_or(Over::Failed);
        let price = toll.agreement().agreement.price;
        let passed = price.cost_rounded_down(&toll.usage()) >= toll.signed();
        self.broken = if passed { 0 } else { self.broken + 1 };
        tracing::info!(reason = %ended, "a relay is not paid any more");
        self.tally.tell(TollNews::Closed(ended.to_string()));
        over
    }

    fn handle_frame(&mut self, toll: &mut TollPayer, frame: ProviderFrame) {
        toll.handle_passed(self.passed());
        self.tally.used(toll.usage());
        toll.handle_frame(frame, Clock::now());
    }

    /// Does what the machine asks for. `Some` when the agreement has ended.
    async fn carry_out(
        &mut self,
        toll: &mut TollPayer,
        line: &mut TollLine,
    ) -> Option<CloseReason> {
        while let Some(output) = toll.poll_output() {
            match output {
                TollOutput::Frame(frame) => line.send(frame),
                TollOutput::Bill { invoice, usage } => {
                    self.wallet.payer.bill(invoice, usage).await;
                }
                TollOutput::Event(TollEvent::Closed(reason)) => return Some(reason),
                TollOutput::Event(TollEvent::Paid(total)) => self.tally.paid(total),
                TollOutput::Event(TollEvent::Gate(state)) => self.tally.tell(TollNews::Gate(state)),
                TollOutput::Event(TollEvent::Draining(seconds)) => {
                    self.tally.tell(TollNews::Draining(seconds));
                }
            }
        }
        None
    }

    fn refused(&mut self, why: &PayRefusal) {
        if matches!(why, PayRefusal::OverDeposit { .. }) {
            self.deposit.reread();
        }
        self.tally.refused(why.to_string());
    }

    /// Waits until so much has passed through the relay, or it is known that no other path will be found.
    async fn wait_for_need(&mut self, bytes: u64) -> Result<(), Over> {
        let node = self.meter.node;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_direct = self.path.borrow().tier.is_direct();
            tokio::select! {
                _ = &mut self.stopped => return Err(Over::Stopped),
                _ = looks.tick(), if !is_direct => {}
                changed = self.path.changed(), if is_direct => if changed.is_err() {
                    // The way is not looked after any more: the session ends.
                    let _ = (&mut self.stopped).await;
                    return Err(Over::Stopped);
                },
            }
            let [sent, received] = self.passed();
            if self.meter.node != node {
                return Err(Over::Changed);
            }
            let path = self.path.borrow();
            let settled = !path.outcome.is_empty();
            if !path.tier.is_direct() && (settled || sent.saturating_add(received) >= bytes) {
                return Ok(());
            }
        }
    }

    /// Waits until another relay is used: with this one there is nothing to do.
    async fn idle(&mut self) -> Over {
        self.idle_for(None).await
    }

    /// The same, no longer than that.
    async fn idle_for(&mut self, most: Option<Duration>) -> Over {
        let node = self.meter.node;
        let until = most.map(|most| Clock::now() + most);
        while self.meter.node == node {
            if until.is_some_and(|until| Clock::now() >= until) {
                return Over::Failed;
            }
            if self.rest(IDLE).await == Over::Stopped {
                return Over::Stopped;
            }
            self.passed();
        }
        Over::Changed
    }

    async fn rest(&mut self, pause: Duration) -> Over {
        tokio::select! {
            _ = &mut self.stopped => Over::Stopped,
            () = tokio::time::sleep(pause) => Over::Changed,
        }
    }

    /// What has passed through the channel of the moment. When it has become another one its count begins at nothing.
    fn passed(&mut self) -> [u64; 2] {
        let passed = self.meter.meter.passed();
        self.tally.carried(passed);
        // The count before is complete: nothing passes through a channel that was left.
        if self.relay.has_changed().unwrap_or(false) {
            self.meter = self.relay.borrow_and_update().clone();
            self.tally.another_channel();
        }
        passed
    }

    /// Whether the path has been direct for so long that the relay is but a fallback.
    fn is_needless(&mut self) -> bool {
        if !self.path.borrow().tier.is_direct() {
            self.direct_since = None;
            return false;
        }
        let now = Clock::now();
        let since = *self.direct_since.get_or_insert(now);
        now.saturating_duration_since(since) >= DIRECT_FOR
    }
}
