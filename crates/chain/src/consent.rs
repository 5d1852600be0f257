//! The vault's EIP-712 messages: what a payee or a consumer signs so that somebody else may send its transaction.
//! It refuses to send anything.

use alloy::primitives::{Address, B256, U256};
use wayfare_identity::{Domain, TypedStruct};
use wayfare_payment::Amount;

/// A payee lets `caller` cash its promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleConsent {
    /// Whose promise.
    pub payee: Address,
    /// Of which Hermes.
    pub hermes: Address,
    /// Who may send the transaction and earns the promise's fee.
    pub caller: Address,
    /// Where the tokens go.
    pub beneficiary: Address,
    /// The promise's cumulative amount.
    pub amount: Amount,
    /// The most the promise's fee may be.
    pub max_fee: Amount,
    /// Unix seconds after which the consent is void.
    pub deadline: u64,
}

impl SettleConsent {
    /// What the payee signs.
    #[must_use]
    pub fn digest(&self, domain: &Domain) -> B256 {
        let message = TypedStruct::new(
            "SettleConsent(address payee,address hermes,address caller,address beneficiary,uint256 amount,uint256 \
             maxFee,uint256 deadline)",
        );
        domain.digest(
            &message
                .address(self.payee)
                .address(self.hermes)
                .address(self.caller)
                .address(self.beneficiary)
                .uint(self.amount.units())
                .uint(self.max_fee.units())
                .uint(U256::from(self.deadline)),
        )
    }
}

/// A consumer starts, or ends, its exit from a Hermes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitConsent {
    /// Who leaves.
    pub consumer: Address,
    /// Which Hermes.
    pub hermes: Address,
    /// The account's nonce on chain.
    pub nonce: u64,
    /// Unix seconds after which the message is void.
    pub deadline: u64,
}

impl ExitConsent {
    /// What the consumer signs to start the delay.
    #[must_use]
    pub fn request_digest(&self, domain: &Domain) -> B256 {
        let message = TypedStruct::new(
            "ExitRequest(address consumer,address hermes,uint256 nonce,uint256 deadline)",
        );
        domain.digest(
            &message
                .address(self.consumer)
                .address(self.hermes)
                .uint(U256::from(self.nonce))
                .uint(U256::from(self.deadline)),
        )
    }

    /// What the consumer signs to be paid out after the delay.
    #[must_use]
    pub fn final_digest(&self, beneficiary: Address, domain: &Domain) -> B256 {
        let message = TypedStruct::new(
            "ExitFinal(address consumer,address hermes,address beneficiary,uint256 nonce,uint256 deadline)",
        );
        domain.digest(
            &message
                .address(self.consumer)
                .address(self.hermes)
                .address(beneficiary)
                .uint(U256::from(self.nonce))
                .uint(U256::from(self.deadline)),
        )
    }
}
