//! What a board promises: whom it forwards for, and how much.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
use super::*;

const A: (NodeId, &str) = (NodeId([1; 32]), "1.0.0.1:1");
const B: (NodeId, &str) = (NodeId([2; 32]), "1.0.0.2:2");

fn end((node, at): (NodeId, &str)) -> (NodeId, SocketAddr) {
    (node, at.parse().unwrap())
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn frames_go_to_the_other_end_and_from_nobody_else() {
    let now = Instant::now();
    let board = RelayBoard::new(RelayLimits::default());
    board.open(end(A), end(B), 7, now).unwrap();
    board.answered(7);
    assert_eq!(board.forward(at(A.1), 7, 100, now), Some(at(B.1)));
    assert_eq!(board.forward(at(B.1), 7, 50, now), Some(at(A.1)));
    assert_eq!(board.forward(at("1.0.0.3:3"), 7, 50, now), None);
    assert_eq!(board.forward(at(A.1), 8, 50, now), None);
    assert_eq!(board.used()[0].bytes, [100, 50]);
    assert_eq!(board.other(7, B.0), Some(A.0));
    assert_eq!(board.close(7, NodeId([3; 32])), None);
    assert_eq!(board.close(7, B.0), Some(A.0));
    assert_eq!(board.forward(at(A.1), 7, 100, now), None);
}

#[test]
fn what_a_peer_may_hold_is_bounded_and_given_back() {
    let now = Instant::now();
    let limits = RelayLimits {
        channels: 3,
        channels_of_peer: 2,
        ..RelayLimits::default()
    };
    let board = RelayBoard::new(limits);
    let open = |from, to, number| board.open(end(from), end(to), number, now);
    assert_eq!(open(A, A, 7), Err(RelayRefusal::Oneself));
    assert_eq!((open(A, B, 7), open(A, B, 8)), (Ok(()), Ok(())));
    assert_eq!(open(A, B, 9), Err(RelayRefusal::TooMany));
    assert_eq!(open(B, A, 9), Ok(()));
    assert_eq!(open(B, A, 10), Err(RelayRefusal::Full));
    assert_eq!(board.close(7, A.0), Some(B.0));
    assert_eq!(open(A, B, 7), Ok(()));
}

#[test]
fn a_number_is_one_channels_and_is_given_back_with_it() {
    let now = Instant::now();
    let board = RelayBoard::new(RelayLimits::default());
    let open = |from, to| board.open(end(from), end(to), 7, now);
    assert_eq!(open(A, B), Ok(()));
    assert_eq!(
        (open(A, B), open(B, A)),
        (Err(RelayRefusal::Taken), Err(RelayRefusal::Taken))
    );
    board.answered(7);
    // Who tried to have it does not get in by that.
    assert_eq!(board.used()[0].nodes, [A.0, B.0]);
    assert_eq!(board.forward(at(B.1), 7, 50, now), Some(at(A.1)));
    assert_eq!(board.close(7, A.0), Some(B.0));
    assert_eq!(open(B, A), Ok(()));
}

#[test]
fn an_openers_frames_wait_for_the_callee_and_what_rides_in_the_call_is_counted() {
    let now = Instant::now();
    let board = RelayBoard::new(RelayLimits {
        bytes_per_second: 3_000,
        ..RelayLimits::default()
    });
    board.open(end(A), end(B), 7, now).unwrap();
    assert_eq!(board.forward(at(A.1), 7, 100, now), None);
    assert!(!board.admit_first(8, 2_416, now));
    assert!(board.admit_first(7, 2_416, now));
    assert!(!board.admit_first(7, 2_416, now), "the rate is for all");
    assert_eq!(board.forward(at(A.1), 7, 100, now), None);
    assert_eq!(board.used()[0].bytes, [2_416, 0]);
    // Its frames may be here before its answer is.
    assert_eq!(board.forward(at(B.1), 7, 50, now), Some(at(A.1)));
    assert_eq!(board.forward(at(A.1), 7, 100, now), Some(at(B.1)));
    board.open(end(A), end(B), 9, now).unwrap();
    board.answered(9);
    assert_eq!(board.forward(at(A.1), 9, 100, now), Some(at(B.1)));
}

#[test]
fn what_rides_in_a_call_is_of_what_is_free() {
    let now = Instant::now();
    let board = priced(FREE);
    for number in 0..4 {
        board.open(end(A), end(B), number, now).unwrap();
        let passes = board.admit_first(number, 2_500, now);
        assert!(passes);
    }
    board.open(end(A), end(B), 4, now).unwrap();
    assert!(!board.admit_first(4, 2_500, now));
    assert_eq!(board.account(A.0).unwrap().bytes, [10_000, 0]);
}

#[test]
fn a_channel_gets_its_rate_and_no_more() {
    let now = Instant::now();
    let limits = RelayLimits {
        bytes_per_second: 1_000,
        ..RelayLimits::default()
    };
    let board = RelayBoard::new(limits);
    board.open(end(A), end(B), 1, now).unwrap();
    board.answered(1);
    let pass = |bytes, after| {
        board
            .forward(at(A.1), 1, bytes, now + Duration::from_millis(after))
            .is_some()
    };
    assert!(pass(1_000, 0) && !pass(1, 0));
    assert!(pass(500, 500) && !pass(1, 500));
    // It does not save up for more than a second.
    assert!(pass(1_000, 60_000) && !pass(1, 60_000));
    assert_eq!(board.used()[0].refused, 3);
}

#[test]
fn channels_follow_their_peers_and_go_with_them() {
    let now = Instant::now();
    let board = RelayBoard::new(RelayLimits::default());
    board.open(end(A), end(B), 1, now).unwrap();
    board.answered(1);
    let patience = Duration::from_secs(60);
    let moved = |node| Some(at(if node == A.0 { "9.9.9.9:9" } else { B.1 }));
    board.refresh(moved, patience, now);
    assert_eq!(board.forward(at("9.9.9.9:9"), 1, 1, now), Some(at(B.1)));
    assert_eq!(board.forward(at(A.1), 1, 1, now), None);
    board.refresh(moved, patience, now + patience);
    assert_eq!(board.used().len(), 1);
    board.refresh(|node| moved(node).filter(|_| node == A.0), patience, now);
    assert_eq!(board.used().len(), 0);
    board.open(end(A), end(B), 1, now).unwrap();
    board.answered(1);
    board.refresh(moved, patience, now + patience + Duration::from_secs(1));
    assert_eq!(board.used().len(), 0);
}

/// Of a relay with a price, and small figures.
const FREE: FreeLimits = FreeLimits {
    opener: 10_000,
    trickle: 100,
    address: 30_000,
    address_per_second: 200,
    common_per_second: 1_000_000,
    addresses: 3,
};

fn priced(free: FreeLimits) -> RelayBoard {
    RelayBoard::new(RelayLimits {
        free: Some(free),
        ..RelayLimits::default()
    })
}

/// An opener at an address, with a channel of its own.
fn opener(board: &RelayBoard, number: u32, from: &str, now: Instant) -> (NodeId, SocketAddr, u32) {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    key[31] = 9;
    let node = NodeId(key);
    board.open((node, at(from)), end(B), number, now).unwrap();
    board.answered(number);
    (node, at(from), number)
}

/// How many bytes of `offered` pass, as datagrams of 100.
fn pass(board: &RelayBoard, from: SocketAddr, channel: u32, offered: u64, now: Instant) -> u64 {
    let passes = |_: &u64| board.forward(from, channel, 100, now).is_some();
    (0..offered / 100).filter(passes).count() as u64 * 100
}

#[test]
fn who_does_not_pay_gets_the_first_bytes_and_then_a_trickle() {
    let now = Instant::now();
    let board = priced(FREE);
    let (node, from, channel) = opener(&board, 1, "1.0.0.1:1", now);
    assert_eq!(pass(&board, from, channel, 50_000, now), 10_000);
    // Both directions are the opener's: what the other end sends is not free either.
    assert_eq!(pass(&board, at(B.1), channel, 50_000, now), 0);
    let mut passed = 10_000;
    for second in 1..=60 {
        let now = now + Duration::from_secs(second);
        passed += pass(&board, at(B.1), channel, 5_000, now);
        assert_eq!(passed, 10_000 + second * 100);
    }
    // It is saved up for four seconds and no longer.
    let later = now + Duration::from_secs(600);
    assert_eq!(pass(&board, from, channel, 5_000, later), 400);
    let shown = board.account(node).unwrap();
    assert_eq!(shown.bytes, [10_400, 6_000]);
    assert_eq!((shown.channels, shown.allowed), (1, 0));
    assert_eq!(shown.refused, board.used()[0].refused);
    assert_eq!(shown.refused, 40_000 + 50_000 + 60 * 4_900 + 4_600);
}

#[test]
fn who_pays_goes_on_to_its_allowance_and_leaves_what_is_free() {
    let now = Instant::now();
    let board = priced(FREE);
    let (node, from, channel) = opener(&board, 1, "1.0.0.1:1", now);
    board.allow(node, 1_000_000);
    assert_eq!(pass(&board, from, channel, 50_000, now), 10_000, "unasked");
    assert_eq!(board.enroll(node, now), Some([10_000, 0]));
    board.allow(node, 10_000 + 1_000_000);
    assert_eq!(pass(&board, from, channel, 600_000, now), 600_000);
    assert_eq!(pass(&board, at(B.1), channel, 600_000, now), 400_000);
    board.allow(node, 10_000 + 1_500_000);
    assert_eq!(pass(&board, from, channel, 600_000, now), 500_000);
    // A second channel is paid for by the same node, another node is not.
    board.allow(node, 10_000 + 1_600_000);
    board.open((node, from), end(B), 70, now).unwrap();
    board.answered(70);
    assert_eq!(pass(&board, from, 70, 600_000, now), 100_000);
    let (_, stranger, unpaid) = opener(&board, 2, "1.0.0.9:9", now);
    assert_eq!(pass(&board, stranger, unpaid, 600_000, now), 10_000);
    assert_eq!(board.account(node).unwrap().bytes, [1_210_000, 400_000]);
    // It pays no longer: a trickle is left.
    board.allow(node, u64::MAX);
    board.dismiss(node);
    board.allow(node, u64::MAX);
    let later = now + Duration::from_secs(1);
    assert_eq!(pass(&board, from, channel, 600_000, later), 100);
    // Credit does not use up the first bytes.
    let (payer, from, channel) = opener(&board, 3, "1.0.0.8:9", now);
    assert_eq!(board.enroll(payer, now), Some([0, 0]));
    board.allow(payer, 5_000);
    assert_eq!(pass(&board, from, channel, 600_000, now), 5_000 + 10_000);
}

#[test]
fn the_last_train_of_a_credit_passes_whole() {
    let now = Instant::now();
    let board = priced(FREE);
    let (node, from, channel) = opener(&board, 1, "1.0.0.1:1", now);
    board.enroll(node, now).unwrap();
    board.allow(node, 1);
    assert!(board.forward(from, channel, 65_000, now).is_some());
    assert!(board.forward(from, channel, 65_000, now).is_none());
}

#[test]
fn many_keys_of_one_address_share_what_is_free_there() {
    let now = Instant::now();
    let board = priced(FREE);
    let take = |number, from: &str, now| {
        let (_, from, channel) = opener(&board, number, from, now);
        pass(&board, from, channel, 50_000, now)
    };
    let here = |number, now| take(number, &format!("1.0.0.1:{number}"), now);
    assert_eq!((1..=10).map(|n| here(n, now)).sum::<u64>(), 30_000);
    assert_eq!(take(20, "1.0.0.3:1", now), 10_000);
    // One /56 is one customer.
    let v6 = |n| take(n, &format!("[2001:db8:0:1{:02x}::1]:1", n - 30), now);
    assert_eq!((30..40).map(v6).sum::<u64>(), 30_000);
    // Ten seconds fill two thousand bytes in, first bytes and trickle of all together.
    let later = now + Duration::from_secs(10);
    assert_eq!((41..=50).map(|n| here(n, later)).sum::<u64>(), 2_000);
}

#[test]
fn what_is_free_is_bounded_over_all_addresses_and_those_that_are_remembered() {
    let now = Instant::now();
    let limits = FreeLimits {
        common_per_second: 1_000,
        addresses: 100,
        ..FREE
    };
    let board = priced(limits);
    let from = |n: u32| format!("1.0.{}.{}:1", n / 200, n % 200);
    let taken = |range: std::ops::Range<u32>, now| {
        let each = range.map(|n| {
            let (_, at, channel) = opener(&board, n, &from(n), now);
            pass(&board, at, channel, 20_000, now)
        });
        each.sum::<u64>()
    };
    // A minute of the common bucket, whoever comes.
    assert_eq!(taken(1..300, now), 60_000);
    let remembered = || board.free.as_ref().unwrap().remembered();
    assert_eq!(remembered(), 100);
    // Those who have what a new one has are forgotten, as soon as there is somebody to remember.
    let later = now + Duration::from_secs(60);
    assert_eq!(taken(300..301, later), 10_000);
    assert!(remembered() <= 7, "{}", remembered());
    // Addresses of pipes are nobody's.
    let (_, pipe, channel) = opener(&board, 500, "240.0.0.1:1", later);
    assert_eq!(pass(&board, pipe, channel, 20_000, later), 10_000);
    assert!(remembered() <= 7);
}

#[test]
fn an_account_outlives_its_channels_but_not_for_ever() {
    let now = Instant::now();
    let board = priced(FREE);
    let (node, from, channel) = opener(&board, 1, "1.0.0.1:1", now);
    assert_eq!(pass(&board, from, channel, 50_000, now), 10_000);
    board.close(channel, node);
    let (_, from, channel) = opener(&board, 1, "1.0.0.1:1", now);
    assert_eq!(pass(&board, from, channel, 50_000, now), 0, "came back");
    board.close(channel, node);

    let (payer, from, channel) = opener(&board, 2, "1.0.0.2:1", now);
    board.enroll(payer, now).unwrap();
    board.allow(payer, 100_000);
    assert_eq!(pass(&board, from, channel, 50_000, now), 50_000);
    let patience = Duration::from_secs(100);
    let refresh = |seconds| {
        let nobody = |_| None;
        board.refresh(nobody, patience, now + Duration::from_secs(seconds));
    };
    refresh(1);
    assert_eq!((board.used().len(), board.accounts().len()), (0, 2));
    refresh(600);
    assert_eq!(board.accounts().len(), 2);
    refresh(601);
    let accounts = board.accounts();
    assert_eq!(accounts.len(), 1, "who pays stays");
    assert_eq!(accounts[0].bytes, [50_000, 0]);
    assert_eq!((accounts[0].node, accounts[0].channels), (payer, 0));
    board.dismiss(payer);
    refresh(602);
    refresh(1_202);
    assert_eq!(board.accounts().len(), 0);
}

#[test]
fn accounts_are_bounded_and_payers_are_not_put_out() {
    let now = Instant::now();
    let board = RelayBoard::new(RelayLimits {
        channels: 2,
        free: Some(FREE),
        ..RelayLimits::default()
    });
    let most = 2 + 8_192;
    let (payer, ..) = opener(&board, 1, "1.0.0.1:1", now);
    board.enroll(payer, now).unwrap();
    for number in 2..most as u32 + 10 {
        let (node, _, channel) = opener(&board, number, "1.0.0.1:1", now);
        board.close(channel, node);
        assert!(board.accounts().len() <= most);
    }
    assert!(board.account(payer).is_some());
    // If all pay nobody else comes in.
    let key = |number: u32| {
        let mut key = [7; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        NodeId(key)
    };
    let enrolled = (0..10_000).filter(|n| board.enroll(key(*n), now).is_some());
    assert_eq!(enrolled.count(), most - 1);
    let refused = board.open(end(A), end(B), 5, now);
    assert_eq!(refused, Err(RelayRefusal::Full));
}

#[test]
fn a_relay_without_a_price_keeps_no_accounts() {
    let now = Instant::now();
    let board = RelayBoard::new(RelayLimits::default());
    let (node, from, channel) = opener(&board, 1, "1.0.0.1:1", now);
    assert_eq!(pass(&board, from, channel, 10_000_000, now), 10_000_000);
    assert_eq!((board.accounts(), board.account(node)), (Vec::new(), None));
    assert_eq!(board.enroll(node, now), None);
    board.dismiss(node);
    assert_eq!(pass(&board, from, channel, 10_000_000, now), 10_000_000);
}
