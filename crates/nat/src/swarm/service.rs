//! What we do for others: open channels between them if we are a relay, and answer when a relay rings. It refuses a ring from a
//! node that we did not choose as our relay.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use libp2p_identity::PeerId;
use libp2p_request_response::{
    Behaviour as Calls, OutboundFailure, OutboundRequestId, ResponseChannel,
};
use tokio::sync::oneshot;
use wayfare_identity::{NodeAddress, NodeId};

use super::{Ring, SwarmEvent};
use crate::MAX_WORD;
use crate::address::{node_id, peer_id};
use crate::calls::{CallCodec, Elsewhere, Reply, Request, Sight, is_flight};
use crate::connections::Connections;
use crate::ground::Ground;
use crate::relay::{RelayBoard, RelayRefusal};

/// A channel on which nothing passes for so long is closed: four times the 25 s after which both ends say something.
const PATIENCE: Duration = Duration::from_secs(100);
/// An address that a node showed us it receives at is told to its peers for so long; nodes show it anew in time.
const ALSO: Duration = Duration::from_secs(600);
/// The head of a frame, which datagrams do without that ride in a call.
const HEAD: usize = 8;
/// Rings of ours, and rings to us, that wait for an answer: each up to 6 KiB, twice.
const MOST_RINGS: usize = 256;

type Answered = (ResponseChannel<Reply>, Reply);

pub(super) struct Service {
    board: Option<Arc<RelayBoard>>,
    connections: Connections,
    /// Callers that wait until the node they want has answered our ring.
    ringing: HashMap<OutboundRequestId, Caller>,
    /// Rings to us that our owner considers.
    considered: FuturesUnordered<BoxFuture<'static, Answered>>,
    /// Other addresses at which nodes have shown that they receive, and when.
    also: HashMap<(NodeId, Family), (SocketAddr, Instant)>,
    ground: Arc<dyn Ground>,
}

/// Of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Family {
    Four,
    Six,
}

impl Family {
    fn of(at: SocketAddr) -> Self {
        if at.ip().to_canonical().is_ipv4() {
            Self::Four
        } else {
            Self::Six
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Four => Self::Six,
            Self::Six => Self::Four,
        }
    }
}

struct Caller {
    node: NodeId,
    to: NodeId,
    channel: u32,
    reply: ResponseChannel<Reply>,
    /// To be rung once more with, if the connection goes while it rings: a node that has just come back has made another one.
    again: Option<Request>,
}

impl Service {
    pub(super) fn new(
        board: Option<Arc<RelayBoard>>,
        connections: Connections,
        ground: Arc<dyn Ground>,
    ) -> Self {
        Self {
            board,
            connections,
            ringing: HashMap::new(),
            considered: FuturesUnordered::new(),
            also: HashMap::new(),
            ground,
        }
    }

    /// The next reply that has become known; waits for ever when none is.
    pub(super) async fn answered(&mut self) -> Answered {
        match self.considered.next().await {
            Some(answered) => answered,
            None => std::future::pending().await,
        }
    }

    /// Follows moving peers, closes what is not used.
    pub(super) fn refresh(&mut self, now: Instant) {
        let connections = &self.connections;
        self.also.retain(|(node, _), (_, since)| {
            let connected = || connections.address(&peer_id(*node)?);
            now.saturating_duration_since(*since) < ALSO && connected().is_some()
        });
        if let Some(board) = &self.board {
            let at = |node| peer_id(node).and_then(|peer| self.connections.address(&peer));
            board.refresh(at, PATIENCE, now);
        }
    }

    /// A request of `peer`, which is our relay if `relay` names it.
    pub(super) fn asked(
        &mut self,
        peer: PeerId,
        relay: Option<NodeAddress>,
        request: Request,
        reply: ResponseChannel<Reply>,
        calls: &mut Calls<CallCodec>,
        now: Instant,
    ) -> Option<SwarmEvent> {
        let node = node_id(&peer)?;
        if let (Some(board), Some(at)) = (&self.board, self.connections.address(&peer)) {
            board.follow(node, at);
        }
        let (done, event) = match request {
            Request::Open {
                to,
                channel,
                also,
                offer,
                first,
            } => {
                self.note_also(node, also, now);
                self.open((node, to), (channel, offer, first), reply, calls, now);
                return None;
            }
            Request::Ring {
                from,
                channel,
                seen,
                offer,
                first,
            } => {
                let Some(relay) = relay.filter(|_| self.considered.len() < MOST_RINGS) else {
                    refuse(
                        calls,
                        reply,
                        "you are not a relay of this node, or it has no time",
                    );
                    return None;
                };
                let (answer, answered) = oneshot::channel();
                self.considered.push(consider(answered, reply).boxed());
                return Some(SwarmEvent::Rung(Ring {
                    relay,
                    channel,
                    from,
                    seen,
                    offer,
                    first,
                    answer,
                }));
            }
            Request::Pass {
                channel,
                seen,
                word,
            } => match self.pass(node, channel, &word, calls) {
                true => (Reply::Done, None),
                // We may be the end that is told something.
                false => (
                    Reply::Done,
                    Some(SwarmEvent::Word {
                        relay: node,
                        channel,
                        seen,
                        word,
                    }),
                ),
            },
            Request::Also(also) => {
                self.note_also(node, Some(also), now);
                (Reply::Done, None)
            }
            Request::Close { channel } => match self.close(node, channel, calls) {
                true => (Reply::Done, None),
                false => (
                    Reply::Done,
                    Some(SwarmEvent::HungUp {
                        relay: node,
                        channel,
                    }),
                ),
            },
        };
        let _ = calls.send_response(reply, done);
        event
    }

    fn open(
        &mut self,
        (node, to): (NodeId, NodeId),
        (channel, offer, mut first): (u32, Vec<u8>, Vec<Vec<u8>>),
        reply: ResponseChannel<Reply>,
        calls: &mut Calls<CallCodec>,
        now: Instant,
    ) {
        let Some(board) = &self.board else {
            return refuse(calls, reply, "this node is no relay");
        };
        if offer.len() > MAX_WORD || !is_flight(&first) || self.ringing.len() >= MOST_RINGS {
            return refuse(calls, reply, "the offer is too long, or too many wait");
        }
        let at = |node| {
            let peer = peer_id(node)?;
            Some((node, self.connections.address(&peer)?))
        };
        let (Some(from), Some(target), Some(callee)) = (at(node), at(to), peer_id(to)) else {
            return refuse(calls, reply, &RelayRefusal::Absent.to_string());
        };
        match board.open(from, target, channel, now) {
            Ok(()) => {
                let bytes: usize = first.iter().map(|datagram| datagram.len() + HEAD).sum();
                if bytes > 0 && !board.admit_first(channel, bytes, now) {
                    first.clear();
                }
                let ring = Request::Ring {
                    from: node,
                    channel,
                    seen: self.sight(node, from.1),
                    offer,
                    first,
                };
                let id = calls.send_request(&callee, ring.clone());
                let caller = Caller {
                    node,
                    to,
                    channel,
                    reply,
                    again: Some(ring),
                };
                self.ringing.insert(id, caller);
            }
            Err(RelayRefusal::Taken) => {
                let _ = calls.send_response(reply, Reply::Taken);
            }
            Err(refusal) => refuse(calls, reply, &refusal.to_string()),
        }
    }

    /// What came back from a request of ours.
    pub(super) fn replied(
        &mut self,
        id: OutboundRequestId,
        reply: Result<Reply, OutboundFailure>,
        calls: &mut Calls<CallCodec>,
    ) {
        // Of words and closings nobody waits for the reply.
        let Some(mut caller) = self.ringing.remove(&id) else {
            return;
        };
        let callee = peer_id(caller.to);
        let at = callee.and_then(|peer| self.connections.address(&peer));
        if let (Err(OutboundFailure::ConnectionClosed), Some(callee), Some(at)) =
            (&reply, callee, at)
            && let Some(ring) = caller.again.take()
        {
            if let Some(board) = &self.board {
                board.follow(caller.to, at);
            }
            self.ringing
                .insert(calls.send_request(&callee, ring), caller);
            return;
        }
        let why = match (reply, at) {
            (Ok(Reply::Answered { answer }), Some(at)) if answer.len() <= MAX_WORD => {
                if let Some(board) = &self.board {
                    board.answered(caller.channel);
                }
                let opened = Reply::Opened {
                    seen: self.sight(caller.to, at),
                    answer,
                };
                let _ = calls.send_response(caller.reply, opened);
                return;
            }
            (Ok(Reply::Refused { why }), _) => why,
            (Ok(_), _) => "the node answered something else".to_owned(),
            (Err(error), _) => format!("the node does not answer: {error}"),
        };
        if let Some(board) = &self.board {
            board.close(caller.channel, caller.node);
        }
        refuse(calls, caller.reply, &why);
    }

    /// Passes a word on, if we are the relay of that channel and `node` one of its ends.
    fn pass(&self, node: NodeId, channel: u32, word: &[u8], calls: &mut Calls<CallCodec>) -> bool {
        let other = self
            .board
            .as_ref()
            .and_then(|board| board.other(channel, node))
            .and_then(peer_id);
        let Some(other) = other else { return false };
        let at = peer_id(node).and_then(|peer| self.connections.address(&peer));
        let seen = at.map(|at| self.sight(node, at));
        if word.len() <= MAX_WORD {
            let word = word.to_vec();
            calls.send_request(
                &other,
                Request::Pass {
                    channel,
                    seen,
                    word,
                },
            );
        }
        true
    }

    /// Where we see a node whose connection comes from `at`.
    fn sight(&self, node: NodeId, at: SocketAddr) -> Sight {
        let other = Family::of(at).other();
        Sight {
            at,
            also: self.also.get(&(node, other)).map(|(also, _)| *also),
        }
    }

    /// A node says that it is elsewhere, too: believed if it shows what we sent there.
    fn note_also(&mut self, node: NodeId, also: Option<Elsewhere>, now: Instant) {
        let Some(Elsewhere { at, cookie }) = also.filter(|_| self.board.is_some()) else {
            return;
        };
        if self.ground.vouches(cookie, at) {
            self.also.insert((node, Family::of(at)), (at, now));
        }
    }

    fn close(&self, node: NodeId, channel: u32, calls: &mut Calls<CallCodec>) -> bool {
        let other = self
            .board
            .as_ref()
            .and_then(|board| board.close(channel, node));
        let Some(other) = other else { return false };
        if let Some(other) = peer_id(other) {
            calls.send_request(&other, Request::Close { channel });
        }
        true
    }
}

async fn consider(answered: oneshot::Receiver<Vec<u8>>, reply: ResponseChannel<Reply>) -> Answered {
    let answer = match answered.await {
        Ok(answer) => Reply::Answered { answer },
        Err(_) => Reply::Refused {
            why: "the node does not take the call".to_owned(),
        },
    };
    (reply, answer)
}

fn refuse(calls: &mut Calls<CallCodec>, reply: ResponseChannel<Reply>, why: &str) {
    let why = why.chars().take(256).collect();
    let _ = calls.send_response(reply, Reply::Refused { why });
}
