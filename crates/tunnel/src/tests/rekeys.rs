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

/// Datagrams under way, by the time of their arrival: 1 to 64 ms after they left.
struct Link {
    under_way: BTreeMap<(Instant, u64), (bool, Vec<u8>)>,
    sent: u64,
    /// Whether one datagram of a hundred is lost.
    lossy: bool,
    chance: Chance,
}

impl Link {
    /// Whether the datagram will arrive.
    fn send(&mut self, now: Instant, up: bool, bytes: Vec<u8>) -> bool {
        self.sent += 1;
        let draw = self.chance.draw_u32();
        if self.lossy && (draw >> 8).is_multiple_of(100) {
            return false;
        }
        let delay = Duration::from_millis(u64::from(draw % 64) + 1);
        self.under_way.insert((now + delay, self.sent), (up, bytes));
        true
    }

    /// What arrives before `now`, in that order.
    fn arrivals(&mut self, now: Instant) -> impl Iterator<Item = (bool, Vec<u8>)> + use<> {
        let later = self.under_way.split_off(&(now, 0));
        std::mem::replace(&mut self.under_way, later).into_values()
    }
}

struct Tally {
    /// By direction and number: how often it came out, after having been sealed.
    opened: [Vec<u8>; 2],
    /// By direction: numbers of packets that the link lost.
    lost: [Vec<u32>; 2],
    dropped: Vec<DropReason>,
    rekeyed: usize,
    newest: [u32; 2],
    reordered: u32,
}

impl Tally {
    fn note(&mut self, up: bool, got: Got) {
        match got {
            Got::Packet(_, bytes) => {
                let (side, number) = (usize::from(up), number_of(&bytes));
                self.opened[side][number as usize] += 1;
                self.reordered += u32::from(number < self.newest[side]);
                self.newest[side] = self.newest[side].max(number);
            }
            Got::Dropped(why) => self.dropped.push(why),
            Got::Keepalive(_) | Got::Handshake(_) => {}
        }
    }
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

/// The end that sends `up`, or down.
fn sender(pair: &mut Pair, up: bool) -> &mut Endpoint {
    if up {
        &mut pair.consumer
    } else {
        &mut pair.provider
    }
}

fn stream(lossy: bool, seed: u8) -> Tally {
    let mut pair = Pair::established();
    let mut link = Link {
        under_way: BTreeMap::new(),
        sent: 0,
        lossy,
        chance: Chance::new([seed; 32]),
    };
    let count = (STEPS * BURST) as usize;
    let mut tally = Tally {
        opened: [vec![0; count], vec![0; count]],
        lost: [Vec::new(), Vec::new()],
        dropped: Vec::new(),
        rekeyed: 0,
        newest: [0; 2],
        reordered: 0,
    };
    let (begin, mut numbers) = (pair.now, 0..STEPS * BURST);
    // Two seconds more than the stream: what is under way arrives.
    while pair.now < begin + TEN_MINUTES + 2 * SECOND {
        let now = pair.now;
        let burst: Vec<u32> = numbers.by_ref().take(BURST as usize).collect();
        for up in [true, false] {
            let from = sender(&mut pair, up);
            from.handle_timeout(now);
            for number in &burst {
                let datagram = seal(from, &numbered(up, *number), now);
                if !link.send(now, up, datagram) {
                    tally.lost[usize::from(up)].push(*number);
                }
            }
            // What the machine itself wants to send: handshakes, keepalives.
            for sent in transmits(from) {
                link.send(now, up, sent.payload);
            }
        }
        pair.now += STEP;
        for (up, datagram) in link.arrivals(pair.now) {
            let (now, from) = (pair.now, address(if up { 1 } else { 2 }));
            let got = receive(sender(&mut pair, !up), from, &datagram, now);
            tally.note(up, got);
        }
        for up in [true, false] {
            let told = events(sender(&mut pair, up));
            let renewed = |event: &&Event| matches!(event, Event::Rekeyed { .. });
            tally.rekeyed += told.iter().filter(renewed).count();
        }
    }
    tally
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
