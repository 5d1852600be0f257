//! Several RPC servers of one chain: who is asked, who stands in, and what happens when two of them disagree.
//!
//! A server that fails is left alone for a while, longer each time; one that serves another chain is never asked anything else. What
//! money depends on is *agreed*: two servers must say the same of the same block, a third decides between two where there is one,
//! and otherwise the contradiction is the answer. When only one answers it is believed, as if it were the only one configured: an
//! outage shall not stop settlements, and what one server alone can claim is bounded by what was promised.
//!
//! It refuses to know what the answers mean.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy::eips::BlockId;
use alloy::providers::{Provider, RootProvider};
use alloy::transports::TransportResult;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};
use wayfare_payment::ChainError;

use super::Endpoint;
use crate::fault::Fault;

/// A server that failed is left alone for so long, doubled with each failure in a row…
const REST: Duration = Duration::from_secs(1);
/// …up to this, and for this after a lie.
const REST_MOST: Duration = Duration::from_secs(60);
/// Heads of honest servers differ by a few blocks; one that is further behind shows an old chain.
pub(super) const MOST_LAG: u64 = 32;
/// Times that two servers are asked before it is called a contradiction: the chain moves between two questions.
const ROUNDS: usize = 3;

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    /// For people: scheme and host of its address. What follows the host is often a key.
    pub(super) name: String,
    provider: RootProvider,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    /// It has been seen to serve the right chain since it last failed.
    verified: bool,
    failures: u32,
    rests_until: Option<Instant>,
}

/// All servers of an endpoint, in order of preference. Clones share what is known of them.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    servers: Arc<Vec<Arc<Server>>>,
    chain_id: u64,
    call_timeout: Duration,
    poll: Duration,
}

impl Servers {
    /// Touches nothing.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`] when an address is none, or there is none.
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, ChainError> {
        let servers: Result<Vec<_>, ChainError> =
            endpoint.urls.iter().map(|url| server(url)).collect();
        let servers = servers?;
        if servers.is_empty() {
            return Err(ChainError::Unreachable(
                "no RPC address is given".to_owned(),
            ));
        }
        Ok(Self {
            servers: Arc::new(servers),
            chain_id: endpoint.chain_id,
            call_timeout: endpoint.call_timeout,
            poll: endpoint.poll,
        })
    }

    /// Whether one server's word is held against another's.
    pub(super) fn are_several(&self) -> bool {
        self.servers.len() > 1
    }

    /// Whoever answers first in order of health and preference.
    pub(super) async fn any<T, F>(&self, call: impl Fn(RootProvider) -> F) -> Result<T, Fault>
    where
        F: Future<Output = TransportResult<T>>,
    {
        let mut last = None;
        for server in self.in_order() {
            match self.one(&server, &call).await {
                Err(fault) if fault.is_of_the_server() => last = Some(fault),
                answer => return answer,
            }
        }
        Err(last.unwrap_or_else(nobody))
    }

    /// What two servers say alike, or the only one that answers.
    ///
    /// # Errors
    /// [`ChainError::Contradiction`] names both.
    pub(super) async fn agreed<T, F>(
        &self,
        call: impl Fn(RootProvider, BlockId) -> F,
    ) -> Result<T, Fault>
    where
        T: PartialEq + Clone + std::fmt::Debug,
        F: Future<Output = TransportResult<T>>,
    {
        if !self.are_several() {
            return self.any(|provider| call(provider, BlockId::latest())).await;
        }
        let mut contradiction = nobody();
        for round in 0..ROUNDS {
            // At first the newest state of each; where they differ, that of a block which all have.
            let block = match round {
                0 => BlockId::latest(),
                _ => BlockId::number(self.common_height().await?),
            };
            let call = &call;
            let ask = move |server: Arc<Server>| async move {
                match self.one(&server, |provider| call(provider, block)).await {
                    Err(fault) if fault.is_of_the_server() => Err(fault),
                    answer => Ok(answer),
                }
            };
            match self.settle_between(ask, same).await {
                Ok((answer, alone)) => {
                    if alone {
                        debug!("only one RPC server answers; it is believed");
                    }
                    return answer;
                }
                Err(fault @ Fault::Other(ChainError::Contradiction(_))) => contradiction = fault,
                Err(fault) => return Err(fault),
            }
            tokio::time::sleep(self.poll).await;
        }
        Err(contradiction)
    }

    /// Asks one server after the other until `merge` makes one answer of two. A server that is not believed rests.
    /// The flag tells that only one had answered.
    ///
    /// # Errors
    /// What all servers' failures come to, or the contradiction between those that answered.
    pub(super) async fn settle_between<T, F>(
        &self,
        ask: impl Fn(Arc<Server>) -> F,
        merge: impl Fn(&T, &T) -> Result<T, String>,
    ) -> Result<(T, bool), Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let mut heard: Vec<(Arc<Server>, T)> = Vec::new();
        let mut contradiction = None;
        let mut last = None;
        for server in self.in_order() {
            let answer = match ask(Arc::clone(&server)).await {
                Ok(answer) => answer,
                Err(fault) => {
                    last = Some(fault);
                    continue;
                }
            };
            for (other, earlier) in &heard {
                match merge(earlier, &answer) {
                    Ok(merged) => {
                        for (liar, _) in heard.iter().filter(|(one, _)| !Arc::ptr_eq(one, other)) {
                            warn!(server = %liar.name, "this RPC server contradicts two others; it is left alone");
                            liar.rest(REST_MOST);
                        }
                        return Ok((merged, false));
                    }
                    Err(about) => {
                        contradiction =
                            Some(format!("{} and {}: {about}", other.name, server.name));
                    }
                }
            }
            heard.push((server, answer));
        }
        match (contradiction, heard.pop()) {
            (Some(told), _) => Err(Fault::Other(ChainError::Contradiction(told))),
            (None, Some((_, only))) => Ok((only, true)),
            (None, None) => Err(last.unwrap_or_else(nobody)),
        }
    }

    /// Gives a transaction to every server. It is sent when one has taken it; it may be in circulation as long as one of the others
    /// has not answered.
    pub(super) async fn broadcast(&self, raw: &[u8]) -> Result<(), Fault> {
        let mut asked = JoinSet::new();
        for server in self.servers.iter() {
            let (servers, server, raw) = (self.clone(), Arc::clone(server), raw.to_vec());
            asked.spawn(async move {
                let send = |provider: RootProvider| {
                    let raw = raw.clone();
                    async move { provider.send_raw_transaction(&raw).await.map(|_| ()) }
                };
                servers.one(&server, send).await
            });
        }
        let (mut refused, mut unheard) = (None, None);
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(()) | Err(Fault::AlreadyKnown)) => {
                    // The slower ones shall have it, too. Each ends by its time-out.
                    asked.detach_all();
                    return Ok(());
                }
                Ok(Err(Fault::Other(ChainError::WrongChain { .. }))) | Err(_) => {}
                Ok(Err(fault)) if fault.is_of_the_server() => unheard = Some(fault),
                Ok(Err(fault)) => refused = Some(fault),
            }
        }
        Err(unheard.or(refused).unwrap_or_else(nobody))
    }

    /// One call of one server.
    pub(super) async fn one<T, F>(
        &self,
        server: &Server,
        call: impl Fn(RootProvider) -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = TransportResult<T>>,
    {
        self.verify(server).await?;
        let answer = self.within(server, call(server.provider.clone())).await;
        match &answer {
            Err(fault) if fault.is_of_the_server() => server.failed(),
            Ok(_) | Err(_) => server.answered(),
        }
        answer
    }

    /// The height that all answering servers have reached.
    async fn common_height(&self) -> Result<u64, Fault> {
        let ask = |server: Arc<Server>| async move {
            let height = |provider: RootProvider| async move { provider.get_block_number().await };
            self.one(&server, height).await
        };
        let merge = |a: &u64, b: &u64| {
            if a.abs_diff(*b) > MOST_LAG {
                return Err(format!("their newest blocks are {a} and {b}"));
            }
            Ok(*a.min(b))
        };
        self.settle_between(ask, merge)
            .await
            .map(|(height, _)| height)
    }

    async fn verify(&self, server: &Server) -> Result<(), Fault> {
        let expected = self.chain_id;
        if server.health().verified {
            return Ok(());
        }
        let provider = server.provider.clone();
        let found = self
            .within(server, async move { provider.get_chain_id().await })
            .await;
        match found {
            Ok(found) if found == expected => {
                server.health().verified = true;
                Ok(())
            }
            Ok(found) => {
                warn!(server = %server.name, found, expected, "this RPC server serves another chain; it is not used");
                // Nothing else is asked of it; in a while, whether it still does.
                server.rest(REST_MOST);
                Err(Fault::Other(ChainError::WrongChain { expected, found }))
            }
            Err(fault) => {
                server.failed();
                Err(fault)
            }
        }
    }

    async fn within<T>(
        &self,
        server: &Server,
        call: impl Future<Output = TransportResult<T>>,
    ) -> Result<T, Fault> {
        match timeout(self.call_timeout, call).await {
            Ok(answer) => answer.map_err(Fault::from),
            Err(_) => Err(Fault::Other(ChainError::Unreachable(format!(
                "no answer from {} within {:?}",
                server.name, self.call_timeout
            )))),
        }
    }

    /// The healthy ones first, each kind in order of preference.
    fn in_order(&self) -> Vec<Arc<Server>> {
        let now = Instant::now();
        let (well, resting): (Vec<_>, Vec<_>) = self
            .servers
            .iter()
            .cloned()
            .partition(|server| server.health().rests_until.is_none_or(|until| now >= until));
        // One that rests is asked only when nobody else is there: of two, an honest one would else be outnumbered by silence.
        if well.is_empty() { resting } else { well }
    }
}

impl Server {
    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        // Plain values, never left half-written.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self) {
        let mut health = self.health();
        health.failures = 0;
        health.rests_until = None;
    }

    fn failed(&self) {
        let failures = self.health().failures;
        self.rest(REST.saturating_mul(1 << failures.min(6)).min(REST_MOST));
        let mut health = self.health();
        health.failures = failures.saturating_add(1);
        // It may come back as another one.
        health.verified = false;
    }

    fn rest(&self, time: Duration) {
        self.health().rests_until = Some(Instant::now() + time);
    }
}

fn server(url: &str) -> Result<Arc<Server>, ChainError> {
    let bad =
        |why: String| ChainError::Unreachable(format!("{url:?} is not an RPC address: {why}"));
    let parsed: alloy::transports::http::reqwest::Url = url
        .parse()
        .map_err(|why| bad(format!("{why}; write http://host:port")))?;
    if parsed.scheme() != "http" {
        return Err(bad(format!(
            "this build speaks http, not {}",
            parsed.scheme()
        )));
    }
    let name = format!(
        "{}://{}{}",
        parsed.scheme(),
        parsed.host_str().unwrap_or_default(),
        parsed
            .port()
            .map_or(String::new(), |port| format!(":{port}"))
    );
    Ok(Arc::new(Server {
        name,
        provider: RootProvider::new_http(parsed),
        health: Mutex::default(),
    }))
}

/// Two answers are one when they are the same, refusals included.
fn same<T: PartialEq + Clone + std::fmt::Debug>(
    one: &Result<T, Fault>,
    other: &Result<T, Fault>,
) -> Result<Result<T, Fault>, String> {
    if one == other {
        return Ok(one.clone());
    }
    let shown = |answer: &Result<T, Fault>| format!("{answer:?}").chars().take(100).collect();
    let (one, other): (String, String) = (shown(one), shown(other));
    Err(format!("one says {one}, the other {other}"))
}

fn nobody() -> Fault {
    Fault::Other(ChainError::Unreachable("no server is left".to_owned()))
}
