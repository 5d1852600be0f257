//! The contracts that Mysterium has deployed, unmodified, so that a provider or a Hermes can settle on them: their message
//! layouts and addresses as pure functions, a client for them behind `payment::Chain`, and the rules that close off chain what
//! they leave open. Promises and exchange messages are `payment`'s own: the format is one and the same.
//!
//! It refuses to correct what these contracts leave as it is: some messages have no chain id, some addresses are padded and some
//! are not, and each layout here is what the contract recovers, not what it should.

mod addresses;
mod arithmetic;
mod batch;
mod client;
mod contracts;
mod deployment;
mod messages;
mod offchain;
mod rules;
mod takings;
pub mod vectors;
mod watch;

pub use addresses::{channel_address, hermes_address, withdrawal_channel};
pub use arithmetic::{Books, Payout, Status, Unpayable, Way, hermes_fee, payout};
pub use batch::{Batch, Batched, Item, MOST_ITEMS, deploy_batcher};
pub use client::{
    ConsumerChannel, FastExit, HermesState, HermesTerms, MysteriumClient, ProviderChannel,
    Registration,
};
pub use contracts::{
    CalldataError, ChannelImplementation, Erc20, HermesImplementation, Registry, calldata,
};
pub use deployment::{Deployment, KnownHermes, Version};
pub use messages::Message;
pub use offchain::{RecoveryError, http_authorization, open_recovery};
pub use rules::{
    Alarm, BATCHED_COLLECT_GAS, OperatorKey, Unsigned, Vigil, collect_threshold, exposure, room,
};
pub use takings::Takings;
pub use watch::{Change, Event, Sighting, Watch};
