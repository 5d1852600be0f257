//! *The ledger outside*: the vault contracts, an alloy client for them, settlement transactions and confirmations, an embedded
//! development chain, and the message layouts of the deployed Mysterium contracts. It refuses to know *when* to settle.

#[cfg(feature = "devchain")]
pub mod devchain;
