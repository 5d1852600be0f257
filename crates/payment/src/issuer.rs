//! The issuer: the machine of a Hermes, the single writer of its ledger.
//!
//! A consumer's payment comes in, brought by the provider that it pays; it is checked against everything this Hermes has accepted
//! from that consumer; consumer, provider, agreement and receipt are written **in one batch**; then, and only then, the promise goes
//! out. The same payment again brings the same promise again, byte for byte. Many batches may wait for the disk at once.
//!
//! It refuses to promise more than a consumer's deposit, more than the consumer's own promises cover, or anything further on a
//! channel whose last preimage it has not seen.

mod books;
mod check;
mod output;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use wayfare_identity::{Address, B256, Signer};

use self::books::ConsumerBook;
use crate::durability::Withheld;
use crate::record::{
    IssuerAgreementRecord, IssuerConsumerRecord, IssuerProviderRecord, IssuerReceiptRecord,
    RecordFault, channel_key, consumer_agreement_key, decode, encode, fault,
};
use crate::{
    AgreementId, Amount, Batch, ChannelId, ConsumerAccount, Entry, Exchange, Expect, IssueRefusal,
    IssueReply, IssueRequest, Preimage, Promise, Receipt, RecordError, Row, Table, Ticket,
};

pub use self::check::{CheckReport, Depth, Finding};
pub use self::output::{Collectable, ConsumerView, IssuerConfig, IssuerOutput, RequestId};

#[derive(Debug)]
struct AgreementBook {
    record: IssuerAgreementRecord,
    /// Under which ticket the reply still waits for its record.
    unanswered: Option<Ticket>,
}

#[derive(Debug)]
struct ProviderBook {
    record: IssuerProviderRecord,
    /// Under which ticket the preimage still waits for its record.
    unacknowledged: Option<Ticket>,
}

/// The Hermes' machine. See the module.
#[derive(Debug)]
pub struct Issuer {
    config: IssuerConfig,
    signer: Arc<dyn Signer>,
    consumers: BTreeMap<Address, ConsumerBook>,
    providers: BTreeMap<ChannelId, ProviderBook>,
    agreements: BTreeMap<(Address, AgreementId), AgreementBook>,
    sequence: u64,
    previous: B256,
    total_promised: Amount,
    next_request: u64,
    withheld: Withheld<Vec<IssuerOutput>>,
    outputs: VecDeque<IssuerOutput>,
}

impl Issuer {
    /// Where its state lives; feed all rows of these to [`Issuer::restore`].
    pub const TABLES: &[Table] = &[
        Table::IssuerConsumer,
        Table::IssuerProvider,
        Table::IssuerAgreement,
    ];
    /// Everything that it writes; feed all rows of these to [`Issuer::check`].
    pub const CHECKED_TABLES: &[Table] = &[
        Table::IssuerConsumer,
        Table::IssuerProvider,
        Table::IssuerAgreement,
        Table::IssuerReceipt,
    ];

    /// A Hermes without a past.
    #[must_use]
    pub fn new(config: IssuerConfig, operator: Arc<dyn Signer>) -> Self {
        Self {
            config,
            signer: operator,
            consumers: BTreeMap::new(),
            providers: BTreeMap::new(),
            agreements: BTreeMap::new(),
            sequence: 0,
            previous: B256::ZERO,
            total_promised: Amount::ZERO,
            next_request: 0,
            withheld: Withheld::new(),
            outputs: VecDeque::new(),
        }
    }

    /// A Hermes as its ledger left it. The chain of receipts goes on after the newest receipt that a provider holds.
    ///
    /// # Errors
    /// [`RecordError`] names the row that cannot be read.
    pub fn restore(
        config: IssuerConfig,
        operator: Arc<dyn Signer>,
        rows: impl IntoIterator<Item = (Table, Row)>,
    ) -> Result<Self, RecordError> {
        let mut issuer = Self::new(config, operator);
        for (table, row) in rows {
            match table {
                Table::IssuerConsumer => {
                    let consumer = address_of(table, &row)?;
                    let record: IssuerConsumerRecord = decode(table, &row)?;
                    issuer.consumers.insert(consumer, ConsumerBook::new(record));
                }
                Table::IssuerProvider => {
                    let record: IssuerProviderRecord = decode(table, &row)?;
                    let receipt = &record.reply.receipt.receipt;
                    if receipt.hermes != config.hermes
                        || record.reply.promise.promise.chain_id != config.chain_id
                    {
                        return Err(fault(table, &row.0, RecordFault::NotOurs));
                    }
                    if receipt.sequence > issuer.sequence {
                        issuer.sequence = receipt.sequence;
                        issuer.previous = receipt.digest(&config.domain());
                        issuer.total_promised = receipt.total_promised;
                    }
                    let channel = ChannelId::of_provider(record.provider, config.hermes);
                    issuer.providers.insert(
                        channel,
                        ProviderBook {
                            record,
                            unacknowledged: None,
                        },
                    );
                }
                Table::IssuerAgreement => {
                    let consumer = address_of(table, &row)?;
                    let record: IssuerAgreementRecord = decode(table, &row)?;
                    let id = agreement_of(table, &row)?;
                    issuer.agreements.insert(
                        (consumer, id),
                        AgreementBook {
                            record,
                            unanswered: None,
                        },
                    );
                }
                Table::IssuerReceipt => {}
                _ => return Err(fault(table, &row.0, RecordFault::Foreign)),
            }
        }
        Ok(issuer)
    }

    /// A provider asks for a promise. `channel` is the consumer's channel as derived locally, `deposit` its account as the chain
    /// shows it. One of `Answer` and `Refused` follows, with the id that is returned.
    pub fn handle_request(
        &mut self,
        request: &IssueRequest,
        channel: ChannelId,
        deposit: &ConsumerAccount,
    ) -> RequestId {
        let id = self.request_id();
        if let Err(why) = self.issue(id, request, channel, deposit) {
            self.outputs
                .push_back(IssuerOutput::Refused { request: id, why });
        }
        id
    }

    /// A preimage: from a provider that holds our promise, or from the chain, where a settlement made it public. `Acknowledged` or
    /// `Refused` follows.
    pub fn handle_reveal(&mut self, channel: ChannelId, preimage: Preimage) -> RequestId {
        let id = self.request_id();
        if let Err(why) = self.reveal(id, channel, preimage) {
            self.outputs
                .push_back(IssuerOutput::Refused { request: id, why });
        }
        id
    }

    /// A batch is durable.
    pub fn handle_durable(&mut self, ticket: Ticket) {
        self.outputs
            .extend(self.withheld.durable(ticket).into_iter().flatten());
    }

    /// A commit failed: whoever waits is refused, and so is everything that comes. Restart from the ledger.
    pub fn handle_failed(&mut self, _ticket: Ticket) {
        self.outputs.clear();
        for output in self.withheld.fail().into_iter().flatten() {
            if let IssuerOutput::Answer { request, .. } | IssuerOutput::Acknowledged { request } =
                output
            {
                self.outputs.push_back(IssuerOutput::Refused {
                    request,
                    why: IssueRefusal::OutOfOrder,
                });
            }
        }
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<IssuerOutput> {
        self.outputs.pop_front()
    }

    /// Promised to all providers together.
    #[must_use]
    pub fn total_promised(&self) -> Amount {
        self.total_promised
    }

    /// What is known of a consumer.
    #[must_use]
    pub fn consumer(&self, consumer: Address) -> Option<ConsumerView> {
        let record = &self.consumers.get(&consumer)?.record;
        Some(ConsumerView {
            accepted: record.accepted,
            largest: record.largest,
        })
    }

    /// The last promise on a provider's channel; `None` while there is none or it is still being written.
    #[must_use]
    pub fn provider(&self, channel: ChannelId) -> Option<IssueReply> {
        let record = &self.providers.get(&channel)?.record;
        let agreement = self
            .agreements
            .get(&(record.consumer, record.exchange.agreement))?;
        match agreement.unanswered {
            Some(ticket) if self.withheld.is_held(ticket) => None,
            Some(_) | None => Some(record.reply),
        }
    }

    /// The promise to collect from a consumer; what is already collected is for the caller to compare.
    #[must_use]
    pub fn collectable(&self, consumer: Address) -> Option<Collectable> {
        let (promise, preimage) = self.consumers.get(&consumer)?.record.collectable?;
        Some(Collectable {
            consumer,
            promise,
            preimage,
        })
    }

    /// All that can be collected, one promise for each consumer.
    pub fn collectables(&self) -> impl Iterator<Item = Collectable> {
        self.consumers
            .keys()
            .filter_map(|consumer| self.collectable(*consumer))
    }

    fn request_id(&mut self) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        id
    }

    fn issue(
        &mut self,
        request: RequestId,
        asked: &IssueRequest,
        channel: ChannelId,
        deposit: &ConsumerAccount,
    ) -> Result<(), IssueRefusal> {
        use IssueRefusal as No;
        if self.withheld.failed() {
            return Err(No::OutOfOrder);
        }
        let IssueRequest { consumer, exchange } = asked;
        self.check_form(asked, channel)?;
        let key = (*consumer, exchange.agreement);
        let mut accepted = Amount::ZERO;
        if let Some(known) = self.agreements.get(&key) {
            accepted = known.record.accepted;
            if known.record.provider != exchange.provider {
                return Err(No::OtherProvider);
            }
            if exchange.agreement_total < accepted {
                return Err(No::Stale);
            }
            if exchange.agreement_total == accepted {
                if known.record.hashlock != exchange.promise.promise.hashlock {
                    return Err(No::LockChanged);
                }
                let (reply, ticket) = (known.record.reply, known.unanswered);
                self.answer(request, reply, ticket);
                return Ok(());
            }
        }
        let increment = exchange
            .agreement_total
            .checked_sub(accepted)
            .filter(|i| !i.is_zero())
            .ok_or(No::Stale)?;
        if deposit.exit_at.is_some() {
            return Err(No::ExitPending);
        }
        let limit = deposit
            .balance
            .checked_add(deposit.collected)
            .ok_or(No::Overflow)?;
        let book = self.consumers.get(consumer);
        let consumer_record = books::accept(
            book,
            channel,
            &exchange.promise,
            increment,
            limit,
            self.config.locked_cap,
        )?;
        let provider_channel = ChannelId::of_provider(exchange.provider, self.config.hermes);
        let before = self.providers.get(&provider_channel);
        if before.is_some_and(|book| book.record.preimage.is_none()) {
            return Err(No::RevealFirst);
        }
        let promised = before.map_or(Amount::ZERO, |book| book.record.promised);
        let previous = before.map(|book| book.record.exchange.promise.promise.hashlock);
        let promised = promised.checked_add(increment).ok_or(No::Overflow)?;
        let reply = self.sign(provider_channel, promised, increment, exchange)?;
        let provider_record = IssuerProviderRecord {
            provider: exchange.provider,
            promised,
            consumer: *consumer,
            exchange: *exchange,
            reply,
            preimage: None,
            previous,
        };
        self.commit(request, consumer_record, provider_record);
        Ok(())
    }

    /// Everything that can be said of a payment without knowing its consumer's past.
    fn check_form(&self, asked: &IssueRequest, channel: ChannelId) -> Result<(), IssueRefusal> {
        let exchange = &asked.exchange;
        let promise = &exchange.promise.promise;
        if exchange.hermes != self.config.hermes {
            return Err(IssueRefusal::WrongHermes);
        }
        if promise.chain_id != self.config.chain_id {
            return Err(IssueRefusal::WrongChain);
        }
        if promise.channel != channel {
            return Err(IssueRefusal::WrongChannel);
        }
        if !promise.fee.is_zero() {
            return Err(IssueRefusal::Fee);
        }
        exchange
            .verify(asked.consumer)
            .map_err(|_| IssueRefusal::Signature)
    }

    fn sign(
        &self,
        channel: ChannelId,
        amount: Amount,
        increment: Amount,
        exchange: &Exchange,
    ) -> Result<IssueReply, IssueRefusal> {
        let promise = Promise {
            chain_id: self.config.chain_id,
            channel,
            amount,
            fee: Amount::ZERO,
            hashlock: exchange.promise.promise.hashlock,
        };
        let receipt = Receipt {
            hermes: self.config.hermes,
            sequence: self.sequence.checked_add(1).ok_or(IssueRefusal::Overflow)?,
            previous: self.previous,
            channel,
            promise: promise.digest(),
            increment,
            total_promised: self
                .total_promised
                .checked_add(increment)
                .ok_or(IssueRefusal::Overflow)?,
        };
        let signer = self.signer.as_ref();
        let promise = promise.sign(signer).map_err(|_| IssueRefusal::OutOfOrder)?;
        let receipt = receipt
            .sign(signer, &self.config.domain())
            .map_err(|_| IssueRefusal::OutOfOrder)?;
        Ok(IssueReply { promise, receipt })
    }

    /// INVARIANT: consumer, provider, agreement and receipt change in one batch, so every prefix of the ledger balances.
    fn commit(
        &mut self,
        request: RequestId,
        consumer: IssuerConsumerRecord,
        provider: IssuerProviderRecord,
    ) {
        let reply = provider.reply;
        let exchange = provider.exchange;
        let receipt = &reply.receipt.receipt;
        let agreement = IssuerAgreementRecord {
            provider: provider.provider,
            accepted: exchange.agreement_total,
            hashlock: exchange.promise.promise.hashlock,
            reply,
        };
        let mut batch = Batch::default();
        batch.put(
            Table::IssuerConsumer,
            provider.consumer.to_vec(),
            encode(&consumer),
        );
        batch.put(
            Table::IssuerProvider,
            channel_key(receipt.channel),
            encode(&provider),
        );
        let key = consumer_agreement_key(provider.consumer, exchange.agreement);
        batch.put(Table::IssuerAgreement, key, encode(&agreement));
        // Two receipts of one number would be a proof of fraud against us: the ledger itself refuses the second.
        batch.0.push(Entry {
            table: Table::IssuerReceipt,
            key: receipt.sequence.to_be_bytes().to_vec(),
            value: Some(encode(&IssuerReceiptRecord {
                receipt: reply.receipt,
            })),
            expect: Expect::Absent,
        });
        self.sequence = receipt.sequence;
        self.previous = receipt.digest(&self.config.domain());
        self.total_promised = receipt.total_promised;

        let ticket = self
            .withheld
            .hold(vec![IssuerOutput::Answer { request, reply }]);
        let key = (provider.consumer, exchange.agreement);
        self.agreements.insert(
            key,
            AgreementBook {
                record: agreement,
                unanswered: Some(ticket),
            },
        );
        self.consumers
            .insert(provider.consumer, ConsumerBook::new(consumer));
        self.providers.insert(
            receipt.channel,
            ProviderBook {
                record: provider,
                unacknowledged: None,
            },
        );
        self.outputs
            .push_back(IssuerOutput::Persist { ticket, batch });
    }

    fn answer(&mut self, request: RequestId, reply: IssueReply, ticket: Option<Ticket>) {
        self.after(ticket, IssuerOutput::Answer { request, reply });
    }

    /// Says `output` now, or once `ticket` is durable.
    fn after(&mut self, ticket: Option<Ticket>, output: IssuerOutput) {
        match ticket.and_then(|ticket| self.withheld.held(ticket)) {
            Some(held) => held.push(output),
            None => self.outputs.push_back(output),
        }
    }

    fn reveal(
        &mut self,
        request: RequestId,
        channel: ChannelId,
        preimage: Preimage,
    ) -> Result<(), IssueRefusal> {
        if self.withheld.failed() {
            return Err(IssueRefusal::OutOfOrder);
        }
        let hashlock = preimage.hashlock();
        let book = self
            .providers
            .get_mut(&channel)
            .ok_or(IssueRefusal::WrongPreimage)?;
        // The one before was revealed, or the last would not exist.
        if book.record.previous == Some(hashlock) {
            self.outputs
                .push_back(IssuerOutput::Acknowledged { request });
            return Ok(());
        }
        if book.record.exchange.promise.promise.hashlock != hashlock {
            return Err(IssueRefusal::WrongPreimage);
        }
        if book.record.preimage.is_some() {
            let ticket = book.unacknowledged;
            self.after(ticket, IssuerOutput::Acknowledged { request });
            return Ok(());
        }
        book.record.preimage = Some(preimage);
        let consumer = self
            .consumers
            .get_mut(&book.record.consumer)
            .ok_or(IssueRefusal::WrongPreimage)?;
        consumer.unlock(&book.record.exchange.promise, preimage);
        let mut batch = Batch::default();
        batch.put(
            Table::IssuerConsumer,
            book.record.consumer.to_vec(),
            encode(&consumer.record),
        );
        batch.put(
            Table::IssuerProvider,
            channel_key(channel),
            encode(&book.record),
        );
        let ticket = self
            .withheld
            .hold(vec![IssuerOutput::Acknowledged { request }]);
        book.unacknowledged = Some(ticket);
        self.outputs
            .push_back(IssuerOutput::Persist { ticket, batch });
        Ok(())
    }
}

fn address_of(table: Table, row: &Row) -> Result<Address, RecordError> {
    let bytes = row
        .0
        .get(..20)
        .and_then(|bytes| <[u8; 20]>::try_from(bytes).ok());
    bytes
        .map(Address::from)
        .ok_or_else(|| fault(table, &row.0, RecordFault::Malformed))
}

fn agreement_of(table: Table, row: &Row) -> Result<AgreementId, RecordError> {
    let bytes = row
        .0
        .get(20..)
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let id = bytes.map(wayfare_identity::U256::from_be_bytes);
    id.map(AgreementId)
        .ok_or_else(|| fault(table, &row.0, RecordFault::Malformed))
}

#[cfg(test)]
mod tests;
