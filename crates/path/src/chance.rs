//! Chance: the unpredictable numbers of the room, drawn from one seed.
//! It refuses to ask the system for randomness: a 32-byte seed comes in once, and the same seed gives the same choices.

use zeroize::{Zeroize, Zeroizing};

use crate::hash;

/// A keyed BLAKE2s ratchet.
pub(crate) struct Chance {
    state: Zeroizing<[u8; 32]>,
}

impl Chance {
    pub(crate) fn new(mut seed: [u8; 32]) -> Self {
        let state = Zeroizing::new(hash::keyed_32(&seed, &[b"wayfare path chance v1"]));
        seed.zeroize();
        Self { state }
    }

    /// A number from 0 to `bound - 1`; the bias, `bound / 2^64`, does not matter for ports.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let draw = Zeroizing::new(hash::keyed_32(&self.state, &[b"draw"]));
        *self.state = hash::keyed_32(&self.state, &[b"next"]);
        let mut word = [0; 8];
        word.copy_from_slice(&draw[..8]);
        u64::from_le_bytes(word) % bound.max(1)
    }
}
