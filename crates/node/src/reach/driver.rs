//! The task that owns every finder: probes, words, rings and timers in; probes, words and news of paths out. It refuses to
//! decide which path is good.

mod again;
mod calls;
mod depth;
mod elsewhere;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};
use wayfare_identity::{NodeAddress, NodeId, NodeKey};
use wayfare_nat::{Mapper, Ring, Sight, Swarm, SwarmEvent};
use wayfare_path::{
    Answer, Cookies, Ephemeral, Finder, ObserveLimiter, Offer, Role, Setup, Socket, Tag, Verified,
    observe_reply, observe_request, observe_result, tag_of,
};
use wayfare_transport::{Carried, Clock, Probes, SharedSocket, is_virtual};

use self::again::Came;
use self::calls::{Calling, Early};
use self::depth::Depths;
use self::elsewhere::Elsewheres;
use super::birthday::{Extras, Heard};
use super::carriers::{Carriers, Turn};
use super::fresh::newest_flow;
use super::guesses::Guesses;
use super::link::{Channel, Link, Told, add_fallback};
use super::place::Place;
use super::{PathNow, ReachConfig};
use crate::provider::sleep_until;
use crate::traffic::Traffic;
use crate::{NodeError, chance};

/// Our own look at the place, and at who has gone.
const LOOK_AFTER: Duration = Duration::from_millis(500);
/// How often relays are asked how they see us: mappings of 30 s stay, and a change is noticed.
const ASK_EVERY: Duration = Duration::from_secs(20);
/// A peer that says nothing for so long has gone; it beats at least every 25 s.
const GONE_AFTER: Duration = Duration::from_secs(100);
/// Peers that are reached at a time: 4,096 of at most 100 KiB while they punch, 2 KiB at rest.
const MOST_LINKS: usize = 4_096;
/// Probes on extra sockets that wait.
const HEARD: usize = 1_024;
/// Relays asked how they see us whose answers count.
const MOST_ASKED: usize = 64;
/// Sockets of a birthday punch.
const BIRTHDAY_SOCKETS: u16 = 256;

type Reply = oneshot::Sender<Result<super::Link, NodeError>>;

pub(super) enum Command {
    Call {
        node: NodeId,
        relays: Vec<NodeAddress>,
        begun: oneshot::Sender<SocketAddr>,
        reply: Reply,
    },
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Call")
    }
}

/// A call that waits until our NAT's count is known.
type Counted = (Ring, Option<SocketAddr>);
/// A link whose owner needs it no longer, and who wants to know that the relay knows.
type Closed = (u64, Option<oneshot::Sender<()>>);

pub(super) struct Driver {
    key: NodeKey,
    socket: SharedSocket,
    swarm: Swarm,
    events: mpsc::Receiver<SwarmEvent>,
    probes: Probes,
    commands: mpsc::Receiver<Command>,
    relays: Vec<NodeAddress>,
    place: Place,
    limiter: ObserveLimiter,
    cookies: Arc<Cookies>,
    elsewhere: Elsewheres,
    links: HashMap<u64, Link>,
    by_tag: HashMap<Tag, u64>,
    by_channel: BTreeMap<Channel, u64>,
    agenda: BTreeSet<(Instant, u64)>,
    due: HashMap<u64, Instant>,
    next_link: u64,
    calls: FuturesUnordered<BoxFuture<'static, Came>>,
    early: Early,
    counting: FuturesUnordered<BoxFuture<'static, Counted>>,
    depths: Depths,
    /// Callers who look around first, and until when.
    looking: Vec<(Instant, Calling)>,
    /// Whom we asked how they see us, with what they have to repeat.
    asked: HashMap<SocketAddr, (NodeId, [u8; 16])>,
    /// Those who answered how they see us, in order.
    seen_by: Vec<SocketAddr>,
    carriers: Carriers,
    closed: FuturesUnordered<BoxFuture<'static, Closed>>,
    heard: mpsc::Receiver<Heard>,
    hear: mpsc::Sender<Heard>,
    guesses: Guesses,
    ask_at: Instant,
    traffic: Traffic,
    attached: watch::Sender<usize>,
    /// Keeps the port mapped; nothing is ever told without it.
    mapper: Option<Mapper>,
    mapped: watch::Receiver<Option<SocketAddr>>,
}

impl Driver {
    pub(super) fn new(
        config: ReachConfig,
        (socket, carriers): (SharedSocket, Carriers),
        (swarm, events): (Swarm, mpsc::Receiver<SwarmEvent>),
        probes: Probes,
        commands: mpsc::Receiver<Command>,
        (attached, cookies): (watch::Sender<usize>, Arc<Cookies>),
    ) -> Result<Self, NodeError> {
        let now = Clock::now();
        let (hear, heard) = mpsc::channel(HEARD);
        let (tell_mapped, mapped) = watch::channel(None);
        let mapper = config
            .mapping
            .map(|mapping| Mapper::start(mapping, tell_mapped));
        Ok(Self {
            place: Place::new(socket.local_addr(), config.manual),
            limiter: ObserveLimiter::new(chance::bytes()?, now),
            cookies,
            elsewhere: Elsewheres::default(),
            key: config.key,
            relays: config.relays,
            socket,
            swarm,
            events,
            probes,
            commands,
            links: HashMap::new(),
            by_tag: HashMap::new(),
            by_channel: BTreeMap::new(),
            agenda: BTreeSet::new(),
            due: HashMap::new(),
            next_link: 0,
            calls: FuturesUnordered::new(),
            early: Early::default(),
            counting: FuturesUnordered::new(),
            depths: Depths::default(),
            looking: Vec::new(),
            asked: HashMap::new(),
            seen_by: Vec::new(),
            carriers,
            closed: FuturesUnordered::new(),
            heard,
            hear,
            guesses: Guesses::default(),
            ask_at: now,
            traffic: Traffic::default(),
            attached,
            mapper,
            mapped,
        })
    }

    pub(super) async fn run(mut self) {
        let mut relays = self.relays.clone();
        // A relay has addresses of both families, and this computer perhaps of one.
        relays.sort_by_key(|relay| !self.socket.reaches(relay.at));
        let first = one_of_each(&relays);
        for relay in relays {
            match first.contains(&relay) {
                true => self.attach(relay).await,
                // Its other addresses are dialed as well: whichever answers first is the way.
                false => self.swarm.attach(relay).await,
            }
        }
        let mut look_after = interval(LOOK_AFTER);
        look_after.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = self.agenda.first().map(|(at, _)| *at);
            let looked = self.looking.iter().map(|(until, _)| *until).min();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Call { node, relays, begun, reply }) => self.look_around((node, relays), begun, reply).await,
                    None => return,
                },
                event = self.events.recv() => match event {
                    Some(event) => self.handle_event(event).await,
                    None => return,
                },
                probe = self.probes.recv() => match probe {
                    Some(probe) => {
                        let heard = Heard { link: None, from: probe.from, on: Socket::Main, bytes: probe.bytes };
                        self.handle_probe(&heard).await;
                    }
                    None => return,
                },
                Some(heard) = self.heard.recv() => self.handle_probe(&heard).await,
                Some(came) = self.calls.next(), if !self.calls.is_empty() => match came {
                    Came::New(called) => self.called(*called).await,
                    Came::Again(recalled) => self.recalled(recalled).await,
                },
                Some((ring, seen)) = self.counting.next(), if !self.counting.is_empty() => {
                    if let Some(seen) = seen {
                        self.place.newest_flow(seen);
                    }
                    self.take(ring);
                }
                depth = self.depths.next() => self.place.lies_deep(depth),
                Some((link, done)) = self.closed.next(), if !self.closed.is_empty() => self.close(link, done).await,
                Ok(()) = self.mapped.changed() => self.mapped().await,
                turn = self.carriers.turn() => self.take_turn(turn).await,
                () = sleep_until(next) => self.handle_timeouts().await,
                () = sleep_until(looked) => self.call_those_who_looked(),
                _ = look_after.tick() => self.look_after().await,
            }
        }
    }

    /// Lets a relay ring us from now on, over plain UDP if it answers.
    async fn attach(&mut self, relay: NodeAddress) {
        self.ask(relay);
        self.depths.measure(relay.at);
        self.carriers.watch(relay, true, Clock::now());
        self.swarm.attach(relay).await;
    }

    /// What becomes of relays that plain UDP does not reach.
    async fn take_turn(&mut self, turn: Turn) {
        match turn {
            Turn::Ask(at) => self.ask_again(at),
            Turn::Stands(relay) => {
                match self.relays.iter().any(|ours| ours.node == relay.node) {
                    true => self.swarm.attach(relay).await,
                    false => self.swarm.dial(relay).await,
                }
                self.call_those_who_looked();
            }
            Turn::Ended { relay, at } => {
                let through = |link: &&mut Link| link.by_pipe == Some(at);
                let mut lost = Vec::new();
                for link in self.links.values_mut().filter(through) {
                    let path = link.carried.address();
                    link.finder.remove_fallback(path);
                    lost.extend(self.by_channel.get(&link.channel));
                }
                for id in lost {
                    self.drive(id).await;
                }
                if self.relays.iter().any(|ours| ours.node == relay.node) {
                    self.attach(relay).await;
                }
            }
            Turn::Failed => self.call_those_who_looked(),
        }
    }

    /// Begins to find paths to a peer.
    fn link(
        &mut self,
        role: Role,
        ephemeral: &Ephemeral,
        theirs: Verified,
        seen: Sight,
        (channel, relay, carried): (Channel, SocketAddr, Carried),
    ) -> Result<(u64, watch::Receiver<PathNow>), NodeError> {
        let now = Clock::now();
        let carrier = self.carriers.carrier(relay);
        let secret = theirs.secret(ephemeral)?;
        let ours = self.place.description(ephemeral.public());
        // One of the two NATs is random: it may come to guessing.
        let may_guess = ours.nat.is_hard() != theirs.description().nat.is_hard();
        // A peer behind a pipe is seen nowhere.
        let at = seen.at;
        let birthday_allowed =
            may_guess && !is_virtual(at) && self.guesses.admit(theirs.peer(), at.ip(), now);
        let setup = Setup {
            role,
            secret,
            ours,
            theirs: theirs.description().clone(),
            attested: seen.ips(),
            fallback: None,
            birthday_allowed,
            birthday_sockets: BIRTHDAY_SOCKETS,
        };
        let mut finder = Finder::new(setup, chance::bytes()?, now);
        add_fallback(&mut finder, carrier, carried.address());
        let tag = finder.tag();
        let id = self.next_link;
        self.next_link += 1;
        let extras = Extras::new(id, self.hear.clone(), self.socket.clone());
        let (link, path) = Link::new(
            finder,
            channel,
            theirs,
            ephemeral.public(),
            (carried, carrier, relay),
            extras,
            now,
        );
        self.by_tag.insert(tag, id);
        self.by_channel.insert(channel, id);
        self.links.insert(id, link);
        self.note_due(id, now);
        Ok((id, path))
    }

    async fn handle_event(&mut self, event: SwarmEvent) {
        match event {
            SwarmEvent::Rung(ring) => self.rung(ring),
            SwarmEvent::Seen { by, us } => self.seen(by, us).await,
            SwarmEvent::Word {
                relay,
                channel,
                seen,
                word,
            } => {
                let channel = Channel {
                    relay,
                    number: channel,
                };
                let us = self.key.id();
                let Some(id) = self.by_channel.get(&channel).copied() else {
                    self.heard_early(channel, word, seen);
                    return;
                };
                if let Some(link) = self.links.get_mut(&id) {
                    link.hear(&word, us, seen);
                    self.drive(id).await;
                }
            }
            SwarmEvent::HungUp { relay, channel } => {
                let channel = Channel {
                    relay,
                    number: channel,
                };
                if let Some(id) = self.by_channel.get(&channel).copied()
                    && let Some(link) = self.links.get_mut(&id)
                {
                    // A caller that hangs up is done with us. A callee does so when it stops: the path itself will tell.
                    if link.finder.role() == Role::Callee {
                        self.forget(id);
                    } else {
                        let path = link.carried.address();
                        link.finder.remove_fallback(path);
                        self.drive(id).await;
                    }
                }
            }
            SwarmEvent::Attached(relay) => {
                tracing::info!(%relay, "this relay rings us");
                self.show_again(relay.node, Clock::now()).await;
                self.attached.send_modify(|count| *count += 1);
                // At its other addresses, too: each family has NATs of its own.
                for relay in self.addresses_of(relay.node) {
                    self.ask_plain(relay);
                }
            }
            SwarmEvent::Detached(relay) => {
                self.attached
                    .send_modify(|count| *count = count.saturating_sub(1));
                tracing::warn!(%relay, "a relay is lost; it is dialed again");
            }
            SwarmEvent::Punched { node, .. } => tracing::debug!(%node, "the swarm punched a hole"),
        }
    }

    /// Somebody wants to reach us.
    fn rung(&mut self, ring: Ring) {
        if self.links.len() + self.counting.len() >= MOST_LINKS {
            tracing::debug!("too many peers: a call is not taken");
            return;
        }
        if self.place.is_sequential() {
            let relay = ring.relay.at;
            self.counting
                .push(Box::pin(async move { (ring, newest_flow(relay).await) }));
            return;
        }
        self.take(ring);
    }

    /// Tells a caller what it can expect, and begins to look for a path to it.
    fn take(&mut self, ring: Ring) {
        match self.answer(&ring) {
            Ok(answer) => ring.accept(answer),
            Err(error) => tracing::debug!(%error, "a call is not taken"),
        }
    }

    fn answer(&mut self, ring: &Ring) -> Result<Vec<u8>, NodeError> {
        let offer = Offer::from_bytes(&ring.offer)?;
        let theirs = offer.verify(ring.from, self.key.id())?;
        if let Some(answer) = self.answer_again(ring, &theirs) {
            return answer;
        }
        let ephemeral = Ephemeral::from_seed(chance::bytes()?);
        let ours = self.place.description(ephemeral.public());
        let answer = Answer::sign(&self.key, &theirs, 0, &ours).to_bytes();
        let carried = self.open_relayed(ring.relay.at, ring.channel)?;
        let channel = Channel {
            relay: ring.relay.node,
            number: ring.channel,
        };
        let way = (channel, ring.relay.at, carried);
        let (id, _) = self.link(Role::Callee, &ephemeral, theirs, ring.seen, way)?;
        if let Some(link) = self.links.get(&id) {
            let first = ring.first.iter();
            first.for_each(|datagram| link.carried.deliver(datagram));
        }
        Ok(answer)
    }

    async fn handle_probe(&mut self, heard: &Heard) {
        let now = Clock::now();
        let by_tag = || tag_of(&heard.bytes).and_then(|tag| self.by_tag.get(&tag).copied());
        if let Some(id) = heard.link.or_else(by_tag)
            && let Some(link) = self.links.get_mut(&id)
        {
            link.handle_probe(heard, now);
            self.drive(id).await;
            return;
        }
        if let Some(observed) = observe_result(&heard.bytes) {
            let asked = self.asked.get(&heard.from).copied();
            if let Some((relay, _)) = asked.filter(|(_, asked)| *asked == observed.transaction) {
                if !self.seen_by.contains(&heard.from) {
                    self.seen_by.push(heard.from);
                }
                self.carriers.heard(relay);
                self.note_elsewhere(relay, &observed, now).await;
                self.seen(heard.from, observed.seen).await;
                self.call_those_who_looked();
            }
        } else if let Some(reply) = observe_reply(heard.from, &heard.bytes, &self.cookies, now)
            && self.limiter.admit(heard.from.ip(), now)
            && let Err(error) = self.socket.try_send(heard.from, &reply)
        {
            tracing::trace!(%error, "an observation was not told");
        }
    }

    fn ask(&mut self, relay: NodeAddress) {
        let at = relay.at;
        self.place.asking(at);
        let Ok(transaction) = chance::bytes() else {
            return;
        };
        if self.asked.len() >= MOST_ASKED {
            self.asked.clear();
        }
        self.asked.insert(at, (relay.node, transaction));
        if let Err(error) = self.socket.try_send(at, &observe_request(transaction)) {
            tracing::debug!(%error, "a relay was not asked how it sees us");
        }
    }

    /// All addresses of one of our relays.
    fn addresses_of(&self, relay: NodeId) -> Vec<NodeAddress> {
        let same = |known: &&NodeAddress| known.node == relay;
        self.relays.iter().filter(same).copied().collect()
    }

    /// Asks the same once more: either answer counts.
    fn ask_again(&self, at: SocketAddr) {
        if let Some((_, transaction)) = self.asked.get(&at)
            && let Err(error) = self.socket.try_send(at, &observe_request(*transaction))
        {
            tracing::trace!(%error, "a relay was not asked again");
        }
    }

    async fn seen(&mut self, by: SocketAddr, us: SocketAddr) {
        // Through a pipe nobody sees where we are.
        if is_virtual(by) || is_virtual(us) {
            return;
        }
        if self.place.observe(by, us) {
            tracing::debug!("this node is seen elsewhere, or by somebody new");
            self.tell_everybody().await;
        }
    }

    /// The router forwards from another place, or no more.
    async fn mapped(&mut self) {
        let at = *self.mapped.borrow_and_update();
        if self.place.mapped(at) {
            self.tell_everybody().await;
        }
    }

    /// Lets every peer know where we are now.
    async fn tell_everybody(&mut self) {
        let ids: Vec<u64> = self.links.keys().copied().collect();
        for id in ids {
            self.tell(id).await;
            self.drive(id).await;
        }
    }

    /// Lets one peer know. The relay sees by that, too, where we are.
    async fn tell(&mut self, id: u64) {
        if let Some(link) = self.links.get_mut(&id) {
            let ours = self.place.description(link.ephemeral);
            link.finder.update_ours(ours.clone());
            let word = link.word(&self.key, &ours);
            let channel = link.channel;
            self.swarm.say(channel.relay, channel.number, word).await;
        }
    }

    async fn handle_timeouts(&mut self) {
        let now = Clock::now();
        // As many as there are now: what becomes due meanwhile waits for the next turn.
        let due: Vec<u64> = self
            .agenda
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, id)| *id)
            .collect();
        for id in due {
            if let Some(link) = self.links.get_mut(&id) {
                link.finder.handle_timeout(now);
            }
            self.drive(id).await;
        }
    }

    /// After anything happened to a link: what it wants is done, and its next deadline noted.
    async fn drive(&mut self, id: u64) {
        // What follows from a loss is driven at once; a loss that follows from that waits for its next deadline.
        for _ in 0..2 {
            let Some(link) = self.links.get_mut(&id) else {
                return;
            };
            let told = link.carry_out(&self.socket);
            if let Some(deadline) = link.finder.poll_timeout() {
                self.note_due(id, deadline.at);
            } else if let Some(at) = self.due.remove(&id) {
                self.agenda.remove(&(at, id));
            }
            let mut lost = None;
            for told in told {
                match told {
                    // What a peer sees is told to nobody else than the machine that knows our NATs.
                    Told::Seen { by, us } => {
                        self.place.observe(by, us);
                    }
                    Told::Lost { stranded } => lost = Some(lost.unwrap_or(false) | stranded),
                }
            }
            match lost {
                Some(stranded) => self.lost(id, stranded).await,
                None => return,
            }
        }
    }

    /// Notes when a link is to be looked at.
    fn note_due(&mut self, id: u64, at: Instant) {
        if let Some(before) = self.due.insert(id, at) {
            self.agenda.remove(&(before, id));
        }
        self.agenda.insert((at, id));
    }

    async fn look_after(&mut self) {
        let now = Clock::now();
        self.doubt_silence(now).await;
        if self.place.reread() {
            tracing::info!("this computer's addresses have changed: paths are looked for anew");
            if let Some(mapper) = &self.mapper {
                mapper.network_changed();
            }
            for link in self.links.values_mut() {
                link.finder.network_changed(now);
            }
            self.ask_at = now;
            self.depths.forget();
            let relays = self.relays.iter().map(|relay| relay.at);
            relays
                .chain(self.relays_of_links().iter().map(|relay| relay.at))
                .for_each(|relay| self.depths.measure(relay));
            self.tell_everybody().await;
        }
        if now >= self.ask_at {
            self.ask_at = now + ASK_EVERY;
            for relay in self.relays.clone() {
                self.ask(relay);
            }
            for relay in self.relays_of_links() {
                self.ask_plain(relay);
            }
        }
        self.guesses.forget(now);
        let through = |relay| self.by_channel.keys().any(|channel| channel.relay == relay);
        self.carriers.let_go(through, now);
        let over = |link: &Link| {
            let silent = now.saturating_duration_since(link.heard_at) > GONE_AFTER;
            silent && link.finder.role() == Role::Callee
        };
        let gone: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| over(link))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.close(id, None).await;
        }
    }

    /// Traffic that ends all of a sudden may have lost its path: a caller asks it at once, not with its next heartbeat.
    async fn doubt_silence(&mut self, now: Instant) {
        if self.traffic.has_ended(self.socket.stats().tunnel_in) {
            let callers = self.links.iter_mut();
            let callers = callers.filter(|(_, link)| link.finder.role() == Role::Caller);
            let mut doubted = Vec::new();
            for (id, link) in callers {
                link.finder.suspect(now);
                doubted.push(*id);
            }
            for id in doubted {
                self.drive(id).await;
            }
        }
    }

    async fn close(&mut self, id: u64, done: Option<oneshot::Sender<()>>) {
        if let Some(channel) = self.forget(id) {
            let Channel { relay, number } = channel;
            self.swarm.hang_up(relay, number, done).await;
        }
    }

    fn forget(&mut self, id: u64) -> Option<Channel> {
        let link = self.links.remove(&id)?;
        self.by_tag.remove(&link.finder.tag());
        self.by_channel.remove(&link.channel);
        if let Some(at) = self.due.remove(&id) {
            self.agenda.remove(&(at, id));
        }
        Some(link.channel)
    }
}

/// The first address of each relay: a node has one connection to us, whatever families it is known by.
fn one_of_each(relays: &[NodeAddress]) -> Vec<NodeAddress> {
    let mut first: Vec<NodeAddress> = Vec::new();
    for relay in relays {
        if first.iter().all(|known| known.node != relay.node) {
            first.push(*relay);
        }
    }
    first
}
