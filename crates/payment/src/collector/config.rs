//! Whose channel a collector keeps, and how patient it is.

use std::time::Duration;

use wayfare_identity::{Address, B256};

use crate::Amount;

/// Whose channel this is, and how patient it is. Fixed for the machine's life.
#[derive(Clone)]
pub struct CollectorConfig {
    /// Who earns.
    pub provider: Address,
    /// The Hermes.
    pub hermes: Address,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The vault on that chain.
    pub vault: Address,
    /// From which preimages are derived. As secret as a key: whoever knows it can cash consumers' promises for the Hermes.
    pub secret: B256,
    /// The largest share of a settlement, in 1/10,000, that the Hermes may keep.
    pub fee_cap_basis_points: u16,
    /// What this Hermes may owe beyond what the chain shows of it.
    pub own_cap: Amount,
    /// The most credit that one agreement is given, also where its terms would allow more; never less than its first chunk.
    pub credit_cap: Amount,
    /// How patient.
    pub patience: Patience,
}

/// How long a collector waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Something owed is invoiced after this long, however little it is.
    pub invoice_every: Duration,
    /// A quarter of the allowance is invoiced no sooner than this after the invoice before; half of it at once.
    pub invoice_pace: Duration,
    /// An unanswered invoice is sent again.
    pub resend_invoice: Duration,
    /// The last invoice of a session is given up.
    pub last_invoice: Duration,
    /// A request that the Hermes does not answer is sent again. Longer than one transport deadline.
    pub issue: Duration,
    /// A preimage that is not acknowledged is sent again.
    pub reveal: Duration,
    /// Between the first two tries of what failed; doubled each time.
    pub retry: Duration,
    /// The longest pause between tries.
    pub retry_most: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            invoice_every: Duration::from_secs(10),
            // Four a second: a promise costs three computers a few milliseconds together.
            invoice_pace: Duration::from_millis(250),
            resend_invoice: Duration::from_secs(2),
            last_invoice: Duration::from_secs(30),
            issue: Duration::from_secs(11),
            reveal: Duration::from_secs(3),
            retry: Duration::from_millis(250),
            retry_most: Duration::from_secs(30),
        }
    }
}

impl std::fmt::Debug for CollectorConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CollectorConfig")
            .field("provider", &self.provider)
            .field("hermes", &self.hermes)
            .field("chain_id", &self.chain_id)
            .finish_non_exhaustive()
    }
}
