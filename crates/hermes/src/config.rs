//! How a Hermes behaves. Plain values; refuses to read files.

use std::time::Duration;

use wayfare_payment::{Amount, IssuerConfig};

/// How a Hermes behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HermesConfig {
    /// Which Hermes this is.
    pub issuer: IssuerConfig,
    /// Collect from a consumer as soon as it owes this much. Ten times what a collection costs in gas is a good value.
    pub collect_threshold: Amount,
    /// How often consumers that owe something are looked up on the chain: for the threshold, and for exits. Must be well below the
    /// vault's exit delay.
    pub watch_every: Duration,
    /// How old the known state of a consumer's deposit may be when a payment is accepted upon it.
    pub account_age: Duration,
    /// How long one look at the chain may take.
    pub chain_deadline: Duration,
    /// Requests that may wait for the machine. Worst case 1,024 × 1 KiB.
    pub queue: usize,
}

impl HermesConfig {
    /// For the Hermes of `issuer`: collects from 1 token on, looks for exits every 10 s, trusts a deposit for 2 s.
    #[must_use]
    pub fn new(issuer: IssuerConfig) -> Self {
        Self {
            issuer,
            collect_threshold: Amount::from_units(1_000_000_000_000_000_000),
            watch_every: Duration::from_secs(10),
            account_age: Duration::from_secs(2),
            chain_deadline: Duration::from_secs(5),
            queue: 1_024,
        }
    }
}
