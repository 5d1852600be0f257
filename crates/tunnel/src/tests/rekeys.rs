//! Renewal of keys in the midst of traffic: ten minutes both ways over a link that delays and reorders.
//! It refuses to average: every single packet is accounted for.

use std::collections::BTreeMap;

use super::*;
use crate::chance::Chance;

/// One step of virtual time; packets leave in every one of them, so also between any two handshake messages.
const STEP: Duration = Duration::from_millis(10);
const STEPS: u32 = 60_000;
const TEN_MINUTES: Duration = Duration::from_secs(600);
/// Packets each way per step.
const BURST: u32 = 2;

/// Datagrams under way, by the time of their arrival.
#[derive(Default)]
struct Link {
    under_way: BTreeMap<(Instant, u64), (bool, Vec<u8>)>,
    sent: u64,
    lost: u64,
}

/// A delay of 1 to 64 ms, and one datagram of a hundred lost if the link is `lossy`.
fn send(
    link: &mut Link,
    chance: &mut Chance,
    lossy: bool,
    now: Instant,
    up: bool,
    bytes: Vec<u8>,
) -> bool {
    link.sent += 1;
    let draw = chance.draw_u32();
    if lossy && (draw >> 8).is_multiple_of(100) {
        link.lost += 1;
        return false;
    }
    let delay = Duration::from_millis(u64::from(draw % 64) + 1);
    link.under_way.insert((now + delay, link.sent), (up, bytes));
    true
}

struct Tally {
    /// By direction and number: how often it came out, after having been sealed.
    opened: [Vec<u8>; 2],
    /// By direction: numbers of packets that the link lost.
    lost: [Vec<u32>; 2],
    dropped: Vec<DropReason>,
    rekeyed: usize,
    reordered: u32,
}

fn numbered(up: bool, number: u32) -> Vec<u8> {
    let (source, destination) = if up { OUT } else { BACK };
    let mut bytes = packet(source, destination, 40);
    bytes[36..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn number_of(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[36..40].try_into().unwrap())
}

fn stream(lossy: bool, seed: u8) -> Tally {
    let (mut pair, mut chance) = (Pair::established(), Chance::new([seed; 32]));
    let mut link = Link::default();
    let count = (STEPS * BURST) as usize;
    let mut tally = Tally {
        opened: [vec![0; count], vec![0; count]],
        lost: [Vec::new(), Vec::new()],
        dropped: Vec::new(),
        rekeyed: 0,
        reordered: 0,
    };
    let mut newest = [0; 2];
    let (begin, mut next) = (pair.now, 0);
    // Two seconds more than the stream: what is under way arrives.
    while pair.now < begin + TEN_MINUTES + 2 * SECOND {
        pair.consumer.handle_timeout(pair.now);
        pair.provider.handle_timeout(pair.now);
        if pair.now < begin + TEN_MINUTES {
            for number in next..next + BURST {
                for up in [true, false] {
                    let from = if up {
                        &mut pair.consumer
                    } else {
                        &mut pair.provider
                    };
                    let datagram = seal(from, &numbered(up, number), pair.now);
                    if !send(&mut link, &mut chance, lossy, pair.now, up, datagram) {
                        tally.lost[usize::from(up)].push(number);
                    }
                }
            }
            next += BURST;
        }
        exchange(&mut pair, &mut link, &mut chance, lossy);
        pair.now += STEP;
        let later = link.under_way.split_off(&(pair.now, 0));
        for (_, (up, datagram)) in std::mem::replace(&mut link.under_way, later) {
            let (to, from) = if up {
                (&mut pair.provider, address(1))
            } else {
                (&mut pair.consumer, address(2))
            };
            match receive(to, from, &datagram, pair.now) {
                Got::Packet(_, bytes) => {
                    let (side, number) = (usize::from(up), number_of(&bytes));
                    tally.opened[side][number as usize] += 1;
                    tally.reordered += u32::from(number < newest[side]);
                    newest[side] = newest[side].max(number);
                }
                Got::Dropped(why) => tally.dropped.push(why),
                Got::Keepalive(_) | Got::Handshake(_) => {}
            }
        }
        let of_both = [events(&mut pair.consumer), events(&mut pair.provider)];
        tally.rekeyed += of_both
            .iter()
            .flatten()
            .filter(|event| matches!(event, Event::Rekeyed { .. }))
            .count();
    }
    tally
}

/// What the machines themselves want to send: handshakes, keepalives.
fn exchange(pair: &mut Pair, link: &mut Link, chance: &mut Chance, lossy: bool) {
    for up in [true, false] {
        let from = if up {
            &mut pair.consumer
        } else {
            &mut pair.provider
        };
        for sent in transmits(from) {
            send(link, chance, lossy, pair.now, up, sent.payload);
        }
    }
}

#[test]
fn keys_are_renewed_under_full_load_without_a_lost_packet() {
    let tally = stream(false, 1);
    assert_eq!(tally.dropped, []);
    for opened in &tally.opened {
        assert!(opened.iter().all(|times| *times == 1), "not exactly once");
    }
    // At 120, 240, 360 and 480 s and shortly after; both ends tell.
    assert_eq!(tally.rekeyed, 2 * 4, "of ten minutes at 120 s each");
    assert!(
        tally.reordered > STEPS,
        "the link reorders: {}",
        tally.reordered
    );
}

#[test]
fn with_one_percent_loss_only_the_lost_packets_miss() {
    let tally = stream(true, 2);
    assert_eq!(tally.dropped, []);
    for (opened, lost) in tally.opened.iter().zip(&tally.lost) {
        let missing: Vec<u32> = (0..)
            .zip(opened)
            .filter(|(_, times)| **times == 0)
            .map(|(number, _)| number)
            .collect();
        assert_eq!(missing, *lost);
        assert!(opened.iter().all(|times| *times <= 1), "more than once");
        // 1 % of 120,000, ± 6 standard deviations (34 each).
        assert!((1_000..=1_400).contains(&lost.len()), "{}", lost.len());
    }
    assert!(tally.rekeyed >= 2 * 4, "{}", tally.rekeyed);
}
