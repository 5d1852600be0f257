//! The client of the deployed Mysterium contracts against a double of them, written from their documented interface alone, on
//! the embedded chain: exact balances, caps, refusals, events. It refuses to prove what only the real contracts can.
#![allow(clippy::unwrap_used)]

#[path = "mysterium/abi.rs"]
mod abi;
#[path = "mysterium/batch.rs"]
mod batch;
#[path = "mysterium/draining.rs"]
mod draining;
#[path = "mysterium/gas.rs"]
mod gas;
#[path = "mysterium/house.rs"]
mod house;
#[path = "mysterium/journey.rs"]
mod journey;
#[path = "mysterium/leaving.rs"]
mod leaving;
#[path = "mysterium/model.rs"]
mod model;
#[path = "mysterium/net.rs"]
mod net;
#[path = "mysterium/settling.rs"]
mod settling;
#[path = "mysterium/watch.rs"]
mod watch;
