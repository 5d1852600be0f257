//! Traffic that ends all of a sudden: the first that is seen of a path that has died. It refuses to tell an end from a pause.

/// So many tunnel messages between two looks are traffic, whose end is noticed.
const TRAFFIC: u64 = 16;

/// What came between two looks.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    received: u64,
    came: u64,
}

impl Traffic {
    /// Takes how many messages have been received in all, and says whether a stream of them has ended since the last look.
    pub(crate) fn has_ended(&mut self, received: u64) -> bool {
        let came = received.saturating_sub(self.received);
        let ended = came == 0 && self.came >= TRAFFIC;
        (self.received, self.came) = (received, came);
        ended
    }

    /// Whether anything came between the last two looks.
    pub(crate) fn flows(&self) -> bool {
        self.came > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_once_and_only_after_traffic() {
        let mut traffic = Traffic::default();
        let looks = [0, 3, 3, 50, 90, 90, 90, 110, 111, 111];
        let told: Vec<bool> = looks.map(|received| traffic.has_ended(received)).into();
        let mut expected = vec![false; looks.len()];
        expected[5] = true;
        assert_eq!(told, expected, "three or one are no traffic");
    }
}
