//! Who holds most: sessions strung together by the number of chunks they hold, so that the fattest is found without a search.
//! It refuses to look into queues: it is told of each change.

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Link {
    before: u32,
    after: u32,
}

#[derive(Debug)]
pub(super) struct Sizes {
    /// The first session of each size; of size zero nobody is kept.
    first: Box<[u32]>,
    links: Vec<Link>,
    /// Nobody is larger.
    largest: u32,
}

impl Sizes {
    pub(super) fn new(largest: u32) -> Self {
        Self {
            first: vec![NONE; largest as usize + 1].into_boxed_slice(),
            links: Vec::new(),
            largest: 0,
        }
    }

    /// Makes room for this many sessions.
    pub(super) fn grow(&mut self, sessions: usize) {
        let nowhere = Link {
            before: NONE,
            after: NONE,
        };
        self.links.resize(sessions, nowhere);
    }

    /// A session has grown or shrunk.
    pub(super) fn change(&mut self, slot: u32, from: u32, to: u32) {
        if from == to {
            return;
        }
        if from != 0 {
            let Link { before, after } = self.links[slot as usize];
            match before {
                NONE => self.first[from as usize] = after,
                before => self.links[before as usize].after = after,
            }
            if after != NONE {
                self.links[after as usize].before = before;
            }
        }
        if to != 0 {
            let after = std::mem::replace(&mut self.first[to as usize], slot);
            self.links[slot as usize] = Link {
                before: NONE,
                after,
            };
            if after != NONE {
                self.links[after as usize].before = slot;
            }
            self.largest = self.largest.max(to);
        }
    }

    /// A session with most chunks, and how many; zero when nobody holds any. Goes down no more steps than `change` went up.
    pub(super) fn fattest(&mut self) -> (u32, u32) {
        while self.largest > 0 && self.first[self.largest as usize] == NONE {
            self.largest -= 1;
        }
        (self.first[self.largest as usize], self.largest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fattest_is_known_after_every_change() {
        let mut sizes = Sizes::new(40);
        sizes.grow(8);
        let mut held = [0_u32; 8];
        let mut state = 1_u32;
        for _ in 0..20_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (slot, to) = ((state >> 16) % 8, (state >> 8) % 41);
            sizes.change(slot, held[slot as usize], to);
            held[slot as usize] = to;
            let (fattest, size) = sizes.fattest();
            assert_eq!(Some(&size), held.iter().max());
            if size > 0 {
                assert_eq!(held[fattest as usize], size);
            }
        }
    }
}
