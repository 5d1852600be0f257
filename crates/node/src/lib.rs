//! Assembles the consumer's and the provider's role from rooms and doors: builders, driver loops, supervision, events.
//!
//! Refuses to know protocol rules: what is sealed, owed or admitted is decided by the machines below; this crate only feeds them.

mod chance;
mod consumer;
mod control;
mod daemon;
mod discover;
mod error;
mod network;
mod path;
mod persistence;
mod plane;
mod provider;
mod reach;
mod relay;
mod shown;
mod traffic;

use std::path::Path;
use std::sync::Arc;

pub use consumer::{
    Account, ConnectOptions, Node, NodeBuilder, Reporter, Session, SessionEnd, SessionEvent,
    SessionReport, SystemTunnel, TollNews, TollReport,
};
pub use control::LocalControl;
pub use daemon::{DaemonError, LocalDaemon};
pub use error::NodeError;
pub use network::{Network, Preset};
pub use path::MtuWatch;
pub use provider::{Limits, Offer, Provider, ProviderBuilder, ProviderRemote, ProviderStatus};
pub use reach::{Carrier, PathNow};
pub use relay::{Relay, RelayBuilder, RelayToll};
pub use shown::{EarningShown, PathShown, ProposalShown, SessionShown, SettledShown, StatusShown};
pub use wayfare_nat::{AccountUse, ChannelUse, FreeLimits, RelayLimits, RouterAnswers};
pub use wayfare_path::Tier;

pub use wayfare_discovery::{Proposal, Query};
pub use wayfare_host::Journal;
pub use wayfare_payment::{Amount, Ledger, Price, SettlePolicy, Usage};
pub use wayfare_session::{CloseReason, ConsumerEvent, GateState};
pub use wayfare_transport::{ChannelTun, Tun, TunDevice};

/// Opens the durable ledger in a directory, made if it is not there.
///
/// # Errors
/// In use by another process, damaged, written by a newer release, or the disk's own.
pub fn open_ledger(directory: &Path) -> Result<Arc<dyn Ledger>, NodeError> {
    let ledger =
        wayfare_store::RocksLedger::open(directory, wayfare_store::LedgerOptions::default())?;
    Ok(Arc::new(ledger))
}

/// A ledger that forgets everything when the process ends: for throw-away nodes and tests.
#[must_use]
pub fn memory_ledger() -> Arc<dyn Ledger> {
    Arc::new(wayfare_store::MemoryLedger::default())
}

/// Whether this process may create devices and change routes and rules.
#[must_use]
pub fn may_change_network() -> bool {
    wayfare_host::may_change_network()
}

/// Names tables and journal after a device: its letters, digits and underscores.
fn node_name(device: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    device.chars().map(plain).collect()
}
