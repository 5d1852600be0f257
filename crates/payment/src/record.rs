//! The records behind the tables: a version byte, then postcard. The only place that knows how the machines' memory is written.
//!
//! A record of another version, or one with a byte too many, is an error that names table and key; nothing is guessed.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wayfare_identity::Address;

use crate::{
    AgreementId, Amount, ChannelId, Exchange, Hashlock, IssueReply, Preimage, Row, SignedAgreement,
    SignedPromise, SignedReceipt, Table, Usage,
};

/// The version that this release writes, and the only one it reads.
const VERSION: u8 = 1;

/// A record that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the record under {key} in table {table:?} {fault}")]
pub struct RecordError {
    /// The table.
    pub table: Table,
    /// The key, in hexadecimal.
    pub key: String,
    /// What is wrong.
    pub fault: RecordFault,
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// Not even a version.
    #[error("is empty")]
    Empty,
    /// Of a release that this one does not know.
    #[error("has version {0}, this release reads version 1: use the release that wrote it")]
    Version(u8),
    /// Not what was written.
    #[error("is damaged: restore the ledger from a backup")]
    Malformed,
    /// In a table that is not the machine's.
    #[error("does not belong to this machine")]
    Foreign,
    /// Of another identity, chain or Hermes than configured.
    #[error("belongs to another identity, Hermes or chain than the configured one")]
    NotOurs,
}

pub(crate) fn fault(table: Table, key: &[u8], fault: RecordFault) -> RecordError {
    use std::fmt::Write as _;
    let key = key
        .iter()
        .fold(String::with_capacity(key.len() * 2), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
    RecordError { table, key, fault }
}

pub(crate) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    postcard::to_extend(record, vec![VERSION])
        .expect("our records have neither maps nor unsized sequences")
}

pub(crate) fn decode<T: DeserializeOwned>(table: Table, row: &Row) -> Result<T, RecordError> {
    let (key, value) = row;
    let (version, body) = value
        .split_first()
        .ok_or_else(|| fault(table, key, RecordFault::Empty))?;
    if *version != VERSION {
        return Err(fault(table, key, RecordFault::Version(*version)));
    }
    match postcard::take_from_bytes(body) {
        Ok((record, [])) => Ok(record),
        Ok(_) | Err(_) => Err(fault(table, key, RecordFault::Malformed)),
    }
}

pub(crate) fn channel_key(channel: ChannelId) -> Vec<u8> {
    channel.0.to_vec()
}

pub(crate) fn agreement_key(agreement: AgreementId) -> Vec<u8> {
    agreement.0.to_be_bytes::<32>().to_vec()
}

/// Agreement ids are chosen by consumers: two of them may choose the same.
pub(crate) fn consumer_agreement_key(consumer: Address, agreement: AgreementId) -> Vec<u8> {
    [consumer.as_slice(), &agreement.0.to_be_bytes::<32>()].concat()
}

pub(crate) fn settlement_key(channel: ChannelId, amount: Amount) -> Vec<u8> {
    [channel.0.as_slice(), &amount.units().to_be_bytes::<32>()].concat()
}

/// [`Table::PayerChannel`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PayerChannelRecord {
    pub(crate) channel: ChannelId,
    pub(crate) total: Amount,
}

/// [`Table::PayerAgreement`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PayerAgreementRecord {
    pub(crate) terms: SignedAgreement,
    pub(crate) budget: Option<Amount>,
    pub(crate) last: Option<Exchange>,
    pub(crate) recent: Vec<Hashlock>,
    pub(crate) closed: bool,
}

/// [`Table::CollectorChannel`]. The preimage is derived again from agreement and total.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CollectorChannelRecord {
    pub(crate) provider: Address,
    pub(crate) hermes: Address,
    pub(crate) agreement: AgreementId,
    pub(crate) agreement_total: Amount,
    pub(crate) promise: SignedPromise,
    pub(crate) receipt: SignedReceipt,
}

/// [`Table::CollectorAgreement`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CollectorAgreementRecord {
    pub(crate) terms: SignedAgreement,
    pub(crate) usage: Usage,
    pub(crate) covered: Amount,
    pub(crate) seen: Amount,
    pub(crate) pending: Vec<Exchange>,
}

/// A consumer promise that may become collectable, as [`IssuerConsumerRecord`] lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outstanding {
    pub(crate) amount: Amount,
    pub(crate) increment: Amount,
}

/// [`Table::IssuerConsumer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IssuerConsumerRecord {
    pub(crate) channel: ChannelId,
    pub(crate) accepted: Amount,
    pub(crate) covered: Outstanding,
    pub(crate) outstanding: Vec<Outstanding>,
    pub(crate) largest: SignedPromise,
    pub(crate) collectable: Option<(SignedPromise, Preimage)>,
}

/// [`Table::IssuerProvider`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IssuerProviderRecord {
    pub(crate) provider: Address,
    pub(crate) promised: Amount,
    pub(crate) consumer: Address,
    pub(crate) exchange: Exchange,
    pub(crate) reply: IssueReply,
    pub(crate) preimage: Option<Preimage>,
    pub(crate) previous: Option<Hashlock>,
}

/// [`Table::IssuerAgreement`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IssuerAgreementRecord {
    pub(crate) provider: Address,
    pub(crate) accepted: Amount,
    pub(crate) hashlock: Hashlock,
    pub(crate) reply: IssueReply,
}

/// [`Table::IssuerReceipt`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IssuerReceiptRecord {
    pub(crate) receipt: SignedReceipt,
}

/// How far a settlement has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SettlementStage {
    /// About to be sent, or sent: only the chain knows.
    Submitted,
    /// The chain had settled this much when it was last read.
    Done(Amount),
}

/// [`Table::Settlement`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SettlementRecord {
    pub(crate) hermes: Address,
    pub(crate) beneficiary: Address,
    pub(crate) promise: SignedPromise,
    pub(crate) preimage: Preimage,
    pub(crate) stage: SettlementStage,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn all(value: Vec<u8>) -> [Result<(), RecordError>; 10] {
        let row = (vec![0xab], value);
        [
            decode::<PayerChannelRecord>(Table::PayerChannel, &row).map(drop),
            decode::<PayerAgreementRecord>(Table::PayerAgreement, &row).map(drop),
            decode::<CollectorChannelRecord>(Table::CollectorChannel, &row).map(drop),
            decode::<CollectorAgreementRecord>(Table::CollectorAgreement, &row).map(drop),
            decode::<IssuerConsumerRecord>(Table::IssuerConsumer, &row).map(drop),
            decode::<IssuerProviderRecord>(Table::IssuerProvider, &row).map(drop),
            decode::<IssuerAgreementRecord>(Table::IssuerAgreement, &row).map(drop),
            decode::<IssuerReceiptRecord>(Table::IssuerReceipt, &row).map(drop),
            decode::<SettlementRecord>(Table::Settlement, &row).map(drop),
            decode::<crate::Job>(Table::Transactions, &row).map(drop),
        ]
    }

    #[test]
    fn a_bad_record_is_named() {
        let record = PayerChannelRecord {
            channel: ChannelId::of_deposit(Address::ZERO),
            total: Amount::from_units(5),
        };
        let good = encode(&record);
        let read = |value: Vec<u8>| {
            decode::<PayerChannelRecord>(Table::PayerChannel, &(vec![0xab, 1], value))
        };
        assert_eq!(read(good.clone()).unwrap(), record);

        let mut newer = good.clone();
        newer[0] = 2;
        let error = read(newer).unwrap_err();
        assert_eq!(
            (error.key.as_str(), error.fault),
            ("ab01", RecordFault::Version(2))
        );
        assert_eq!(read(Vec::new()).unwrap_err().fault, RecordFault::Empty);
        let longer = [good.as_slice(), &[0]].concat();
        assert_eq!(read(longer).unwrap_err().fault, RecordFault::Malformed);
        assert_eq!(
            read(good[..good.len() - 1].to_vec()).unwrap_err().fault,
            RecordFault::Malformed
        );
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..900), version in 0u8..3) {
            if let Some(first) = bytes.first_mut() {
                *first = version;
            }
            for result in all(bytes) {
                if let Err(error) = result {
                    prop_assert_eq!(error.key, "ab");
                }
            }
        }
    }
}
