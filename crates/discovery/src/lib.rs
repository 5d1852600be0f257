//! *What is offered*: signed proposals, the catalogue that keeps them until they expire, queries and their ranking.
//!
//! Refuses to know how to connect: no sockets, no clock (`now` is an argument, in Unix seconds), no chance (the catalogue is
//! given its seed). Where proposals come from is the port [`ProposalSource`].
//!
//! A provider fills in an [`Offer`] and signs it; what travels is a [`SignedProposal`]; only [`SignedProposal::verify`] makes a
//! [`Proposal`], so one in hand is well-formed, signed by the provider it names, and was in force when it was verified.

mod catalogue;
mod country;
mod offer;
mod proposal;
mod query;
mod service;
mod source;
mod withdrawal;

pub use catalogue::{Catalogue, Evidence, Inserted, Limits, ProposalKey, Refused};
pub use country::{CountryCode, UnknownCountry};
pub use offer::{FORMAT, IpType, Location, MAX_LIFETIME, Offer, OfferError, Protocols};
pub use proposal::{
    MAX_ENCODED, MAX_SKEW, Malformed, Proposal, ProposalError, SignError, SignedProposal,
};
pub use query::{MAX_LIMIT, MAX_SKIP, Query};
pub use service::{ServiceType, ServiceTypeError};
pub use source::{ProposalSource, SourceError, StaticSource};
pub use withdrawal::{SignedWithdrawal, Withdrawal, WithdrawalError};
