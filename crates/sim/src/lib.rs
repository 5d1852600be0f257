//! The deterministic world that the machines are tested in: virtual time, chance from a seed, lossy links, crashing ledgers, a chain
//! made of plain arithmetic, and models that run real machines on them and check the invariants after every step.
//!
//! For tests only. It refuses to touch real time, sockets or disks, so a seed is all that a failure needs to be repeated.

mod chance;
mod clock;
mod crashing_ledger;
mod link;
pub mod payment_world;
pub mod session_world;
mod vault;

pub use chance::Chance;
pub use clock::Clock;
pub use crashing_ledger::{CrashingLedger, Owner};
pub use link::{Link, Weather};
pub use vault::{SimChain, SimVault};
