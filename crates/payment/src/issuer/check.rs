//! The audit of a Hermes' ledger: every sum and every signature, from the stored records alone.

use std::collections::BTreeMap;

use wayfare_identity::{Address, B256};

use super::{Issuer, IssuerConfig, address_of, books};
use crate::record::{
    IssuerAgreementRecord, IssuerConsumerRecord, IssuerProviderRecord, IssuerReceiptRecord,
    RecordFault, decode, fault,
};
use crate::{Amount, ChannelId, RecordError, Row, SignedReceipt, Table};

/// How thorough an audit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Sums and links.
    Sums,
    /// Sums, links and every signature (30 µs each).
    Signatures,
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport {
    /// How many consumers, providers, agreements, receipts were read.
    pub consumers: usize,
    /// See `consumers`.
    pub providers: usize,
    /// See `consumers`.
    pub agreements: usize,
    /// See `consumers`.
    pub receipts: usize,
    /// Promised to all providers together.
    pub promised: Amount,
    /// What is wrong; empty in a ledger that balances.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The two legs differ.
    #[error(
        "providers were promised {providers}, consumers paid {consumers}, receipts count {receipts}"
    )]
    Imbalance {
        /// Σ of the providers' promises.
        providers: Amount,
        /// Σ of accepted payments.
        consumers: Amount,
        /// The last receipt's total.
        receipts: Amount,
    },
    /// One consumer's agreements do not add up.
    #[error("consumer {consumer} paid {accepted}, its agreements add up to {agreements}")]
    Consumer {
        /// Who.
        consumer: Address,
        /// As its record says.
        accepted: Amount,
        /// Σ of its agreements.
        agreements: Amount,
    },
    /// One consumer's promises do not cover its payments.
    #[error("the promises of consumer {0} do not cover its payments")]
    Uncovered(Address),
    /// One provider's receipts do not add up.
    #[error("channel {channel} was promised {promised}, its receipts add up to {receipts}")]
    Provider {
        /// Which.
        channel: ChannelId,
        /// As its record says.
        promised: Amount,
        /// Σ of its receipts.
        receipts: Amount,
    },
    /// A provider's record contradicts itself.
    #[error("the last promise on channel {0} is not what its record says")]
    Promise(ChannelId),
    /// A receipt is missing or does not follow the one before.
    #[error("receipt {sequence} does not follow the one before it: {what}")]
    Chain {
        /// Its number.
        sequence: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// A signature is not the operator's or the consumer's.
    #[error("bad signature: {0}")]
    Signature(String),
}

struct Audit<'a> {
    config: &'a IssuerConfig,
    operator: Address,
    depth: Depth,
    consumers: BTreeMap<Address, IssuerConsumerRecord>,
    providers: BTreeMap<ChannelId, IssuerProviderRecord>,
    agreements: BTreeMap<Address, Amount>,
    receipts: BTreeMap<u64, SignedReceipt>,
    report: CheckReport,
}

impl Issuer {
    /// Audits a ledger: feed all rows of [`Issuer::CHECKED_TABLES`]. It may be the ledger of a running Hermes, read at one moment.
    ///
    /// # Errors
    /// [`RecordError`] names the row that cannot be read.
    pub fn check(
        config: &IssuerConfig,
        operator: Address,
        rows: impl IntoIterator<Item = (Table, Row)>,
        depth: Depth,
    ) -> Result<CheckReport, RecordError> {
        let mut audit = Audit {
            config,
            operator,
            depth,
            consumers: BTreeMap::new(),
            providers: BTreeMap::new(),
            agreements: BTreeMap::new(),
            receipts: BTreeMap::new(),
            report: CheckReport::default(),
        };
        for (table, row) in rows {
            audit.read(table, &row)?;
        }
        audit.check_consumers();
        audit.check_receipts();
        audit.check_balance();
        Ok(audit.report)
    }
}

impl Audit<'_> {
    fn read(&mut self, table: Table, row: &Row) -> Result<(), RecordError> {
        match table {
            Table::IssuerConsumer => {
                self.consumers
                    .insert(address_of(table, row)?, decode(table, row)?);
                self.report.consumers += 1;
            }
            Table::IssuerProvider => {
                let record: IssuerProviderRecord = decode(table, row)?;
                let channel = ChannelId::of_provider(record.provider, self.config.hermes);
                if row.0 != channel.0.as_slice() {
                    return Err(fault(table, &row.0, RecordFault::NotOurs));
                }
                self.providers.insert(channel, record);
                self.report.providers += 1;
            }
            Table::IssuerAgreement => {
                let record: IssuerAgreementRecord = decode(table, row)?;
                let sum = self.agreements.entry(address_of(table, row)?).or_default();
                *sum = sum.saturating_add(record.accepted);
                self.report.agreements += 1;
            }
            Table::IssuerReceipt => {
                let record: IssuerReceiptRecord = decode(table, row)?;
                self.receipts
                    .insert(record.receipt.receipt.sequence, record.receipt);
                self.report.receipts += 1;
            }
            _ => return Err(fault(table, &row.0, RecordFault::Foreign)),
        }
        Ok(())
    }

    fn check_consumers(&mut self) {
        for (consumer, record) in &self.consumers {
            let agreements = self.agreements.get(consumer).copied().unwrap_or_default();
            if agreements != record.accepted {
                let (consumer, accepted) = (*consumer, record.accepted);
                self.report.findings.push(Finding::Consumer {
                    consumer,
                    accepted,
                    agreements,
                });
            }
            let outstanding = record.outstanding.iter().map(|o| o.increment);
            let sum = outstanding.fold(record.covered.increment, Amount::saturating_add);
            if !books::covers(record) || sum != record.accepted {
                self.report.findings.push(Finding::Uncovered(*consumer));
            }
            if self.depth == Depth::Signatures {
                let collectable = record.collectable.iter().map(|(promise, _)| promise);
                for promise in collectable.chain([&record.largest]) {
                    if let Err(error) = promise.verify(*consumer) {
                        self.report
                            .findings
                            .push(Finding::Signature(error.to_string()));
                    }
                }
                let opens = record
                    .collectable
                    .is_none_or(|(p, r)| r.hashlock() == p.promise.hashlock);
                if !opens {
                    self.report.findings.push(Finding::Uncovered(*consumer));
                }
            }
        }
    }

    fn check_receipts(&mut self) {
        let domain = self.config.domain();
        let mut findings = Vec::new();
        let mut sums: BTreeMap<ChannelId, Amount> = BTreeMap::new();
        let (mut previous, mut total) = (B256::ZERO, Amount::ZERO);
        for (expected, (sequence, signed)) in (1u64..).zip(&self.receipts) {
            let receipt = &signed.receipt;
            let mut broken = |what| {
                findings.push(Finding::Chain {
                    sequence: *sequence,
                    what,
                })
            };
            if *sequence != expected {
                broken("one is missing before it");
            }
            if receipt.previous != previous {
                broken("it names another predecessor");
            }
            total = total.saturating_add(receipt.increment);
            if receipt.total_promised != total {
                broken("its total is not the sum");
            }
            if receipt.hermes != self.config.hermes {
                broken("it is another Hermes'");
            }
            let sum = sums.entry(receipt.channel).or_default();
            *sum = sum.saturating_add(receipt.increment);
            previous = receipt.digest(&domain);
            if self.depth == Depth::Signatures
                && let Err(error) = signed.verify(&domain, self.operator)
            {
                findings.push(Finding::Signature(error.to_string()));
            }
        }
        for (channel, record) in &self.providers {
            let receipts = sums.remove(channel).unwrap_or_default();
            let promised = record.promised;
            if receipts != promised {
                findings.push(Finding::Provider {
                    channel: *channel,
                    promised,
                    receipts,
                });
            }
            findings.extend(self.check_provider(*channel, record));
        }
        findings.extend(
            sums.into_iter()
                .map(|(channel, receipts)| Finding::Provider {
                    channel,
                    promised: Amount::ZERO,
                    receipts,
                }),
        );
        self.report.findings.extend(findings);
    }

    fn check_provider(&self, channel: ChannelId, record: &IssuerProviderRecord) -> Option<Finding> {
        let promise = &record.reply.promise.promise;
        let lock = record.exchange.promise.promise.hashlock;
        let fits = promise.amount == record.promised
            && promise.channel == channel
            && promise.chain_id == self.config.chain_id
            && promise.fee.is_zero()
            && promise.hashlock == lock
            && record
                .preimage
                .is_none_or(|preimage| preimage.hashlock() == lock)
            && self.receipts.get(&record.reply.receipt.receipt.sequence)
                == Some(&record.reply.receipt);
        if !fits {
            return Some(Finding::Promise(channel));
        }
        if self.depth == Depth::Sums {
            return None;
        }
        let operator = record.reply.promise.verify(self.operator);
        operator
            .and_then(|()| record.exchange.verify(record.consumer))
            .err()
            .map(|e| Finding::Signature(e.to_string()))
    }

    fn check_balance(&mut self) {
        let providers = self
            .providers
            .values()
            .map(|p| p.promised)
            .fold(Amount::ZERO, Amount::saturating_add);
        let consumers = self
            .consumers
            .values()
            .map(|c| c.accepted)
            .fold(Amount::ZERO, Amount::saturating_add);
        let receipts = self
            .receipts
            .values()
            .next_back()
            .map_or(Amount::ZERO, |r| r.receipt.total_promised);
        self.report.promised = providers;
        if providers != consumers || providers != receipts {
            self.report.findings.push(Finding::Imbalance {
                providers,
                consumers,
                receipts,
            });
        }
    }
}
