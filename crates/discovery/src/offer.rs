//! The offer: what a provider states about one service of one node, before it is signed. It refuses bounds to be broken and
//! two spellings of one thing.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use wayfare_identity::{Address, B256, Domain, NodeAddress, NodeId, TypedStruct, U256, keccak256};
use wayfare_payment::Price;

use crate::service::is_token;
use crate::{CountryCode, ServiceType};

/// The format of offers that this release writes and reads.
pub const FORMAT: u32 = 1;

/// The longest life of a proposal, in seconds: an hour, so that a node that vanished is forgotten within one.
pub const MAX_LIFETIME: u64 = 3600;

const MAX_HERMES: usize = 8;
const MAX_CONTACTS: usize = 8;
/// Four relays, each by an address of either family.
const MAX_RELAYS: usize = 8;
const MAX_CAPABILITIES: usize = 32;
/// Bytes of UTF-8.
const MAX_CITY: usize = 64;

const TYPE: &str = "Proposal(uint32 format,address provider,bytes32 node,bytes32 tunnelKey,string service,string country,string city,\
    uint8 ipType,uint256 pricePerHour,uint256 pricePerGib,address[] hermes,uint256 chainId,address vault,string[] contact,\
    string[] relays,string[] capabilities,uint32 protocolMin,uint32 protocolMax,uint64 sequence,uint64 issuedAt,uint64 expiresAt)";

/// What a provider offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// [`FORMAT`].
    pub format: u32,
    /// Who provides and is paid.
    pub provider: Address,
    /// The key of the node's QUIC endpoint.
    pub node: NodeId,
    /// The public key (X25519) of the node's tunnel: a consumer may begin its handshake with the terms. The key that the provider
    /// signs for a session is the one that counts.
    pub tunnel_key: [u8; 32],
    /// What is provided.
    pub service: ServiceType,
    /// Where traffic comes out, as the provider says.
    pub location: Location,
    /// For how much.
    pub price: Price,
    /// Through which Hermes the provider takes payment: 1 to 8, the one it likes best first.
    pub hermes: Vec<Address>,
    /// EIP-155 chain id of the vault.
    pub chain_id: u64,
    /// The vault through which it is paid.
    pub vault: Address,
    /// Where the QUIC endpoint can be dialed: up to 8 addresses, the best first. None where a relay is named.
    pub contact: Vec<SocketAddr>,
    /// Relays that can ring this node: up to 4, the best first. A node without contact addresses names at least one.
    pub relays: Vec<NodeAddress>,
    /// What else it can do: at most 32 tokens like `ipv6` or `roaming`, spelt like a [`ServiceType`]. Unknown ones are ignored.
    pub capabilities: BTreeSet<String>,
    /// Versions of the session protocol.
    pub protocol: Protocols,
    /// Counts up with each proposal of this node; a higher one replaces a lower one.
    pub sequence: u64,
    /// Unix seconds.
    pub issued_at: u64,
    /// Unix seconds; at most [`MAX_LIFETIME`] after `issued_at`.
    pub expires_at: u64,
}

/// Where traffic comes out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The country.
    pub country: CountryCode,
    /// The city, at most 64 bytes.
    pub city: Option<String>,
    /// The kind of network.
    pub ip_type: IpType,
}

/// The kind of network that an exit address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum IpType {
    /// Not stated.
    Unstated = 0,
    /// A home line.
    Residential = 1,
    /// A mobile network.
    Mobile = 2,
    /// An office or a school.
    Business = 3,
    /// A data centre.
    Hosting = 4,
}

/// A range of protocol versions, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Protocols {
    /// The oldest, from 1.
    pub min: u32,
    /// The newest.
    pub max: u32,
}

/// Which rule an offer breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Written by another release.
    #[error("the proposal has format {0}, this release reads {FORMAT}")]
    Format(u32),
    /// The city is empty, too long, or has control characters.
    #[error("the city must be 1 to {MAX_CITY} bytes without control characters, or left out")]
    City,
    /// None, too many, or one twice.
    #[error("1 to {MAX_HERMES} different Hermes must be named, here are {0}")]
    Hermes(usize),
    /// Too many, one twice, or none although no relay is named either.
    #[error(
        "at most {MAX_CONTACTS} different contact addresses are named, and at least one where there is no relay; here are {0}"
    )]
    Contacts(usize),
    /// Too many, or one twice.
    #[error("at most {MAX_RELAYS} different addresses of relays are named, here are {0}")]
    Relays(usize),
    /// Nobody can be reached there.
    #[error(
        "{0} is no address to be reached at: it needs a port and a unicast address, IPv4 not in IPv6 clothes, no zone"
    )]
    Contact(SocketAddr),
    /// Too many, or not a token.
    #[error(
        "capabilities are at most {MAX_CAPABILITIES} tokens of lower-case letters, digits and hyphens"
    )]
    Capabilities,
    /// Empty, or from 0.
    #[error("protocol versions {min} to {max} are no range from 1 upwards")]
    Protocols {
        /// As stated.
        min: u32,
        /// As stated.
        max: u32,
    },
    /// It would end before it begins.
    #[error("the proposal expires at {expires_at}, not after it was issued at {issued_at}")]
    Backwards {
        /// Unix seconds.
        issued_at: u64,
        /// Unix seconds.
        expires_at: u64,
    },
    /// It would live too long.
    #[error("the proposal lives {0} s, the longest is {MAX_LIFETIME} s")]
    TooLong(u64),
}

impl Offer {
    /// Checks every bound; what is left to [`SignedProposal::verify`](crate::SignedProposal::verify) are clock and signature.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), OfferError> {
        if self.format != FORMAT {
            return Err(OfferError::Format(self.format));
        }
        if let Some(city) = &self.location.city
            && (city.is_empty() || city.len() > MAX_CITY || city.chars().any(char::is_control))
        {
            return Err(OfferError::City);
        }
        if self.hermes.is_empty() || !all_different(&self.hermes, MAX_HERMES) {
            return Err(OfferError::Hermes(self.hermes.len()));
        }
        let nowhere = self.contact.is_empty() && self.relays.is_empty();
        if nowhere || !all_different(&self.contact, MAX_CONTACTS) {
            return Err(OfferError::Contacts(self.contact.len()));
        }
        if !all_different(&self.relays, MAX_RELAYS) {
            return Err(OfferError::Relays(self.relays.len()));
        }
        let relays = self.relays.iter().map(|relay| &relay.at);
        if let Some(contact) = self.contact.iter().chain(relays).find(|at| !reachable(at)) {
            return Err(OfferError::Contact(*contact));
        }
        if self.capabilities.len() > MAX_CAPABILITIES
            || !self.capabilities.iter().all(|token| is_token(token))
        {
            return Err(OfferError::Capabilities);
        }
        let Protocols { min, max } = self.protocol;
        if min == 0 || max < min {
            return Err(OfferError::Protocols { min, max });
        }
        let Self {
            issued_at,
            expires_at,
            ..
        } = *self;
        match expires_at.checked_sub(issued_at) {
            None | Some(0) => Err(OfferError::Backwards {
                issued_at,
                expires_at,
            }),
            Some(lifetime) if lifetime > MAX_LIFETIME => Err(OfferError::TooLong(lifetime)),
            Some(_) => Ok(()),
        }
    }

    /// What the provider signs: the EIP-712 digest over every field, in the domain of the chain. No contract reads it, so the
    /// domain names none and the vault is a field.
    #[must_use]
    pub fn digest(&self) -> B256 {
        let mut message = TypedStruct::new(TYPE)
            .uint(U256::from(self.format))
            .address(self.provider)
            .word(B256::from(self.node.0))
            .word(B256::from(self.tunnel_key))
            .hash_of(self.service.as_str().as_bytes())
            .hash_of(self.location.country.as_str().as_bytes())
            // An empty city is refused, so nothing else is spelt like no city.
            .hash_of(self.location.city.as_deref().unwrap_or_default().as_bytes())
            .uint(U256::from(self.location.ip_type as u8))
            .uint(self.price.per_hour.units())
            .uint(self.price.per_gib.units());
        // EIP-712: an array is the hash of its members' words, one after the other.
        message = message.hash_of(
            &self
                .hermes
                .iter()
                .flat_map(|hermes| hermes.into_word().0)
                .collect::<Vec<u8>>(),
        );
        message = message.uint(U256::from(self.chain_id)).address(self.vault);
        message = message.hash_of(&strings(self.contact.iter().map(SocketAddr::to_string)));
        message = message.hash_of(&strings(self.relays.iter().map(NodeAddress::to_string)));
        message = message.hash_of(&strings(self.capabilities.iter()));
        let message = message
            .uint(U256::from(self.protocol.min))
            .uint(U256::from(self.protocol.max))
            .uint(U256::from(self.sequence))
            .uint(U256::from(self.issued_at))
            .uint(U256::from(self.expires_at));
        Domain {
            chain_id: self.chain_id,
            verifying_contract: Address::ZERO,
        }
        .digest(&message)
    }
}

fn all_different<T: PartialEq>(list: &[T], most: usize) -> bool {
    let unique = || {
        list.iter()
            .enumerate()
            .all(|(at, one)| !list[..at].contains(one))
    };
    list.len() <= most && unique()
}

fn reachable(contact: &SocketAddr) -> bool {
    let ip = contact.ip();
    let unicast = !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::from([255; 4]);
    let one_spelling = match contact {
        SocketAddr::V4(_) => true,
        SocketAddr::V6(v6) => {
            v6.ip().to_ipv4_mapped().is_none() && v6.scope_id() == 0 && v6.flowinfo() == 0
        }
    };
    contact.port() != 0 && unicast && one_spelling
}

fn strings<S: AsRef<str>>(list: impl Iterator<Item = S>) -> Vec<u8> {
    list.flat_map(|text| keccak256(text.as_ref()).0).collect()
}
