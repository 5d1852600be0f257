//! A development chain as a program: an EVM behind JSON-RPC, on request with the contracts deployed. It keeps nothing when it
//! stops, and it refuses to run anywhere but where it is told to listen.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::utils::parse_ether;
use alloy::primitives::{Address, U256};
use clap::Parser;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use wayfare_chain::devchain::{DEVELOPER, DevChain, Genesis};
use wayfare_chain::{Delays, Endpoint, Wallet, deploy_token, deploy_vault};
use wayfare_identity::{LocalSigner, SecretKey};

/// An EVM development chain behind ordinary JSON-RPC.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8545")]
    listen: String,
    /// EIP-155 id of the chain.
    #[arg(long, default_value_t = 31_337)]
    chain_id: u64,
    /// Gives an account native coin, in ether; may be repeated. The developer key has 10,000.
    #[arg(long, value_name = "ADDRESS=ETHER", value_parser = parse_fund)]
    fund: Vec<(Address, U256)>,
    /// Deploys the test token and a vault with the developer key.
    #[arg(long)]
    deploy: bool,
    /// Seconds from a consumer's exit request until it is paid.
    #[arg(long, default_value_t = Delays::default().exit.as_secs())]
    exit_delay: u64,
    /// Seconds of notice for a Hermes' collateral.
    #[arg(long, default_value_t = Delays::default().collateral.as_secs())]
    collateral_delay: u64,
    /// Writes what others need to connect, as JSON; without it, it is printed.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("wayfare-devchain: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), String> {
    let listener = TcpListener::bind(&options.listen)
        .await
        .map_err(|why| match why.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!(
                    "{} is in use by another program: stop it, or choose another --listen address",
                    options.listen
                )
            }
            _ => format!("cannot listen on {}: {why}", options.listen),
        })?;
    let address = listener.local_addr().map_err(|why| why.to_string())?;
    let key = SecretKey::from_bytes(DEVELOPER.0).map_err(|why| why.to_string())?;
    let mut funds = vec![(
        key.address(),
        U256::from(10_000) * U256::from(10).pow(U256::from(18)),
    )];
    funds.extend(&options.fund);
    let chain = DevChain::new(&Genesis {
        chain_id: options.chain_id,
        funds,
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(chain.serve(listener, async move {
        let _ = stopped.await;
    }));

    let mut report = json!({
        "rpc": format!("http://{address}"),
        "chain_id": options.chain_id,
        "developer": { "address": key.address(), "key": DEVELOPER },
    });
    if options.deploy {
        let deployed = deploy(&options, &report, key).await?;
        report["token"] = json!(deployed.0);
        report["vault"] = json!(deployed.1);
    }
    announce(&options, &report)?;

    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|why| format!("cannot wait for a signal: {why}"))?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    // Connections that are kept open without a request would hold the server up: two seconds are enough for those with one.
    let _ = stop.send(());
    match tokio::time::timeout(Duration::from_secs(2), served).await {
        Ok(Ok(Err(why))) => Err(format!("the server failed: {why}")),
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn deploy(
    options: &Options,
    report: &Value,
    key: SecretKey,
) -> Result<(Address, Address), String> {
    let url = report["rpc"].as_str().unwrap_or_default();
    let endpoint = Endpoint {
        poll: Duration::from_millis(5),
        ..Endpoint::new(url, options.chain_id)
    };
    let wallet =
        Wallet::new(endpoint, Arc::new(LocalSigner::new(key))).map_err(|why| why.to_string())?;
    let delays = Delays {
        exit: Duration::from_secs(options.exit_delay),
        collateral: Duration::from_secs(options.collateral_delay),
    };
    let token = deploy_token(&wallet)
        .await
        .map_err(|why| format!("the token was not deployed: {why}"))?;
    let vault = deploy_vault(&wallet, token, delays).await;
    Ok((
        token,
        vault.map_err(|why| format!("the vault was not deployed: {why}"))?,
    ))
}

/// Written whole and renamed, so that who waits for the file never reads half of it.
fn announce(options: &Options, report: &Value) -> Result<(), String> {
    let Some(path) = &options.json else {
        return writeln!(std::io::stdout(), "{report:#}")
            .map_err(|why| format!("cannot print: {why}"));
    };
    let partial = path.with_extension("partial");
    std::fs::write(&partial, format!("{report:#}\n"))
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(|why| format!("cannot write {}: {why}", path.display()))
}

fn parse_fund(text: &str) -> Result<(Address, U256), String> {
    let (address, ether) = text
        .split_once('=')
        .ok_or("write ADDRESS=ETHER, for example 0xf39f…2266=1.5")?;
    let address = address
        .parse()
        .map_err(|why| format!("{address:?} is not an address: {why}"))?;
    Ok((
        address,
        parse_ether(ether).map_err(|why| format!("{ether:?} is not an amount of ether: {why}"))?,
    ))
}
