//! Signatures by node keys over digests of this room.
//! It refuses to know what was signed; the digest says domain, role, parties and attempt.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use wayfare_identity::{NodeId, NodeKey};

/// ed25519 (RFC 8032) over the 32 bytes of `digest`.
pub(crate) fn sign(key: &NodeKey, digest: &[u8; 32]) -> [u8; 64] {
    SigningKey::from_bytes(&key.seed()).sign(digest).to_bytes()
}

/// Strict: keys and signatures with parts of small order are refused.
pub(crate) fn is_signed_by(node: NodeId, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(&node.0).is_ok_and(|key| {
        key.verify_strict(digest, &Signature::from_bytes(signature))
            .is_ok()
    })
}
