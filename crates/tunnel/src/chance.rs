//! Chance: every unpredictable byte of the room, drawn from one seed.
//! It refuses to ask the system for randomness: a 32-byte seed comes in once, and the same seed gives the same tunnel.
//!
//! The generator is a keyed BLAKE2s ratchet. Each draw replaces the state by a one-way image of it, so a state that
//! leaks later does not reveal ephemeral keys that were drawn earlier.

use zeroize::{Zeroize, Zeroizing};

use crate::hash;

pub(crate) struct Chance {
    state: Zeroizing<[u8; 32]>,
}

impl Chance {
    pub(crate) fn new(mut seed: [u8; 32]) -> Self {
        let state = Zeroizing::new(hash::keyed_32(&seed, &[b"wayfare tunnel chance v1"]));
        seed.zeroize();
        Self { state }
    }

    /// 32 fresh bytes.
    pub(crate) fn draw(&mut self) -> Zeroizing<[u8; 32]> {
        let bytes = Zeroizing::new(hash::keyed_32(&self.state, &[b"draw"]));
        *self.state = hash::keyed_32(&self.state, &[b"next"]);
        bytes
    }

    pub(crate) fn draw_u32(&mut self) -> u32 {
        let bytes = self.draw();
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_bytes_and_never_the_same_twice() {
        let (mut a, mut b) = (Chance::new([1; 32]), Chance::new([1; 32]));
        let first = a.draw();
        assert_eq!(first, b.draw());
        assert_ne!(first, a.draw());
        assert_ne!(*Chance::new([2; 32]).draw(), *first);
    }
}
