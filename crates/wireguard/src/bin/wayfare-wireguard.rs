//! A plain WireGuard peer as a program: opens a TUN device, reads an ordinary `.conf` and carries packets until it is
//! told to stop. It refuses to give the device addresses or routes: `ip` does.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use wayfare_wireguard::{CancellationToken, TunDevice, TunOptions, WireGuard};

/// A plain WireGuard peer. Needs CAP_NET_ADMIN.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// A `.conf` as `wg setconf` or `wg-quick` takes it; addresses and routes in it are not applied.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Name of the TUN device to make.
    #[arg(long, value_name = "NAME", default_value = "wfwg0")]
    interface: String,
    /// Largest inner packet, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1_420)]
    mtu: usize,
    /// Threads that carry packets, each for peers of its own; needs peers with single addresses, and CAP_BPF.
    /// Unless given, as many as there are cores; 1 with fewer than four cores or two such peers.
    #[arg(long, value_name = "NUMBER")]
    lanes: Option<usize>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    // One thread carries the packets of a lane: nothing is gained by moving them between cores.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(|error| format!("cannot start: {error}"))
        .and_then(|runtime| runtime.block_on(run(&options)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("wayfare-wireguard: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<(), String> {
    let peer = read(&options.config)?;
    let lanes = options.lanes.unwrap_or_else(|| peer.lanes_worthwhile());
    let queues = TunOptions {
        queues: lanes,
        ..TunOptions::default()
    };
    let device = TunDevice::create_with(&options.interface, options.mtu, queues);
    let device = device.map_err(|error| error.to_string())?;
    let lanes = peer.into_lanes(device, lanes).await;
    let lanes = lanes.map_err(|error| error.to_string())?;
    if let Some(why) = lanes.single() {
        eprintln!("one lane carries everything: {why}");
    }
    let stop = CancellationToken::new();
    let mut ended = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let stopper = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = ended.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        stopper.cancel();
    });
    println!("ready");
    let outcome = lanes.run(stop).await;
    outcome.map(drop).map_err(|error| error.to_string())
}

fn read(file: &Path) -> Result<WireGuard, String> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    text.parse()
        .map_err(|error| format!("{}: {error}", file.display()))
}
