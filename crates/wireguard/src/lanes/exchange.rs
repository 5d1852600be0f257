//! The exchange: calls arrive in the first lane and are put through to the lane whose peer calls.
//! It refuses to wait for a lane, to remember who called in vain, and to put through what is not authenticated.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::sync::mpsc;
use wayfare_tunnel::{Call, Endpoint, Lane, MessageKind, PeerConfig, PublicKey, classify};

/// What the first lane gives to another one.
#[derive(Debug)]
pub(crate) enum Post {
    /// An initiation, opened.
    Call(Box<Call>),
    /// A datagram that the kernel kept together with an initiation before it.
    Stray { from: SocketAddr, datagram: Vec<u8> },
}

/// The first lane's view of the others.
#[derive(Debug)]
pub(crate) struct Exchange {
    homes: BTreeMap<PublicKey, usize>,
    /// Of lane 1 and all after it.
    lines: Vec<mpsc::Sender<Post>>,
    first: Lane,
    /// Where the last call of another lane came from, and its lane.
    latest: Option<(SocketAddr, usize)>,
}

impl Exchange {
    pub(super) fn new(peers: &[PeerConfig], homes: &[usize]) -> Self {
        let keys = peers.iter().map(|peer| peer.public_key);
        Self {
            homes: keys.zip(homes.iter().copied()).collect(),
            lines: Vec::new(),
            first: Lane::ONLY,
            latest: None,
        }
    }

    /// Adds the line to the next lane.
    pub(super) fn connect(&mut self, line: mpsc::Sender<Post>) {
        self.lines.push(line);
        self.first = Lane::new(0, self.lines.len() + 1).unwrap_or(Lane::ONLY);
    }

    /// Whether a datagram of the first lane is not, or not yet known to be, for the first lane's endpoint; it has been
    /// taken care of then. Without other lanes nothing is taken.
    ///
    /// A call costs what it costs a single endpoint: the proofs, a cookie under load, two x25519. Only an authentic one
    /// is put through, so junk reaches no other lane, and no more than a queue full of them wait.
    pub(crate) fn takes(
        &mut self,
        endpoint: &mut Endpoint,
        from: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> bool {
        if self.lines.is_empty() {
            return false;
        }
        match classify(datagram) {
            Some(MessageKind::Initiation) => {
                match endpoint.open_call(from, datagram, now) {
                    Ok(call) => self.put_through(endpoint, call, now),
                    Err(why) => tracing::trace!(?why, "no call"),
                }
                true
            }
            Some(kind) => self.takes_stray(kind, from, datagram),
            None => false,
        }
    }

    fn put_through(&mut self, endpoint: &mut Endpoint, call: Call, now: Instant) {
        let from = call.from();
        match self.homes.get(&call.caller()) {
            Some(0) => {
                let outcome = endpoint.answer(call, now);
                tracing::trace!(?outcome, "a call of the first lane");
            }
            Some(lane) => {
                self.latest = Some((from, *lane));
                self.post(*lane, Post::Call(Box::new(call)));
            }
            None => tracing::trace!("a call of a stranger"),
        }
    }

    /// The kernel puts datagrams of one address together whatever they are; what follows a call then comes here too.
    /// Only what follows an authentic one is passed on: nobody can send through us what other lanes would not get.
    fn takes_stray(&mut self, kind: MessageKind, from: SocketAddr, datagram: &[u8]) -> bool {
        let Some((caller, lane)) = self.latest else {
            return false;
        };
        let at = if kind == MessageKind::Response { 8 } else { 4 };
        let index = datagram.get(at..).and_then(<[u8]>::first_chunk);
        let ours = index.is_none_or(|index| self.first.owns(u32::from_le_bytes(*index)));
        if ours || caller != from {
            return false;
        }
        let datagram = datagram.to_vec();
        self.post(lane, Post::Stray { from, datagram });
        true
    }

    fn post(&self, lane: usize, post: Post) {
        let line = lane.checked_sub(1).and_then(|at| self.lines.get(at));
        if line.is_none_or(|line| line.try_send(post).is_err()) {
            tracing::trace!(lane, "a lane has no room for what is for it");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    #![allow(clippy::disallowed_methods, reason = "a test reads the clock")]
    use std::time::{Duration, SystemTime};

    use wayfare_tunnel::{EndpointConfig, PeerId, StaticSecret};

    use super::*;

    fn endpoint(key: u8, lane: Lane, now: Instant) -> Endpoint {
        let config = EndpointConfig {
            lane,
            ..EndpointConfig::default()
        };
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let secret = StaticSecret::from_bytes([key; 32]);
        Endpoint::new(secret, [key; 32], now, wall, config)
    }

    fn address(number: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, number], 51_820))
    }

    /// A first lane of two; callers 0 and 1 belong to the lane of their number, 2 to nobody.
    struct World {
        now: Instant,
        first: Endpoint,
        exchange: Exchange,
        inbox: mpsc::Receiver<Post>,
        callers: Vec<(Endpoint, PeerId)>,
    }

    impl World {
        fn new(room: usize) -> Self {
            let now = Instant::now();
            let first = endpoint(9, Lane::new(0, 2).unwrap(), now);
            let provider = first.public_key();
            let caller = |key: u8| {
                let mut caller = endpoint(key, Lane::ONLY, now);
                let mut exit = PeerConfig::new(provider);
                exit.endpoint = Some(address(9));
                let id = caller.add_peer(exit).unwrap();
                (caller, id)
            };
            let callers: Vec<_> = (1..4).map(caller).collect();
            let peer = |(caller, _): &(Endpoint, PeerId)| PeerConfig::new(caller.public_key());
            let peers: Vec<_> = callers[..2].iter().map(peer).collect();
            let mut exchange = Exchange::new(&peers, &[0, 1]);
            let (line, inbox) = mpsc::channel(room);
            exchange.connect(line);
            let mut first = first;
            first.add_peer(peers[0].clone()).unwrap();
            Self {
                now,
                first,
                exchange,
                inbox,
                callers,
            }
        }

        fn call(&mut self, number: usize) -> Vec<u8> {
            self.now += Duration::from_secs(100);
            let (caller, exit) = &mut self.callers[number];
            // The call before has been given up by now.
            caller.handle_timeout(self.now);
            caller.initiate(*exit, self.now);
            let sent = std::iter::from_fn(|| caller.poll_transmit());
            sent.last().unwrap().payload
        }

        fn takes(&mut self, from: u8, datagram: &[u8]) -> bool {
            let (first, now) = (&mut self.first, self.now);
            self.exchange.takes(first, address(from), datagram, now)
        }
    }

    /// A packet nobody can open, for an index of lane 0 or 1.
    fn sealed(lane: u8) -> Vec<u8> {
        [&[4, 0, 0, 0, lane, 7, 7, 7][..], &[0; 40]].concat()
    }

    #[test]
    fn calls_go_to_the_lane_of_their_caller_and_nowhere_else() {
        let mut world = World::new(8);
        let own = world.call(0);
        assert!(world.takes(1, &own));
        let response = world.first.poll_transmit().unwrap();
        assert_eq!(response.to, address(1));
        let others = world.call(1);
        assert!(world.takes(2, &others));
        assert!(world.first.poll_transmit().is_none());
        let Ok(Post::Call(call)) = world.inbox.try_recv() else {
            panic!("no call");
        };
        assert_eq!(
            (call.caller(), call.from()),
            (world.callers[1].0.public_key(), address(2))
        );
        let strange = world.call(2);
        assert!(world.takes(3, &strange));
        assert!(world.takes(3, &[&[1, 0, 0, 0][..], &[7; 144]].concat()));
        assert!(world.first.poll_transmit().is_none() && world.inbox.try_recv().is_err());
    }

    #[test]
    fn a_full_line_loses_calls_and_holds_up_nobody() {
        let mut world = World::new(2);
        for _ in 0..5 {
            let call = world.call(1);
            assert!(world.takes(2, &call));
        }
        let waiting = std::iter::from_fn(|| world.inbox.try_recv().ok()).count();
        assert_eq!(waiting, 2);
        drop(world.inbox);
        world.inbox = mpsc::channel(1).1;
        let call = world.call(1);
        assert!(world.takes(2, &call), "a lane that has gone");
    }

    #[test]
    fn only_what_follows_an_authentic_call_is_passed_on() {
        let mut world = World::new(8);
        assert!(!world.takes(2, &sealed(1)), "nobody has called");
        let call = world.call(1);
        assert!(world.takes(2, &call));
        assert!(!world.takes(3, &sealed(1)), "somebody else");
        assert!(!world.takes(2, &sealed(0)), "for this lane");
        assert!(!world.takes(2, b"junk"));
        assert!(world.inbox.try_recv().is_ok() && world.inbox.try_recv().is_err());
        assert!(world.takes(2, &sealed(1)));
        let Ok(Post::Stray { from, datagram }) = world.inbox.try_recv() else {
            panic!("no stray");
        };
        assert_eq!((from, datagram), (address(2), sealed(1)));
    }

    #[test]
    fn without_other_lanes_nothing_is_taken() {
        let mut world = World::new(8);
        world.exchange = Exchange::new(&[], &[]);
        let call = world.call(0);
        assert!(!world.takes(1, &call) && !world.takes(1, &sealed(1)));
    }
}
