//! *What is owed*: amounts, prices, usage, agreements, invoices and promises, and the machines that exchange them.
//!
//! Refuses to know packets, RPC and storage engines. It signs through `identity::Signer`, remembers through [`Ledger`] and looks
//! outside through [`Chain`]; both ports are implemented elsewhere.

mod agreement;
mod amount;
mod chain;
mod channel;
mod exchange;
mod invoice;
mod ledger;
mod promise;
mod receipt;

pub use agreement::{Agreement, AgreementId, SignedAgreement};
pub use amount::{Amount, AmountError, GIB, Price, Usage};
pub use chain::{Chain, ChainError, ConsumerAccount, HermesAccount, ProviderAccount, SettleOrder, Settled};
pub use channel::ChannelId;
pub use exchange::{Exchange, ExchangeMessage};
pub use invoice::Invoice;
pub use ledger::{Batch, Entry, Expect, Ledger, LedgerError, PortFuture, Row, Table};
pub use promise::{Hashlock, Preimage, Promise, SignedPromise};
pub use receipt::{Receipt, SignedReceipt};
