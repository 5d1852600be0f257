//! *The ledger outside*: the vault contracts, an alloy client for them, settlement transactions and confirmations, an embedded
//! development chain, and the message layouts of the deployed Mysterium contracts. It refuses to know *when* to settle.

pub mod bindings;
mod client;
mod consent;
mod deploy;
mod derive;
#[cfg(feature = "devchain")]
pub mod devchain;
mod direct;
mod fault;
pub mod mysterium;
mod order;
mod relayer;
mod rows;
mod token;
mod wallet;

pub use client::{Seen, VaultClient, onchain_receipt};
pub use consent::{DrawConsent, ExitConsent, Mandate, SettleConsent, Sheet};
pub use deploy::{Delays, deploy_direct, deploy_token, deploy_vault};
pub use derive::{consumer_channel, deposit_address, direct_channel, hermes_id};
pub use direct::{Ceiling, DirectAccount, DirectClient};
pub use fault::explain;
pub use relayer::{Relay, RelayRefusal, RelayRequest, RelayTerms, Relayer};
pub use rows::{SettleRow, settle_rows, sheet_rows, sheet_total, unpacked};
pub use token::TokenClient;
pub use wallet::{Endpoint, TransactionView, Wallet};
