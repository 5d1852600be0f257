//! Which source ports translated flows get.
//!
//! The kernel keeps a consumer's source port when it can. A consumer could so choose the port of a daemon on
//! this computer, send one packet from it to a victim, and receive what the victim later sends to the daemon
//! ("port shadowing"). So translated flows get a random port out of a range where nobody listens by convention.
//!
//! Refuses to look at sockets: who listens outside the convention is told by the caller.

use std::ops::RangeInclusive;

use crate::{HostError, sysctl};

/// The kernel's own default (`net.ipv4.ip_local_port_range`).
const DEFAULT: RangeInclusive<u16> = 32_768..=60_999;

/// The widest part of the kernel's ephemeral range without a listener of ours.
pub(super) fn translated(listen: &[u16]) -> Result<RangeInclusive<u16>, HostError> {
    let ephemeral = sysctl::read("net/ipv4/ip_local_port_range")?;
    let ephemeral = ephemeral.as_deref().and_then(parse).unwrap_or(DEFAULT);
    widest(ephemeral, listen).ok_or_else(|| HostError::BadConfig {
        why: "our listening ports fill net.ipv4.ip_local_port_range: no port is left for consumers"
            .to_owned(),
    })
}

fn parse(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once(char::is_whitespace)?;
    let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first > 0 && first <= last).then_some(first..=last)
}

fn widest(range: RangeInclusive<u16>, listen: &[u16]) -> Option<RangeInclusive<u16>> {
    let (mut next, end) = (u32::from(*range.start()), u32::from(*range.end()));
    let mut taken: Vec<u32> = listen
        .iter()
        .filter(|port| range.contains(port))
        .map(|&port| port.into())
        .collect();
    taken.sort_unstable();
    taken.push(end + 1);
    let mut best: Option<(u32, u32)> = None;
    for port in taken {
        if port > next && best.is_none_or(|(first, last)| port - next > last - first + 1) {
            best = Some((next, port - 1));
        }
        next = next.max(port + 1);
    }
    let (first, last) = best?;
    Some(u16::try_from(first).ok()?..=u16::try_from(last).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_gap_between_listeners_is_taken() {
        for (range, listen, expect) in [
            (32_768..=60_999, vec![], Some(32_768..=60_999)),
            (32_768..=60_999, vec![51_820, 80], Some(32_768..=51_819)),
            (
                32_768..=60_999,
                vec![32_768, 32_768, 33_000],
                Some(33_001..=60_999),
            ),
            (1..=65_535, vec![60_000], Some(1..=59_999)),
            (65_534..=65_535, vec![65_535], Some(65_534..=65_534)),
            (5..=6, vec![5, 6], None),
        ] {
            assert_eq!(widest(range, &listen), expect, "{listen:?}");
        }
    }

    #[test]
    fn the_kernel_range_is_read() {
        assert_eq!(parse("32768\t60999"), Some(32_768..=60_999));
        assert_eq!(parse("9 1"), None);
        assert_eq!(parse("0 0"), None);
    }
}
