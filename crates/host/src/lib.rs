//! The `host` door: what we change on this computer, and how every bit of it is taken back.
//!
//! Four changes are known here: the exit rules of a provider ([`ExitRules`]), the address of a tunnel
//! interface ([`configure_interface`]), the routes of a consumer ([`ConsumerRoutes`]) and its kill switch
//! ([`Gate`]). What a narrow path asks of the packets inside a tunnel ([`TunnelLimiter`], [`limit_consumers`])
//! vanishes with the tunnel's device. Each of the four is applied whole or not at all, each is written to the [`Journal`] *before* it is made,
//! and each is undone by `undo`, by `Drop`, or, after a crash, by [`Journal::recover`].
//!
//! Refuses to know sessions, peers, money and packets: it is told names of interfaces and prefixes and does
//! not ask whom they serve. It speaks to the kernel through `nft`, `ip` and `/proc/sys` (Linux only for now)
//! and never through a firewall front end of the distribution.
//!
//! Work is done on the blocking pool of tokio, in one piece: dropping the future of an `apply` cannot leave
//! half of it behind, because the piece runs to its end and its result is then dropped, which undoes it.

mod addresses;
mod changes;
mod command;
mod error;
mod exit;
mod gate;
mod interface;
mod journal;
mod name;
mod narrow;
mod privilege;
mod registry;
mod routes;
mod sysctl;
mod undo;

pub use addresses::interface_addresses;
pub use error::HostError;
pub use exit::{ExitConfig, ExitPolicy, ExitRules, PortRule, Transport};
pub use gate::{Gate, GateConfig};
pub use interface::configure_interface;
pub use journal::{Held, Journal, Recovered};
pub use narrow::{ConsumerLimit, TunnelLimiter, limit_consumers};
pub use privilege::may_change_network;
pub use routes::{ConsumerRoutes, RoutesConfig};

/// Runs one whole piece of host work on the blocking pool.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T, HostError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, HostError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(HostError::ShuttingDown),
        },
    }
}
