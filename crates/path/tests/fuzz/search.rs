//! A finder whose peer says whatever the fuzzer likes, with the right keys. It refuses to give the finder more than a
//! real driver would: time never runs back, and everything is drained after each step.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use wayfare_path::{Event, Finder, Handled, Role, Setup, Socket, Transmit};

use super::choices::Script;
use super::{Ending, secrets};

/// Steps of one input.
const MOST_STEPS: usize = 64;
/// What a finder may have waiting, by its own word.
const MOST_WAITING: usize = 512;
const MOST_EVENTS: usize = 64;

/// All runs begin at the same time, which is never asked again.
#[allow(clippy::disallowed_methods, reason = "an instant cannot be made up")]
pub(super) fn beginning() -> Instant {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    *BEGINNING.get_or_init(Instant::now)
}

/// A verified peer that lies in its description and in its probes.
pub fn finder(bytes: &[u8]) -> Ending {
    let mut script = Script::new(bytes);
    let choice = script.byte();
    let role = if choice & 1 != 0 {
        Role::Callee
    } else {
        Role::Caller
    };
    let [ours, theirs] = secrets();
    let attested = IpAddr::from([11, 0, 2, 2]);
    let fallback: SocketAddr = "240.0.0.1:1".parse().unwrap();
    let mut now = beginning();
    let setup = Setup {
        role,
        secret: ours,
        ours: script.description(),
        theirs: script.description(),
        attested: vec![attested],
        fallback: (choice & 2 != 0).then_some(fallback),
        birthday_allowed: choice & 4 != 0,
        birthday_sockets: script.short(),
    };
    let mut finder = Finder::new(setup, [7; 32], now);
    // Where the peer's probes came from: who has asked may be answered.
    let mut heard: BTreeSet<SocketAddr> = BTreeSet::new();
    let mut accepted = false;
    for _ in 0..MOST_STEPS {
        if script.is_over() {
            break;
        }
        match script.byte() % 8 {
            0 => {
                now += Duration::from_millis(u64::from(script.short()));
                finder.handle_timeout(now);
            }
            1 => {
                if let Some(deadline) = finder.poll_timeout() {
                    now = now.max(deadline.at);
                    finder.handle_timeout(now);
                }
            }
            2 => finder.update_theirs(script.description(), vec![attested]),
            3 => finder.network_changed(now),
            4 => finder.suspect(now),
            5 => finder.sockets_opened(script.short()),
            _ => {
                let from = script.address();
                let on = match script.byte() {
                    0..=127 => Socket::Main,
                    extra => Socket::Extra(u16::from(extra)),
                };
                let sealed = script.probe().seal(&theirs, role.other());
                let message = script.changed(&sealed);
                let handled = finder.handle_probe(from, on, &message, now);
                if message != sealed {
                    assert!(matches!(handled, Handled::Dropped(_)), "{handled:?}");
                } else if !matches!(handled, Handled::Dropped(_)) {
                    heard.insert(SocketAddr::new(from.ip().to_canonical(), from.port()));
                    accepted = true;
                }
            }
        }
        drain(&mut finder);
    }
    assert!(heard.len() <= MOST_STEPS);
    Ending::accepted_if(accepted)
}

/// Takes what is waiting, which is bounded.
fn drain(finder: &mut Finder) {
    let sent: Vec<Transmit> = std::iter::from_fn(|| finder.poll_transmit())
        .take(MOST_WAITING + 1)
        .collect();
    assert!(sent.len() <= MOST_WAITING, "{} datagrams", sent.len());
    for transmit in &sent {
        assert!(transmit.to.port() != 0, "{transmit:?}");
        assert!(!transmit.to.ip().is_multicast(), "{transmit:?}");
        assert!(!transmit.to.ip().is_unspecified(), "{transmit:?}");
    }
    let events: Vec<Event> = std::iter::from_fn(|| finder.poll_event())
        .take(MOST_EVENTS + 1)
        .collect();
    assert!(events.len() <= MOST_EVENTS, "{} events", events.len());
}
