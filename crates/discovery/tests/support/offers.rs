//! Ordinary offers and their signers, for the tests of the catalogue. It refuses to test anything itself.

use std::collections::BTreeSet;

use wayfare_discovery::{
    FORMAT, IpType, Location, Offer, Proposal, ProposalKey, Protocols, ServiceType,
};
use wayfare_identity::{Address, LocalSigner, NodeId, SecretKey, Signer};
use wayfare_payment::{Amount, Price};

pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const SEED: [u8; 32] = [42; 32];

pub(crate) fn signer(number: u32) -> LocalSigner {
    let mut key = [1; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    LocalSigner::new(SecretKey::from_bytes(key).unwrap())
}

pub(crate) fn price(units: u64) -> Price {
    Price {
        per_hour: Amount::from_units(units.into()),
        per_gib: Amount::from_units(units.into()),
    }
}

/// An ordinary offer of an identity, alone in its network.
pub(crate) fn offer(signer: &LocalSigner, number: u32) -> Offer {
    let [_, _, high, low] = number.to_be_bytes();
    Offer {
        format: FORMAT,
        provider: signer.address(),
        node: NodeId([7; 32]),
        tunnel_key: [3; 32],
        service: ServiceType::vpn(),
        location: Location {
            country: "NL".parse().unwrap(),
            city: None,
            ip_type: IpType::Unstated,
        },
        price: price(100),
        hermes: vec![Address::repeat_byte(3)],
        chain_id: 5,
        vault: Address::repeat_byte(5),
        contact: vec![([high.max(1), low, 0, 1], 4433).into()],
        relays: vec![],
        capabilities: BTreeSet::new(),
        protocol: Protocols { min: 1, max: 1 },
        sequence: 1,
        issued_at: NOW,
        expires_at: NOW + 600,
    }
}

pub(crate) fn verified(signer: &LocalSigner, offer: Offer) -> Proposal {
    offer.sign(signer).unwrap().verify(NOW).unwrap()
}

pub(crate) fn ordinary(number: u32) -> Proposal {
    let signer = signer(number);
    let offer = offer(&signer, number);
    verified(&signer, offer)
}

pub(crate) fn keys(found: &[&Proposal]) -> Vec<ProposalKey> {
    found.iter().map(|proposal| proposal.key()).collect()
}
