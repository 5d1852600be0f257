//! A program that embeds a consumer: it finds a provider, opens a paid session on a TUN device of its own, fetches nothing itself and
//! prints what happens until the session has been paid for a while.
//!
//! Needs a running network (see the README) and these variables: `WAYFARE_VAULT`, `WAYFARE_HERMES`, `WAYFARE_KEY` (32 bytes of a funded
//! identity, hexadecimal); `WAYFARE_SECONDS` says how long to stay (10 by default), `WAYFARE_LEDGER` where promises are remembered.

#![allow(
    clippy::disallowed_methods,
    reason = "an example reads its few settings from the environment"
)]

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use wayfare_identity::{LocalSigner, SecretKey};
use wayfare_node::{ChannelTun, ConnectOptions, Network, Node, Preset, Query, open_ledger};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("set {name}"));
    let mut network = Network::new(
        Preset::Local,
        variable("WAYFARE_VAULT")?.parse()?,
        variable("WAYFARE_HERMES")?.parse()?,
    );
    if let Ok(rpc) = variable("WAYFARE_RPC") {
        network.rpc = rpc;
    }
    if let Ok(url) = variable("WAYFARE_INDEX_URL") {
        network.index_url = url;
    }
    let key: wayfare_identity::B256 = variable("WAYFARE_KEY")?.parse()?;
    let signer = Arc::new(LocalSigner::new(SecretKey::from_bytes(key.0)?));

    // The ledger is the memory of what was promised: one for each identity, kept for ever.
    let folder = variable("WAYFARE_LEDGER").unwrap_or_else(|_| "embed-consumer.ledger".into());
    let ledger = open_ledger(folder.as_ref())?;
    let node = Node::builder(network)
        .signer(signer)
        .ledger(ledger)
        .build()
        .await?;
    let account = node.account().await?;
    println!(
        "deposit address {}, spendable {}",
        account.deposit_address, account.spendable
    );

    let proposal = node
        .discover(&Query::any())
        .await?
        .into_iter()
        .next()
        .context("nobody sells here")?;
    // One end is the session's, the other is yours: feed it IP packets, read IP packets.
    let (tun, _applications) = ChannelTun::pair(256, 1_420);
    let mut session = node
        .connect(&proposal, Arc::new(tun), &ConnectOptions::default())
        .await?;
    println!("inside the tunnel we are {}", session.network().consumer_v4);

    let seconds = variable("WAYFARE_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(10);
    let until = tokio::time::sleep(Duration::from_secs(seconds));
    tokio::pin!(until);
    let mut closing = false;
    loop {
        tokio::select! {
            () = &mut until, if !closing => {
                closing = true;
                session.close().await;
            }
            event = session.next_event() => match event {
                Some(event) => println!("{event:?}"),
                None => break,
            },
        }
    }
    if let Some(end) = session.ended().await {
        println!("ended: {}; {} promised", end.reason, end.report.promised);
    }
    Ok(())
}
