//! Wallets on a chain that forks, forgets and grows dear, behind servers that lag, lie and die: whatever happens, the ledger and
//! what the user is shown are true. Each story ends with both compared with the chain.
#![allow(clippy::unwrap_used)]

// Not every file of tests uses everything of the shared set-up.
#[allow(dead_code)]
#[path = "contracts/net.rs"]
mod net;

#[path = "outbox/crashes.rs"]
mod crashes;
#[path = "outbox/liars.rs"]
mod liars;
#[path = "outbox/notebook.rs"]
mod notebook;
#[path = "outbox/relayed.rs"]
mod relayed;
#[path = "outbox/weather.rs"]
mod weather;
#[path = "outbox/world.rs"]
mod world;
