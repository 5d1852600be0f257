//! The check of a Hermes' answer (step 7). It stands between a lying Hermes and our preimages: nothing that fails here is ever
//! followed by a reveal.

use wayfare_identity::{Domain, SignatureError};

use crate::{Amount, ChannelId, HermesAccount, IssueReply, Promise, SignedPromise, SignedReceipt};
use wayfare_identity::Address;

/// What is wrong with a Hermes' answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyFault {
    /// It answers nothing that was asked.
    #[error("it answers no request of ours")]
    Unasked,
    /// The chain has not been read, so nobody knows who may sign.
    #[error("the Hermes' operator is not known yet")]
    OperatorUnknown,
    /// Not our channel.
    #[error("the promise is on another channel")]
    Channel,
    /// Not our chain.
    #[error("the promise is for another chain")]
    Chain,
    /// A fee.
    #[error("the promise carries a fee")]
    Fee,
    /// Another lock.
    #[error("the promise carries another hashlock")]
    Hashlock,
    /// Not the last promise plus the payment.
    #[error("the promise reaches {amount}, it should reach {expected}")]
    Amount {
        /// As promised.
        amount: Amount,
        /// The last one and the payment.
        expected: Amount,
    },
    /// The promise is not signed by the operator.
    #[error("the promise is not signed by the operator: {0}")]
    PromiseSignature(SignatureError),
    /// The receipt is not signed by the operator.
    #[error("the receipt is not signed by the operator: {0}")]
    ReceiptSignature(SignatureError),
    /// The receipt counts something else.
    #[error("the receipt does not count this promise")]
    ReceiptMismatch,
    /// Numbers or sums run backwards: with the receipt before it a proof of fraud.
    #[error("the receipt contradicts the one before it")]
    ReceiptContradiction,
}

/// What a right answer looks like.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    pub(super) hermes: Address,
    pub(super) account: &'a HermesAccount,
    pub(super) domain: &'a Domain,
    pub(super) channel: ChannelId,
    pub(super) hashlock: crate::Hashlock,
    pub(super) last: Option<(&'a SignedPromise, &'a SignedReceipt)>,
    pub(super) increment: Amount,
}

impl Expected<'_> {
    pub(super) fn check(&self, reply: &IssueReply) -> Result<(), ReplyFault> {
        self.check_promise(&reply.promise.promise)?;
        reply
            .promise
            .verify(self.account.operator)
            .map_err(ReplyFault::PromiseSignature)?;
        self.check_receipt(reply)?;
        reply
            .receipt
            .verify(self.domain, self.account.operator)
            .map_err(ReplyFault::ReceiptSignature)
    }

    fn check_promise(&self, promise: &Promise) -> Result<(), ReplyFault> {
        if promise.channel != self.channel {
            return Err(ReplyFault::Channel);
        }
        if promise.chain_id != self.domain.chain_id {
            return Err(ReplyFault::Chain);
        }
        if !promise.fee.is_zero() {
            return Err(ReplyFault::Fee);
        }
        if promise.hashlock != self.hashlock {
            return Err(ReplyFault::Hashlock);
        }
        let before = self
            .last
            .map_or(Amount::ZERO, |(promise, _)| promise.promise.amount);
        let expected = before.saturating_add(self.increment);
        if promise.amount != expected {
            return Err(ReplyFault::Amount {
                amount: promise.amount,
                expected,
            });
        }
        Ok(())
    }

    fn check_receipt(&self, reply: &IssueReply) -> Result<(), ReplyFault> {
        let receipt = &reply.receipt.receipt;
        let counts_it = receipt.hermes == self.hermes
            && receipt.channel == self.channel
            && receipt.promise == reply.promise.promise.digest()
            && receipt.increment == self.increment
            && receipt.sequence > 0
            && receipt.total_promised >= reply.promise.promise.amount
            && (receipt.sequence == 1) == receipt.previous.is_zero();
        if !counts_it {
            return Err(ReplyFault::ReceiptMismatch);
        }
        let Some((_, before)) = self.last else {
            return Ok(());
        };
        let least = before.receipt.total_promised.saturating_add(self.increment);
        let follows = receipt.sequence.checked_sub(before.receipt.sequence);
        let consistent = match follows {
            None | Some(0) => false,
            Some(1) => {
                receipt.previous == before.receipt.digest(self.domain)
                    && receipt.total_promised == least
            }
            Some(_) => receipt.total_promised >= least,
        };
        if consistent {
            Ok(())
        } else {
            Err(ReplyFault::ReceiptContradiction)
        }
    }
}
