//! The Internet checksum (RFC 1071), as fast as safe code gets it: words of 64 bits, four sums at a time, each with
//! room for its carries.
//!
//! A sum is independent of byte order (RFC 1071 §2 B): words are added as they lie in memory and leave as they came. It
//! refuses to know where in a packet a checksum lies.

/// A ones' complement sum that has not been folded to 16 bits yet. At most 2^30 additions.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// Adds `bytes`, which begin at an even place of what is summed; an odd last byte counts as the first of a word.
    #[must_use]
    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        // The compiler makes an addition and one of the carry of each; one sum would wait for itself.
        let mut sums = [0u128; 4];
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            let (words, _) = block.as_chunks();
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum = sum.wrapping_add(u64::from_ne_bytes(*word).into());
            }
        }
        let [a, b, c, d] = sums;
        let all = a.wrapping_add(b).wrapping_add(c).wrapping_add(d);
        Self(self.0 + folded(all.wrapping_add(few(rest))))
    }

    /// Copies `from` to the front of `to`, which is at least as long, and adds it as [`bytes`](Self::bytes) would.
    #[must_use]
    pub(super) fn copy(self, from: &[u8], to: &mut [u8]) -> Self {
        let to = &mut to[..from.len()];
        // A packet stays in the nearest cache between the two.
        to.copy_from_slice(from);
        self.bytes(to)
    }

    /// Adds a number.
    #[must_use]
    pub(super) fn word(self, word: u16) -> Self {
        self.raw(word.to_be())
    }

    /// Takes a number away that was added as [`word`](Self::word).
    #[must_use]
    pub(super) fn without(self, word: u16) -> Self {
        self.raw(!word.to_be())
    }

    /// Adds a number of four bytes.
    #[must_use]
    pub(super) fn long(self, long: u32) -> Self {
        Self(self.0 + u64::from(long.to_be()))
    }

    /// Whether what was summed contains its own right checksum.
    #[must_use]
    pub(super) fn is_right(self) -> bool {
        self.fold() == 0xffff
    }

    /// The sum itself, as a checksum begun but not finished is written.
    #[must_use]
    pub(super) fn begun(self) -> [u8; 2] {
        self.fold().to_ne_bytes()
    }

    /// The checksum.
    #[must_use]
    pub(super) fn finished(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }

    /// The checksum as UDP writes it: zero would mean that there is none (RFC 768).
    #[must_use]
    pub(super) fn finished_nonzero(self) -> [u8; 2] {
        match self.finished() {
            [0, 0] => [0xff, 0xff],
            sum => sum,
        }
    }

    fn raw(self, word: u16) -> Self {
        Self(self.0 + u64::from(word))
    }

    fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }
}

/// The same sum in 34 bits: words of 32 bits are as good as words of 16, since 2^16 counts as 1 (RFC 1071 §2 C).
#[inline(always)]
fn folded(sum: u128) -> u64 {
    let (low, high) = (sum as u64, (sum >> 64) as u64);
    let halves = |word: u64| (word & 0xffff_ffff) + (word >> 32);
    halves(low) + halves(high)
}

/// Fewer than 32 bytes.
#[inline(always)]
fn few(bytes: &[u8]) -> u128 {
    let (words, rest) = bytes.as_chunks();
    let mut sum = 0u128;
    for word in words {
        sum = sum.wrapping_add(u64::from_ne_bytes(*word).into());
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    sum.wrapping_add(u64::from_ne_bytes(last).into())
}

/// RFC 1071 word by word: what the fast form is measured against.
#[cfg(test)]
pub(super) fn naive(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 1071 §3: the sum is ddf2.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().bytes(&bytes).begun(), [0xdd, 0xf2]);
        assert_eq!(Sum::default().bytes(&bytes).finished(), [0x22, 0x0d]);
    }

    #[test]
    fn the_largest_packet_of_ones_overflows_nothing() {
        let bytes = vec![0xff; 65_536];
        assert_eq!(Sum::default().bytes(&bytes).begun(), [0xff, 0xff]);
        assert_eq!(Sum::default().bytes(&bytes).finished_nonzero(), [0xff; 2]);
    }

    proptest! {
        #[test]
        fn fast_is_naive(bytes in prop::collection::vec(any::<u8>(), 0..300), from in 0usize..8) {
            let bytes = &bytes[from.min(bytes.len())..];
            let expect = naive(bytes).to_be_bytes();
            prop_assert_eq!(Sum::default().bytes(bytes).finished(), expect);
            let mut copy = vec![0; bytes.len() + 3];
            prop_assert_eq!(Sum::default().copy(bytes, &mut copy).finished(), expect);
            prop_assert_eq!(&copy[..bytes.len()], bytes);
            prop_assert_eq!(&copy[bytes.len()..], [0; 3]);
        }

        #[test]
        fn numbers_add_as_their_bytes(a: u16, b: u32, c: u16, rest in prop::collection::vec(any::<u8>(), 0..9)) {
            let mut bytes = a.to_be_bytes().to_vec();
            bytes.extend(b.to_be_bytes());
            bytes.extend(&rest);
            let sum = Sum::default().word(a).long(b).bytes(&rest);
            prop_assert_eq!(sum.finished(), naive(&bytes).to_be_bytes());
            // What is taken away again counts as nothing, but for the two zeroes of ones' complement.
            let back = sum.word(c).without(c).finished();
            prop_assert!(back == sum.finished() || (sum.finished(), back) == ([0xff; 2], [0; 2]));
        }

        #[test]
        fn a_written_checksum_is_right_and_a_changed_one_is_not(
            mut bytes in prop::collection::vec(any::<u8>(), 20..200), flip in 0usize..160,
        ) {
            bytes[10..12].fill(0);
            let sum = Sum::default().bytes(&bytes).finished();
            bytes[10..12].copy_from_slice(&sum);
            prop_assert!(Sum::default().bytes(&bytes).is_right());
            bytes[flip / 8] ^= 1 << (flip % 8);
            prop_assert!(!Sum::default().bytes(&bytes).is_right());
        }
    }
}
