//! The port to durable memory: ordered records in tables, written in atomic batches.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

/// What a port answers: a future without a runtime, so that ports stay object-safe.
pub type PortFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The tables of the ledger. Numbers are part of the on-disk format: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Schema version and owner of this ledger.
    Schema = 0,
    /// Payer: one record per consumer channel.
    PayerChannel = 1,
    /// Payer: one record per agreement.
    PayerAgreement = 2,
    /// Collector: one record per provider channel.
    CollectorChannel = 3,
    /// Collector: one record per agreement.
    CollectorAgreement = 4,
    /// Issuer: one record per consumer channel.
    IssuerConsumer = 5,
    /// Issuer: one record per provider channel.
    IssuerProvider = 6,
    /// Issuer: one record per agreement.
    IssuerAgreement = 7,
    /// Issuer: the chain of receipts, by sequence number.
    IssuerReceipt = 8,
    /// Settler: one record per settlement.
    Settlement = 9,
    /// Finished and running sessions, for history.
    Session = 10,
    /// Outbox: one record per transaction job of an account on a chain.
    Transactions = 11,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 12] = [
        Self::Schema,
        Self::PayerChannel,
        Self::PayerAgreement,
        Self::CollectorChannel,
        Self::CollectorAgreement,
        Self::IssuerConsumer,
        Self::IssuerProvider,
        Self::IssuerAgreement,
        Self::IssuerReceipt,
        Self::Settlement,
        Self::Session,
        Self::Transactions,
    ];
}

/// What a write demands of the record it replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Anything,
    /// There is no such record yet.
    Absent,
    /// The record is exactly this.
    Exactly(Vec<u8>),
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub table: Table,
    /// Under which key; keys of one table are ordered as bytes.
    pub key: Vec<u8>,
    /// The new record; `None` deletes.
    pub value: Option<Vec<u8>>,
    /// On which condition.
    pub expect: Expect,
}

/// Writes that happen together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch(pub Vec<Entry>);

impl Batch {
    /// Adds an unconditional write.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: Vec<u8>) {
        self.0.push(Entry {
            table,
            key: key.into(),
            value: Some(value),
            expect: Expect::Anything,
        });
    }
}

/// A key and its record.
pub type Row = (Vec<u8>, Vec<u8>);

/// Why the ledger did not do as told. After [`LedgerError::Failed`] nothing about the write is known: its owner stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// An [`Expect`] did not hold; nothing was written.
    #[error("the record under {key} in table {table:?} is not the one expected")]
    Conflict {
        /// The table.
        table: Table,
        /// The key, in hexadecimal.
        key: String,
    },
    /// A record or file does not hold what was written.
    #[error("the ledger is damaged: {0}")]
    Corrupt(String),
    /// The ledger was written by a newer release.
    #[error(
        "the ledger has schema version {found}, this release knows up to {known}: use a newer release"
    )]
    Newer {
        /// In the ledger.
        found: u32,
        /// The newest that this release reads.
        known: u32,
    },
    /// Another process has it open.
    #[error("the ledger is in use by another process: {0}")]
    Busy(String),
    /// The disk or the database failed.
    #[error("the ledger failed: {0}")]
    Failed(String),
}

/// Durable memory. `Ok` from [`Ledger::commit`] means: it survives a power loss.
pub trait Ledger: Debug + Send + Sync {
    /// Writes a batch, all or nothing, durably.
    fn commit(&self, batch: Batch) -> PortFuture<'_, Result<(), LedgerError>>;

    /// Reads one record.
    fn read<'a>(
        &'a self,
        table: Table,
        key: &'a [u8],
    ) -> PortFuture<'a, Result<Option<Vec<u8>>, LedgerError>>;

    /// Reads up to `limit` records of a table in key order, strictly after `after`.
    fn scan<'a>(
        &'a self,
        table: Table,
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> PortFuture<'a, Result<Vec<Row>, LedgerError>>;
}
