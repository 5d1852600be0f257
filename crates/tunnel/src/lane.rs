//! Lanes: several endpoints of one static key, side by side, that share no state.
//! It refuses to know threads, sockets and queues; it only says which lane owns what.
//!
//! One endpoint is one pipeline: its packets keep their order because one thread carries them. A provider with several
//! cores runs several endpoints with the same key, each with peers of its own. Whoever receives must then tell from a
//! datagram alone which endpoint it is for. Three of the four messages name a receiver index that we chose ourselves, so
//! an endpoint of lane *k* of *n* chooses only indices whose **first byte on the wire** (their lowest) is *k* modulo *n*:
//! one byte, because a packet filter reads bytes without asking for their order. The initiation names no index; see
//! [`crate::Endpoint::open_call`].

/// Lane `number` of `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lane {
    number: u8,
    of: u8,
}

impl Lane {
    /// Lanes at most: each then still chooses among 2^24 × 4 indices, and no machine gains from more.
    pub const MOST: usize = 64;

    /// The only lane: every index belongs to it.
    pub const ONLY: Self = Self { number: 0, of: 1 };

    /// Lane `number` (from 0) of `of`; `None` unless `number < of` and `of` is 1 to [`Self::MOST`].
    #[must_use]
    pub fn new(number: usize, of: usize) -> Option<Self> {
        if number >= of || of > Self::MOST {
            return None;
        }
        Some(Self {
            number: u8::try_from(number).ok()?,
            of: u8::try_from(of).ok()?,
        })
    }

    /// Which one, from 0.
    #[must_use]
    pub fn number(self) -> usize {
        self.number.into()
    }

    /// How many there are.
    #[must_use]
    pub fn of(self) -> usize {
        self.of.into()
    }

    /// Whether a receiver index is one that this lane may choose.
    #[must_use]
    pub fn owns(self, index: u32) -> bool {
        index.to_le_bytes()[0] % self.of == self.number
    }

    /// An index of this lane out of 32 uniformly random bytes. Its upper 24 bits are uniform, and so is its lowest byte
    /// among those of this lane (256 / `of`, within one): less the logarithm of `of`, it is as hard to guess as before.
    pub(crate) fn index(self, drawn: &[u8; 32]) -> u32 {
        let [first, second, third, fourth, rest @ ..] = drawn;
        // 40 bits, so that the remainder favours no byte by more than 2^-32. Their lowest byte comes first, so that the
        // only lane takes it as it is.
        let pick = u64::from_le_bytes([*first, rest[0], rest[1], rest[2], rest[3], 0, 0, 0]);
        let (number, of) = (u64::from(self.number), u64::from(self.of));
        let bytes = (255 - number) / of + 1;
        let lowest = number + of * (pick % bytes);
        let lowest = u8::try_from(lowest).expect("number + of x (bytes - 1) is at most 255");
        u32::from_le_bytes([lowest, *second, *third, *fourth])
    }
}

impl Default for Lane {
    fn default() -> Self {
        Self::ONLY
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::chance::Chance;

    #[test]
    fn there_is_no_lane_beyond_the_last() {
        for of in [1, 2, 3, 64] {
            assert_eq!(Lane::new(of - 1, of).map(Lane::number), Some(of - 1));
            assert_eq!(Lane::new(of, of), None);
        }
        assert_eq!((Lane::new(0, 0), Lane::new(0, 65)), (None, None));
        assert_eq!(Lane::new(0, 1), Some(Lane::ONLY));
    }

    #[test]
    fn every_index_has_exactly_one_owner() {
        for of in 1..=Lane::MOST {
            for index in (0..=0xffff_u32).map(|low| low | 0xabcd_0000) {
                let owners = (0..of).filter(|number| Lane::new(*number, of).unwrap().owns(index));
                assert_eq!(owners.count(), 1, "{index:#x} of {of}");
            }
        }
    }

    #[test]
    fn the_only_lane_takes_the_drawn_bytes_as_they_are() {
        let drawn: [u8; 32] = std::array::from_fn(|at| at as u8 + 1);
        assert_eq!(Lane::ONLY.index(&drawn), 0x0403_0201);
    }

    #[test]
    fn all_bytes_of_a_lane_are_chosen_equally_often() {
        for (number, of) in [(0, 1), (0, 2), (2, 3), (6, 7), (63, 64)] {
            let (lane, mut chance) = (Lane::new(number, of).unwrap(), Chance::new([9; 32]));
            let mut seen = [0_u32; 256];
            let mut all = BTreeSet::new();
            for _ in 0..20_000 {
                let index = lane.index(&chance.draw());
                seen[usize::from(index as u8)] += 1;
                all.insert(index);
            }
            let bytes = (0..256).filter(|byte| byte % of == number).count() as u32;
            let mean = 20_000 / bytes;
            for (byte, count) in seen.iter().enumerate() {
                let expect = if byte % of == number { mean } else { 0 };
                // Six standard deviations of a Poisson distribution.
                let spread = 6.0 * f64::from(expect).sqrt();
                let off = (f64::from(*count) - f64::from(expect)).abs();
                assert!(off <= spread, "{byte} of {number}/{of}: {count}");
            }
            // Of 20,000 among 2^24 x bytes at most a dozen or so collide.
            assert!(all.len() > 19_900, "{number}/{of}: {}", all.len());
        }
    }

    proptest! {
        #[test]
        fn an_index_is_its_lanes(drawn: [u8; 32], of in 1..=Lane::MOST, number in 0..Lane::MOST) {
            let lane = Lane::new(number % of, of).unwrap();
            prop_assert!(lane.owns(lane.index(&drawn)));
        }
    }
}
