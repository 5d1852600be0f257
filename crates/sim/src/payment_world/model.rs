//! The model: a world drawn from a seed, run through bad weather, then calmed and put to rest.

use super::{Broken, ConsumerKind, HermesKind, ProviderKind, Setting, TICK, World};
use crate::{Chance, Weather};
use std::collections::BTreeMap;
use std::time::Duration;

use wayfare_payment::IssueRefusal;

/// What a run is to be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Everybody is honest; weather and power are not.
    Weather,
    /// A Hermes that alters its answers (A1).
    LyingHermes,
    /// A provider that inflates its invoices (A2).
    InflatingProvider,
    /// A consumer that stops paying (A3).
    StoppingConsumer,
    /// A consumer that promises more than it has (A4).
    OverPromisingConsumer,
    /// A consumer that takes its deposit back.
    LeavingConsumer,
}

impl Fate {
    /// Every fate.
    pub const ALL: [Self; 6] = [
        Self::Weather,
        Self::LyingHermes,
        Self::InflatingProvider,
        Self::StoppingConsumer,
        Self::OverPromisingConsumer,
        Self::LeavingConsumer,
    ];
}

/// What a run has really exercised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Payments that the Hermes covered.
    pub paid: u64,
    /// Preimages sent, repetitions included.
    pub reveals: u64,
    /// Restarts of anybody.
    pub crashes: u64,
    /// Settlements that the chain showed.
    pub settlements: u64,
    /// Altered answers that a collector refused.
    pub wrong_replies: u64,
    /// Invoices that a payer refused as inflated.
    pub inflated: u64,
    /// Packets served.
    pub packets: u64,
    /// Refusals of the Hermes.
    pub refusals: BTreeMap<IssueRefusal, u64>,
}

impl Outcome {
    /// Sums up runs.
    pub fn add(&mut self, other: &Self) {
        self.paid += other.paid;
        self.reveals += other.reveals;
        self.crashes += other.crashes;
        self.settlements += other.settlements;
        self.wrong_replies += other.wrong_replies;
        self.inflated += other.inflated;
        self.packets += other.packets;
        for (refusal, times) in &other.refusals {
            *self.refusals.entry(*refusal).or_default() += times;
        }
    }
}

/// Runs one world to its end.
///
/// # Errors
/// The first invariant that broke; the seed and the fate are all that is needed to see it again.
pub fn run(fate: Fate, seed: u64) -> Result<Outcome, Broken> {
    let mut chance = Chance::new(seed ^ 0x5eed);
    let setting = draw(fate, &mut chance);
    let (consumers, providers) = (setting.consumers.len(), setting.providers.len());
    let mut world = World::new(setting, seed);
    let sessions = 1 + chance.index(4);
    let storm = 150 + chance.index(300);
    for tick in 0..storm {
        if tick % 20 == 0 && tick / 20 < sessions {
            world.begin(chance.index(consumers), chance.index(providers))?;
        }
        if chance.happens(8) && !world.sessions.is_empty() {
            let session = chance.index(world.sessions.len());
            world.end(session)?;
        }
        world.tick()?;
    }
    rest(&mut world)?;
    Ok(Outcome {
        paid: world.witness.paid,
        reveals: world.witness.reveals,
        crashes: world.witness.crashes,
        settlements: world.witness.settlements,
        wrong_replies: world.witness.wrong_replies,
        inflated: world.witness.inflated,
        packets: world.witness.packets,
        refusals: world.witness.refusals.clone(),
    })
}

/// How long a calmed world may take: longer than the longest pause between tries of anybody.
const REST_MINUTES: u32 = 15;

/// Calms the world, ends all sessions and gives everybody the time to put things right.
fn rest(world: &mut World) -> Result<(), Broken> {
    world.calm();
    for session in 0..world.sessions.len() {
        world.end(session)?;
    }
    let mut last = Ok(());
    for _ in 0..REST_MINUTES {
        world.settle_all()?;
        for _ in 0..Duration::from_secs(60).as_millis() / TICK.as_millis() {
            world.tick()?;
        }
        last = world.check_at_rest();
        if last.is_ok() {
            break;
        }
    }
    last
}

fn draw(fate: Fate, chance: &mut Chance) -> Setting {
    let mut consumers = vec![ConsumerKind::Honest; 1 + chance.index(3)];
    let mut providers = vec![ProviderKind::Honest; 1 + chance.index(3)];
    let mut hermes = HermesKind::Honest;
    match fate {
        Fate::Weather => {}
        Fate::LyingHermes => hermes = HermesKind::Lies,
        Fate::InflatingProvider => providers[0] = ProviderKind::Inflates,
        Fate::StoppingConsumer => consumers[0] = ConsumerKind::StopsPaying,
        Fate::OverPromisingConsumer => consumers[0] = ConsumerKind::OverPromises,
        Fate::LeavingConsumer => consumers[0] = ConsumerKind::Leaves,
    }
    let weather = Weather {
        loss: chance.below(200),
        doubling: chance.below(200),
        delay: Duration::from_millis(chance.below(800)),
    };
    Setting {
        consumers,
        providers,
        hermes,
        weather,
        write_delay: Duration::from_millis(chance.below(300)),
        crashes: chance.below(15),
        deposit: 1_000_000 + u128::from(chance.below(20_000_000)),
        collateral: 100_000_000,
    }
}
