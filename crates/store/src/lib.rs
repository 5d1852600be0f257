//! *The ledger inside*: homes for [`payment::Ledger`](wayfare_payment::Ledger).
//!
//! [`RocksLedger`] survives power losses, [`MemoryLedger`] nothing; both obey one contract, which `tests/contract.rs` runs on
//! each. This crate refuses to know what the records mean.
//!
//! What the contract adds to the port's own words:
//! - the entries of a batch are taken in order, and an [`Expect`](wayfare_payment::Expect) sees the entries before it;
//! - a batch holds at most [`BATCH_LIMIT`] bytes; a larger one fails and writes nothing;
//! - the record [`SCHEMA_KEY`] of [`Table::Schema`](wayfare_payment::Table::Schema) belongs to the ledger itself;
//! - a commit that is dropped while it waits may or may not have been written.

mod memory;
mod rocks;
mod rules;

pub use memory::MemoryLedger;
pub use rocks::{LedgerOptions, RocksLedger, Verified};
pub use rules::{BATCH_LIMIT, SCHEMA_KEY, SCHEMA_VERSION};
