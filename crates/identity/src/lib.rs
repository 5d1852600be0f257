//! *Who*: secp256k1 identities (Ethereum addresses), ed25519 node keys, digests, signatures, the keystore format and the signed
//! binding of a tunnel key to an identity.
//!
//! Refuses to know sockets, chains, clocks and randomness: key material and salts are arguments.
//!
//! ```
//! use wayfare_identity::{LocalSigner, SecretKey, Signer, keccak256};
//!
//! let signer = LocalSigner::new(SecretKey::from_bytes([7; 32])?);
//! let digest = keccak256(b"a promise");
//! let signature = signer.sign_digest(digest)?;
//! assert_eq!(signature.recover(digest)?, signer.address());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod binding;
mod key;
mod keystore;
mod node_address;
mod node_key;
mod signature;
mod signer;
mod typed;

pub use alloy_primitives::{Address, B256, U256, U512, keccak256};
pub use binding::{BindingError, TunnelBinding};
pub use key::{KeyError, SecretKey};
pub use keystore::{
    Kdf, KeystoreError, KeystoreSalt, keystore_address, open_keystore, seal_keystore,
};
pub use node_address::{NodeAddress, NodeAddressError};
pub use node_key::{NodeId, NodeKey};
pub use signature::{Signature, SignatureError};
pub use signer::{LocalSigner, SignError, Signer};
pub use typed::{Domain, TypedStruct};
