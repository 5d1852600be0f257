//! One pair of transport keys: seals and opens packets, counts, and knows when it has become too old.
//! It refuses to reuse a counter, to go past the message limit, and to accept a counter twice.

use std::time::{Duration, Instant};

use aws_lc_rs::aead::{Aad, LessSafeKey};

#[cfg(doc)]
use crate::message::TAG;
use crate::message::{OVERHEAD, TRANSPORT_HEADER, write_transport_header};
use crate::noise::nonce;
use crate::replay::ReplayWindow;
use crate::timers::{LATE_REKEY_TIME, REJECT_AFTER_TIME, REKEY_AFTER_TIME, elapsed};

/// A new handshake is due after this many messages under one key (WireGuard paper, section 6.1).
pub(crate) const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// No message at or beyond this counter is sent or accepted: 2^64 − 2^13 − 1, so that the counter plus the replay
/// window (2^13) never wraps.
pub(crate) const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

/// Padding rounds a packet up to a multiple of this.
pub(crate) const PADDING: usize = 16;

/// Who started the handshake these keys come from. Only the initiator renews them by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Initiator,
    Responder,
}

/// Two AEAD contexts (about 0.6 KiB each, inside AWS-LC), the replay window (1 KiB), and bookkeeping.
pub(crate) struct Keypair {
    pub(crate) role: Role,
    pub(crate) local_index: u32,
    remote_index: u32,
    send: LessSafeKey,
    receive: LessSafeKey,
    pub(crate) next_counter: u64,
    replay: ReplayWindow,
    pub(crate) born: Instant,
    /// Compared with for each packet, which costs less than counting an age.
    dies: Instant,
    /// An initiator asks for new keys once when data still arrives close to the end.
    pub(crate) asked_late: bool,
}

/// Why a transport message was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unopened {
    Expired,
    Replayed,
    Forged,
}

impl Keypair {
    pub(crate) fn new(
        role: Role,
        local_index: u32,
        remote_index: u32,
        send: LessSafeKey,
        receive: LessSafeKey,
        born: Instant,
    ) -> Self {
        let replay = ReplayWindow::new();
        Self {
            role,
            local_index,
            remote_index,
            send,
            receive,
            next_counter: 0,
            replay,
            born,
            dies: born + REJECT_AFTER_TIME,
            asked_late: false,
        }
    }

    /// Whether these keys may still be used at all.
    pub(crate) fn is_alive(&self, now: Instant) -> bool {
        now < self.dies
    }

    /// Whether anything was opened with these keys.
    pub(crate) fn was_heard(&self) -> bool {
        self.replay.seen_any()
    }

    /// Whether these keys may still seal.
    pub(crate) fn can_send(&self, now: Instant) -> bool {
        self.is_alive(now) && self.next_counter < REJECT_AFTER_MESSAGES
    }

    /// Whether these keys should be renewed by who sends with them: by age if we initiated them, by count in any case.
    pub(crate) fn is_due(&self, now: Instant, rekey_after: Duration) -> bool {
        let limit = rekey_after.min(REKEY_AFTER_TIME);
        let by_age = self.role == Role::Initiator && elapsed(self.born, now) >= limit;
        by_age || self.next_counter > REKEY_AFTER_MESSAGES
    }

    /// Whether data that arrives now makes us ask for new keys, although we need not have anything to send.
    pub(crate) fn asks_late(&self, now: Instant) -> bool {
        self.role == Role::Initiator
            && !self.asked_late
            && elapsed(self.born, now) >= LATE_REKEY_TIME
    }

    /// Seals what lies in `frame` between [`TRANSPORT_HEADER`] bytes of room and [`TAG`] bytes of room, padding included,
    /// and returns the length of the datagram, which is `frame`'s. `None` when the counter is used up or there is no
    /// room; the caller has checked [`Self::can_send`].
    pub(crate) fn seal_in_place(&mut self, frame: &mut [u8]) -> Option<usize> {
        let len = frame.len();
        if self.next_counter >= REJECT_AFTER_MESSAGES || len < OVERHEAD {
            return None;
        }
        let counter = self.next_counter;
        // INVARIANT: the counter moves before the key is used, so no failure can repeat a nonce.
        self.next_counter += 1;
        let (header, body) = frame.split_at_mut(TRANSPORT_HEADER);
        write_transport_header(header, self.remote_index, counter);
        let (content, room) = body.split_at_mut(len - OVERHEAD);
        let tag = self
            .send
            .seal_in_place_separate_tag(nonce(counter), Aad::empty(), content)
            .ok()?;
        room.copy_from_slice(tag.as_ref());
        Some(len)
    }

    /// Opens `sealed` in place: the plaintext (padded) and whether this is the newest counter so far.
    pub(crate) fn open<'a>(
        &mut self,
        counter: u64,
        sealed: &'a mut [u8],
        now: Instant,
    ) -> Result<(&'a mut [u8], bool), Unopened> {
        if !self.is_alive(now) || counter >= REJECT_AFTER_MESSAGES {
            return Err(Unopened::Expired);
        }
        if !self.replay.would_accept(counter) {
            return Err(Unopened::Replayed);
        }
        let plain = self
            .receive
            .open_in_place(nonce(counter), Aad::empty(), sealed)
            .map_err(|_| Unopened::Forged)?;
        let is_newest = self.replay.accept(counter).ok_or(Unopened::Replayed)?;
        Ok((plain, is_newest))
    }
}

/// Zero bytes to add so that the length is a multiple of 16, without growing a packet beyond the MTU. A packet that is
/// already longer than the MTU (it will be cut by a lower layer) is padded as its last piece would be.
pub(crate) fn padding_for(len: usize, mtu: usize) -> usize {
    let last = if len > mtu { len % mtu.max(1) } else { len };
    last.next_multiple_of(PADDING).min(mtu.max(last)) - last
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::noise::aead;
    use crate::tests::instant;

    fn pair() -> (Keypair, Keypair) {
        let born = instant();
        let a = Keypair::new(Role::Initiator, 1, 2, aead(&[1; 32]), aead(&[2; 32]), born);
        let b = Keypair::new(Role::Responder, 2, 1, aead(&[2; 32]), aead(&[1; 32]), born);
        (a, b)
    }

    #[test]
    fn every_length_and_padding_opens_to_itself() {
        let (mut a, mut b) = pair();
        for len in (0..200).chain([1_279, 1_280, 1_419, 1_420, 65_000]) {
            let packet: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            for padding in 0..PADDING {
                let mut wire = vec![0; len + padding + OVERHEAD];
                wire[TRANSPORT_HEADER..][..len].copy_from_slice(&packet);
                assert_eq!(a.seal_in_place(&mut wire), Some(wire.len()));
                let counter = crate::message::counter_of(&wire);
                let (plain, newest) = b
                    .open(counter, &mut wire[TRANSPORT_HEADER..], b.born)
                    .unwrap();
                assert!(newest);
                assert_eq!(plain[..len], packet);
                assert!(plain[len..].iter().all(|byte| *byte == 0));
                assert_eq!(plain.len(), len + padding);
            }
        }
    }

    #[test]
    fn padding_fills_sixteen_but_never_the_mtu() {
        let check = |len: usize, mtu: usize, expect: usize| {
            assert_eq!(padding_for(len, mtu), expect, "{len} {mtu}")
        };
        check(0, 1_420, 0);
        check(1, 1_420, 15);
        check(16, 1_420, 0);
        check(1_409, 1_420, 11);
        check(1_408, 1_420, 0);
        check(1_420, 1_420, 0);
        check(1_421, 1_420, 15);
        check(2_839, 1_420, 1);
        check(5, 0, 0);
    }

    #[test]
    fn a_frame_without_room_is_refused_and_no_counter_is_used_twice() {
        let (mut a, _) = pair();
        assert_eq!(a.seal_in_place(&mut [0; 31]), None);
        let mut first = [0; 64];
        let mut second = [0; 64];
        assert_eq!(a.seal_in_place(&mut first), Some(64));
        assert_eq!(a.seal_in_place(&mut second), Some(64));
        assert_eq!(crate::message::counter_of(&first), 0);
        assert_eq!(crate::message::counter_of(&second), 1);
    }

    #[test]
    fn keys_die_at_180_seconds() {
        let (a, mut b) = pair();
        let last = a.born + REJECT_AFTER_TIME - Duration::from_nanos(1);
        assert!(a.can_send(last));
        assert!(!a.can_send(a.born + REJECT_AFTER_TIME));
        assert_eq!(
            b.open(0, &mut [0; 16], b.born + REJECT_AFTER_TIME)
                .unwrap_err(),
            Unopened::Expired
        );
    }
}
