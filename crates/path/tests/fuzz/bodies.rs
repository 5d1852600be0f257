//! The fuzz bodies: ordinary functions over bytes, each with its own idea of what must come out. libFuzzer calls them
//! with what it finds, the corpus test with what it found.
//! They refuse chance and state: the same bytes do the same thing in every run.

mod choices;
mod search;

use std::net::SocketAddr;

use wayfare_identity::NodeKey;
use wayfare_path::{
    Answer, Attempt, Cookies, Description, Ephemeral, MAX_CANDIDATES, MAX_OFFER, NatClass, NotOurs,
    OBSERVE_LEN, OBSERVED_LEN, Observed, Offer, PROBE_LEN, Probe, ProbeKind, ProbeSecret, Role,
    observe_reply, observe_request, observe_result, tag_of,
};

use choices::Script;
pub use search::finder;

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
    ("offer", offer),
    ("probe", probe),
    ("observe", observe),
    ("finder", finder),
];

const ATTEMPT: Attempt = Attempt([5; 16]);

fn keys() -> [NodeKey; 2] {
    [1, 2].map(|n| NodeKey::from_seed([n; 32]))
}

/// What a caller and a callee share once both have verified the other.
fn secrets() -> [ProbeSecret; 2] {
    let [caller, callee] = keys();
    let ephemerals = [3, 4].map(|n| Ephemeral::from_seed([n; 32]));
    let describe = |n: usize| Description::new(ephemerals[n].public(), vec![], NatClass::Unknown);
    let offer = Offer::sign(&caller, callee.id(), ATTEMPT, 0, &describe(0));
    let offer = offer.verify(caller.id(), callee.id()).unwrap();
    let answer = Answer::sign(&callee, &offer, 0, &describe(1));
    let answer = answer.verify(callee.id(), caller.id(), ATTEMPT).unwrap();
    [
        answer.secret(&ephemerals[0]).unwrap(),
        offer.secret(&ephemerals[1]).unwrap(),
    ]
}

/// An offer or an answer on its way: nothing but what was signed is believed.
pub fn offer(bytes: &[u8]) -> Ending {
    let mut script = Script::new(bytes);
    let choice = script.byte();
    let (as_answer, raw) = (choice & 1 != 0, choice & 2 != 0);
    let [caller, callee] = keys();
    let description = script.description();
    let serial = u32::from(script.short());
    let first = Offer::sign(&caller, callee.id(), ATTEMPT, serial, &description);
    let genuine = if as_answer {
        let offer = first.verify(caller.id(), callee.id()).unwrap();
        Answer::sign(&callee, &offer, serial, &description).to_bytes()
    } else {
        first.to_bytes()
    };
    assert!(genuine.len() <= MAX_OFFER);
    let message = if raw {
        // Past version and role, so that all of it is looked at.
        [&genuine[..2], script.rest()].concat()
    } else {
        script.changed(&genuine)
    };
    let verified = if as_answer {
        Answer::from_bytes(&message)
            .and_then(|answer| answer.verify(callee.id(), caller.id(), ATTEMPT))
    } else {
        Offer::from_bytes(&message).and_then(|offer| {
            assert_eq!(offer.to_bytes(), message);
            offer.verify(caller.id(), callee.id())
        })
    };
    assert_eq!(verified.is_ok(), message == genuine, "{verified:?}");
    if let Ok(verified) = &verified {
        assert_eq!(verified.description(), &description);
        assert!(verified.description().candidates().len() <= MAX_CANDIDATES);
        assert!(!verified.supersedes(verified));
        // Its key may be one that makes no secret; that is said, and nothing else happens.
        let _ = verified.secret(&Ephemeral::from_seed([9; 32]));
    }
    Ending::accepted_if(verified.is_ok())
}

/// A ping or a pong on its way: nothing but what the peer sealed is read.
pub fn probe(bytes: &[u8]) -> Ending {
    let mut script = Script::new(bytes);
    let [ours, theirs] = secrets();
    let sender = if script.byte() & 1 != 0 {
        Role::Callee
    } else {
        Role::Caller
    };
    let told = script.probe();
    let sealed = told.seal(&theirs, sender);
    let message = script.changed(&sealed);
    let opened = Probe::open(&message, &ours, sender);
    if message == sealed {
        assert_eq!(opened, Ok(told));
        assert_eq!(tag_of(&message), Some(ours.tag()));
        assert_eq!(
            Probe::open(&message, &ours, sender.other()),
            Err(NotOurs::Forged)
        );
    } else {
        assert!(opened.is_err(), "{opened:?}");
    }
    assert_eq!(
        tag_of(&message).is_some(),
        matches!(
            ProbeKind::of(&message),
            Some(ProbeKind::Ping | ProbeKind::Pong)
        )
    );
    assert!(tag_of(&message).is_none() || message.len() == PROBE_LEN);
    Ending::accepted_if(opened.is_ok())
}

/// Questions of strangers how we see them, and replies of strangers.
pub fn observe(bytes: &[u8]) -> Ending {
    let mut script = Script::new(bytes);
    let from: SocketAddr = script.address();
    let transaction = script.array();
    let question = script.changed(&observe_request(transaction));
    let now = search::beginning();
    let cookies = Cookies::new([9; 32], now);
    let reply = observe_reply(from, &question, &cookies, now);
    if let Some(reply) = &reply {
        assert_eq!((question.len(), reply.len()), (OBSERVE_LEN, OBSERVED_LEN));
        assert!(reply.len() < question.len(), "no amplification");
        assert_eq!(observe_result(&question), None, "a question is no reply");
        let Observed {
            transaction,
            seen,
            cookie,
        } = observe_result(reply).expect("what we say can be read");
        assert_eq!(transaction, question[5..21]);
        assert!(cookies.know(cookie, from, now), "it is our own");
        assert_eq!(seen.port(), from.port());
        assert_eq!(seen.ip().to_canonical(), from.ip().to_canonical());
        let lie = script.changed(reply);
        let _ = observe_result(&lie);
    }
    Ending::accepted_if(reply.is_some())
}
