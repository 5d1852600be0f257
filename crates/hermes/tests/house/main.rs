//! A Hermes over its network service: with a chain in memory and a ledger on disk, and once over a real EVM.

#![allow(clippy::unwrap_used)]

mod collecting;
mod devchain;
mod doubles;
mod failing;
mod index;
mod issuing;
