//! The message layouts and addresses of the contracts that Mysterium has deployed, as pure functions, so that a provider or a
//! Hermes can settle on them unmodified. Promises and exchange messages are `payment`'s own: the format is one and the same.
//!
//! It refuses to send anything, and to correct what these contracts leave as it is: some messages have no chain id, some
//! addresses are padded and some are not, and each layout here is what the contract recovers, not what it should.

mod addresses;
mod contracts;
mod messages;
mod offchain;
pub mod vectors;

pub use addresses::{channel_address, hermes_address, withdrawal_channel};
pub use contracts::{
    CalldataError, ChannelImplementation, HermesImplementation, Registry, calldata,
};
pub use messages::Message;
pub use offchain::{RecoveryError, http_authorization, open_recovery};
