//! What became of it, in one sentence for people.
//! It refuses to name addresses: a sentence may end in a log.

use std::fmt;
use std::time::Duration;

use crate::candidate::Tier;
use crate::observation::NatClass;

/// The end of an attempt, for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody forwards.
    Direct {
        /// LAN, IPv6 or IPv4.
        tier: Tier,
        /// How many of the two sides are behind a NAT.
        nats: u8,
        /// What it took.
        method: Method,
        /// From the start of the finder, or from the loss of the last path.
        after: Duration,
    },
    /// A fallback is used.
    Relayed(Obstacle),
    /// There is not even a fallback.
    Unreachable(Obstacle),
}

/// How a direct path was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A listed address answered, or the peer's probe came from where it did.
    Plain,
    /// A predicted port of a sequential NAT answered.
    Predicted,
    /// Two of many random ports met.
    Birthday,
}

/// Why there is no direct path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Our network lets no UDP through.
    OurUdpBlocked,
    /// The peer's network lets no UDP through.
    TheirUdpBlocked,
    /// Neither port can be known.
    BothRandom,
    /// Both NATs choose a new port for each destination, at least one of them predictably.
    BothChanging,
    /// One NAT is random and the budget of guesses was spent.
    NoGuessMet {
        /// Probes sent by this side; 0 on the side that waited.
        probes: u32,
    },
    /// One NAT is random and guessing was not allowed now.
    MayNotGuess,
    /// No address of the peer may be sent to.
    NothingAttested,
    /// Addresses were tried, none answered.
    NoAnswer,
}

impl Obstacle {
    /// What the two classes alone explain.
    pub(crate) fn of_classes(ours: NatClass, theirs: NatClass) -> Option<Self> {
        match (ours, theirs) {
            (NatClass::UdpBlocked, _) => Some(Self::OurUdpBlocked),
            (_, NatClass::UdpBlocked) => Some(Self::TheirUdpBlocked),
            (NatClass::Random, NatClass::Random) => Some(Self::BothRandom),
            (ours, theirs) if ours.is_hard() && theirs.is_hard() => Some(Self::BothChanging),
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct {
                tier,
                nats,
                method,
                after,
            } => {
                let way = match (tier, nats) {
                    (Tier::Lan, _) => "on the local network",
                    (Tier::Ipv6, _) => "over IPv6",
                    (Tier::Direct | Tier::Relayed | Tier::Carried, 0) => "without a NAT between",
                    (Tier::Direct | Tier::Relayed | Tier::Carried, 1) => "through one NAT",
                    (Tier::Direct | Tier::Relayed | Tier::Carried, _) => "through two NATs",
                };
                let method = match method {
                    Method::Plain => "",
                    Method::Predicted => ", at a predicted port",
                    Method::Birthday => ", at a guessed port",
                };
                write!(f, "direct {way} after {} ms{method}", after.as_millis())
            }
            Self::Relayed(obstacle) => write!(f, "relayed: {obstacle}"),
            Self::Unreachable(obstacle) => write!(f, "not reachable, no relay: {obstacle}"),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OurUdpBlocked => f.write_str("this network blocks UDP"),
            Self::TheirUdpBlocked => f.write_str("the peer's network blocks UDP"),
            Self::BothRandom => f.write_str("both NATs choose random ports"),
            Self::BothChanging => f.write_str("both NATs change ports"),
            Self::NoGuessMet { probes: 0 } => {
                f.write_str("one NAT chooses random ports and none was guessed")
            }
            Self::NoGuessMet { probes } => write!(
                f,
                "one NAT chooses random ports and none of {probes} guesses met one"
            ),
            Self::MayNotGuess => {
                f.write_str("one NAT chooses random ports and guessing is not allowed now")
            }
            Self::NothingAttested => f.write_str("no address of the peer is vouched for"),
            Self::NoAnswer => f.write_str("no address of the peer answered"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sentence_each() {
        let direct = |tier, nats, method| Outcome::Direct {
            tier,
            nats,
            method,
            after: Duration::from_millis(180),
        };
        for (outcome, expect) in [
            (
                direct(Tier::Direct, 2, Method::Plain),
                "direct through two NATs after 180 ms",
            ),
            (
                direct(Tier::Lan, 2, Method::Plain),
                "direct on the local network after 180 ms",
            ),
            (
                direct(Tier::Direct, 1, Method::Birthday),
                "direct through one NAT after 180 ms, at a guessed port",
            ),
            (
                Outcome::Relayed(Obstacle::BothRandom),
                "relayed: both NATs choose random ports",
            ),
            (
                Outcome::Relayed(Obstacle::NoGuessMet { probes: 2048 }),
                "relayed: one NAT chooses random ports and none of 2048 guesses met one",
            ),
        ] {
            assert_eq!(outcome.to_string(), expect);
        }
    }
}
