//! *Which way*: candidates, NAT classes, probes, and the choice and change of paths between two peers.
//! It refuses to know sockets, the protocols of relays, and money: addresses and datagrams, `now` and a seed are arguments.

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
    OBSERVE_LEN, OBSERVED_LEN, ObserveLimiter, observe_reply, observe_request, observe_result,
};
pub use offer::{Answer, MAX_OFFER, Offer, OfferError, Verified};
pub use outcome::{Method, Obstacle, Outcome};
pub use probe::{NotOurs, PROBE_HEAD, PROBE_LEN, Probe, ProbeKind, tag_of};
pub use secret::{Attempt, Ephemeral, EphemeralPublic, ProbeSecret, Role, Tag};
