//! The signed binding of a tunnel key to an identity: what stops a third party from putting its own tunnel key into somebody's
//! session.

use alloy_primitives::{Address, B256, U256};

use crate::{Domain, SignError, Signature, SignatureError, Signer, TypedStruct};

/// An identity's statement that, within one agreement, it owns a tunnel key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelBinding {
    /// Who owns the key.
    pub identity: Address,
    /// The x25519 public key.
    pub tunnel_key: [u8; 32],
    /// The agreement that the key serves; a binding is worthless in any other.
    pub agreement: U256,
    /// The identity's signature.
    pub signature: Signature,
}

/// Why a binding does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// Not signed by the identity it names.
    #[error("the tunnel key is not bound to the identity: {0}")]
    Signature(#[from] SignatureError),
}

impl TunnelBinding {
    /// Signs a binding.
    ///
    /// # Errors
    /// [`SignError`] of the signer.
    pub fn sign(
        signer: &dyn Signer,
        domain: &Domain,
        tunnel_key: [u8; 32],
        agreement: U256,
    ) -> Result<Self, SignError> {
        let identity = signer.address();
        let signature = signer.sign_digest(digest(domain, identity, tunnel_key, agreement))?;
        Ok(Self {
            identity,
            tunnel_key,
            agreement,
            signature,
        })
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`BindingError::Signature`].
    pub fn verify(&self, domain: &Domain) -> Result<(), BindingError> {
        let digest = digest(domain, self.identity, self.tunnel_key, self.agreement);
        Ok(self.signature.verify(digest, self.identity)?)
    }
}

fn digest(domain: &Domain, identity: Address, tunnel_key: [u8; 32], agreement: U256) -> B256 {
    domain.digest(
        &TypedStruct::new("TunnelBinding(address identity,bytes32 tunnelKey,uint256 agreement)")
            .address(identity)
            .word(B256::from(tunnel_key))
            .uint(agreement),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{LocalSigner, SecretKey};

    #[test]
    fn a_binding_holds_for_its_own_key_agreement_and_chain_only() {
        let signer = LocalSigner::new(SecretKey::from_bytes([9; 32]).unwrap());
        let domain = Domain {
            chain_id: 5,
            verifying_contract: Address::repeat_byte(2),
        };
        let binding = TunnelBinding::sign(&signer, &domain, [1; 32], U256::from(8)).unwrap();
        binding.verify(&domain).unwrap();
        let other_key = TunnelBinding {
            tunnel_key: [2; 32],
            ..binding.clone()
        };
        other_key.verify(&domain).unwrap_err();
        let other_agreement = TunnelBinding {
            agreement: U256::from(9),
            ..binding.clone()
        };
        other_agreement.verify(&domain).unwrap_err();
        binding
            .verify(&Domain {
                chain_id: 6,
                ..domain
            })
            .unwrap_err();
    }
}
