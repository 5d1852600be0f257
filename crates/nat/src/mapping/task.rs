//! The task that keeps a port mapped: it looks for a router that grants, holds what was granted, and begins anew when that is
//! over. It refuses to hurry: a router that says no is asked again after minutes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::announcements::Announcements;
use super::epoch::Epoch;
use super::gateway::Inside;
use super::speaker::Speaker;
use super::undo::Held;
use super::{Granted, MapperConfig, Protocol, Refusal};

/// How long nobody is asked again, when nobody has granted anything.
const BACK_OFF: [Duration; 3] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
];
/// How often we look whether we still have the same router and address.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often a router is asked whether it still knows what it granted.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// UPnP has no clock that tells of a restart, so what it granted is asked for again.
const UPNP_AGAIN: Duration = Duration::from_secs(10 * 60);
/// Nobody is made to ask more often, whatever a router says: also the shortest time between renewals.
const BREATH: Duration = Duration::from_secs(1);

/// Why a mapping is no longer held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// The router does not grant it any more.
    Lost,
    /// We are elsewhere.
    Moved,
}

/// The task.
pub(super) struct Task {
    config: MapperConfig,
    on_change: watch::Sender<Option<SocketAddr>>,
    moved: Arc<Notify>,
    announcements: Announcements,
    /// What was told last about having no mapping: nothing is told twice.
    told: String,
}

impl Task {
    pub(super) fn new(
        config: MapperConfig,
        on_change: watch::Sender<Option<SocketAddr>>,
        moved: Arc<Notify>,
    ) -> Self {
        Self {
            announcements: Announcements::listen(),
            config,
            on_change,
            moved,
            told: String::new(),
        }
    }

    /// Runs until the other end of `stop` is gone, and gives back what it has. So does dropping this future, which blocks.
    pub(super) async fn run(mut self, stop: oneshot::Receiver<()>) {
        let mut held = None;
        tokio::select! {
            // Never sent to: it ends when the other end is dropped.
            _ = stop => {}
            () = self.keep(&mut held) => {}
        }
        self.publish(None);
        give_back(&mut held).await;
    }

    async fn keep(&mut self, held: &mut Option<Held>) {
        let mut failures = 0;
        loop {
            let inside = Inside::look(self.config.mark).await;
            let over = match find(&self.config, inside).await {
                Ok((speaker, granted, inside)) => {
                    failures = 0;
                    let over = self.hold(speaker, granted, inside, held).await;
                    self.publish(None);
                    give_back(held).await;
                    over
                }
                Err(why) => {
                    self.tell(&why);
                    let wait = BACK_OFF[failures.min(BACK_OFF.len() - 1)];
                    failures += 1;
                    match timeout(wait, self.moved_from(inside)).await {
                        Ok(()) => Over::Moved,
                        Err(_) => Over::Lost,
                    }
                }
            };
            match over {
                Over::Moved => failures = 0,
                Over::Lost => {}
            }
            // A link that goes up and down does not make us run in circles.
            sleep(BREATH).await;
        }
    }

    /// Keeps a mapping until it is over.
    async fn hold(
        &mut self,
        mut speaker: Speaker,
        mut granted: Granted,
        inside: Inside,
        held: &mut Option<Held>,
    ) -> Over {
        *held = Some(Held::new(speaker.undo(&self.config, granted.external)));
        self.told.clear();
        let seconds = granted.lifetime.as_secs();
        tracing::info!(protocol = %speaker.protocol(), seconds, "the router forwards a port to this node");
        tracing::debug!(external = %granted.external, "mapped");
        self.publish(Some(granted.external.into()));
        let mut ends = Instant::now() + granted.lifetime;
        let mut renew = soon(&speaker, granted.lifetime);
        let mut check = interval(CHECK_EVERY);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        check.reset();
        loop {
            let ask_again = tokio::select! {
                () = self.moved_from(Some(inside)) => return Over::Moved,
                () = sleep_until(renew) => true,
                heard = self.announcements.next(inside) => is_broken(granted.epoch, Some(heard)),
                _ = check.tick() => is_broken(granted.epoch, speaker.epoch().await),
            };
            if !ask_again {
                continue;
            }
            let had = granted.external;
            match speaker.map(&self.config, Some(had)).await {
                Ok(again) => {
                    tracing::debug!(seconds = again.lifetime.as_secs(), "the mapping is renewed");
                    granted = again;
                    self.renewed(&speaker, had, granted, held).await;
                    ends = Instant::now() + granted.lifetime;
                    renew = soon(&speaker, granted.lifetime);
                }
                Err(refusal @ (Refusal::NotPublic(_) | Refusal::Refused(_))) => {
                    tracing::debug!(%refusal, "the mapping is not renewed");
                    return Over::Lost;
                }
                Err(Refusal::Silent | Refusal::OtherVersion) if Instant::now() + BREATH >= ends => {
                    return Over::Lost;
                }
                Err(Refusal::Silent | Refusal::OtherVersion) => {
                    renew = soon(&speaker, ends.saturating_duration_since(Instant::now()));
                }
            }
            // Whoever calls out in the router's name all day makes us ask once in a while, and no more.
            sleep(BREATH).await;
        }
    }

    /// What gives the mapping back is another, if it is at another port now.
    async fn renewed(
        &self,
        speaker: &Speaker,
        had: std::net::SocketAddrV4,
        granted: Granted,
        held: &mut Option<Held>,
    ) {
        let newer = Held::new(speaker.undo(&self.config, granted.external));
        let mut older = held.replace(newer);
        // PCP and NAT-PMP know one mapping of our port, whatever it is outside.
        let by_port = speaker.protocol() == Protocol::Upnp;
        if by_port && had.port() != granted.external.port() {
            give_back(&mut older).await;
        } else if let Some(older) = older {
            older.forget();
        }
        self.publish(Some(granted.external.into()));
    }

    /// Waits until router or address are others than these.
    async fn moved_from(&self, inside: Option<Inside>) {
        loop {
            // Either is only a reason to look.
            let _ = timeout(LOOK_EVERY, self.moved.notified()).await;
            if Inside::look(self.config.mark).await != inside {
                return;
            }
        }
    }

    fn publish(&self, now: Option<SocketAddr>) {
        self.on_change.send_if_modified(|was| {
            let changed = *was != now;
            *was = now;
            changed
        });
    }

    fn tell(&mut self, why: &str) {
        if self.told != why {
            tracing::info!(why, "the router forwards no port to this node");
            why.clone_into(&mut self.told);
        }
    }
}

/// Asks in all languages at once, and takes the first good grant; if there is none, says why in a sentence. One after the other
/// is asked to map: what nobody needs is not mapped.
async fn find(
    config: &MapperConfig,
    inside: Option<Inside>,
) -> Result<(Speaker, Granted, Inside), String> {
    let inside = inside.ok_or("there is no default route of IPv4")?;
    let ask = |protocol| async move { (protocol, Speaker::find(protocol, inside).await) };
    let asked = config.protocols.iter().copied().map(ask);
    let mut asked: FuturesUnordered<_> = asked.collect();
    let mut refusals = Vec::new();
    while let Some((protocol, found)) = asked.next().await {
        let granted = match found {
            Ok(mut speaker) => {
                let granted = speaker.map(config, None).await;
                granted.map(|granted| (speaker, granted, inside))
            }
            Err(refusal) => Err(refusal),
        };
        match granted {
            Ok(granted) => return Ok(granted),
            Err(refusal) => refusals.push((protocol, refusal)),
        }
    }
    refusals.sort_by_key(|(protocol, _)| *protocol);
    let line = |(protocol, refusal): &(Protocol, Refusal)| format!("{protocol}: {refusal}");
    Err(refusals.iter().map(line).collect::<Vec<_>>().join("; "))
}

async fn give_back(held: &mut Option<Held>) {
    if let Some(held) = held.take() {
        held.give_back().await;
    }
}

fn is_broken(was: Option<Epoch>, is: Option<Epoch>) -> bool {
    matches!((was, is), (Some(was), Some(is)) if was.is_broken_by(is))
}

/// When to renew what lasts so long: at half of it.
fn soon(speaker: &Speaker, lifetime: Duration) -> Instant {
    let half = (lifetime / 2).max(BREATH);
    let after = match speaker.protocol() {
        Protocol::Pcp | Protocol::NatPmp => half,
        Protocol::Upnp => half.min(UPNP_AGAIN),
    };
    Instant::now() + after
}
