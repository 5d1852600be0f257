//! Proposals and withdrawals: what a signature covers, what is refused, and hostile bytes.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use proptest::prelude::*;
use wayfare_discovery::{
    FORMAT, IpType, Location, MAX_ENCODED, MAX_LIFETIME, MAX_SKEW, Malformed, Offer, OfferError,
    Proposal, ProposalError, Protocols, ServiceType, SignError, SignedProposal, SignedWithdrawal,
    WithdrawalError,
};
use wayfare_identity::{Address, LocalSigner, NodeAddress, NodeId, SecretKey, Signer};
use wayfare_payment::{Amount, Price};

const NOW: u64 = 1_800_000_000;

fn signer(number: u8) -> LocalSigner {
    LocalSigner::new(SecretKey::from_bytes([number; 32]).unwrap())
}

fn offer() -> Offer {
    Offer {
        format: FORMAT,
        provider: signer(1).address(),
        node: NodeId([2; 32]),
        tunnel_key: [3; 32],
        service: ServiceType::vpn(),
        location: Location {
            country: "NL".parse().unwrap(),
            city: Some("Den Haag".to_owned()),
            ip_type: IpType::Residential,
        },
        price: Price {
            per_hour: Amount::from_units(1000),
            per_gib: Amount::from_units(50),
        },
        hermes: vec![Address::repeat_byte(3), Address::repeat_byte(4)],
        chain_id: 137,
        vault: Address::repeat_byte(5),
        contact: vec![
            "192.0.2.7:4433".parse().unwrap(),
            "[2001:db8::7]:4433".parse().unwrap(),
        ],
        relays: vec![relay(1), relay(2)],
        capabilities: BTreeSet::from(["ipv6".to_owned(), "roaming".to_owned()]),
        protocol: Protocols { min: 1, max: 3 },
        sequence: 9,
        issued_at: NOW - 10,
        expires_at: NOW + 600,
    }
}

fn relay(number: u8) -> NodeAddress {
    NodeAddress {
        node: NodeId([number; 32]),
        at: ([198, 51, 100, number], 443).into(),
    }
}

fn signed() -> SignedProposal {
    offer().sign(&signer(1)).unwrap()
}

/// What is changed, and how.
type Change = (&'static str, fn(&mut Offer));

/// One change of each field, and of each thing within a field.
fn changes() -> Vec<Change> {
    vec![
        ("format", |o| o.format += 1),
        ("provider", |o| o.provider = signer(7).address()),
        ("node", |o| o.node.0[31] ^= 1),
        ("tunnel key", |o| o.tunnel_key[31] ^= 1),
        ("service", |o| o.service = "vpn2".parse().unwrap()),
        ("country", |o| o.location.country = "DE".parse().unwrap()),
        ("city", |o| o.location.city = Some("Den Haag.".to_owned())),
        ("no city", |o| o.location.city = None),
        ("ip type", |o| o.location.ip_type = IpType::Hosting),
        ("hour", |o| o.price.per_hour = Amount::from_units(1001)),
        ("gib", |o| o.price.per_gib = Amount::from_units(51)),
        ("prices swapped", |o| {
            std::mem::swap(&mut o.price.per_hour, &mut o.price.per_gib)
        }),
        ("hermes", |o| o.hermes[1] = Address::repeat_byte(6)),
        ("hermes order", |o| o.hermes.reverse()),
        ("hermes fewer", |o| o.hermes.truncate(1)),
        ("chain", |o| o.chain_id += 1),
        ("vault", |o| o.vault = Address::repeat_byte(6)),
        ("contact ip", |o| {
            o.contact[0].set_ip("192.0.2.8".parse().unwrap())
        }),
        ("contact port", |o| o.contact[1].set_port(1)),
        ("contact order", |o| o.contact.reverse()),
        ("contact more", |o| {
            o.contact.push("192.0.2.9:1".parse().unwrap())
        }),
        ("relay node", |o| o.relays[0].node.0[0] ^= 1),
        ("relay address", |o| o.relays[1].at.set_port(1)),
        ("relay order", |o| o.relays.reverse()),
        ("relay fewer", |o| o.relays.truncate(1)),
        ("capability more", |o| {
            assert!(o.capabilities.insert("x".to_owned()))
        }),
        ("capability fewer", |o| {
            assert!(o.capabilities.remove("ipv6"))
        }),
        ("protocol min", |o| o.protocol.min += 1),
        ("protocol max", |o| o.protocol.max += 1),
        ("sequence", |o| o.sequence += 1),
        ("issued", |o| o.issued_at += 1),
        ("expires", |o| o.expires_at += 1),
    ]
}

#[test]
fn a_signed_offer_verifies_and_survives_the_wire() {
    let signed = signed();
    let bytes = signed.to_bytes();
    assert!(bytes.len() < 500, "{} bytes", bytes.len());
    let read = SignedProposal::from_bytes(&bytes).unwrap();
    assert_eq!(read, signed);
    let proposal: Proposal = read.verify(NOW).unwrap();
    assert_eq!(*proposal, offer());
    assert_eq!(proposal.signed(), &signed);
}

#[test]
fn the_signature_covers_every_field() {
    let mut digests = BTreeSet::from([offer().digest()]);
    for (field, change) in changes() {
        let mut changed = signed();
        change(&mut changed.offer);
        assert!(
            digests.insert(changed.offer.digest()),
            "{field} is not in the digest"
        );
        let error = changed.verify(NOW).unwrap_err();
        match field {
            "format" => assert_eq!(error, ProposalError::Offer(OfferError::Format(FORMAT + 1))),
            _ => assert!(
                matches!(error, ProposalError::BadSignature(_)),
                "{field}: {error}"
            ),
        }
    }
}

/// A change that moves bytes from one member of a list to the next must not go unnoticed either.
#[test]
fn lists_are_not_concatenated() {
    let with = |tokens: &[&str]| {
        let capabilities = tokens.iter().map(|token| (*token).to_owned()).collect();
        Offer {
            capabilities,
            ..offer()
        }
        .digest()
    };
    assert_ne!(with(&["ab", "c"]), with(&["a", "bc"]));
    assert_ne!(with(&["ab"]), with(&["a", "b"]));
}

#[test]
fn the_clock_decides() {
    let expires_at = offer().expires_at;
    signed().verify(expires_at - 1).unwrap();
    let late = signed().verify(expires_at).unwrap_err();
    assert_eq!(
        late,
        ProposalError::Expired {
            expires_at,
            now: expires_at
        }
    );
    let issued_at = offer().issued_at;
    signed().verify(issued_at - MAX_SKEW).unwrap();
    let now = issued_at - MAX_SKEW - 1;
    assert_eq!(
        signed().verify(now).unwrap_err(),
        ProposalError::FromFuture { issued_at, now }
    );
    signed().verify(u64::MAX).unwrap_err();
    signed().verify(0).unwrap_err();
}

/// Each rule, broken once, and its name.
fn broken_offers() -> Vec<(Offer, OfferError)> {
    let many = |count: u8| (0..count).map(Address::repeat_byte).collect::<Vec<_>>();
    let city = |city: &str| Offer {
        location: Location {
            city: Some(city.to_owned()),
            ..offer().location
        },
        ..offer()
    };
    let tokens = |tokens: Vec<String>| Offer {
        capabilities: tokens.into_iter().collect(),
        ..offer()
    };
    let protocols = |min, max| Offer {
        protocol: Protocols { min, max },
        ..offer()
    };
    let times = |issued_at, expires_at| Offer {
        issued_at,
        expires_at,
        ..offer()
    };
    vec![
        (
            Offer {
                format: 0,
                ..offer()
            },
            OfferError::Format(0),
        ),
        (city(""), OfferError::City),
        (city(&"x".repeat(65)), OfferError::City),
        (city("Den\nHaag"), OfferError::City),
        (
            Offer {
                hermes: vec![],
                ..offer()
            },
            OfferError::Hermes(0),
        ),
        (
            Offer {
                hermes: many(9),
                ..offer()
            },
            OfferError::Hermes(9),
        ),
        (
            Offer {
                hermes: vec![Address::ZERO; 2],
                ..offer()
            },
            OfferError::Hermes(2),
        ),
        (tokens(vec!["UPPER".to_owned()]), OfferError::Capabilities),
        (tokens(vec![String::new()]), OfferError::Capabilities),
        (
            tokens((0..33).map(|at| format!("c{at}")).collect()),
            OfferError::Capabilities,
        ),
        (protocols(0, 1), OfferError::Protocols { min: 0, max: 1 }),
        (protocols(2, 1), OfferError::Protocols { min: 2, max: 1 }),
        (
            times(NOW, NOW),
            OfferError::Backwards {
                issued_at: NOW,
                expires_at: NOW,
            },
        ),
        (
            times(NOW + 2, NOW + 1),
            OfferError::Backwards {
                issued_at: NOW + 2,
                expires_at: NOW + 1,
            },
        ),
        (
            times(NOW, NOW + MAX_LIFETIME + 1),
            OfferError::TooLong(MAX_LIFETIME + 1),
        ),
        (times(0, u64::MAX), OfferError::TooLong(u64::MAX)),
    ]
}

/// Offers that nobody could reach, or that name a way twice or too many ways.
fn unreachable_offers() -> Vec<(Offer, OfferError)> {
    let contacts = |count: u16| {
        (0..count)
            .map(|at| ([192, 0, 2, 1], 1 + at).into())
            .collect::<Vec<_>>()
    };
    vec![
        (
            Offer {
                contact: vec![],
                relays: vec![],
                ..offer()
            },
            OfferError::Contacts(0),
        ),
        (
            Offer {
                relays: (0..9).map(relay).collect(),
                ..offer()
            },
            OfferError::Relays(9),
        ),
        (
            Offer {
                relays: vec![relay(3); 2],
                ..offer()
            },
            OfferError::Relays(2),
        ),
        (
            Offer {
                contact: contacts(9),
                ..offer()
            },
            OfferError::Contacts(9),
        ),
        (
            Offer {
                contact: [contacts(1), contacts(1)].concat(),
                ..offer()
            },
            OfferError::Contacts(2),
        ),
    ]
}

/// Contacts at which nobody is, or that could be spelt in two ways.
const NO_CONTACTS: [&str; 8] = [
    "0.0.0.0:1",
    "192.0.2.1:0",
    "224.0.0.1:1",
    "255.255.255.255:1",
    "[::]:1",
    "[ff02::1]:1",
    "[::ffff:192.0.2.1]:1",
    "[fe80::1%3]:1",
];

/// It must be told at signing, and at verifying if a liar signs it all the same.
#[test]
fn every_rule_is_told_by_its_name() {
    let no_contacts = NO_CONTACTS.map(|text| {
        let contact: SocketAddr = text.parse().unwrap();
        (
            Offer {
                contact: vec![contact],
                ..offer()
            },
            OfferError::Contact(contact),
        )
    });
    for (offer, expected) in broken_offers()
        .into_iter()
        .chain(unreachable_offers())
        .chain(no_contacts)
    {
        assert_eq!(
            offer.clone().sign(&signer(1)).unwrap_err(),
            SignError::Offer(expected.clone())
        );
        let signature = signer(1).sign_digest(offer.digest()).unwrap();
        let lie = SignedProposal { offer, signature };
        assert_eq!(lie.verify(NOW).unwrap_err(), ProposalError::Offer(expected));
    }
}

#[test]
fn a_node_that_only_relays_can_ring_may_offer() {
    let hidden = Offer {
        contact: vec![],
        ..offer()
    };
    assert!(hidden.sign(&signer(1)).unwrap().verify(NOW).is_ok());
    let nowhere = NodeAddress {
        at: "0.0.0.0:1".parse().unwrap(),
        ..relay(1)
    };
    let lost = Offer {
        relays: vec![nowhere],
        ..offer()
    };
    let refused = SignError::Offer(OfferError::Contact(nowhere.at));
    assert_eq!(lost.sign(&signer(1)).unwrap_err(), refused);
}

/// The largest offer that keeps every other rule also keeps the bound on size.
#[test]
fn the_largest_offer_fits_its_bound() {
    let largest = Offer {
        service: "s".repeat(32).parse().unwrap(),
        location: Location {
            city: Some("x".repeat(64)),
            ..offer().location
        },
        price: Price {
            per_hour: Amount::MAX,
            per_gib: Amount::MAX,
        },
        hermes: (0..8).map(Address::repeat_byte).collect(),
        chain_id: u64::MAX,
        contact: (0..8_u16)
            .map(|at| ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 65_000 + at).into())
            .collect(),
        relays: (0..8)
            .map(|number| NodeAddress {
                at: (
                    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1],
                    65_000 + u16::from(number),
                )
                    .into(),
                ..relay(number)
            })
            .collect(),
        capabilities: (0..32).map(|at| format!("c{at:0>31}")).collect(),
        protocol: Protocols {
            min: u32::MAX,
            max: u32::MAX,
        },
        sequence: u64::MAX,
        ..offer()
    };
    let bytes = largest.sign(&signer(1)).unwrap().to_bytes();
    println!("the largest proposal has {} bytes", bytes.len());
    assert!(bytes.len() <= MAX_ENCODED);
    SignedProposal::from_bytes(&bytes)
        .unwrap()
        .verify(NOW)
        .unwrap();
}

#[test]
fn somebody_elses_name_is_not_signed() {
    assert_eq!(
        offer().sign(&signer(2)).unwrap_err(),
        SignError::OtherProvider
    );
}

#[test]
fn bytes_of_another_kind_are_told_apart() {
    let good = signed().to_bytes();
    let read = |bytes: &[u8]| SignedProposal::from_bytes(bytes).unwrap_err();
    assert_eq!(
        read(&vec![1; MAX_ENCODED + 1]),
        Malformed::TooLarge(MAX_ENCODED + 1)
    );
    let mut newer = good.clone();
    newer[0] = 2;
    assert_eq!(read(&newer), Malformed::Format(2));
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(read(&longer), Malformed::NotCanonical);
    // The format number written in two bytes instead of one.
    let mut long_number = vec![0x81, 0x00];
    long_number.extend_from_slice(&good[1..]);
    assert_eq!(read(&long_number), Malformed::NotCanonical);
    for cut in 0..good.len() {
        assert!(
            matches!(read(&good[..cut]), Malformed::Encoding(_)),
            "{cut} bytes"
        );
    }
}

#[test]
fn a_withdrawal_covers_every_field_and_is_the_providers_own() {
    let node = NodeId([2; 32]);
    let good = SignedWithdrawal::sign(node, ServiceType::vpn(), 9, &signer(1)).unwrap();
    let read = SignedWithdrawal::from_bytes(&good.to_bytes()).unwrap();
    assert_eq!(read, good);
    let verified = read.verify().unwrap();
    assert_eq!(
        (verified.key, verified.sequence),
        (signed().verify(NOW).unwrap().key(), 9)
    );
    let changes: [fn(&mut SignedWithdrawal); 4] = [
        |w| w.provider = signer(2).address(),
        |w| w.node.0[0] ^= 1,
        |w| w.service = "vpn2".parse().unwrap(),
        |w| w.sequence += 1,
    ];
    for change in changes {
        let mut changed = good.clone();
        change(&mut changed);
        assert!(matches!(
            changed.verify(),
            Err(WithdrawalError::BadSignature(_))
        ));
    }
    let mut longer = good.to_bytes();
    longer.push(0);
    assert!(matches!(
        SignedWithdrawal::from_bytes(&longer),
        Err(WithdrawalError::Malformed(_))
    ));
}

proptest! {
    // A failure prints its case; there is no file to keep it in.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn junk_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = SignedProposal::from_bytes(&bytes).map(|signed| signed.verify(NOW));
        let _ = SignedWithdrawal::from_bytes(&bytes).map(SignedWithdrawal::verify);
        // Past the format number.
        let _ = SignedProposal::from_bytes(&[&[1], bytes.as_slice()].concat()).map(|signed| signed.verify(NOW));
    }

    #[test]
    fn no_damaged_proposal_is_taken(flips in proptest::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4)) {
        let good = signed().to_bytes();
        let mut bytes = good.clone();
        for (at, bits) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        prop_assume!(bytes != good);
        if let Ok(read) = SignedProposal::from_bytes(&bytes) {
            prop_assert_eq!(read.to_bytes(), bytes, "a second encoding");
            prop_assert!(read.verify(NOW).is_err());
        }
    }

    #[test]
    fn hostile_numbers_never_panic(issued_at: u64, expires_at: u64, now: u64, min: u32, max: u32, sequence: u64) {
        let offer = Offer { issued_at, expires_at, sequence, protocol: Protocols { min, max }, ..offer() };
        let signature = signer(1).sign_digest(offer.digest()).unwrap();
        if let Ok(proposal) = (SignedProposal { offer, signature }).verify(now) {
            prop_assert!(proposal.expires_at > now && proposal.issued_at <= now.saturating_add(MAX_SKEW));
        }
    }
}
