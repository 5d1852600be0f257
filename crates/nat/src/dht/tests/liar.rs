//! A node that stands in the table and lies when it is asked. Its connections are honest: only its words are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use libp2p_core::Transport as _;
use libp2p_core::muxing::StreamMuxerBox;
use libp2p_identity::{Keypair, PeerId};
use libp2p_request_response::{Event, Message};
use libp2p_swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use wayfare_identity::{NodeAddress, NodeKey};

use super::{SEEN_BY_ALL, TestRecords, key, record};
use crate::address::{multiaddr, peer_id};
use crate::connections::Connections;
use crate::dht::task::{Table, Words, assemble_kad, assemble_words};
use crate::dht::words::{Answer, Question};
use crate::ground::plain::PlainGround;
use crate::transport::Shared;

/// How it lies.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lie {
    /// It knows nothing and nobody.
    Nothing,
    /// It makes up values that are none.
    Junk,
    /// It floods with well-formed values of identities that it made up, and says that it keeps what it is given.
    Fakes,
    /// It names nodes that do not exist, each answer others.
    Ghosts,
    /// It takes the question and never answers.
    Silence,
}

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p_swarm::derive_prelude")]
struct Stage {
    identify: libp2p_identify::Behaviour,
    kad: Table,
    words: Words,
}

/// Starts a liar; it makes itself known to `seeds`, and counts in `heard` what it is asked to find.
pub(super) fn start(
    key: &NodeKey,
    ip: [u8; 4],
    lie: Lie,
    seeds: &[NodeAddress],
    heard: Arc<AtomicUsize>,
) -> NodeAddress {
    let (ground, at, incoming) = PlainGround::open(key, ip);
    let keypair = Keypair::ed25519_from_bytes(*key.seed()).unwrap();
    let us = keypair.public().to_peer_id();
    let shared = Shared::new(Arc::new(ground), incoming, Connections::default(), 1_024);
    let transport = shared
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed();
    let identify = libp2p_identify::Config::new("/wayfare/identify/1".to_owned(), keypair.public());
    let stage = Stage {
        identify: libp2p_identify::Behaviour::new(identify),
        kad: assemble_kad(us, true),
        words: assemble_words(true),
    };
    let config = libp2p_swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(std::time::Duration::from_secs(60));
    let mut swarm = Swarm::new(transport, stage, us, config);
    swarm.listen_on(multiaddr(at)).unwrap();
    for seed in seeds {
        let peer: PeerId = peer_id(seed.node).unwrap();
        let words = &mut swarm.behaviour_mut().words;
        words.send_request_with_addresses(&peer, Question::Around, vec![multiaddr(seed.at)]);
    }
    tokio::spawn(async move {
        let (mut asked, mut untold) = (0, Vec::new());
        loop {
            let SwarmEvent::Behaviour(StageEvent::Words(Event::Message { message, .. })) =
                swarm.select_next_some().await
            else {
                continue;
            };
            if let Message::Request {
                request, channel, ..
            } = message
            {
                asked += 1;
                if matches!(request, Question::Find(_)) {
                    heard.fetch_add(1, Ordering::Relaxed);
                }
                match lied(lie, &request, asked) {
                    Some(answer) => {
                        let _ = swarm.behaviour_mut().words.send_response(channel, answer);
                    }
                    None => untold.push(channel),
                }
            }
        }
    });
    NodeAddress { node: key.id(), at }
}

fn lied(lie: Lie, question: &Question, asked: u32) -> Option<Answer> {
    if matches!(question, Question::Keep(..)) {
        return Some(Answer::Kept(!matches!(lie, Lie::Nothing)));
    }
    let found = |values, closer| Some(Answer::Found { values, closer });
    match lie {
        Lie::Nothing => found(Vec::new(), Vec::new()),
        Lie::Junk => found(vec![vec![0; 300]; 128], Vec::new()),
        Lie::Fakes => {
            let fake = |owner| {
                record(
                    SEEN_BY_ALL,
                    1_000_000 + asked * 128 + owner,
                    1,
                    TestRecords::later(),
                )
            };
            found((0..128).map(fake).collect(), Vec::new())
        }
        Lie::Ghosts => {
            let ghost = |number: u32| NodeAddress {
                node: key(2_000_000 + asked * 20 + number).id(),
                at: ([127, 9, 9, 9], 9).into(),
            };
            found(Vec::new(), (0..20).map(ghost).collect())
        }
        Lie::Silence => None,
    }
}
