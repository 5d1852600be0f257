//! The task that owns the consumer's payer: one channel, one writer, however many sessions.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use wayfare_chain::VaultClient;
use wayfare_identity::Address;
use wayfare_payment::{
    AgreementId, Amount, Chain, Exchange, Invoice, LedgerError, OpenRefusal, PayRefusal, Payer,
    PayerOutput, SignedAgreement, Usage,
};

use crate::persistence::Persistence;

/// Requests of all sessions that may wait.
const QUEUE: usize = 256;
/// Answers waiting for one session.
const ANSWERS: usize = 64;

/// What a session hears from the payer.
#[derive(Debug)]
pub(crate) enum PayerAnswer {
    /// Durable; to be sent to the provider.
    Pay(Box<Exchange>),
    /// The invoice is not paid.
    Refused(PayRefusal),
}

#[derive(Debug)]
enum Request {
    Open {
        terms: Box<SignedAgreement>,
        budget: Option<Amount>,
        answers: mpsc::Sender<PayerAnswer>,
        done: oneshot::Sender<Result<(), OpenRefusal>>,
    },
    Bill {
        invoice: Invoice,
        usage: Usage,
    },
    Deposit(Amount),
    Close(AgreementId),
    Total(oneshot::Sender<Amount>),
}

/// A session's way to the payer; cheap to clone. The task ends with the last of them.
#[derive(Debug, Clone)]
pub(crate) struct PayerLink {
    requests: mpsc::Sender<Request>,
}

impl PayerLink {
    pub(crate) fn start(payer: Payer, persistence: Persistence) -> Self {
        let (requests, inbox) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            if let Err(error) = run(payer, persistence, inbox).await {
                tracing::error!(%error, "payments stop: the ledger failed");
            }
        });
        Self { requests }
    }

    /// Registers an agreement.
    ///
    /// # Errors
    /// `None` when the payer has stopped, else its reason.
    pub(crate) async fn open(
        &self,
        terms: SignedAgreement,
        budget: Option<Amount>,
    ) -> Result<mpsc::Receiver<PayerAnswer>, Option<OpenRefusal>> {
        let (answers, receiver) = mpsc::channel(ANSWERS);
        let (done, opened) = oneshot::channel();
        let request = Request::Open {
            terms: Box::new(terms),
            budget,
            answers,
            done,
        };
        self.requests.send(request).await.map_err(|_| None)?;
        opened.await.map_err(|_| None)?.map_err(Some)?;
        Ok(receiver)
    }

    pub(crate) async fn bill(&self, invoice: Invoice, usage: Usage) {
        self.send(Request::Bill { invoice, usage }).await;
    }

    pub(crate) async fn deposit(&self, amount: Amount) {
        self.send(Request::Deposit(amount)).await;
    }

    pub(crate) async fn close(&self, agreement: AgreementId) {
        self.send(Request::Close(agreement)).await;
    }

    /// Everything that was ever promised on the channel; `None` when the payer has stopped.
    pub(crate) async fn total(&self) -> Option<Amount> {
        let (answer, total) = oneshot::channel();
        self.send(Request::Total(answer)).await;
        total.await.ok()
    }

    async fn send(&self, request: Request) {
        // A payer that stopped is seen by its silence: sessions end unpaid.
        let _ = self.requests.send(request).await;
    }
}

/// Looks on the chain whether somebody has topped up, when an invoice was refused for lack of deposit. The provider asks again
/// by itself.
#[derive(Debug, Clone)]
pub(crate) struct DepositReader {
    pub(crate) chain: Arc<VaultClient>,
    pub(crate) consumer: Address,
    pub(crate) hermes: Address,
    pub(crate) payer: PayerLink,
}

impl DepositReader {
    pub(crate) fn reread(&self) {
        let reader = self.clone();
        tokio::spawn(async move {
            match reader.chain.consumer(reader.consumer, reader.hermes).await {
                Ok(account) => {
                    reader
                        .payer
                        .deposit(account.balance.saturating_add(account.collected))
                        .await
                }
                Err(error) => tracing::warn!(%error, "the deposit cannot be read"),
            }
        });
    }
}

async fn run(
    mut payer: Payer,
    mut persistence: Persistence,
    mut inbox: mpsc::Receiver<Request>,
) -> Result<(), LedgerError> {
    let mut sessions: BTreeMap<AgreementId, mpsc::Sender<PayerAnswer>> = BTreeMap::new();
    loop {
        while let Some(output) = payer.poll_output() {
            let (agreement, answer) = match output {
                PayerOutput::Persist { ticket, batch } => {
                    persistence.push(ticket, batch);
                    continue;
                }
                PayerOutput::Pay(exchange) => {
                    (exchange.agreement, PayerAnswer::Pay(Box::new(exchange)))
                }
                PayerOutput::Refused { agreement, why } => (agreement, PayerAnswer::Refused(why)),
            };
            if let Some(session) = sessions.get(&agreement)
                && session.try_send(answer).is_err()
            {
                sessions.remove(&agreement);
            }
        }
        tokio::select! {
            ticket = persistence.next() => payer.handle_durable(ticket?),
            request = inbox.recv() => match request {
                Some(Request::Open { terms, budget, answers, done }) => {
                    let id = terms.agreement.id;
                    let opened = payer.open(*terms, budget);
                    if opened.is_ok() {
                        sessions.insert(id, answers);
                    }
                    let _ = done.send(opened);
                }
                Some(Request::Bill { invoice, usage }) => payer.handle_invoice(invoice, &usage),
                Some(Request::Deposit(amount)) => payer.handle_deposit(amount),
                Some(Request::Close(agreement)) => {
                    sessions.remove(&agreement);
                    payer.close(agreement);
                }
                Some(Request::Total(answer)) => {
                    let _ = answer.send(payer.total());
                }
                None => return Ok(()),
            },
        }
    }
}
