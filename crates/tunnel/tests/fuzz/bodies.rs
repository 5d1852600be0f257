//! The fuzz bodies: ordinary functions over bytes, each with its own idea of what must come out. libFuzzer calls them
//! with what it finds, the corpus test with what it found.
//! They refuse chance and state: the same bytes do the same thing in every run.

mod data;
mod forger;
mod ip;
mod peers;
mod script;
mod world;

use wayfare_tunnel::{COOKIE_LEN, DropReason, Endpoint, INITIATION_LEN, RESPONSE_LEN, Received};

pub use data::transport;
pub use ip::packet;
pub use peers::datagrams;
use script::Script;
use world::{CONSUMER, ELSEWHERE, HERE, Pair, THERE, address, stamp, transmits};

/// Whether an input got anywhere: a corpus that never does has gone stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Something of it was accepted.
    Accepted,
    /// Nothing was.
    Refused,
}

impl Ending {
    fn accepted_if(yes: bool) -> Self {
        if yes { Self::Accepted } else { Self::Refused }
    }
}

/// What libFuzzer calls.
pub type Body = fn(&[u8]) -> Ending;

/// Every body by the name of its corpus.
pub const TARGETS: &[(&str, Body)] = &[
    ("initiation", initiation),
    ("response", response),
    ("cookie", cookie),
    ("transport", transport),
    ("datagrams", datagrams),
    ("packet", packet),
];

/// How a handshake message is made: the first byte of three bodies.
struct Choice(u8);

impl Choice {
    fn loaded(&self) -> bool {
        self.0 & 1 != 0
    }

    fn right_mac1(&self) -> bool {
        self.0 & 2 != 0
    }

    /// From nothing but the input, and not by changing a genuine message.
    fn raw(&self) -> bool {
        self.0 & 4 != 0
    }

    /// Made by the holder of the consumer's key, who lies about everything else.
    fn forged(&self) -> bool {
        self.0 & 8 != 0
    }

    fn message(&self, script: &mut Script<'_>, genuine: &[u8], mac1_for: &[u8; 32]) -> Vec<u8> {
        let mut message = genuine.to_vec();
        if self.raw() {
            message[4..].fill(0);
            let raw = script.rest();
            let len = raw.len().min(message.len() - 4);
            message[4..4 + len].copy_from_slice(&raw[..len]);
        } else {
            let edits = script.byte() % 8;
            script.edit(&mut message, edits);
        }
        if self.right_mac1() {
            forger::fix_mac1(&mut message, mac1_for);
        }
        message
    }
}

/// A handshake message from a stranger's address came to `got`: what may have been sent is a cookie under load, and
/// else nothing.
fn silent_but_for_a_cookie(to: &mut Endpoint, asked: usize, got: &Received<'_>) {
    let sent = transmits(to);
    if *got != Received::Dropped(DropReason::CookieDemanded) {
        assert_eq!(sent, [], "{got:?}");
        return;
    }
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].to, address(ELSEWHERE));
    assert_eq!(sent[0].payload.len(), COOKIE_LEN);
    assert!(COOKIE_LEN < asked, "no amplification");
}

/// An initiation to a provider that has keys with its consumer.
pub fn initiation(bytes: &[u8]) -> Ending {
    let mut script = Script::new(bytes);
    let choice = Choice(script.byte());
    let (mut pair, _) = Pair::forged();
    let responder = *pair.provider.public_key().as_bytes();
    let newer = if choice.forged() {
        script.array()
    } else {
        stamp(1)
    };
    let (index, ephemeral) = if choice.forged() {
        (u32::from_le_bytes(script.array()), script.array())
    } else {
        (7, [8; 32])
    };
    let asked = forger::ask(CONSUMER, responder, ephemeral, index, newer);
    let message = choice.message(&mut script, &asked.message, &responder);
    pair.provider.set_under_load(choice.loaded());
    let before = pair.provider.peer_stats(pair.guest);
    let mut sent = message.clone();
    let got = pair
        .provider
        .handle_datagram(address(ELSEWHERE), &mut sent, pair.now);
    // MAC1, and all that Noise covers: neither the sender's index nor MAC2, which is only looked at under load.
    let body = message.len() - 32;
    let mut proven = message.clone();
    forger::fix_mac1(&mut proven, &responder);
    let genuine = message[..4] == asked.message[..4]
        && message[8..body] == asked.message[8..body]
        && proven == message;
    let accepted = genuine && !choice.loaded() && newer > stamp(0);
    if accepted {
        assert_eq!(got, Received::Handshake { peer: pair.guest });
        let response = transmits(&mut pair.provider);
        assert_eq!((response.len(), response[0].to), (1, address(ELSEWHERE)));
        assert_eq!(response[0].payload.len(), RESPONSE_LEN);
        assert_eq!(response[0].payload[8..12], message[4..8]);
        let keys = asked.answered(&response[0].payload).expect("it answers us");
        assert_ne!(keys.index, 0);
    } else {
        assert!(matches!(got, Received::Dropped(_)), "{got:?}");
        silent_but_for_a_cookie(&mut pair.provider, INITIATION_LEN, &got);
    }
    assert_eq!(pair.provider.peer_stats(pair.guest), before, "nobody moved");
    // The same again is a replay, whatever it was.
    pair.provider.set_under_load(false);
    if accepted {
        let mut again = message.clone();
        let got = pair
            .provider
            .handle_datagram(address(ELSEWHERE), &mut again, pair.now);
        assert_eq!(got, Received::Dropped(DropReason::ReplayedHandshake));
        assert_eq!(transmits(&mut pair.provider), []);
    }
    Ending::accepted_if(accepted)
}

/// A response to an initiator that waits for one.
pub fn response(bytes: &[u8]) -> Ending {
    let mut script = Script::new(bytes);
    let choice = Choice(script.byte());
    let mut pair = Pair::new();
    let initiator = *pair.consumer.public_key().as_bytes();
    pair.consumer.initiate(pair.exit, pair.now);
    let mut asked = transmits(&mut pair.consumer).remove(0).payload;
    pair.provider
        .handle_datagram(address(HERE), &mut asked, pair.now);
    let genuine = transmits(&mut pair.provider).remove(0).payload;
    let message = choice.message(&mut script, &genuine, &initiator);
    pair.consumer.set_under_load(choice.loaded());
    let before = (
        pair.consumer.peer_stats(pair.exit),
        pair.consumer.poll_timeout(),
    );
    let mut sent = message.clone();
    let got = pair
        .consumer
        .handle_datagram(address(ELSEWHERE), &mut sent, pair.now);
    let body = message.len() - 32;
    let mut proven = message.clone();
    forger::fix_mac1(&mut proven, &initiator);
    let accepted = message[..4] == genuine[..4]
        && message[8..body] == genuine[8..body]
        && proven == message
        && !choice.loaded();
    if accepted {
        assert_eq!(got, Received::Handshake { peer: pair.exit });
        assert_eq!(transmits(&mut pair.consumer).len(), 1, "the keepalive");
    } else {
        assert!(matches!(got, Received::Dropped(_)), "{got:?}");
        silent_but_for_a_cookie(&mut pair.consumer, RESPONSE_LEN, &got);
        let after = (
            pair.consumer.peer_stats(pair.exit),
            pair.consumer.poll_timeout(),
        );
        assert_eq!(after, before);
        // And the right one still counts.
        pair.consumer.set_under_load(false);
        let mut right = genuine.clone();
        let got = pair
            .consumer
            .handle_datagram(address(THERE), &mut right, pair.now);
        assert_eq!(got, Received::Handshake { peer: pair.exit });
    }
    let endpoint = pair.consumer.peer_stats(pair.exit).and_then(|s| s.endpoint);
    assert_eq!(endpoint, Some(address(THERE)), "a handshake moves nobody");
    Ending::accepted_if(accepted)
}

/// A cookie reply to an initiator that waits for a response.
pub fn cookie(bytes: &[u8]) -> Ending {
    let mut script = Script::new(bytes);
    let choice = Choice(script.byte());
    let mut pair = Pair::new();
    pair.provider.set_under_load(true);
    pair.consumer.initiate(pair.exit, pair.now);
    let mut asked = transmits(&mut pair.consumer).remove(0).payload;
    pair.provider
        .handle_datagram(address(HERE), &mut asked, pair.now);
    let genuine = transmits(&mut pair.provider).remove(0).payload;
    let mut message = genuine.clone();
    if choice.raw() {
        let raw = script.rest();
        let len = raw.len().min(message.len() - 4);
        message[4..4 + len].copy_from_slice(&raw[..len]);
    } else {
        let edits = script.byte() % 8;
        script.edit(&mut message, edits);
    }
    let before = (
        pair.consumer.peer_stats(pair.exit),
        pair.consumer.poll_timeout(),
    );
    let mut sent = message.clone();
    let got = pair
        .consumer
        .handle_datagram(address(ELSEWHERE), &mut sent, pair.now);
    let accepted = message == genuine;
    if accepted {
        assert_eq!(got, Received::Handshake { peer: pair.exit });
    } else {
        assert!(matches!(got, Received::Dropped(_)), "{got:?}");
    }
    let after = (
        pair.consumer.peer_stats(pair.exit),
        pair.consumer.poll_timeout(),
    );
    assert_eq!(after, before, "neither moved nor hurried");
    assert_eq!(transmits(&mut pair.consumer), []);
    let mut right = genuine;
    let got = pair
        .consumer
        .handle_datagram(address(THERE), &mut right, pair.now);
    let expect = if accepted {
        Received::Dropped(DropReason::BadCookie)
    } else {
        Received::Handshake { peer: pair.exit }
    };
    assert_eq!(got, expect, "a cookie reply is good once");
    Ending::accepted_if(accepted)
}
