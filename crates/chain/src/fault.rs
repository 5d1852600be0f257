//! What went wrong, in words: reverts of the contracts and errors of RPC servers become `payment::ChainError`.
//! It refuses to decide whether to try again.

use alloy::primitives::{Address, Bytes};
use alloy::sol_types::SolInterface;
use alloy::transports::{RpcError, TransportErrorKind};
use wayfare_payment::ChainError;

use crate::bindings::{Direct::DirectErrors, Token::TokenErrors, Vault::VaultErrors};
use crate::mysterium::Batch::BatchErrors;

/// A refusal of a node, before it is known whether it is the contract's or the node's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// The contract reverted, with these bytes.
    Reverted(Bytes),
    /// The sender's nonce is used: another process sends with the same key, or the node lags.
    NonceTaken,
    /// It offers less for gas than the node wants, or than what it would replace.
    Underpriced,
    /// The node has this very transaction already.
    AlreadyKnown,
    /// The sender has too little native coin.
    NoGas,
    /// Anything else.
    Other(ChainError),
}

impl From<RpcError<TransportErrorKind>> for Fault {
    fn from(error: RpcError<TransportErrorKind>) -> Self {
        let Some(payload) = error.as_error_resp() else {
            return Self::Other(ChainError::Unreachable(told(&error.to_string())));
        };
        if let Some(data) = payload.as_revert_data() {
            return Self::Reverted(data);
        }
        let said = payload.message.to_lowercase();
        if said.contains("nonce too low") {
            Self::NonceTaken
        } else if said.contains("underpriced")
            || said.contains("less than block base fee")
            || said.contains("fee too low")
        {
            Self::Underpriced
        } else if said.contains("already known") || said.contains("already imported") {
            Self::AlreadyKnown
        } else if said.contains("insufficient funds")
            || said.contains("lack of funds")
            || said.contains("exceeds allowance")
        {
            Self::NoGas
        } else if payload.code == 3 || said.contains("revert") {
            Self::Reverted(Bytes::new())
        } else {
            Self::Other(ChainError::Unreachable(format!(
                "the server answered: {}",
                told(&payload.to_string())
            )))
        }
    }
}

impl Fault {
    /// Whether another server may know better: this one did not answer, or not to the point.
    pub(crate) fn is_of_the_server(&self) -> bool {
        match self {
            Self::Other(
                ChainError::Unreachable(_)
                | ChainError::WrongChain { .. }
                | ChainError::Contradiction(_),
            ) => true,
            Self::Reverted(_)
            | Self::NonceTaken
            | Self::Underpriced
            | Self::AlreadyKnown
            | Self::NoGas
            | Self::Other(
                ChainError::NoContract(_)
                | ChainError::UnknownHermes(_)
                | ChainError::NoGas { .. }
                | ChainError::Refused(_)
                | ChainError::Waiting(_)
                | ChainError::Pending(_),
            ) => false,
        }
    }

    /// For people and for the machines, when nothing on the chain excuses it.
    pub(crate) fn into_chain_error(self, sender: Address) -> ChainError {
        match self {
            Self::Reverted(data) => ChainError::Refused(explain(&data)),
            Self::NonceTaken => ChainError::Unreachable(format!(
                "the nonce of {sender} keeps moving: another program sends with the same key, or the server lags"
            )),
            Self::Underpriced => {
                ChainError::Unreachable("the server wants more for gas than was offered".to_owned())
            }
            Self::AlreadyKnown => {
                ChainError::Unreachable("the server already has this transaction".to_owned())
            }
            Self::NoGas => ChainError::NoGas { account: sender },
            Self::Other(error) => error,
        }
    }
}

/// A server's words for people: on one line, no longer than one reads, without the terminal's control characters.
fn told(text: &str) -> String {
    /// Enough for an address and a cause.
    const MOST: usize = 300;
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let line = words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// A contract's revert, with what to do about it.
#[must_use]
pub fn explain(revert: &Bytes) -> String {
    if let Ok(error) = VaultErrors::abi_decode(revert) {
        return vault(&error);
    }
    if let Ok(error) = DirectErrors::abi_decode(revert) {
        return direct(&error);
    }
    if let Ok(error) = TokenErrors::abi_decode(revert) {
        return token(&error);
    }
    if let Ok(error) = BatchErrors::abi_decode(revert) {
        return batch(&error);
    }
    let reason = alloy::sol_types::decode_revert_reason(revert).filter(|reason| !reason.is_empty());
    reason.unwrap_or_else(|| "reverted without a reason".to_owned())
}

fn vault(error: &VaultErrors) -> String {
    match error {
        VaultErrors::AccountEmpty(_) => {
            "the account is empty: there is nothing to pay from".to_owned()
        }
        VaultErrors::AlreadyRegistered(e) => {
            format!("this owner's Hermes {} is already registered", e.hermes)
        }
        VaultErrors::AmountTooLarge(e) => {
            format!("{} is more than an account can hold (2^96 - 1)", e.amount)
        }
        VaultErrors::ExitPending(e) => {
            format!("an exit is already pending; it is due at {}", e.exitAt)
        }
        VaultErrors::FeeAboveAmount(e) => format!(
            "the fee {} is more than the {} that is paid out",
            e.fee, e.amount
        ),
        VaultErrors::FeeAboveConsent(e) => {
            format!(
                "the promise's fee {} is above the {} that the payee agreed to",
                e.fee, e.maxFee
            )
        }
        VaultErrors::FeeNotAllowed(e) => format!(
            "a consumer's promise must carry no fee, this one carries {}",
            e.fee
        ),
        VaultErrors::FeeRateTooHigh(e) => format!(
            "a fee of {}/10000 is above the most, {}/10000",
            e.feeBps, e.most
        ),
        VaultErrors::HermesInsolvent(e) => {
            format!(
                "the Hermes has {} and owes {}: settle for yourself what there is, or wait",
                e.available, e.owed
            )
        }
        VaultErrors::HermesNotOpen(e) => {
            format!("the Hermes {} is closing or ruined", e.hermes)
        }
        VaultErrors::HermesRuined(e) => {
            format!("the Hermes {} is ruined: file a claim", e.hermes)
        }
        VaultErrors::NotRuined(e) => {
            format!("the Hermes {} is not ruined: settle with it", e.hermes)
        }
        VaultErrors::NoFraud(_) => {
            "these receipts contradict nothing: an honest Hermes may have signed them".to_owned()
        }
        VaultErrors::Solvent(e) => format!(
            "the Hermes has {} and is proven to owe {}",
            e.assets, e.liabilities
        ),
        VaultErrors::OwedToHolders(e) => format!(
            "receipts prove that {} is owed, and there is {}",
            e.liabilities, e.assets
        ),
        VaultErrors::ReceiptOfAnother(e) => {
            format!("the receipt is for another promise, {}", e.promiseHash)
        }
        VaultErrors::RowsMalformed(e) => {
            format!("{} bytes are no whole number of rows, or none", e.length)
        }
        VaultErrors::UnknownCaller(e) => {
            format!(
                "{} has no number: it must register as a caller first",
                e.caller
            )
        }
        VaultErrors::UnknownMethods(e) => format!("there is no method {}", e.methods),
        VaultErrors::NotEnough(e) => {
            format!("{} is available, {} was asked for", e.available, e.wanted)
        }
        VaultErrors::NothingOwed(e) => {
            format!(
                "nothing is owed: {} is promised and {} is already paid",
                e.amount, e.alreadyPaid
            )
        }
        VaultErrors::NothingRequested(_) => {
            "nothing was requested: ask first, then wait for the delay".to_owned()
        }
        VaultErrors::SignatureHighS(_) => "the signature is malleable (high s)".to_owned(),
        VaultErrors::SignatureInvalid(_) => "the signature recovers to nobody".to_owned(),
        VaultErrors::SignatureLength(e) => {
            format!("a signature has 65 bytes, this one has {}", e.length)
        }
        VaultErrors::SignatureV(e) => {
            format!("the signature's v must be 27 or 28, this one is {}", e.v)
        }
        VaultErrors::TokenCallFailed(_) => "the token refused the transfer".to_owned(),
        VaultErrors::TooEarly(e) => format!(
            "too early: due at {}, the chain's time is {}",
            e.dueAt, e.timestamp
        ),
        VaultErrors::TooLate(e) => format!(
            "too late: valid until {}, the chain's time is {}",
            e.deadline, e.timestamp
        ),
        VaultErrors::UnknownHermes(e) => format!("{} is not a registered Hermes", e.hermes),
        VaultErrors::WrongSigner(e) => {
            format!(
                "the signature is of {}: wrong key, amount, channel, chain or preimage",
                e.recovered
            )
        }
        VaultErrors::ZeroAddress(_) => {
            "an address is zero or the vault's own where it must not be".to_owned()
        }
    }
}

/// Errors that the vault has too have been told in its words: a selector says nothing of who reverted.
fn direct(error: &DirectErrors) -> String {
    match error {
        DirectErrors::AboveCeiling(e) => {
            format!("{} is above the promise's ceiling, {}", e.total, e.ceiling)
        }
        DirectErrors::AmountTooLarge(_)
        | DirectErrors::FeeAboveAmount(_)
        | DirectErrors::FeeAboveConsent(_)
        | DirectErrors::NotEnough(_)
        | DirectErrors::NothingOwed(_)
        | DirectErrors::NothingRequested(_)
        | DirectErrors::SignatureHighS(_)
        | DirectErrors::SignatureInvalid(_)
        | DirectErrors::SignatureLength(_)
        | DirectErrors::SignatureV(_)
        | DirectErrors::TokenCallFailed(_)
        | DirectErrors::TooEarly(_)
        | DirectErrors::TooLate(_)
        | DirectErrors::WrongSigner(_)
        | DirectErrors::ZeroAddress(_) => format!("{error:?}"),
    }
}

fn batch(error: &BatchErrors) -> String {
    match error {
        BatchErrors::GasTooLow(e) => format!(
            "the batch's gas ends at item {} ({} is left): nothing of it was done, send fewer items or more gas",
            e.index, e.left
        ),
        BatchErrors::ItemsTorn(e) => {
            format!("{} bytes are no whole number of items", e.length)
        }
        BatchErrors::NoContract(e) => format!("there is no contract at {}", e.account),
    }
}

fn token(error: &TokenErrors) -> String {
    match error {
        TokenErrors::AllowanceTooLow(e) => {
            format!(
                "{} may spend {} tokens and needs {}: approve it first",
                e.spender, e.allowance, e.needed
            )
        }
        TokenErrors::BalanceTooLow(e) => {
            format!(
                "{} has {} tokens and needs {}",
                e.account, e.balance, e.needed
            )
        }
        TokenErrors::NotMinter(e) => format!("{} is not the token's minter", e.caller),
        TokenErrors::ZeroAddress(_) => "the address is zero".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use alloy::primitives::U256;
    use alloy::sol_types::{Revert, SolError};

    use super::*;
    use crate::bindings::{Token, Vault};

    #[test]
    fn a_servers_words_fill_one_line_and_no_more() {
        assert_eq!(
            told("not\n JSON:\t\u{1b}[31mrubbish\u{7}"),
            "not JSON: [31mrubbish"
        );
        let long = told(&"é".repeat(5_000));
        assert_eq!(long.chars().count(), 301);
    }

    #[test]
    fn reverts_are_told_with_their_figures() {
        let owed = Vault::NothingOwed {
            amount: U256::from(5),
            alreadyPaid: U256::from(7),
        };
        let check = |data: Vec<u8>, expect: &str| assert_eq!(explain(&data.into()), expect);
        check(
            owed.abi_encode(),
            "nothing is owed: 5 is promised and 7 is already paid",
        );
        let low = Token::BalanceTooLow {
            account: Address::ZERO,
            balance: U256::ZERO,
            needed: U256::from(1),
        };
        check(
            low.abi_encode(),
            "0x0000000000000000000000000000000000000000 has 0 tokens and needs 1",
        );
        check(Revert::from("paused").abi_encode(), "revert: paused");
        check(Vec::new(), "reverted without a reason");
    }
}
