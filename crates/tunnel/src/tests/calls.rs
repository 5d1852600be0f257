//! Several endpoints of one key: one opens what arrives without an index, the peer's own answers.

use proptest::prelude::*;

use super::*;
use crate::{COOKIE_LEN, Call, INITIATION_LEN, Lane, MessageKind, classify};

/// A provider of `lanes` lanes and the consumer that belongs to lane `home`.
struct Lanes {
    now: Instant,
    consumer: Endpoint,
    exit: PeerId,
    lanes: Vec<Endpoint>,
    home: usize,
}

impl Lanes {
    fn new(of: usize, home: usize) -> Self {
        let now = instant();
        let lanes = (0..of).map(|number| {
            let config = EndpointConfig {
                lane: Lane::new(number, of).unwrap(),
                ..EndpointConfig::default()
            };
            let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
            let seed = [0xa0 + number as u8; 32];
            Endpoint::new(StaticSecret::from_bytes([2; 32]), seed, now, wall, config)
        });
        let mut lanes: Vec<_> = lanes.collect();
        let mut consumer = endpoint(1, now);
        let mut guest = PeerConfig::new(consumer.public_key());
        guest.allowed_ips = vec!["10.8.0.2/32".parse().unwrap()];
        guest.endpoint = Some(address(1));
        lanes[home].add_peer(guest).unwrap();
        let mut exit = PeerConfig::new(lanes[0].public_key());
        exit.allowed_ips = vec!["0.0.0.0/0".parse().unwrap()];
        exit.endpoint = Some(address(2));
        let exit = consumer.add_peer(exit).unwrap();
        Self {
            now,
            consumer,
            exit,
            lanes,
            home,
        }
    }

    fn initiation(&mut self) -> Vec<u8> {
        self.now += SECOND;
        assert!(self.consumer.initiate(self.exit, self.now));
        transmits(&mut self.consumer).remove(0).payload
    }

    fn call(&mut self, initiation: &[u8]) -> Result<Call, DropReason> {
        self.lanes[0].open_call(address(1), initiation, self.now)
    }
}

/// Messages that name an index of ours name one of that lane.
fn named(message: &[u8]) -> u32 {
    let at = if classify(message) == Some(MessageKind::Response) {
        8
    } else {
        4
    };
    u32::from_le_bytes(message[at..at + 4].try_into().unwrap())
}

#[test]
fn a_call_is_opened_by_one_endpoint_and_answered_by_another() {
    for (of, home) in [(1, 0), (2, 0), (2, 1), (3, 2), (64, 37)] {
        let mut lanes = Lanes::new(of, home);
        let mine = Lane::new(home, of).unwrap();
        // Several times: indices are drawn anew.
        for _ in 0..5 {
            let initiation = lanes.initiation();
            let before = lanes.lanes[0].footprint();
            let call = lanes.call(&initiation).unwrap();
            assert_eq!(lanes.lanes[0].footprint(), before);
            assert_eq!(
                (call.caller(), call.from()),
                (lanes.consumer.public_key(), address(1))
            );
            let (now, home) = (lanes.now, lanes.home);
            let outcome = lanes.lanes[home].answer(call, now);
            assert!(matches!(outcome, Received::Handshake { .. }), "{outcome:?}");
            let response = transmits(&mut lanes.lanes[home]).remove(0);
            assert_eq!(response.to, address(1));
            let got = receive(&mut lanes.consumer, address(2), &response.payload, now);
            assert!(matches!(got, Got::Handshake(_)), "{got:?}");
            let keepalive = transmits(&mut lanes.consumer).remove(0).payload;
            assert!(mine.owns(named(&keepalive)));
            let got = receive(&mut lanes.lanes[home], address(1), &keepalive, now);
            assert!(matches!(got, Got::Keepalive(_)), "{got:?}");
            let data = seal(&mut lanes.consumer, &packet(OUT.0, OUT.1, 90), now);
            assert!(mine.owns(named(&data)));
            let got = receive(&mut lanes.lanes[home], address(1), &data, now);
            assert!(matches!(got, Got::Packet(..)), "{got:?}");
        }
    }
}

#[test]
fn what_answers_a_lanes_own_initiation_names_an_index_of_that_lane() {
    let mut lanes = Lanes::new(4, 3);
    let (now, home) = (lanes.now, lanes.home);
    let guest = lanes.lanes[home]
        .peer_with_key(&lanes.consumer.public_key())
        .unwrap();
    lanes.lanes[home].initiate(guest, now);
    let initiation = transmits(&mut lanes.lanes[home]).remove(0).payload;
    receive(&mut lanes.consumer, address(2), &initiation, now);
    let response = transmits(&mut lanes.consumer).remove(0).payload;
    assert!(Lane::new(3, 4).unwrap().owns(named(&response)));
    lanes.consumer.set_under_load(true);
    lanes.now += SECOND * 200;
    lanes.lanes[home].handle_timeout(lanes.now);
    lanes.lanes[home].initiate(guest, lanes.now);
    let initiation = transmits(&mut lanes.lanes[home]).pop().unwrap().payload;
    receive(&mut lanes.consumer, address(2), &initiation, lanes.now);
    let cookie = transmits(&mut lanes.consumer).pop().unwrap().payload;
    assert_eq!(classify(&cookie), Some(MessageKind::Cookie));
    assert!(Lane::new(3, 4).unwrap().owns(named(&cookie)));
}

#[test]
fn under_load_a_caller_must_return_its_cookie_before_it_is_told_apart() {
    let mut lanes = Lanes::new(2, 1);
    lanes.lanes[0].set_under_load(true);
    let initiation = lanes.initiation();
    assert_eq!(
        lanes.call(&initiation).unwrap_err(),
        DropReason::CookieDemanded
    );
    let cookie = transmits(&mut lanes.lanes[0]).remove(0).payload;
    assert_eq!(cookie.len(), COOKIE_LEN);
    receive(&mut lanes.consumer, address(2), &cookie, lanes.now);
    lanes.now += SECOND * 6;
    lanes.consumer.handle_timeout(lanes.now);
    let again = transmits(&mut lanes.consumer).remove(0).payload;
    let call = lanes.call(&again).unwrap();
    let outcome = lanes.lanes[1].answer(call, lanes.now);
    assert!(matches!(outcome, Received::Handshake { .. }), "{outcome:?}");
    // And no more of them than its source's allowance.
    let refused = (0..100).find_map(|_| lanes.call(&again).err());
    assert_eq!(refused, Some(DropReason::RateLimited));
}

#[test]
fn a_call_proves_neither_freshness_nor_acquaintance() {
    let mut lanes = Lanes::new(2, 1);
    let initiation = lanes.initiation();
    let (first, again, strange) = (
        lanes.call(&initiation).unwrap(),
        lanes.call(&initiation).unwrap(),
        lanes.call(&initiation).unwrap(),
    );
    let now = lanes.now;
    let mut answer = |lane: usize, call| match lanes.lanes[lane].answer(call, now) {
        Received::Dropped(why) => Some(why),
        Received::Handshake { .. } => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(answer(1, first), None);
    assert_eq!(answer(1, again), Some(DropReason::ReplayedHandshake));
    assert_eq!(answer(0, strange), Some(DropReason::UnknownPeer));
}

#[test]
fn junk_is_no_call_and_costs_no_answer() {
    let mut lanes = Lanes::new(2, 1);
    let initiation = lanes.initiation();
    for at in 0..INITIATION_LEN - 16 {
        let mut altered = initiation.clone();
        altered[at] ^= 1;
        let why = lanes.call(&altered).unwrap_err();
        let expect = if at < 4 {
            DropReason::NotAMessage
        } else {
            DropReason::BadMac1
        };
        assert_eq!(why, expect, "byte {at}");
    }
    assert!(transmits(&mut lanes.lanes[0]).is_empty());
    assert!(lanes.call(&initiation).is_ok(), "the positive control");
}

/// It goes from the thread that opened it to the one that answers, through a queue whose length times this is memory.
#[test]
fn a_call_may_change_threads_and_is_small() {
    fn sent<T: Send>() {}
    sent::<Call>();
    assert!(size_of::<Call>() <= 2_048, "{}", size_of::<Call>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_datagram_is_a_call_by_chance(
        mut datagram in proptest::collection::vec(any::<u8>(), 0..300),
        shaped: bool,
        sealed: bool,
    ) {
        let now = instant();
        let mut one = endpoint(2, now);
        if shaped {
            datagram.resize(INITIATION_LEN, 0x5a);
            datagram[..4].copy_from_slice(&[1, 0, 0, 0]);
            if sealed {
                let keys = crate::cookie::MacKeys::of(&one.public_key());
                crate::cookie::CookieJar::default().seal(&mut datagram, &keys, now);
            }
        }
        let expect = match (shaped, sealed) {
            (true, true) => DropReason::BadHandshake,
            (true, false) => DropReason::BadMac1,
            (false, _) => DropReason::NotAMessage,
        };
        let before = one.footprint();
        prop_assert_eq!(one.open_call(address(9), &datagram, now).err(), Some(expect));
        prop_assert_eq!(one.footprint(), before);
    }
}
