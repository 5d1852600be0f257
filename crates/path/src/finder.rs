//! One finder per peer: it tries the pairs of addresses, keeps the best path alive, and looks for a better one.
//! It refuses to own a socket or a clock, to believe a peer's list of addresses, and to grow: at most 64 pairs, 512
//! waiting datagrams and 64 waiting events, together below 100 KiB.
//!
//! **A round** of punching begins with openers, datagrams whose TTL lets them pass our own NATs and die before they
//! reach the peer's. They make our NATs expect the peer, and no NAT of the peer remembers them as something unwanted
//! (which Linux NATs that accept input do, and then choose another port). Then pings go to all pairs, quickly at first.
//! Who begins first holds its full pings back for a while, as its openers may be all that is needed.
//!
//! **The caller decides.** It chooses the best tier that answers, then the shorter round trip, and says so with a flag
//! in its pings; the callee follows. Both keep the chosen path alive with heartbeats, and go to the fallback by
//! themselves when several in a row stay unanswered. Then, and after a change of network, both punch again: who notices
//! asks the other with another flag, over the fallback.
//!
//! **A birthday punch** follows if one NAT is random and the other is not: the hard side opens 256 sockets toward the
//! one address of the easy side, the easy side sends to 2,048 random ports of the hard side's attested IP. The chance
//! that none meet is (1 − 256/64512)^2048, or 0.03 %.

mod birthday;
mod boundary;
mod choice;
mod inbound;
mod outbound;
mod pair;
mod replay;
mod round;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::candidate::{Tier, canonical};
use crate::chance::Chance;
use crate::deadline::{Deadline, Why};
use crate::description::Description;
use crate::outcome::Outcome;
use crate::permission::Permission;
use crate::probe::Probe;
use crate::secret::{ProbeSecret, Role, Tag};

use birthday::Birthday;
pub use boundary::{Event, Setup, Socket, Transmit};
use choice::Rhythm;
pub use inbound::{DropReason, Handled};
use pair::{Origin, Pair, Pairs};
use replay::Replay;
use round::{Pending, Round};

/// Fallbacks of one finder.
const MAX_FALLBACKS: usize = 8;

/// The machine that finds and keeps the path to one peer.
pub struct Finder {
    role: Role,
    secret: ProbeSecret,
    ours: Description,
    theirs: Description,
    attested: Vec<IpAddr>,
    permission: Permission,
    pairs: Pairs,
    selected: Option<(SocketAddr, Socket)>,
    /// Of our last ping.
    transaction: u64,
    replay: Replay,
    /// The peer's last wish: its transaction, and the path while it is not followed.
    wish: u64,
    wished: Option<(SocketAddr, Socket)>,
    round: Option<Round>,
    rounds: u8,
    /// The peer's round that was joined last, and when.
    joined: Option<(u8, Instant)>,
    pending: Option<Pending>,
    birthday: Birthday,
    rhythm: Rhythm,
    upgrade_at: Option<Instant>,
    /// Rounds in vain since a path was direct, or an address changed.
    upgrades: u8,
    /// When strangers were last counted anew, and how many came since.
    strangers: (Instant, u8),
    settled: Option<Outcome>,
    /// Since when a direct path is looked for.
    since: Instant,
    now: Instant,
    chance: Chance,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

impl Finder {
    /// Begins at once: the fallback is selected, the first round is due now. `seed` is random and secret.
    #[must_use]
    pub fn new(setup: Setup, seed: [u8; 32], now: Instant) -> Self {
        let permission = Permission::new(&setup.ours, &setup.attested);
        let mut finder = Self {
            role: setup.role,
            secret: setup.secret,
            birthday: Birthday::new(setup.birthday_allowed, setup.birthday_sockets),
            ours: setup.ours,
            theirs: setup.theirs,
            attested: setup.attested,
            permission,
            pairs: Pairs::default(),
            selected: None,
            transaction: 0,
            replay: Replay::default(),
            wish: 0,
            wished: None,
            round: None,
            rounds: 0,
            joined: None,
            pending: Some(Pending::First),
            rhythm: Rhythm::default(),
            upgrade_at: None,
            upgrades: 0,
            strangers: (now, 0),
            settled: None,
            since: now,
            now,
            chance: Chance::new(seed),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        finder.list_pairs();
        if let Some(fallback) = setup.fallback {
            finder.add_fallback(fallback);
        }
        finder
    }

    /// The tag of this attempt's probes.
    #[must_use]
    pub fn tag(&self) -> Tag {
        self.secret.tag()
    }

    /// Our role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The path in use.
    #[must_use]
    pub fn selected(&self) -> Option<(SocketAddr, Socket, Tier)> {
        let pair = self.selected_pair()?;
        Some((pair.remote, pair.on, pair.tier))
    }

    /// The smoothed round trip of the path in use.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.selected_pair()?.rtt
    }

    /// How it ended, for now.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.settled
    }

    /// Takes a probe that came `from` there `on` that socket. Nothing in it is an error of ours.
    pub fn handle_probe(
        &mut self,
        from: SocketAddr,
        on: Socket,
        bytes: &[u8],
        now: Instant,
    ) -> Handled {
        self.now = self.now.max(now);
        match Probe::open(bytes, &self.secret, self.role.other()) {
            Ok(probe) => self.handle_opened(canonical(from), on, probe),
            Err(why) => Handled::Dropped(DropReason::NotOurs(why)),
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if let Some(pending) = self.pending.take() {
            self.begin_round(pending);
        }
        self.keep_alive();
        self.step_round();
        self.step_birthday();
        if self.upgrade_at.is_some_and(|at| at <= self.now) {
            self.upgrade_at = None;
            self.begin_round(Pending::Upgrade);
            self.step_round();
        }
    }

    /// When to call [`Self::handle_timeout`], and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let pairs = &self.pairs.all;
        let beat = pairs.iter().filter_map(|pair| pair.beat_at).min();
        let overdue = pairs.iter().filter_map(|pair| pair.overdue_at).min();
        [
            (self.pending.map(|_| self.now), Why::Changed),
            (self.round.as_ref().map(|round| round.next_at), Why::Punch),
            (self.birthday.next_at(), Why::Birthday),
            (beat, Why::Heartbeat),
            (overdue, Why::Overdue),
            (self.upgrade_at, Why::Upgrade),
        ]
        .into_iter()
        .filter_map(|(at, why)| Some(Deadline { at: at?, why }))
        .min_by_key(|deadline| (deadline.at, deadline.why))
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What we tell the peer has changed; telling it is the driver's matter.
    pub fn update_ours(&mut self, ours: Description) {
        let changed = self.ours.candidates() != ours.candidates();
        self.ours = ours;
        self.addresses_changed(changed);
    }

    /// What the peer tells us has changed (see [`crate::Verified::supersedes`]), or what is attested of it. An
    /// ephemeral key cannot change within an attempt; one that did is ignored with what came with it.
    pub fn update_theirs(&mut self, theirs: Description, attested: Vec<IpAddr>) {
        if theirs.ephemeral != self.theirs.ephemeral {
            return;
        }
        let changed = self.theirs.candidates() != theirs.candidates() || self.attested != attested;
        self.theirs = theirs;
        self.attested = attested;
        self.addresses_changed(changed);
    }

    /// A path through a relay, over UDP, works from now on.
    pub fn add_fallback(&mut self, path: SocketAddr) {
        self.add_fallback_of(path, Tier::Relayed);
    }

    /// A path through a relay, inside QUIC or TLS, works from now on.
    pub fn add_carried_fallback(&mut self, path: SocketAddr) {
        self.add_fallback_of(path, Tier::Carried);
    }

    /// A path through a relay is gone.
    pub fn remove_fallback(&mut self, path: SocketAddr) {
        let at = self.pairs.find(path, Socket::Main);
        let Some(at) = at.filter(|at| self.pairs.all[*at].is_fallback()) else {
            return;
        };
        let was_selected = self.selected == Some((path, Socket::Main));
        if was_selected {
            self.lose(at);
        }
        self.pairs.all.remove(at);
        if was_selected {
            self.fall_back();
            self.conclude();
        }
    }

    /// Our network changed: addresses, routes, or a mapping is known to be gone. Both sides punch again.
    pub fn network_changed(&mut self, now: Instant) {
        self.now = self.now.max(now);
        for pair in &mut self.pairs.all {
            pair.doubt();
        }
        self.pending = Some(Pending::Again);
        self.suspect(now);
    }

    /// Something speaks against the path in use (the tunnel hears nothing, the network is unreachable): it is asked now
    /// and, unless it answers, lost within four times its patience, a second or so.
    pub fn suspect(&mut self, now: Instant) {
        self.now = self.now.max(now);
        let now = self.now;
        if let Some(pair) = self.selected_pair_mut()
            && pair.overdue_at.is_none()
        {
            pair.beat_at = Some(now);
        }
    }

    /// Nothing but heartbeats needs the path for now: they come every 20 s instead of 5, more often again once that
    /// proved too rare.
    pub fn set_idle(&mut self, idle: bool) {
        self.rhythm.set_idle(idle);
        if !idle {
            self.suspect(self.now);
        }
    }

    /// A birthday punch may begin, or may not.
    pub fn set_birthday_allowed(&mut self, allowed: bool) {
        self.birthday.allowed = allowed;
    }

    /// The sockets that were asked for are open: `count` of them, from 0. Fewer than asked for are used as well.
    pub fn sockets_opened(&mut self, count: u16) {
        self.birthday.sockets_opened(count, self.now);
    }

    fn add_fallback_of(&mut self, path: SocketAddr, tier: Tier) {
        let known = self.pairs.find(path, Socket::Main);
        let fallbacks = self.pairs.all.iter().filter(|pair| pair.is_fallback());
        if known.is_some_and(|at| self.pairs.all[at].is_fallback())
            || fallbacks.count() >= MAX_FALLBACKS
        {
            return;
        }
        if let Some(at) = known {
            self.pairs.all.remove(at);
        }
        let pair = Pair::new(path, Socket::Main, tier, Origin::Fallback);
        if let Some(at) = self.pairs.add(pair, self.selected) {
            self.pairs.all[at].beat_at = Some(self.now);
            self.fall_back();
        }
    }

    fn addresses_changed(&mut self, changed: bool) {
        self.permission = Permission::new(&self.ours, &self.attested);
        self.list_pairs();
        if changed && self.pending.is_none() {
            self.upgrades = 0;
            self.pending = Some(Pending::Changed);
        }
    }

    /// Makes the listed pairs those of the peer's description that may be sent to.
    fn list_pairs(&mut self) {
        let listed = self.theirs.candidates();
        let selected = self.selected;
        self.pairs.all.retain(|pair| match pair.origin {
            Origin::Heard | Origin::Fallback => true,
            Origin::Listed(_) => {
                pair.proven
                    || selected == Some((pair.remote, pair.on))
                    || listed.iter().any(|candidate| candidate.addr == pair.remote)
            }
        });
        for candidate in listed {
            if !self.permission.allows(candidate.addr)
                || self.pairs.find(candidate.addr, Socket::Main).is_some()
            {
                continue;
            }
            let tier = Tier::of_direct(candidate.addr);
            let origin = Origin::Listed(candidate.kind);
            let pair = Pair::new(candidate.addr, Socket::Main, tier, origin);
            if self.pairs.add(pair, selected).is_none() {
                return;
            }
        }
    }

    fn selected_pair(&self) -> Option<&Pair> {
        let (remote, on) = self.selected?;
        self.pairs.find(remote, on).map(|at| &self.pairs.all[at])
    }

    fn selected_pair_mut(&mut self) -> Option<&mut Pair> {
        let (remote, on) = self.selected?;
        let at = self.pairs.find(remote, on)?;
        Some(&mut self.pairs.all[at])
    }

    fn selected_tier(&self) -> Option<Tier> {
        self.selected_pair().map(|pair| pair.tier)
    }

    /// Whether the path in use needs nobody else.
    fn is_direct(&self) -> bool {
        self.selected_tier().is_some_and(Tier::is_direct)
    }
}

impl std::fmt::Debug for Finder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Finder")
            .field("role", &self.role)
            .field("tag", &self.secret.tag())
            .field("selected", &self.selected())
            .field("pairs", &self.pairs.all.len())
            .finish_non_exhaustive()
    }
}
