//! *The ledger outside*: the vault contracts, an alloy client for them, settlement transactions and confirmations, an embedded
//! development chain, and the message layouts of the deployed Mysterium contracts. It refuses to know *when* to settle.

pub mod bindings;
mod client;
mod consent;
mod deploy;
mod derive;
#[cfg(feature = "devchain")]
pub mod devchain;
mod fault;
pub mod mysterium;
mod token;
mod wallet;

pub use client::{Seen, VaultClient};
pub use consent::{ExitConsent, SettleConsent};
pub use deploy::{Delays, deploy_token, deploy_vault};
pub use derive::{consumer_channel, deposit_address, hermes_id};
pub use fault::explain;
pub use token::TokenClient;
pub use wallet::{Endpoint, Wallet};
