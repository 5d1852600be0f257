//! Where the chain is, and how patient to be with it. It refuses to contact anything.

use std::time::Duration;

/// RPC servers of one chain, and patience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `http://host:port` of JSON-RPC servers, the preferred one first. Where there are several, what money depends on is asked of
    /// two, and the others stand in for those that fail.
    pub urls: Vec<String>,
    /// The chain that they must serve. One that serves another is never used.
    pub chain_id: u64,
    /// Blocks that a transaction must have, its own included, before it counts.
    pub confirmations: u64,
    /// Blocks after which a transaction is not looked for any more: no reorganisation is feared that goes so deep.
    pub finality: u64,
    /// The longest one RPC call may take.
    pub call_timeout: Duration,
    /// The longest to wait for confirmations.
    pub confirm_timeout: Duration,
    /// Pause between two looks at a transaction.
    pub poll: Duration,
    /// Pause between two looks at what is confirmed and might be taken back.
    pub recheck: Duration,
    /// A transaction that is not mined within so many blocks is replaced by a dearer one…
    pub stuck_blocks: u64,
    /// …and so is one that is not mined for so long.
    pub stuck_after: Duration,
    /// The most to pay for a unit of gas, in wei; `None` pays what the chain asks. Dearer gas is waited out.
    pub gas_price_cap: Option<u128>,
}

impl Endpoint {
    /// One server; one confirmation; final after 128 blocks (Polygon's deepest reorganisation in years had 157, all others were
    /// below 40); 10 s a call (a slow server, not a dead one), two minutes for a transaction (sixty blocks of Polygon); stuck after
    /// 30 blocks or one minute, which is when a fee that was right is right no more.
    #[must_use]
    pub fn new(url: impl Into<String>, chain_id: u64) -> Self {
        Self::of([url.into()], chain_id)
    }

    /// As [`Endpoint::new`], with several servers.
    #[must_use]
    pub fn of(urls: impl IntoIterator<Item = String>, chain_id: u64) -> Self {
        Self {
            urls: urls.into_iter().collect(),
            chain_id,
            confirmations: 1,
            finality: 128,
            call_timeout: Duration::from_secs(10),
            confirm_timeout: Duration::from_secs(120),
            poll: Duration::from_millis(100),
            recheck: Duration::from_secs(15),
            stuck_blocks: 30,
            stuck_after: Duration::from_secs(60),
            gas_price_cap: None,
        }
    }

    /// How long a server may count a nonce without showing the transaction that has it: sixty looks.
    pub(super) fn patience(&self) -> Duration {
        self.poll * 60
    }
}
