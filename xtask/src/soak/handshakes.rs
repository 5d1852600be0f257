//! Handshakes, as the peer tells of them and as its computer's firewall counts them. It refuses to
//! count the first one as a rekey, and to believe ours in this.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

use crate::bench::tunnel::pair::{PORT, Side};

/// Programs tell whole seconds; a rekey comes two minutes after the one before.
const APART: u64 = 10;

/// More than any age of keys, which end after 180 s, and long before any date.
const AGE: u64 = 1_000_000;

/// The rekeys that the peer has told of so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    last: Option<u64>,
    /// How many.
    pub(super) rekeys: u64,
}

impl Watch {
    /// Asks the peer at `side` when its last handshake was.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) fn look(&mut self, side: &Side) -> anyhow::Result<()> {
        let told = side
            .at
            .output("wg", &["show", &side.interface, "latest-handshakes"])?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or(Duration::ZERO).as_secs();
        let told = number(&told).with_context(|| format!("`wg` told {told}"))?;
        self.see(told, now);
        Ok(())
    }

    /// The date of the last handshake, or its age, which is what one program tells; 0 for none.
    fn see(&mut self, told: u64, now: u64) {
        let at = match told {
            0 => return,
            age if age < AGE => now.saturating_sub(age),
            date => date,
        };
        match self.last {
            Some(last) if at < last + APART => {}
            Some(_) => {
                self.rekeys += 1;
                self.last = Some(at);
            }
            None => self.last = Some(at),
        }
    }
}

/// The one peer's line of `wg show … latest-handshakes`.
fn number(told: &str) -> Option<u64> {
    told.split_whitespace().nth(1)?.parse().ok()
}

/// Rules that count what the peer at `side` receives and sends as the beginning of a handshake:
/// the first byte is 1, the next three are 0.
///
/// # Errors
/// When the firewall refuses.
pub(super) fn count(side: &Side) -> anyhow::Result<()> {
    let rule = |chain: &str| {
        format!(
            "chain {chain} {{ type filter hook {chain} priority 0; \
             udp dport {PORT} @th,64,32 0x01000000 counter; }}"
        )
    };
    let (input, output) = (rule("input"), rule("output"));
    side.at
        .nft(&format!("table inet soak {{\n{input}\n{output}\n}}\n"))
}

/// How many handshakes were begun by the left and by the right.
///
/// # Errors
/// When the firewall does not tell.
pub(super) fn counted(side: &Side) -> anyhow::Result<[u64; 2]> {
    let told = side.at.output("nft", &["list", "table", "inet", "soak"])?;
    begun(&told).with_context(|| format!("nft told {told}"))
}

fn begun(told: &str) -> Option<[u64; 2]> {
    let of = |chain: &str| {
        let (_, rest) = told.split_once(&format!("chain {chain} "))?;
        let (_, rest) = rest.split_once("counter packets ")?;
        rest.split_whitespace().next()?.parse().ok()
    };
    Some([of("input")?, of("output")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(told: &[(u64, u64)]) -> u64 {
        let mut watch = Watch::default();
        for (told, now) in told {
            watch.see(*told, *now);
        }
        watch.rekeys
    }

    #[test]
    fn dates_that_move_on_are_rekeys() {
        let began = 1_800_000_000;
        assert_eq!(seen(&[(0, began), (began, began), (began, began + 100)]), 0);
        let dates = [0, 0, 120, 120, 121, 240].map(|after| (began + after, began + after));
        assert_eq!(seen(&dates), 2);
    }

    #[test]
    fn ages_that_fall_back_are_rekeys() {
        let began = 1_800_000_000;
        let ages = [(1, 1), (60, 60), (119, 119), (2, 122), (3, 123), (1, 241)];
        let ages = ages.map(|(age, now)| (age, began + now));
        assert_eq!(seen(&ages), 2);
    }

    #[test]
    fn the_lines_of_wg_and_nft_are_read() {
        assert_eq!(number("a2V5=\t1800000000\n"), Some(1_800_000_000));
        assert_eq!(number(""), None);
        let told = "table inet soak {\n\tchain input {\n\t\ttype filter hook input priority \
                    filter; policy accept;\n\t\tudp dport 51820 @th,64,32 0x1000000 counter \
                    packets 3 bytes 528\n\t}\n\n\tchain output {\n\t\tudp dport 51820 counter \
                    packets 4 bytes 704\n\t}\n}\n";
        assert_eq!(begun(told), Some([3, 4]));
        assert_eq!(begun("table inet soak {}"), None);
    }
}
