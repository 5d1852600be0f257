//! Offers and answers: descriptions, signed, as they travel over somebody else's connection.
//! They refuse to be used before they are verified, and to be about other nodes, another role or another attempt.
//!
//! ```text
//! version 1 | role 1 | attempt 16 | serial 4, little-endian | signature 64 | description (postcard)
//! ```
//! The signature is ed25519 over `BLAKE2s(label ‖ version ‖ role ‖ attempt ‖ serial ‖ from ‖ to ‖ description)`. Neither
//! node id travels: both sides know them, and a message for somebody else fails. A later message of one attempt (after
//! a change of network) has a larger serial; what carries the messages need not keep their order.

use wayfare_identity::{NodeId, NodeKey};

use crate::description::Description;
use crate::hash;
use crate::secret::{Attempt, Ephemeral, ProbeSecret, Role};
use crate::signing;

/// Bytes of an offer or an answer at most. 24 IPv6 candidates take 86 + 24 × 20 + 50, about 620.
pub const MAX_OFFER: usize = 2048;

const VERSION: u8 = 1;
const HEAD: usize = 1 + 1 + 16 + 4 + 64;

/// Why bytes are not a usable offer or answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Longer than [`MAX_OFFER`].
    #[error("the peer's message is longer than {MAX_OFFER} bytes")]
    TooLong,
    /// Not of this format, or with too many candidates.
    #[error("the peer's message cannot be read")]
    Malformed,
    /// A version that came after this one.
    #[error("the peer speaks version {0} of path finding, this node version {VERSION}")]
    Version(u8),
    /// An offer where an answer belongs, or the other way round.
    #[error("the peer's message is in the wrong role")]
    Role,
    /// An answer to another offer.
    #[error("the peer answers another attempt")]
    Attempt,
    /// Not signed by the peer for us.
    #[error("the peer's signature is wrong, or was made for somebody else")]
    Signature,
    /// The peer's ephemeral key is one that makes no secret.
    #[error("the peer's ephemeral key makes no secret")]
    WeakKey,
}

/// A caller's message: read, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer(Signed);

/// A callee's message: read, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer(Signed);

impl Offer {
    /// An offer of `key`'s node to `to`.
    #[must_use]
    pub fn sign(
        key: &NodeKey,
        to: NodeId,
        attempt: Attempt,
        serial: u32,
        description: &Description,
    ) -> Self {
        Self(Signed::new(
            key,
            Role::Caller,
            to,
            attempt,
            serial,
            description,
        ))
    }

    /// At most [`MAX_OFFER`] bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// Reads an offer.
    ///
    /// # Errors
    /// [`OfferError`] of the format. Nothing is verified yet.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OfferError> {
        Signed::from_bytes(bytes, Role::Caller).map(Self)
    }

    /// Which attempt it claims to begin.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        self.0.attempt
    }

    /// Whether `from` offered this to `us`.
    ///
    /// # Errors
    /// [`OfferError::Signature`] if not.
    pub fn verify(self, from: NodeId, us: NodeId) -> Result<Verified, OfferError> {
        self.0.verify(from, us)
    }
}

impl Answer {
    /// The answer of `key`'s node to a verified offer.
    #[must_use]
    pub fn sign(key: &NodeKey, offer: &Verified, serial: u32, description: &Description) -> Self {
        Self(Signed::new(
            key,
            Role::Callee,
            offer.peer,
            offer.attempt,
            serial,
            description,
        ))
    }

    /// At most [`MAX_OFFER`] bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`OfferError`] of the format. Nothing is verified yet.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OfferError> {
        Signed::from_bytes(bytes, Role::Callee).map(Self)
    }

    /// Whether `from` answered this to the offer that `us` made under `attempt`.
    ///
    /// # Errors
    /// [`OfferError::Attempt`] or [`OfferError::Signature`] if not.
    pub fn verify(
        self,
        from: NodeId,
        us: NodeId,
        attempt: Attempt,
    ) -> Result<Verified, OfferError> {
        if self.0.attempt != attempt {
            return Err(OfferError::Attempt);
        }
        self.0.verify(from, us)
    }
}

/// A peer's description whose signature held: for us, from that peer, in that role and attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    peer: NodeId,
    us: NodeId,
    role: Role,
    attempt: Attempt,
    serial: u32,
    description: Description,
}

impl Verified {
    /// Who signed.
    #[must_use]
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// The role of who signed; ours is the other.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The attempt both belong to.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// What the peer says about itself.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Whether this was said later than `older`, in the same attempt by the same peer with the same ephemeral key. What
    /// does not supersede is a replay.
    #[must_use]
    pub fn supersedes(&self, older: &Self) -> bool {
        self.peer == older.peer
            && self.role == older.role
            && self.attempt == older.attempt
            && self.description.ephemeral == older.description.ephemeral
            && self.serial > older.serial
    }

    /// The probe keys that follow from our `ephemeral` (whose public half our own description told) and theirs.
    ///
    /// # Errors
    /// [`OfferError::WeakKey`] if theirs makes no secret.
    pub fn secret(&self, ephemeral: &Ephemeral) -> Result<ProbeSecret, OfferError> {
        let nodes = (self.us, self.peer);
        let theirs = self.description.ephemeral;
        ProbeSecret::derive(ephemeral, theirs, self.role.other(), nodes, self.attempt)
            .ok_or(OfferError::WeakKey)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Signed {
    role: Role,
    attempt: Attempt,
    serial: u32,
    signature: [u8; 64],
    /// As it was signed, so that one encoding is enough.
    body: Vec<u8>,
    description: Description,
}

impl Signed {
    fn new(
        key: &NodeKey,
        role: Role,
        to: NodeId,
        attempt: Attempt,
        serial: u32,
        description: &Description,
    ) -> Self {
        let mut signed = Self {
            role,
            attempt,
            serial,
            signature: [0; 64],
            body: description.to_bytes(),
            description: description.clone(),
        };
        signed.signature = signing::sign(key, &signed.digest(key.id(), to));
        signed
    }

    fn digest(&self, from: NodeId, to: NodeId) -> [u8; 32] {
        hash::digest(&[
            b"wayfare path offer v1",
            &[VERSION, role_code(self.role)],
            &self.attempt.0,
            &self.serial.to_le_bytes(),
            &from.0,
            &to.0,
            &self.body,
        ])
    }

    fn verify(self, from: NodeId, us: NodeId) -> Result<Verified, OfferError> {
        if !signing::is_signed_by(from, &self.digest(from, us), &self.signature) {
            return Err(OfferError::Signature);
        }
        Ok(Verified {
            peer: from,
            us,
            role: self.role,
            attempt: self.attempt,
            serial: self.serial,
            description: self.description,
        })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.body.len());
        bytes.extend_from_slice(&[VERSION, role_code(self.role)]);
        bytes.extend_from_slice(&self.attempt.0);
        bytes.extend_from_slice(&self.serial.to_le_bytes());
        bytes.extend_from_slice(&self.signature);
        bytes.extend_from_slice(&self.body);
        bytes
    }

    fn from_bytes(bytes: &[u8], role: Role) -> Result<Self, OfferError> {
        if bytes.len() > MAX_OFFER {
            return Err(OfferError::TooLong);
        }
        let (&version, _) = bytes.split_first().ok_or(OfferError::Malformed)?;
        if version != VERSION {
            return Err(OfferError::Version(version));
        }
        let (head, body) = bytes.split_at_checked(HEAD).ok_or(OfferError::Malformed)?;
        if head[1] != role_code(role) {
            return Err(OfferError::Role);
        }
        let mut signed = Self {
            role,
            attempt: Attempt([0; 16]),
            serial: 0,
            signature: [0; 64],
            body: body.to_vec(),
            description: Description::from_bytes(body).ok_or(OfferError::Malformed)?,
        };
        let mut serial = [0; 4];
        signed.attempt.0.copy_from_slice(&head[2..18]);
        serial.copy_from_slice(&head[18..22]);
        signed.serial = u32::from_le_bytes(serial);
        signed.signature.copy_from_slice(&head[22..]);
        Ok(signed)
    }
}

fn role_code(role: Role) -> u8 {
    match role {
        Role::Caller => 1,
        Role::Callee => 2,
    }
}
