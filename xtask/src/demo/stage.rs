//! The network on its feet: chain, Hermes, index, web server and provider running, consumers with
//! money and nothing else. It refuses to tell the story: `demo` and `crash` do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::lab::{Background, Lab, Leftovers, Namespace, Snapshot, wait_for};
use crate::process::{SHORT, command, output};
use crate::progress::step;

use super::coins::{Coins, ONE};
use super::network::{Network, PORT, PROVIDER, RELAY, RELAY_PORT, SERVICES, UPLINK};
use super::party::{Daemon, Party};
use super::programs::Programs;
use super::{json, web};

/// For a daemon to come up: keys are unlocked, a ledger opened, a chain asked.
pub const UP: Duration = Duration::from_secs(60);

/// For a daemon to go: the last payments, then everything undone.
pub const DOWN: Duration = Duration::from_secs(45);

/// For something on the network that takes a few round trips.
pub const SOON: Duration = Duration::from_secs(30);

/// What stands behind the Hermes' promises.
pub const COLLATERAL: i128 = 1_000 * ONE;

/// What each consumer is topped up with.
pub const TOPUP: i128 = 5 * ONE;

/// The price of a gibibyte: half a token.
pub const PER_GIB: i128 = ONE / 2;

/// The price of an hour: 0.06 token. A second of it is worth 35 KB of traffic.
pub const PER_HOUR: i128 = ONE / 1_000 * 60;

/// Gas for more transactions than anybody sends here.
const GAS: i128 = ONE;

/// Everybody, and the lab that holds them.
#[derive(Debug)]
pub struct Stage {
    /// Namespaces and cables.
    pub network: Network,
    /// The chain.
    pub coins: Coins,
    /// The Hermes and its identity, which owns and operates it.
    pub hermes: Party,
    /// Promises.
    pub hermes_run: Daemon,
    /// Proposals.
    pub index: Daemon,
    /// The provider.
    pub provider: Party,
    /// Its daemon.
    pub provider_run: Daemon,
    /// The relay on the way to the provider, where there is one.
    pub relay: Option<(Party, Daemon)>,
    /// The consumers, nobody connected.
    pub consumers: Vec<Consumer>,
    /// SHA-256 of what `/file` answers, in hex.
    pub sha256: String,
    web: Background,
    untouched: Vec<(Namespace, Snapshot)>,
}

/// A consumer and where its money goes in.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// Its program, keys and state.
    pub party: Party,
    /// Where anybody may send it tokens.
    pub deposit_address: String,
}

impl Stage {
    /// Sets everything up in `lab`.
    ///
    /// # Errors
    /// Whatever does not come up, with its last words.
    pub fn set(
        lab: &Lab,
        programs: &Programs,
        consumers: u8,
        file_bytes: u64,
        exit_delay: Duration,
    ) -> anyhow::Result<Self> {
        step("making the internet, a provider, its LAN, and consumers");
        let network = Network::build(lab, consumers)?;
        Self::set_in(network, lab, programs, file_bytes, exit_delay, None)
    }

    /// As [`Stage::set`], with a provider that is reached through a relay of its own operator only,
    /// which asks for `per_gib`.
    ///
    /// # Errors
    /// As [`Stage::set`].
    pub fn set_behind_relay(
        lab: &Lab,
        programs: &Programs,
        consumers: u8,
        file_bytes: u64,
        exit_delay: Duration,
        per_gib: i128,
    ) -> anyhow::Result<Self> {
        step("making the internet, a provider, its LAN, a relay, and consumers");
        let mut network = Network::build(lab, consumers)?;
        network.only_by_relay(lab)?;
        Self::set_in(
            network,
            lab,
            programs,
            file_bytes,
            exit_delay,
            Some(per_gib),
        )
    }

    fn set_in(
        network: Network,
        lab: &Lab,
        programs: &Programs,
        file_bytes: u64,
        exit_delay: Duration,
        toll: Option<i128>,
    ) -> anyhow::Result<Self> {
        let homes = network.consumers.iter().chain([&network.provider]);
        let homes = homes.chain(&network.relay);
        let look = |home: &Namespace| anyhow::Ok((home.clone(), Snapshot::inside(home)?));
        let untouched = homes.map(look).collect::<anyhow::Result<Vec<_>>>()?;
        let (file, sha256) = make_file(lab.folder(), file_bytes)?;
        let listen = format!("{SERVICES}:80");
        let web = start_web(&network.internet, programs, &listen, &file)?;

        step("starting a chain and deploying token and vault");
        let coins = Coins::start(&network.internet, programs, lab.folder(), exit_delay)?;

        step("registering a Hermes, with collateral; starting it and the index");
        let (hermes, id) = register_hermes(&network.internet, programs, &coins, lab.folder())?;
        let mut hermes_run = hermes.start(&["run"])?;
        let mut index = hermes.start(&["index"])?;
        hermes_run.wait_for("running", UP)?;
        index.wait_for("running", UP)?;

        let everybody = Everybody {
            coins: &coins,
            hermes: &id,
        };
        let (mut relay, mut reached) = (None, ("advertise", format!("{PROVIDER}:{PORT}")));
        if let (Some(home), Some(per_gib)) = (&network.relay, toll) {
            step("starting a relay that asks for a price");
            let party = everybody.relay(home, programs, lab.folder(), per_gib)?;
            let mut run = party.start(&["relay"])?;
            let told = run.wait_for("relaying", UP)?;
            reached = ("relays", json::text(&told, "relay")?);
            relay = Some((party, run));
        }

        step("starting the provider");
        let (key, value) = &reached;
        let provider =
            everybody.provider(&network.provider, programs, lab.folder(), (key, value))?;
        let mut provider_run = provider.start(&["run"])?;
        provider_run.wait_for("running", UP)?;

        let mut invited = Vec::new();
        for (at, home) in network.consumers.iter().enumerate() {
            let name = format!("consumer{}", at + 1);
            invited.push(everybody.consumer(&name, home, programs, lab.folder())?);
        }
        Ok(Self {
            network,
            coins,
            hermes,
            hermes_run,
            index,
            provider,
            provider_run,
            relay,
            consumers: invited,
            sha256,
            web,
            untouched,
        })
    }

    /// An error once anything that must go on is no more.
    ///
    /// # Errors
    /// As said.
    pub fn must_live(&mut self) -> anyhow::Result<()> {
        self.web.must_live()?;
        self.coins.must_live()?;
        self.index.must_live()?;
        self.hermes_run.must_live()?;
        if let Some((_, relay)) = &mut self.relay {
            relay.must_live()?;
        }
        self.provider_run.must_live()
    }

    /// Ends provider, Hermes and index as a supervisor would, lets the Hermes prove its ledger, and
    /// says what they and the consumers left in their namespaces.
    ///
    /// # Errors
    /// When one does not end well, or the ledger does not balance.
    pub fn strike(mut self) -> anyhow::Result<Vec<Leftovers>> {
        self.provider_run.terminate(DOWN)?;
        if let Some((_, relay)) = &mut self.relay {
            relay.terminate(DOWN)?;
        }
        self.hermes_run.terminate(DOWN)?;
        self.index.terminate(DOWN)?;
        let told = self.hermes.ask(&["check"]).context("the Hermes' ledger")?;
        step(&format!(
            "the Hermes' ledger of {} receipts holds every invariant",
            told["receipts"]
        ));
        let look = |(home, before): &(Namespace, Snapshot)| {
            anyhow::Ok(Snapshot::inside(home)?.since(before))
        };
        self.untouched.iter().map(look).collect()
    }
}

impl Consumer {
    /// Asks the web server for a path, as this consumer, and returns the answer. None when there
    /// is no answer within the time.
    ///
    /// # Errors
    /// When `curl` cannot be run.
    pub fn get(&self, path: &str, limit: Duration) -> anyhow::Result<Option<String>> {
        let url = format!("http://{SERVICES}{path}");
        let seconds = limit.as_secs().max(1).to_string();
        let args = ["-sS", "--fail", "--max-time", &seconds, &url];
        let said = self.party.at.capture("curl", &args, limit + SHORT)?;
        Ok(said.status.success().then_some(said.stdout))
    }
}

/// What all configurations have in common.
struct Everybody<'a> {
    coins: &'a Coins,
    hermes: &'a str,
}

impl Everybody<'_> {
    fn introduce(&self, party: &mut Party) -> anyhow::Result<()> {
        party.set(&[
            ("rpc", &self.coins.rpc),
            ("chain_id", &self.coins.chain_id.to_string()),
            ("vault", &self.coins.vault),
            ("hermes", self.hermes),
            ("hermes_url", &format!("http://{SERVICES}:7400")),
            ("index_url", &format!("http://{SERVICES}:7401")),
        ])
    }

    fn provider(
        &self,
        home: &Namespace,
        programs: &Programs,
        folder: &Path,
        reached: (&str, &str),
    ) -> anyhow::Result<Party> {
        let mut provider = Party::new("provider", home, programs.provider(), folder)?;
        self.introduce(&mut provider)?;
        provider.set(&[
            ("listen", &format!("0.0.0.0:{PORT}")),
            reached,
            ("country", "NL"),
            ("price_per_gib", &PER_GIB.to_string()),
            ("price_per_hour", &PER_HOUR.to_string()),
            ("uplink", UPLINK),
            ("settle_automatically", "false"),
        ])?;
        self.coins.give_native(&provider.identity, GAS)?;
        Ok(provider)
    }

    fn relay(
        &self,
        home: &Namespace,
        programs: &Programs,
        folder: &Path,
        per_gib: i128,
    ) -> anyhow::Result<Party> {
        let mut relay = Party::new("relay", home, programs.provider(), folder)?;
        self.introduce(&mut relay)?;
        relay.set(&[
            ("listen", &format!("0.0.0.0:{RELAY_PORT}")),
            ("advertise", &format!("{RELAY}:{RELAY_PORT}")),
            ("relay_price_per_gib", &per_gib.to_string()),
            ("settle_automatically", "false"),
        ])?;
        self.coins.give_native(&relay.identity, GAS)?;
        Ok(relay)
    }

    fn consumer(
        &self,
        name: &str,
        home: &Namespace,
        programs: &Programs,
        folder: &Path,
    ) -> anyhow::Result<Consumer> {
        let mut party = Party::new(name, home, programs.consumer(), folder)?;
        self.introduce(&mut party)?;
        self.coins.give_native(&party.identity, GAS)?;
        let account = party.ask(&["account"])?;
        let deposit_address = json::text(&account, "deposit_address")?;
        Ok(Consumer {
            party,
            deposit_address,
        })
    }
}

/// A Hermes with its collateral, that is to run at `internet`; and its id.
///
/// # Errors
/// When the chain refuses.
pub(crate) fn register_hermes(
    internet: &Namespace,
    programs: &Programs,
    coins: &Coins,
    folder: &Path,
) -> anyhow::Result<(Party, String)> {
    let mut hermes = Party::new("hermes", internet, programs.hermes(), folder)?;
    hermes.set(&[
        ("rpc", &coins.rpc),
        ("chain_id", &coins.chain_id.to_string()),
        ("vault", &coins.vault),
        ("listen", &format!("{SERVICES}:7400")),
        ("index_listen", &format!("{SERVICES}:7401")),
    ])?;
    coins.give_native(&hermes.identity, GAS)?;
    coins.make_tokens(&hermes.identity, COLLATERAL)?;
    let collateral = COLLATERAL.to_string();
    let told = hermes.ask(&["init", "--collateral", &collateral])?;
    let id = json::text(&told, "hermes")?;
    hermes.set(&[("hermes", &id)])?;
    Ok((hermes, id))
}

/// A file of this size whose bytes do not repeat, and its SHA-256 by `sha256sum`.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn make_file(folder: &Path, bytes: u64) -> anyhow::Result<(PathBuf, String)> {
    use std::io::Write as _;
    let path = folder.join("file");
    let write = || {
        let mut file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(&path)?);
        // xorshift64: the point is that a lost, doubled or swapped piece is seen.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..bytes / 8 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            file.write_all(&state.to_le_bytes())?;
        }
        file.flush()
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    let sum = sha256(&path)?;
    Ok((path, sum))
}

/// SHA-256 of a file, by the system's own tool.
///
/// # Errors
/// When it cannot be read.
pub fn sha256(file: &Path) -> anyhow::Result<String> {
    let said = output(&mut command("sha256sum", [file]), SHORT)?;
    let sum = said.split_whitespace().next();
    sum.map(str::to_owned).context("sha256sum said nothing")
}

/// The web server at [`SERVICES`], which answers with `file`.
///
/// # Errors
/// When it does not come up.
pub(crate) fn start_web(
    internet: &Namespace,
    programs: &Programs,
    listen: &str,
    file: &Path,
) -> anyhow::Result<Background> {
    let file = file.to_string_lossy();
    let args = ["web", "--listen", listen, "--file", &file];
    // Each has a log of its own: that of another one says `listening`, too.
    let log = format!("web-{}", listen.replace([':', '[', ']', '.'], "-"));
    let mut web = internet.spawn(&log, &programs.workshop, args)?;
    wait_for("the web server", SOON, || {
        web.must_live()?;
        Ok(web.said().contains("listening").then_some(()))
    })?;
    let page = internet.output("curl", &["-sS", &format!("http://{listen}/page")])?;
    anyhow::ensure!(page == web::PAGE, "the web server answers `{page}`");
    Ok(web)
}
