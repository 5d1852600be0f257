//! Secrets of one attempt: an X25519 key on each side, and the probe keys that follow from both.
//! It refuses to make keys (seeds are arguments), to print them, and to accept a point that would make them known.

use std::fmt;

use wayfare_identity::NodeId;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::hash;

/// Who asked for the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Sent the offer; decides which path is used.
    Caller,
    /// Sent the answer; follows.
    Callee,
}

impl Role {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }
}

/// One attempt of two nodes to find a path, chosen at random by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub [u8; 16]);

/// The secret half of an attempt's key, erased from memory when dropped.
pub struct Ephemeral(Zeroizing<[u8; 32]>);

impl Ephemeral {
    /// Takes 32 uniformly random bytes, never used before.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Zeroizing::new(seed))
    }

    /// The half that a description tells.
    #[must_use]
    pub fn public(&self) -> EphemeralPublic {
        let secret = x25519_dalek::StaticSecret::from(*self.0);
        EphemeralPublic(x25519_dalek::PublicKey::from(&secret).to_bytes())
    }

    /// `None` if `theirs` is a point of low order, which would make a secret that everybody knows.
    fn agree(&self, theirs: EphemeralPublic) -> Option<Zeroizing<[u8; 32]>> {
        let secret = x25519_dalek::StaticSecret::from(*self.0);
        let shared = secret.diffie_hellman(&x25519_dalek::PublicKey::from(theirs.0));
        shared
            .was_contributory()
            .then(|| Zeroizing::new(*shared.as_bytes()))
    }
}

impl fmt::Debug for Ephemeral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ephemeral(redacted)")
    }
}

/// The public half of an attempt's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EphemeralPublic(pub [u8; 32]);

/// What a probe is recognised by: eight bytes in clear, different for every attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub [u8; 8]);

/// The keys of one attempt's probes, one per direction, and their tag.
///
/// `root = BLAKE2s(key = X25519(ephemerals), label ‖ caller ‖ callee ‖ attempt ‖ caller's ephemeral ‖ callee's ephemeral)`;
/// each key and the tag are `BLAKE2s(key = root, label)`. A relay that passed offer and answer on knows everything but
/// the X25519 secret.
#[derive(Clone, ZeroizeOnDrop)]
pub struct ProbeSecret {
    by_caller: [u8; 32],
    by_callee: [u8; 32],
    #[zeroize(skip)]
    tag: Tag,
}

impl ProbeSecret {
    /// What probes of this attempt are recognised by, for whoever hands them to finders.
    #[must_use]
    pub fn tag(&self) -> Tag {
        self.tag
    }

    pub(crate) fn key_of(&self, sender: Role) -> &[u8; 32] {
        match sender {
            Role::Caller => &self.by_caller,
            Role::Callee => &self.by_callee,
        }
    }

    /// `None` if the peer's key is of low order.
    pub(crate) fn derive(
        ours: &Ephemeral,
        theirs: EphemeralPublic,
        our_role: Role,
        (us, peer): (NodeId, NodeId),
        attempt: Attempt,
    ) -> Option<Self> {
        let shared = ours.agree(theirs)?;
        let ours = ours.public();
        let (caller, callee, caller_key, callee_key) = match our_role {
            Role::Caller => (us, peer, ours, theirs),
            Role::Callee => (peer, us, theirs, ours),
        };
        let root = Zeroizing::new(hash::keyed_32(
            &shared,
            &[
                b"wayfare path secret v1",
                &caller.0,
                &callee.0,
                &attempt.0,
                &caller_key.0,
                &callee_key.0,
            ],
        ));
        let mut tag = [0; 8];
        tag.copy_from_slice(&hash::keyed_32(&root, &[b"tag"])[..8]);
        Some(Self {
            by_caller: hash::keyed_32(&root, &[b"probes of the caller"]),
            by_callee: hash::keyed_32(&root, &[b"probes of the callee"]),
            tag: Tag(tag),
        })
    }
}

impl fmt::Debug for ProbeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProbeSecret({:?}, redacted)", self.tag)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn derive(our_seed: u8, their_seed: u8, role: Role, attempt: u8) -> ProbeSecret {
        let theirs = Ephemeral::from_seed([their_seed; 32]).public();
        let nodes = (NodeId([our_seed; 32]), NodeId([their_seed; 32]));
        let ours = Ephemeral::from_seed([our_seed; 32]);
        ProbeSecret::derive(&ours, theirs, role, nodes, Attempt([attempt; 16])).unwrap()
    }

    #[test]
    fn both_sides_derive_the_same_and_another_attempt_another() {
        let caller = derive(1, 2, Role::Caller, 7);
        let callee = derive(2, 1, Role::Callee, 7);
        let other = derive(1, 2, Role::Caller, 8);
        for role in [Role::Caller, Role::Callee] {
            assert_eq!(caller.key_of(role), callee.key_of(role));
            assert_ne!(caller.key_of(role), other.key_of(role));
        }
        assert_eq!(caller.tag(), callee.tag());
        assert_ne!(caller.key_of(Role::Caller), caller.key_of(Role::Callee));
    }

    #[test]
    fn a_point_of_low_order_is_refused() {
        let ours = Ephemeral::from_seed([1; 32]);
        let nodes = (NodeId([1; 32]), NodeId([2; 32]));
        let zero = EphemeralPublic([0; 32]);
        let attempt = Attempt([0; 16]);
        assert!(ProbeSecret::derive(&ours, zero, Role::Caller, nodes, attempt).is_none());
    }

    #[test]
    fn nothing_secret_is_printed() {
        let secret = derive(1, 2, Role::Caller, 7);
        assert!(format!("{secret:?}").contains("redacted"));
        assert!(!format!("{:?}", Ephemeral::from_seed([0xab; 32])).contains("ab, ab"));
    }
}
