//! `swarm`: many consumers in one process, for the bench of one provider that serves them all. Each
//! has a key, an address inside the tunnel, and an address and a UDP port outside of its own; what
//! goes through their tunnels is the kernel's own TCP, from `swarm source` to `swarm sink`.
//!
//! It refuses to be a product: no payments, no discovery, and addresses that are fixed. The
//! namespace it runs in must route [`plan`]'s networks to itself (`ip route add local … dev lo`).
#![allow(
    clippy::disallowed_methods,
    reason = "a program of the bench: it reads the clock and its own command line"
)]

#[path = "swarm/aead.rs"]
mod aead;
#[path = "swarm/consumers.rs"]
mod consumers;
#[path = "swarm/plan.rs"]
mod plan;
#[path = "swarm/streams.rs"]
mod streams;

use anyhow::{Context as _, bail};

const USAGE: &str = "\
swarm peers COUNT                              print the provider's [Peer] sections
swarm consumers COUNT KEY ADDRESS:PORT DEVICE  be the consumers of the provider with that key
swarm source ADDRESS:PORT CONGESTION           send to whoever connects, without end
swarm sink COUNT ADDRESS:PORT SECONDS          receive by COUNT streams, one from each consumer
swarm aead                                     what the bare cipher costs a byte";

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // One thread: the load must not take more of the machine with more consumers.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    match words.as_slice() {
        ["aead"] => {
            println!("{}", aead::measure()?);
            Ok(())
        }
        ["peers", count] => {
            println!("{}", plan::peers(number(count)?));
            Ok(())
        }
        ["consumers", count, key, to, device] => {
            let key = plan::public_key(key)?;
            let to = to.parse().context("the provider's address is none")?;
            let swarm = consumers::run(number(count)?, key, to, device);
            tokio::task::LocalSet::new().block_on(&runtime, swarm)
        }
        ["source", at, congestion] => {
            let at = at.parse().context("the source's address is none")?;
            tokio::task::LocalSet::new().block_on(&runtime, streams::source(at, congestion))
        }
        ["sink", count, to, seconds] => {
            let to = to.parse().context("the source's address is none")?;
            let seconds = seconds.parse().context("SECONDS is no number")?;
            let sink = streams::sink(number(count)?, to, seconds);
            println!("{}", tokio::task::LocalSet::new().block_on(&runtime, sink)?);
            Ok(())
        }
        _ => bail!("usage:\n{USAGE}"),
    }
}

fn number(word: &str) -> anyhow::Result<u16> {
    let number = word.parse().context("COUNT is no number")?;
    if !(1..=plan::MOST).contains(&number) {
        bail!("COUNT is 1 to {}", plan::MOST);
    }
    Ok(number)
}
