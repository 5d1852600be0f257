//! `idlers`: many nodes in one process that are attached to one relay and do nothing else, for the bench of the relay's memory.
//! Each has a key, a loopback address and a socket of its own, and runs the product's own swarm over the product's own QUIC
//! endpoint: what the relay keeps for it is what it keeps for anybody.
//!
//! It refuses to call, to be called and to carry anything.
#![allow(
    clippy::disallowed_methods,
    reason = "a program of the bench: it reads the clock and its own command line"
)]

#[path = "idlers/ground.rs"]
mod ground;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::sync::{Semaphore, mpsc};
use wayfare_identity::{NodeAddress, NodeKey};
use wayfare_nat::{Swarm, SwarmConfig, SwarmEvent};

use ground::Nook;

const USAGE: &str = "idlers FIRST COUNT NODE@ADDRESS:PORT\n\
    attaches the nodes FIRST to FIRST+COUNT-1; says `attached COUNT` when all were, and then `here N`\n\
    whenever one loses the relay or has it again; until it is ended";

/// Nodes that shake hands at a time: the relay takes 64 before it asks whether they are real.
const AT_ONCE: usize = 32;

/// For one node: a relay on the same machine answers, but two cores do all of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// One process has addresses and files for so many.
const MOST: u32 = 5_000;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [first, count, relay] = words.as_slice() else {
        anyhow::bail!("usage:\n{USAGE}");
    };
    let first: u32 = first.parse().context("FIRST is no number")?;
    let count: u32 = count.parse().context("COUNT is no number")?;
    ensure!((1..=MOST).contains(&count), "COUNT is 1 to {MOST}");
    let relay: NodeAddress = relay.parse().context("the relay is NODE@ADDRESS:PORT")?;
    // One thread: the load must not take more of the machine with more nodes.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    runtime.block_on(run(first, count, relay))
}

async fn run(first: u32, count: u32, relay: NodeAddress) -> anyhow::Result<()> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let (attached, mut attachments) = mpsc::channel(AT_ONCE);
    let (told, mut changes) = mpsc::channel(AT_ONCE);
    for number in first..first + count {
        let (turns, attached, told) = (Arc::clone(&turns), attached.clone(), told.clone());
        tokio::spawn(async move {
            // Nobody closes the turns.
            let Ok(turn) = turns.acquire().await else {
                return;
            };
            let started = tokio::time::timeout(PATIENCE, attach(number, relay)).await;
            drop(turn);
            let started = started.unwrap_or_else(|_| Err(anyhow::anyhow!("no relay for {number}")));
            let (kept, broken) = match started {
                Ok(node) => (Some(node), None),
                Err(error) => (None, Some(error)),
            };
            let _ = attached.send(broken).await;
            if let Some(node) = kept {
                node.idle(told).await;
            }
        });
    }
    // Changes wait meanwhile: who loses the relay before all have had it has it again by the end.
    for _ in 0..count {
        if let Some(Some(error)) = attachments.recv().await {
            return Err(error);
        }
    }
    println!("attached {count}");
    let mut here = i64::from(count);
    while let Some(change) = changes.recv().await {
        here += change;
        println!("here {here}");
    }
    Ok(())
}

/// A node that is attached.
struct Idler {
    _swarm: Swarm,
    events: mpsc::Receiver<SwarmEvent>,
}

async fn attach(number: u32, relay: NodeAddress) -> anyhow::Result<Idler> {
    let mut seed = [9; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    let key = NodeKey::from_seed(seed);
    // Networks of 250 nodes: 127.1.0.1 is the first.
    let [_, a, b, c] = (0x7f01_0000 + (number / 250) * 256 + number % 250 + 1).to_be_bytes();
    let (ground, incoming) = Nook::open(Ipv4Addr::new(127, a, b, c), &key)?;
    let config = SwarmConfig {
        key,
        relay: None,
        dht: None,
    };
    let (swarm, mut events) = Swarm::start(config, Arc::new(ground), incoming)?;
    swarm.attach(relay).await;
    while let Some(event) = events.recv().await {
        if matches!(event, SwarmEvent::Attached(_)) {
            let node = Idler {
                _swarm: swarm,
                events,
            };
            return Ok(node);
        }
    }
    anyhow::bail!("the swarm of {number} has stopped")
}

impl Idler {
    /// Until the end, telling when the relay goes and comes.
    async fn idle(mut self, told: mpsc::Sender<i64>) {
        while let Some(event) = self.events.recv().await {
            let change = match event {
                SwarmEvent::Attached(_) => 1,
                SwarmEvent::Detached(_) => -1,
                _ => continue,
            };
            if told.send(change).await.is_err() {
                return;
            }
        }
    }
}
