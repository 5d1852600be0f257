//! ed25519 node keys: the key of one running node's QUIC certificate, published in its signed proposals.

use alloy_primitives::hex;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The public half of a node key, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub [u8; 32]);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeId({self})")
    }
}

impl NodeId {
    /// Whether the holder of this key signed `message` (RFC 8032, with the strict checks that leave one signature valid for
    /// one message and key).
    #[must_use]
    pub fn signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| {
            key.verify_strict(message, &Signature::from_bytes(signature))
                .is_ok()
        })
    }
}

/// The secret half: a 32-byte ed25519 seed, wiped on drop.
#[derive(Clone)]
pub struct NodeKey(Zeroizing<[u8; 32]>);

impl NodeKey {
    /// Any 32 bytes are a seed.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Zeroizing::new(seed))
    }

    /// The public half.
    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId(SigningKey::from_bytes(&self.0).verifying_key().to_bytes())
    }

    /// Signs `message` (RFC 8032). Whoever calls makes sure that it cannot be mistaken for a message of another kind.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        SigningKey::from_bytes(&self.0).sign(message).to_bytes()
    }

    /// The seed, for the certificate of the node's QUIC endpoint.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeKey(of {})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_message_and_one_key() {
        let [one, other] = [1, 2].map(|seed| NodeKey::from_seed([seed; 32]));
        let signature = one.sign(b"here I am");
        assert!(one.id().signed(b"here I am", &signature));
        assert!(!one.id().signed(b"here I was", &signature));
        assert!(!other.id().signed(b"here I am", &signature));
        assert!(!NodeId([0xff; 32]).signed(b"here I am", &signature));
    }

    #[test]
    fn the_first_vector_of_rfc_8032() {
        let seed = hex::const_decode_to_array(
            b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        );
        let key = NodeKey::from_seed(seed.unwrap_or_default());
        assert_eq!(
            key.id().to_string(),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        assert!(!format!("{key:?}").contains("9d61b1"));
    }
}
