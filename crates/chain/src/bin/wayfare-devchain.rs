//! A development chain as a program: an EVM behind JSON-RPC, on request with the contracts deployed. It keeps nothing when it
//! stops, and it refuses to run anywhere but where it is told to listen.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use alloy::primitives::{Address, U256};
use clap::Parser;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use wayfare_chain::devchain::{
    DEVELOPER, DevChain, Genesis, deploy_contracts, developer, parse_fund,
};
use wayfare_chain::{Delays, Endpoint};

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
    if let Err(why) = run(Options::parse()).await {
        eprintln!("wayfare-devchain: {why}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn run(options: Options) -> Result<(), String> {
    let listen = &options.listen;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|why| match why.kind() {
            io::ErrorKind::AddrInUse => {
                format!(
                    "{listen} is in use by another program: stop it, or choose another --listen"
                )
            }
            _ => format!("cannot listen on {listen}: {why}"),
        })?;
    let url = format!(
        "http://{}",
        listener.local_addr().map_err(|why| why.to_string())?
    );
    let mut interrupted = signal(SignalKind::interrupt()).map_err(|why| why.to_string())?;
    let mut terminated = signal(SignalKind::terminate()).map_err(|why| why.to_string())?;

    let mut funds = vec![(developer().address(), U256::from(10).pow(U256::from(22)))];
    funds.extend(&options.fund);
    let chain = DevChain::new(&Genesis {
        chain_id: options.chain_id,
        funds,
    });
    let served = tokio::spawn(chain.serve(listener, std::future::pending()));

    let mut report = json!({
        "rpc": url,
        "chain_id": options.chain_id,
        "developer": { "address": developer().address(), "key": DEVELOPER },
    });
    if options.deploy {
        let delays = Delays {
            exit: Duration::from_secs(options.exit_delay),
            collateral: Duration::from_secs(options.collateral_delay),
        };
        let deployed = deploy_contracts(Endpoint::new(url, options.chain_id), delays).await;
        let (token, vault) =
            deployed.map_err(|why| format!("the contracts were not deployed: {why}"))?;
        report["token"] = json!(token);
        report["vault"] = json!(vault);
    }
    announce(&options, &report)?;

    // There is nothing to save: a request that is cut off was nobody's money.
    tokio::select! {
        _ = interrupted.recv() => Ok(()),
        _ = terminated.recv() => Ok(()),
        ended = served => Err(format!("the server stopped: {ended:?}")),
    }
}

/// Written whole and renamed, so that who waits for the file never reads half of it.
fn announce(options: &Options, report: &Value) -> Result<(), String> {
    let Some(path) = &options.json else {
        println!("{report:#}");
        return Ok(());
    };
    let partial = path.with_extension("partial");
    std::fs::write(&partial, format!("{report:#}\n"))
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(|why| format!("cannot write {}: {why}", path.display()))
}
