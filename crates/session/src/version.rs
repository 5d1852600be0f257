//! Version negotiation, from the first message on: each side says which protocol versions and capabilities it has; the highest
//! common version and the common capabilities are used. A release talks to the two before it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The oldest protocol version that this release speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// The newest protocol version that this release speaks.
pub const PROTOCOL_MAX: u32 = 1;
/// Most capabilities that are listened to; a longer list is cut.
const MAX_CAPABILITIES: usize = 64;

/// What one side can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest version spoken.
    pub protocol_min: u32,
    /// Newest version spoken.
    pub protocol_max: u32,
    /// Optional abilities by name; unknown names are ignored.
    pub capabilities: BTreeSet<String>,
    /// Software and version, for people: never decided upon.
    pub software: String,
}

/// What was agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version in use.
    pub protocol: u32,
    /// Abilities that both sides have.
    pub capabilities: BTreeSet<String>,
    /// The answering side's software.
    pub software: String,
}

/// No common version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the peer speaks protocol versions {theirs_min} to {theirs_max}, this release {ours_min} to {ours_max}: update the older side"
)]
pub struct Incompatible {
    /// Our oldest.
    pub ours_min: u32,
    /// Our newest.
    pub ours_max: u32,
    /// Their oldest.
    pub theirs_min: u32,
    /// Their newest.
    pub theirs_max: u32,
}

impl Hello {
    /// What this release can do.
    #[must_use]
    pub fn ours() -> Self {
        Self {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            capabilities: BTreeSet::new(),
            software: concat!("wayfare/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Answers a peer's hello.
///
/// # Errors
/// [`Incompatible`] when the ranges do not meet.
pub fn negotiate(ours: &Hello, theirs: &Hello) -> Result<Welcome, Incompatible> {
    let protocol = ours.protocol_max.min(theirs.protocol_max);
    if protocol < ours.protocol_min.max(theirs.protocol_min) {
        return Err(Incompatible {
            ours_min: ours.protocol_min,
            ours_max: ours.protocol_max,
            theirs_min: theirs.protocol_min,
            theirs_max: theirs.protocol_max,
        });
    }
    let offered = theirs.capabilities.iter().take(MAX_CAPABILITIES);
    let capabilities = offered
        .filter(|name| ours.capabilities.contains(*name))
        .cloned()
        .collect();
    Ok(Welcome {
        protocol,
        capabilities,
        software: ours.software.clone(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hello(min: u32, max: u32) -> Hello {
        Hello {
            protocol_min: min,
            protocol_max: max,
            ..Hello::ours()
        }
    }

    #[test]
    fn the_highest_common_version_wins() {
        for (ours, theirs, expected) in [
            ((1, 3), (2, 5), Some(3)),
            ((1, 1), (1, 4), Some(1)),
            ((3, 4), (1, 2), None),
        ] {
            let agreed = negotiate(&hello(ours.0, ours.1), &hello(theirs.0, theirs.1)).ok();
            assert_eq!(agreed.map(|w| w.protocol), expected);
        }
    }

    #[test]
    fn only_common_capabilities_are_agreed() {
        let mut ours = hello(1, 1);
        ours.capabilities = ["a", "b"].map(String::from).into();
        let mut theirs = hello(1, 1);
        theirs.capabilities = ["b", "c"].map(String::from).into();
        assert_eq!(
            negotiate(&ours, &theirs).unwrap().capabilities,
            ["b".to_owned()].into()
        );
    }

    #[test]
    fn a_list_of_capabilities_without_an_end_is_cut() {
        let mut ours = hello(1, 1);
        ours.capabilities = ["a000", "z"].map(String::from).into();
        let mut theirs = hello(1, 1);
        theirs.capabilities = (0..1_000).map(|n| format!("a{n:03}")).collect();
        theirs.capabilities.insert("z".to_owned());
        let agreed = negotiate(&ours, &theirs).unwrap().capabilities;
        assert_eq!(agreed, ["a000".to_owned()].into());
    }

    #[test]
    fn a_range_that_is_upside_down_meets_nobody() {
        assert!(negotiate(&hello(1, 3), &hello(3, 2)).is_err());
        let refusal = negotiate(&hello(2, 4), &hello(5, 6))
            .unwrap_err()
            .to_string();
        assert!(
            refusal.contains("5 to 6") && refusal.contains("2 to 4"),
            "{refusal}"
        );
    }
}
