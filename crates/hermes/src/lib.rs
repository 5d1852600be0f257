//! The house of a Hermes: assembles the issuing machine, its ledger, the chain and the network service, and keeps them going.
//!
//! [`Hermes`] turns consumers' payments into promises to providers and collects what it is owed; [`Index`] keeps signed proposals
//! that anybody may query; [`check`] audits a ledger. Refuses to know tunnels, routes and address translators, and to read
//! configuration: values come from whoever runs it.
//!
//! One task owns the issuing machine; requests reach it over a bounded queue. What it wants written is written in order, and
//! everything that arrives during one flush shares the next. When a write fails the house stops: nothing is known about the disk
//! then, and a restart reads what is there.

mod accounts;
mod admin;
mod audit;
mod collecting;
mod config;
mod desk;
mod driver;
mod error;
mod house;
mod index;
mod opening;

pub use admin::{Admin, HermesStatus, ask_collect, ask_drain, ask_status};
pub use audit::{Audit, check};
pub use collecting::Collection;
pub use config::HermesConfig;
pub use error::{CheckError, HermesError, StartError};
pub use house::{Hermes, Ports, Totals};
pub use index::{Index, UnixClock};
pub use opening::{Site, restore_backup};

// What a binary over this house has to name.
pub use wayfare_api::ApiError;
pub use wayfare_api::hermes::{ConsumerState, Described, HermesClient, HermesTerms, ProviderState};
pub use wayfare_chain::{Endpoint, VaultClient};
pub use wayfare_discovery::Limits;
pub use wayfare_payment::{CheckReport, Depth, Finding};
pub use wayfare_store::RocksLedger;
