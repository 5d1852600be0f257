//! The vault's EIP-712 messages: what a payee or a consumer signs so that somebody else may send its transaction.
//! It refuses to send anything.

use alloy::primitives::{Address, B256, Bytes, U256};
use wayfare_identity::{Domain, Signature, TypedStruct};
use wayfare_payment::Amount;

use crate::bindings::Vault;
use crate::rows::compact;

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

/// A payee lets a caller settle for it until a day, to nobody but itself and without a fee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mandate {
    /// Whose settlements.
    pub payee: Address,
    /// Promised by which Hermes.
    pub hermes: Address,
    /// Who may send them: a registered caller, or the Hermes itself, whose operator then books credit and nothing else.
    pub caller: Address,
    /// [`Mandate::PAY_OUT`], [`Mandate::CREDIT`], both, or 0 to take the mandate back.
    pub methods: u8,
    /// The last day, counted from 1970 in UTC.
    pub until_day: u16,
    /// The payee's nonce in the vault, so that an old mandate cannot come back.
    pub nonce: U256,
    /// Unix seconds after which the message itself is void.
    pub deadline: u64,
}

impl Mandate {
    /// Tokens to the payee's own address.
    pub const PAY_OUT: u8 = 1;
    /// Credit that stays in the vault until the payee takes it.
    pub const CREDIT: u8 = 2;

    /// What the payee signs.
    #[must_use]
    pub fn digest(&self, domain: &Domain) -> B256 {
        let message = TypedStruct::new(
            "SettleMandate(address payee,address hermes,address caller,uint256 methods,uint256 untilDay,uint256 \
             nonce,uint256 deadline)",
        );
        domain.digest(
            &message
                .address(self.payee)
                .address(self.hermes)
                .address(self.caller)
                .uint(U256::from(self.methods))
                .uint(U256::from(self.until_day))
                .uint(self.nonce)
                .uint(U256::from(self.deadline)),
        )
    }

    /// The call that carries it, which anybody may send.
    #[must_use]
    pub fn call(&self, signature: &Signature) -> Vault::giveMandateBySigCall {
        Vault::giveMandateBySigCall {
            payee: self.payee,
            hermesId: self.hermes,
            caller: self.caller,
            methods: U256::from(self.methods),
            untilDay: self.until_day,
            deadline: U256::from(self.deadline),
            sig: Bytes::copy_from_slice(signature.as_bytes()),
        }
    }
}

/// A Hermes' operator puts many payees' totals under one signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    /// The Hermes.
    pub hermes: Address,
    /// Payees and cumulative totals, packed by [`sheet_rows`](crate::sheet_rows).
    pub rows: Bytes,
}

impl Sheet {
    /// What the operator signs.
    #[must_use]
    pub fn digest(&self, domain: &Domain) -> B256 {
        let message = TypedStruct::new("SettleSheet(address hermes,bytes rows)");
        domain.digest(&message.address(self.hermes).hash_of(&self.rows))
    }

    /// The call that carries it; `method` is one of [`Mandate`]'s.
    #[must_use]
    pub fn call(&self, method: u8, signature: &Signature) -> Vault::settleSheetCall {
        let (r, vs) = compact(signature);
        let mut to = B256::ZERO;
        to.0[..20].copy_from_slice(self.hermes.as_slice());
        to.0[31] = method;
        Vault::settleSheetCall {
            hermesAndMethod: to,
            r,
            vs,
            rows: self.rows.clone(),
        }
    }
}

/// A provider lets `caller` draw from a direct channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrawConsent {
    /// Whose earnings.
    pub provider: Address,
    /// Who locked the money.
    pub payer: Address,
    /// Who may send the transaction and earns the promise's fee.
    pub caller: Address,
    /// Where the tokens go.
    pub beneficiary: Address,
    /// What the provider will have drawn in all.
    pub total: Amount,
    /// The most the promise's fee may be.
    pub max_fee: Amount,
    /// Unix seconds after which the consent is void.
    pub deadline: u64,
}

impl DrawConsent {
    /// What the provider signs; the domain is that of the contract of direct channels.
    #[must_use]
    pub fn digest(&self, domain: &Domain) -> B256 {
        let message = TypedStruct::new(
            "DrawConsent(address provider,address payer,address caller,address beneficiary,uint256 total,uint256 \
             maxFee,uint256 deadline)",
        );
        domain.digest(
            &message
                .address(self.provider)
                .address(self.payer)
                .address(self.caller)
                .address(self.beneficiary)
                .uint(self.total.units())
                .uint(self.max_fee.units())
                .uint(U256::from(self.deadline)),
        )
    }
}
