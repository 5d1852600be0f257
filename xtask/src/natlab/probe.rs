//! The prober: what the world sees of a home, found out by asking from two addresses and two ports
//! as RFC 5780 does. It shares no line with the product, and refuses to know what kind of box it is
//! looking at.
//!
//! A question is one datagram, `ask TOKEN FLAGS`; the answer is `got TOKEN ADDRESS`, the address
//! being the asker's as the server saw it. FLAGS is `-`, any of `i` and `p` (answer from the other
//! address, from the other port), `@PORT` (answer to that port of the asker's address), or
//! `+SECONDS` (answer that much later).

mod client;
mod server;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::cli::{Given, Outcome};
use crate::lab::{Background, Namespace, wait_for};
use crate::progress::out;

use super::kind::{Filtering, Mapping, Ports};
use super::world::{PROBED, PROBED6, World};

pub use client::look;

/// The server's UDP ports.
const PORTS: [u16; 2] = [19_302, 19_303];

/// The server's TCP ports: the one that every network lets out, and another.
const TCP: [u16; 2] = [443, 8_080];

/// For the server to listen.
const UP: Duration = Duration::from_secs(10);

/// A look takes a few timeouts of its own.
const LOOK: Duration = Duration::from_secs(60);

/// What was seen of a home.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// IPv4 over UDP; none where nothing comes back.
    pub udp: Option<Udp>,
    /// A connection to TCP port 443 comes about.
    pub tcp443: bool,
    /// One to another port does.
    pub tcp: bool,
    /// Whether unasked IPv6 gets in; none without IPv6.
    pub v6_open: Option<bool>,
    /// The box gives out ports for the asking.
    pub mapper: bool,
}

/// What was seen of UDP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Udp {
    /// `untouched`, `eim`, `adm`, `edm`.
    pub mapping: String,
    /// `eif`, `adf`, `apdf`.
    pub filtering: String,
    /// `kept`, `random`, `sequential`.
    pub ports: String,
    /// The external ports of one socket, by destination: address 1 port 1, address 2 port 1,
    /// address 2 port 2, address 1 port 2.
    pub seen: Vec<u16>,
    /// A datagram to one's own outside comes back in.
    pub hairpin: bool,
    /// A stranger's early datagram spoils the mapping towards it.
    pub race: bool,
}

impl Mapping {
    /// As told.
    pub fn word(self) -> &'static str {
        match self {
            Self::Untouched => "untouched",
            Self::Eim => "eim",
            Self::Adm => "adm",
            Self::Edm => "edm",
        }
    }
}

impl Filtering {
    /// As told.
    pub fn word(self) -> &'static str {
        match self {
            Self::Eif => "eif",
            Self::Adf => "adf",
            Self::Apdf => "apdf",
        }
    }
}

impl Ports {
    /// As told.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Random => "random",
            Self::Sequential => "sequential",
        }
    }
}

/// The server's UDP addresses of one family: `[address][port]`.
fn addresses(hosts: [&str; 2]) -> [[SocketAddr; 2]; 2] {
    hosts.map(|host| {
        PORTS.map(|port| SocketAddr::new(host.parse().expect("a constant address"), port))
    })
}

fn udp4() -> [[SocketAddr; 2]; 2] {
    addresses(PROBED)
}

fn udp6() -> [[SocketAddr; 2]; 2] {
    addresses(PROBED6)
}

/// Starts the server beside the services.
///
/// # Errors
/// When it does not come up.
pub fn serve(world: &World) -> anyhow::Result<Background> {
    let mut server =
        world
            .services
            .spawn("probe-server", world.workshop(), ["natlab-probe", "server"])?;
    wait_for("the probe server", UP, || {
        server.must_live()?;
        Ok(server.said().contains("listening").then_some(()))
    })?;
    Ok(server)
}

/// Looks at the world from `host`, whose nearest box is `gateway`.
///
/// # Errors
/// When the client fails.
pub fn ask(world: &World, host: &Namespace, gateway: Option<String>) -> anyhow::Result<Seen> {
    let workshop = world.workshop().to_string_lossy().into_owned();
    let gateway = gateway.unwrap_or_else(|| "none".to_owned());
    let said = host.capture(&workshop, &["natlab-probe", "client", &gateway], LOOK)?;
    let text = said.stdout_if_ok("natlab-probe client")?;
    let last = text.trim_end().lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("the prober said `{last}`"))
}

/// Whether a mapping of `host` that says nothing is still there after these many seconds.
///
/// # Errors
/// When the client fails.
pub fn outlives(world: &World, host: &Namespace, seconds: u32) -> anyhow::Result<bool> {
    let workshop = world.workshop().to_string_lossy().into_owned();
    let seconds = seconds.to_string();
    let said = host.capture(&workshop, &["natlab-probe", "life", &seconds], LOOK)?;
    let text = said.stdout_if_ok("natlab-probe life")?;
    text.trim()
        .parse()
        .with_context(|| format!("the prober said `{text}`"))
}

/// Runs the hidden subcommand: `server`, `client GATEWAY`, or `life SECONDS`.
///
/// # Errors
/// When a socket cannot be had.
pub fn run(given: &Given) -> anyhow::Result<Outcome> {
    match given
        .rest
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["server"] => server::run(),
        ["client", gateway] => {
            let seen = look(gateway.parse().ok())?;
            out(&serde_json::to_string(&seen)?);
            Ok(Outcome::Passed)
        }
        ["life", seconds] => {
            let seconds = seconds.parse().context("no number of seconds")?;
            out(&client::outlives(seconds)?.to_string());
            Ok(Outcome::Passed)
        }
        _ => anyhow::bail!("natlab-probe takes server, client GATEWAY or life SECONDS"),
    }
}
