//! The task that owns the consumer's payer: one channel, one writer, however many sessions.

mod budgets;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use wayfare_chain::VaultClient;
use wayfare_identity::Address;
use wayfare_payment::{
    AgreementId, Amount, Chain, ConsumerAccount, Exchange, Invoice, LedgerError, OpenRefusal,
    PayRefusal, Payer, PayerOutput, SignedAgreement, Usage,
};

use self::budgets::{Budgets, Purse};
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
        purse: Purse,
        answers: mpsc::Sender<PayerAnswer>,
        done: oneshot::Sender<Result<(), OpenRefusal>>,
    },
    Bill {
        invoice: Invoice,
        usage: Usage,
    },
    Deposit {
        deposit: Amount,
        collected: Amount,
    },
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
        self.open_from(terms, Purse::Own(budget)).await
    }

    /// As [`open`](Self::open), to be paid out of the budget of another agreement, if that has one.
    pub(crate) async fn open_beside(
        &self,
        terms: SignedAgreement,
        other: AgreementId,
    ) -> Result<mpsc::Receiver<PayerAnswer>, Option<OpenRefusal>> {
        self.open_from(terms, Purse::Of(other)).await
    }

    async fn open_from(
        &self,
        terms: SignedAgreement,
        purse: Purse,
    ) -> Result<mpsc::Receiver<PayerAnswer>, Option<OpenRefusal>> {
        let (answers, receiver) = mpsc::channel(ANSWERS);
        let (done, opened) = oneshot::channel();
        let request = Request::Open {
            terms: Box::new(terms),
            purse,
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

    /// What the chain shows: how far promises may go, and what they have reached at least.
    pub(crate) async fn account(&self, account: &ConsumerAccount) {
        self.send(Request::Deposit {
            deposit: account.balance.saturating_add(account.collected),
            collected: account.collected,
        })
        .await;
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
                Ok(account) => reader.payer.account(&account).await,
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
    let mut budgets = Budgets::default();
    // Sessions do not outlive their process: agreements of an earlier run are over.
    let former: Vec<_> = payer.agreements().map(|terms| terms.agreement.id).collect();
    former.iter().for_each(|id| payer.close(*id));
    let mut over: BTreeSet<AgreementId> = former.into_iter().collect();
    loop {
        // Their records would fill the payer's table for good; the channel's total, which is the money, stays. One whose last
        // promise is still being written has to wait for it.
        over.retain(|id| {
            payer.forget(*id);
            payer.paid(*id).is_some()
        });
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
                Some(Request::Open { terms, purse, answers, done }) => {
                    let id = terms.agreement.id;
                    let opened = payer.open(*terms, budgets.open(&terms, purse, &payer));
                    if opened.is_ok() {
                        sessions.insert(id, answers);
                    } else {
                        budgets.close(id, &payer);
                    }
                    let _ = done.send(opened);
                }
                Some(Request::Bill { invoice, usage }) => {
                    budgets.renew(invoice.agreement, &mut payer);
                    payer.handle_invoice(invoice, &usage);
                }
                Some(Request::Deposit { deposit, collected }) => {
                    payer.handle_deposit(deposit);
                    payer.handle_collected(collected);
                }
                Some(Request::Close(agreement)) => {
                    sessions.remove(&agreement);
                    budgets.close(agreement, &payer);
                    payer.close(agreement);
                    over.insert(agreement);
                }
                Some(Request::Total(answer)) => {
                    let _ = answer.send(payer.total());
                }
                None => return Ok(()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use wayfare_identity::{B256, LocalSigner, SecretKey, Signer, U256};
    use wayfare_payment::{Agreement, ChannelId, Hashlock, Ledger, PayerConfig, Price, Table};

    use super::*;
    use crate::memory_ledger;
    use crate::persistence::load;

    const CHANNEL: ChannelId = ChannelId(B256::repeat_byte(9));

    fn signer(byte: u8) -> LocalSigner {
        LocalSigner::new(SecretKey::from_bytes([byte; 32]).unwrap())
    }

    fn terms(number: u64) -> SignedAgreement {
        let units = Amount::from_units;
        let agreement = Agreement {
            id: AgreementId(U256::from(number)),
            consumer: signer(1).address(),
            provider: signer(2).address(),
            hermes: Address::repeat_byte(3),
            chain_id: 7,
            vault: Address::repeat_byte(4),
            consumer_channel: CHANNEL,
            price: Price {
                per_hour: units(1),
                per_gib: units(1),
            },
            chunk: units(100),
            chunk_limit: units(100),
        };
        SignedAgreement {
            agreement,
            consumer_signature: signer(1).sign_digest(agreement.digest()).unwrap(),
            provider_signature: signer(2).sign_digest(agreement.digest()).unwrap(),
        }
    }

    async fn start(ledger: &Arc<dyn Ledger>) -> PayerLink {
        let config = PayerConfig {
            hermes: Address::repeat_byte(3),
            chain_id: 7,
            vault: Address::repeat_byte(4),
            channel: CHANNEL,
        };
        let rows = load(ledger.as_ref(), Payer::TABLES).await.unwrap();
        let payer = Payer::restore(config, Arc::new(signer(1)), rows).unwrap();
        let link = PayerLink::start(payer, Persistence::new(Arc::clone(ledger)));
        let account = ConsumerAccount {
            balance: Amount::from_units(1_000),
            ..ConsumerAccount::default()
        };
        link.account(&account).await;
        link
    }

    async fn pay(link: &PayerLink, number: u64) {
        let mut answers = link.open(terms(number), None).await.unwrap();
        let invoice = Invoice {
            agreement: AgreementId(U256::from(number)),
            total: Amount::from_units(100),
            hashlock: Hashlock(B256::repeat_byte(number as u8)),
        };
        link.bill(invoice, Usage::default()).await;
        assert!(matches!(answers.recv().await, Some(PayerAnswer::Pay(_))));
    }

    /// Writes are under way when a question is answered: a bounded number of turns lets them end.
    async fn kept(ledger: &Arc<dyn Ledger>, link: &PayerLink) -> usize {
        for _ in 0..100 {
            link.total().await.unwrap();
            tokio::task::yield_now().await;
        }
        let rows = ledger.scan(Table::PayerAgreement, None, 100).await;
        rows.unwrap().len()
    }

    #[tokio::test]
    async fn ended_sessions_leave_the_total_and_nothing_else() {
        let ledger = memory_ledger();
        let link = start(&ledger).await;
        pay(&link, 1).await;
        pay(&link, 2).await;
        assert_eq!(kept(&ledger, &link).await, 2);
        link.close(AgreementId(U256::from(1_u64))).await;
        assert_eq!(kept(&ledger, &link).await, 1);
        drop(link);

        // The second session died with its process.
        let link = start(&ledger).await;
        assert_eq!(kept(&ledger, &link).await, 0);
        assert_eq!(link.total().await, Some(Amount::from_units(200)));
    }

    #[tokio::test]
    async fn two_agreements_on_one_budget_cost_no_more_than_it() {
        let ledger = memory_ledger();
        let link = start(&ledger).await;
        let first = AgreementId(U256::ONE);
        let budget = Some(Amount::from_units(150));
        let mut answers = link.open(terms(1), budget).await.unwrap();
        let mut beside = link.open_beside(terms(2), first).await.unwrap();
        let bill = |number: u64, total: u128| {
            let invoice = Invoice {
                agreement: AgreementId(U256::from(number)),
                total: Amount::from_units(total),
                hashlock: Hashlock(B256::repeat_byte(total as u8)),
            };
            link.bill(invoice, Usage::default())
        };
        bill(1, 100).await;
        assert!(matches!(answers.recv().await, Some(PayerAnswer::Pay(_))));
        let over = |answer| {
            matches!(
                answer,
                Some(PayerAnswer::Refused(PayRefusal::OverBudget { .. }))
            )
        };
        bill(2, 51).await;
        assert!(over(beside.recv().await));
        bill(2, 50).await;
        assert!(matches!(beside.recv().await, Some(PayerAnswer::Pay(_))));
        // What the first has cost stays spent when it is over.
        link.close(first).await;
        bill(2, 52).await;
        assert!(over(beside.recv().await));
        assert_eq!(link.total().await, Some(Amount::from_units(150)));
    }

    #[tokio::test]
    async fn what_the_chain_shows_as_collected_was_promised() {
        let ledger = memory_ledger();
        let link = start(&ledger).await;
        let account = ConsumerAccount {
            balance: Amount::from_units(10),
            collected: Amount::from_units(500),
            exit_at: None,
        };
        link.account(&account).await;
        assert_eq!(link.total().await, Some(Amount::from_units(500)));
    }
}
