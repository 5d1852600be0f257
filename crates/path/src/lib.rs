//! *Which way*: candidates, NAT classes, probes, and the choice and change of paths between two peers.
//! It refuses to know sockets, the protocols of relays, and money: addresses and datagrams, `now` and a seed are arguments.
//!
//! A node learns from [`Observations`] how others see it, and tells a peer in an [`Offer`] or an [`Answer`], over
//! whatever connection they have: a [`Description`], signed with the node key. Both now share a [`ProbeSecret`] that
//! nobody in between knows, and each gives it to a [`Finder`], which sends authenticated [`Probe`]s from the shared
//! socket until the best path is found, and from then on keeps it. A path through a relay is an address like any other.
//! Any node answers [`observe_request`]s of any other, within an [`ObserveLimiter`].

mod candidate;
mod chance;
mod deadline;
mod description;
mod finder;
mod hash;
mod observation;
mod observe;
mod offer;
mod outcome;
mod permission;
mod probe;
mod secret;
mod signing;

pub use candidate::{Candidate, CandidateKind, Tier};
pub use deadline::{Deadline, Why};
pub use description::{Capabilities, Description, MAX_CANDIDATES};
pub use finder::{DropReason, Event, Finder, Handled, Setup, Socket, Transmit};
pub use observation::{NatClass, Observations, PREDICTED_PORTS};
pub use observe::{
    Cookie, Cookies, OBSERVE_LEN, OBSERVED_LEN, ObserveLimiter, Observed, observe_reply,
    observe_request, observe_result,
};
pub use offer::{Answer, MAX_OFFER, Offer, OfferError, Verified};
pub use outcome::{Method, Obstacle, Outcome};
pub use probe::{NotOurs, PROBE_HEAD, PROBE_LEN, Probe, ProbeKind, tag_of};
pub use secret::{Attempt, Ephemeral, EphemeralPublic, ProbeSecret, Role, Tag};
