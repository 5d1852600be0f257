//! What is there for all cells: chain, Hermes, web server, doors on port 443, relays, and the
//! identities of a provider and a consumer with money. It refuses to know where the two will be:
//! each cell gives them a home.

use std::path::PathBuf;
use std::time::Duration;

use crate::demo::coins::{Coins, ONE};
use crate::demo::json;
use crate::demo::network::{SERVICES, UPLINK};
use crate::demo::party::{Daemon, Party};
use crate::demo::programs::Programs;
use crate::demo::stage::{PER_GIB, PER_HOUR, UP, make_file, register_hermes, start_web};
use crate::lab::{Background, Lab, wait_for};
use crate::progress::step;

use super::kind::Kind;
use super::programs::{Relays, SELL, provider_settings};
use super::world::{Home, ON_443, ON_443_V6, PAGES, World};

/// More than all runs of all cells can cost.
const PURSE: i128 = 2_000 * ONE;

/// Gas for more transactions than anybody sends here.
const GAS: i128 = ONE;

/// The web server's file: nobody fetches it whole.
const FILE: u64 = 1 << 20;

/// Nobody leaves here.
const EXIT_DELAY: Duration = Duration::from_secs(5);

/// Services and identities.
#[derive(Debug)]
pub struct Services {
    coins: Coins,
    hermes: Party,
    hermes_id: String,
    hermes_run: Daemon,
    /// A web server is one program for each address.
    webs: [Background; 2],
    doors: Background,
    /// None where the programs know no relays.
    pub relays: Option<Relays>,
    provider: Party,
    consumer: Party,
    folder: PathBuf,
}

/// A provider that sells in a home, and the index that tells of it alone.
#[derive(Debug)]
pub struct Selling {
    daemon: Daemon,
    index: Daemon,
}

impl Services {
    /// Starts everything in the middle of the world.
    ///
    /// # Errors
    /// Whatever does not come up, with its last words.
    pub fn start(lab: &Lab, world: &World, programs: &Programs) -> anyhow::Result<Self> {
        step("starting chain, Hermes, web server and relays");
        let at = &world.services;
        let folder = lab.folder();
        let (file, _) = make_file(folder, FILE)?;
        let webs = PAGES.map(|page| start_web(at, programs, &page.to_string(), &file));
        let [web, web6] = webs;
        let webs = [web?, web6?];
        let coins = Coins::start(at, programs, folder, EXIT_DELAY)?;
        let (hermes, hermes_id) = register_hermes(at, programs, &coins, folder)?;
        let mut hermes_run = hermes.start(&["run"])?;
        hermes_run.wait_for("running", UP)?;
        let doors = doors(world)?;
        let relays = Relays::start(&world.relays, programs, folder)?;
        let provider = Party::new("provider", at, programs.provider(), folder)?;
        coins.give_native(&provider.identity, GAS)?;
        let consumer = Party::new("consumer", at, programs.consumer(), folder)?;
        coins.give_native(&consumer.identity, GAS)?;
        let services = Self {
            coins,
            hermes,
            hermes_id,
            hermes_run,
            webs,
            doors,
            relays,
            provider,
            consumer,
            folder: folder.to_owned(),
        };
        services.top_up()?;
        Ok(services)
    }

    fn top_up(&self) -> anyhow::Result<()> {
        let mut consumer = self.consumer.clone();
        self.introduce(&mut consumer, false)?;
        let account = consumer.ask(&["account"])?;
        let deposit = json::text(&account, "deposit_address")?;
        self.coins.make_tokens(&self.coins.purse, PURSE)?;
        self.coins.send_tokens(&deposit, PURSE)?;
        consumer.ask(&["account"]).map(drop)
    }

    /// Tells a party where everything is, from where it has no IPv4 by IPv6.
    fn introduce(&self, party: &mut Party, v6: bool) -> anyhow::Result<()> {
        let url = |service: usize| match v6 {
            true => format!("http://[{}]:443", ON_443_V6[service]),
            false => format!("http://{}:443", ON_443[service]),
        };
        party.set(&[
            ("rpc", &url(0)),
            ("chain_id", &self.coins.chain_id.to_string()),
            ("vault", &self.coins.vault),
            ("hermes", &self.hermes_id),
            ("hermes_url", &url(1)),
            ("index_url", &url(2)),
        ])
    }

    /// The provider sells in this home, and a new index knows nobody else.
    ///
    /// # Errors
    /// When either does not come up.
    pub fn sell(&self, home: &Home, kind: &Kind) -> anyhow::Result<Selling> {
        let mut index = self.hermes.start(&["index"])?;
        index.wait_for("running", UP)?;
        let mut provider = self.provider.clone();
        provider.at = home.host.clone();
        self.introduce(&mut provider, kind.is_v6_only())?;
        let own = provider_settings(home, kind, self.relays.as_ref());
        let own: Vec<(&str, &str)> = own.iter().map(|(key, value)| (*key, &**value)).collect();
        provider.set(&own)?;
        provider.set(&[
            ("country", "NL"),
            ("price_per_gib", &PER_GIB.to_string()),
            ("price_per_hour", &PER_HOUR.to_string()),
            ("uplink", UPLINK),
            ("settle_automatically", "false"),
        ])?;
        let mut daemon = provider.start(SELL)?;
        daemon.wait_for("running", UP)?;
        Ok(Selling { daemon, index })
    }

    /// The consumer in this home.
    ///
    /// # Errors
    /// When its settings cannot be written.
    pub fn consumer(&self, home: &Home, kind: &Kind) -> anyhow::Result<Party> {
        let mut consumer = self.consumer.clone();
        consumer.at = home.host.clone();
        self.introduce(&mut consumer, kind.is_v6_only())?;
        Ok(consumer)
    }

    /// An error once anything that must go on is no more.
    ///
    /// # Errors
    /// As said.
    pub fn must_live(&mut self) -> anyhow::Result<()> {
        self.webs.iter_mut().try_for_each(Background::must_live)?;
        self.doors.must_live()?;
        self.coins.must_live()?;
        self.hermes_run.must_live()?;
        self.relays.as_mut().map_or(Ok(()), Relays::must_live)
    }

    /// Where logs go.
    pub fn folder(&self) -> &PathBuf {
        &self.folder
    }
}

impl Selling {
    /// An error once provider or index is no more.
    ///
    /// # Errors
    /// As said.
    pub fn must_live(&mut self) -> anyhow::Result<()> {
        self.daemon.must_live()?;
        self.index.must_live()
    }

    /// Both stop as a supervisor would stop them.
    ///
    /// # Errors
    /// When one does not.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.daemon.terminate(crate::demo::stage::DOWN)?;
        self.index.terminate(crate::demo::stage::DOWN)
    }
}

fn doors(world: &World) -> anyhow::Result<Background> {
    let ports = [8_545, 7_400, 7_401];
    let mut args = vec!["natlab-door".to_owned()];
    for (at, port) in ports.iter().enumerate() {
        args.push(format!("{}:443={SERVICES}:{port}", ON_443[at]));
        args.push(format!("[{}]:443={SERVICES}:{port}", ON_443_V6[at]));
    }
    let mut doors = world.services.spawn("doors", world.workshop(), args)?;
    wait_for("the doors", UP, || {
        doors.must_live()?;
        Ok(doors.said().contains("open").then_some(()))
    })?;
    Ok(doors)
}
