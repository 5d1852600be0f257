//! Session machines against each other in the deterministic world: real consumer sessions and payers, a real exit and its collector, a
//! real Hermes. `WAYFARE_SEED` repeats one seed. The world itself checks, at every packet and promise, what must always hold.
#![allow(clippy::unwrap_used)]

#[path = "session/admission.rs"]
mod admission;
#[path = "session/closing.rs"]
mod closing;
#[path = "session/crashes.rs"]
mod crashes;
#[path = "session/credit.rs"]
mod credit;
#[path = "session/strangers.rs"]
mod strangers;
#[path = "session/support.rs"]
mod support;
#[path = "session/traffic.rs"]
mod traffic;
#[path = "session/weather.rs"]
mod weather;
