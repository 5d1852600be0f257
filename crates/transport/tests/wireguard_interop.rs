//! Our tunnel against the WireGuard programs of others, over real sockets, devices and TCP.
//!
//! Each test moves 100 MB each way, compared byte by byte, with fresh keys taking over between the
//! first byte and the last: ours by age and on demand, theirs by being made anew and, in the long
//! test, by their own clock of 120 s. Needs root, `wireguard-go`, `boringtun-cli` and `wg`; what is
//! missing fails, it does not skip. `--nocapture` shows the figures.

#![allow(clippy::unwrap_used)]

mod wireguard {
    pub(crate) mod driver;
    pub(crate) mod lab;
    pub(crate) mod netns;
    pub(crate) mod peer;
    pub(crate) mod transfer;
}

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use wayfare_transport::Clock;
use wayfare_tunnel::{DropReason, Event, REKEY_AFTER_TIME};
use wireguard::driver::{Seen, Witness};
use wireguard::lab::{Caller, Case, Lab};
use wireguard::peer::Program;
use wireguard::transfer::{PIECE, Span, VOLUME, receive, send};

#[derive(Debug, Clone, Copy)]
enum Direction {
    Up,
    Down,
}

#[test]
fn we_call_wireguard_go() {
    both_ways(young(Case::new(Program::WireguardGo, Caller::Us)));
}

#[test]
fn we_call_wireguard_go_over_ipv6_with_a_preshared_key() {
    let case = Case::new(Program::WireguardGo, Caller::Us).preshared();
    both_ways(young(Case { ipv6: true, ..case }));
}

#[test]
fn we_call_boringtun_with_a_preshared_key() {
    both_ways(young(Case::new(Program::Boringtun, Caller::Us).preshared()));
}

#[test]
fn wireguard_go_calls_us_with_a_preshared_key() {
    both_ways(Case::new(Program::WireguardGo, Caller::Them).preshared());
}

#[test]
fn boringtun_calls_us() {
    both_ways(Case::new(Program::Boringtun, Caller::Them));
}

/// Nobody is prodded: the keys are 120 s old, their initiator sends, and renews them. All four
/// pairs at once, so that it takes little more than those 120 s.
#[test]
fn keys_are_renewed_by_the_clock_of_whoever_called() {
    thread::scope(|scope| {
        for program in [Program::WireguardGo, Program::Boringtun] {
            for caller in [Caller::Them, Caller::Us] {
                scope.spawn(move || renewed_by_the_clock(Case::new(program, caller)));
            }
        }
    });
}

#[test]
fn under_load_wireguard_go_must_bring_a_cookie() {
    a_cookie_is_demanded(Program::WireguardGo);
}

#[test]
fn under_load_boringtun_must_bring_a_cookie() {
    a_cookie_is_demanded(Program::Boringtun);
}

#[test]
fn different_preshared_keys_never_agree() {
    for program in [Program::WireguardGo, Program::Boringtun] {
        let mut case = Case::new(program, Caller::Us).preshared();
        case.our_psk = Some([0x78; 32]);
        let lab = Lab::new(case);
        lab.knock();
        let refused = |seen: &Seen| seen.refused.contains_key(&DropReason::BadHandshake);
        let witness = &lab.driver.witness;
        assert!(witness.wait(Duration::from_secs(20), refused));
        assert_eq!(witness.seen().established(), None);
    }
}

/// Our keys count as old after 3 s; the protocol's 5 s between initiations still hold.
fn young(case: Case) -> Case {
    Case {
        rekey_after: Duration::from_secs(3),
        ..case
    }
}

/// 100 MB up, then 100 MB down, at full speed, each with a rekey by the caller inside.
fn both_ways(case: Case) {
    let lab = Lab::new(case);
    let up = {
        let (ours, theirs) = lab.connect();
        assert_first_handshake_is_the_callers(&lab);
        // Under full load, half way: we are asked to renew, they are made to forget us.
        transfer(&lab, [&ours, &theirs], Direction::Up, || {
            match case.caller {
                Caller::Us => lab.driver.initiate(),
                Caller::Them => {
                    lab.peer.forget_and_learn();
                    lab.knock();
                }
            }
        })
    };
    let (ours, theirs) = lab.connect();
    let down = transfer(&lab, [&ours, &theirs], Direction::Down, || {
        match case.caller {
            // By the age of the keys alone.
            Caller::Us => {}
            Caller::Them => {
                lab.peer.forget_and_learn();
                lab.knock();
            }
        }
    });
    report(&lab, &[up, down]);
    conclude(&lab, 2);
}

fn transfer(
    lab: &Lab,
    [ours, theirs]: [&TcpStream; 2],
    direction: Direction,
    at_half: impl FnOnce() + Send,
) -> Span {
    let witness = &lab.driver.witness;
    let (from, to, seed) = match direction {
        Direction::Up => (ours, theirs, 1),
        Direction::Down => (theirs, ours, 2),
    };
    let span = thread::scope(|scope| {
        scope.spawn(|| send(from, seed, full_speed(witness, at_half)));
        scope.spawn(|| receive(to, seed)).join()
    });
    let span = span.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert_rekeyed_within(&witness.seen(), span);
    span
}

/// Full speed but for the last tenth, which trickles until the keys were replaced: 8 KiB each 50 ms,
/// so that a rekey that never comes ends, after a minute, in a transfer without one. Only a rekey
/// after the first quarter counts: by then the far end has surely seen the first byte.
fn full_speed(witness: &Witness, at_half: impl FnOnce()) -> impl FnMut(usize) -> usize {
    let (mut at_half, mut quarter) = (Some(at_half), None);
    move |sent| {
        if sent >= VOLUME / 4 {
            quarter.get_or_insert_with(Clock::now);
        }
        if sent >= VOLUME / 2
            && let Some(at_half) = at_half.take()
        {
            at_half();
        }
        let rekeyed = |seen: &Seen| seen.rekeyed().last().copied() > quarter;
        if sent < VOLUME / 10 * 9 || witness.wait(Duration::from_millis(50), rekeyed) {
            PIECE
        } else {
            8 << 10
        }
    }
}

/// Even load over a little more than the life of keys; once they were replaced, full speed.
fn paced(witness: &Witness) -> impl FnMut(usize) -> usize {
    let over = REKEY_AFTER_TIME + Duration::from_secs(15);
    let start = Clock::now();
    move |sent| {
        let share = sent as u128 * over.as_micros() / VOLUME as u128;
        let due = start + Duration::from_micros(u64::try_from(share).unwrap());
        let early = due.saturating_duration_since(Clock::now());
        witness.wait(early, |seen| !seen.rekeyed().is_empty());
        PIECE
    }
}

fn renewed_by_the_clock(case: Case) {
    let lab = Lab::new(case);
    let witness = &*lab.driver.witness;
    let (ours, theirs) = lab.connect();
    assert_first_handshake_is_the_callers(&lab);
    let first = lab.peer.latest_handshake().unwrap();
    let spans = thread::scope(|scope| {
        scope.spawn(|| send(&ours, 1, paced(witness)));
        scope.spawn(|| send(&theirs, 2, paced(witness)));
        let ends = [
            scope.spawn(|| receive(&theirs, 1)),
            scope.spawn(|| receive(&ours, 2)),
        ];
        ends.map(|end| {
            end.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    });
    let seen = witness.seen();
    for span in spans {
        assert_rekeyed_within(&seen, span);
    }
    let age = seen.rekeyed()[0] - seen.established().unwrap();
    println!("{case:?}: keys renewed after {age:?}");
    // boringtun looks at its timers four times a second, and any end only when it sends.
    let clock =
        REKEY_AFTER_TIME - Duration::from_secs(1)..REKEY_AFTER_TIME + Duration::from_secs(8);
    assert!(clock.contains(&age), "{case:?}: renewed after {age:?}");
    let second = lab.peer.latest_handshake().unwrap();
    assert!(second >= first + 110, "wg show: {first}, then {second}");
    report(&lab, &spans);
    conclude(&lab, 1);
}

/// The first initiation is refused with a cookie; the one repeated after 5 s brings it along.
fn a_cookie_is_demanded(program: Program) {
    let lab = Lab::new(Case {
        under_load: true,
        ..Case::new(program, Caller::Them)
    });
    let _connection = lab.connect();
    lab.peer
        .expect_log(program.got_cookie(), Duration::from_secs(5));
    let seen = lab.driver.witness.seen();
    assert_eq!(seen.cookies_sent, 1, "{seen:?}");
    assert_eq!(seen.refused.get(&DropReason::CookieDemanded), Some(&1));
    assert_eq!(seen.initiations_received, 2, "{seen:?}");
    assert_eq!(seen.initiations_sent, 0, "{seen:?}");
    assert!(seen.established().is_some());
    assert!(lab.agrees_on_latest_handshake());
}

fn assert_first_handshake_is_the_callers(lab: &Lab) {
    let seen = lab.driver.witness.seen();
    assert!(seen.established().is_some(), "{seen:?}");
    let (own, foreign) = (seen.initiations_sent, seen.initiations_received);
    let is_right = match lab.case.caller {
        Caller::Us => own >= 1 && foreign == 0,
        Caller::Them => own == 0 && foreign >= 1,
    };
    assert!(is_right, "{own} initiations of ours, {foreign} of theirs");
}

fn assert_rekeyed_within(seen: &Seen, span: Span) {
    let inside = |at: &std::time::Instant| span.first < *at && *at < span.last;
    assert!(seen.rekeyed().iter().any(inside), "{span:?} {seen:?}");
}

/// What must be true of any lab after its work: enough rekeys, all by the caller, nothing lost,
/// nothing refused that a correct pair of ends would not refuse.
fn conclude(lab: &Lab, rekeys: usize) {
    assert!(lab.agrees_on_latest_handshake());
    let seen = lab.driver.witness.seen();
    assert_eq!(seen.broken, None);
    assert!(seen.rekeyed().len() >= rekeys, "{seen:?}");
    let (calls, silence) = match lab.case.caller {
        Caller::Us => (seen.initiations_sent, seen.initiations_received),
        Caller::Them => (seen.initiations_received, seen.initiations_sent),
    };
    assert!(calls > rekeys && silence == 0, "{seen:?}");
    for (_, event) in &seen.events {
        let fits = matches!(event, Event::Established { .. } | Event::Rekeyed { .. });
        assert!(fits, "{seen:?}");
    }
    for why in seen.refused.keys() {
        // Packets under way on keys that have just been forgotten.
        assert_eq!(*why, DropReason::UnknownIndex, "{seen:?}");
    }
    assert_eq!(seen.socket.send_errors + seen.socket.receive_errors, 0);
}

fn report(lab: &Lab, [up, down]: &[Span; 2]) {
    let (case, seen) = (lab.case, lab.driver.witness.seen());
    println!(
        "{} called by {:?}{}{}: {:.1} MB/s up, {:.1} MB/s down; {} handshakes ({} initiations of ours, {} of theirs); \
         TCP segments repeated: {} by us, {} by them; queue drops {}; refused {:?}",
        case.program.name(),
        case.caller,
        if case.our_psk.is_some() {
            ", preshared key"
        } else {
            ""
        },
        if case.ipv6 { ", IPv6 outside" } else { "" },
        up.rate(),
        down.rate(),
        seen.rekeyed().len() + 1,
        seen.initiations_sent,
        seen.initiations_received,
        lab.here.retransmitted_segments(),
        lab.there.retransmitted_segments(),
        seen.socket.tunnel_dropped,
        seen.refused,
    );
}
