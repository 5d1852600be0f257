//! What the distributed table is told about proposals: what may be kept there, and under which topics. It refuses whatever is not
//! a verified proposal in force under a topic of its own.

use wayfare_discovery::{MAX_ENCODED, Offer, Proposal, Query, ServiceType, SignedProposal};
use wayfare_identity::{Address, keccak256};
use wayfare_nat::{Admitted, Records, Topic};
use wayfare_transport::Clock;

// The table takes every proposal that there can be.
const _: () = assert!(MAX_ENCODED <= wayfare_nat::MAX_VALUE);

/// All offers of a service are spread over so many topics, by provider: whoever does not say where asks all of them. Each
/// topic is kept by nodes of its own, so four make room for four times as many offers, at four lookups.
const SHARES: u8 = 4;

/// Admits proposals.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProposalRecords;

impl Records for ProposalRecords {
    fn now(&self) -> u64 {
        Clock::unix_ms() / 1_000
    }

    fn admit(&self, topic: &Topic, value: &[u8]) -> Option<Admitted> {
        let signed = SignedProposal::from_bytes(value).ok()?;
        // Cheaper than the signature.
        if !topics_of(&signed.offer).contains(topic) {
            return None;
        }
        let proposal = signed.verify(self.now()).ok()?;
        Some(Admitted {
            owner: keccak256(proposal.provider).0,
            slot: slot(&proposal),
            sequence: proposal.sequence,
            expires_at: proposal.expires_at,
        })
    }
}

/// What distinguishes the proposals of one provider: node and service.
fn slot(proposal: &Proposal) -> [u8; 32] {
    let service = proposal.service.as_str().as_bytes();
    keccak256([proposal.node.0.as_slice(), service].concat()).0
}

/// Under which topics an offer is found.
pub(crate) fn topics_of(offer: &Offer) -> [Topic; 2] {
    let country = offer.location.country.as_str();
    [
        in_country(&offer.service, country),
        of_share(&offer.service, share(offer.provider)),
    ]
}

/// Which topics answer a query.
pub(crate) fn topics_for(query: &Query) -> Vec<Topic> {
    let vpn = ServiceType::vpn();
    // Offers of every service at once are not looked for: there is one service.
    let service = query.service.as_ref().unwrap_or(&vpn);
    match (query.provider, query.country) {
        (Some(provider), _) => vec![of_share(service, share(provider))],
        (None, Some(country)) => vec![in_country(service, country.as_str())],
        (None, None) => (0..SHARES).map(|share| of_share(service, share)).collect(),
    }
}

fn share(provider: Address) -> u8 {
    keccak256(provider)[0] % SHARES
}

fn in_country(service: &ServiceType, country: &str) -> Topic {
    topic(&format!("{service} in {country}"))
}

fn of_share(service: &ServiceType, share: u8) -> Topic {
    topic(&format!("{service} share {share} of {SHARES}"))
}

fn topic(text: &str) -> Topic {
    Topic(keccak256(format!("wayfare proposals: {text}")).0)
}
