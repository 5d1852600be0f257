//! The credit gate: whether a session's next packet is served.

use super::Collector;
use crate::{AgreementId, Amount, CollectorOutput, IssueRefusal, SettleMaterial, Usage};

/// Wrong answers in a row after which nobody is served through this Hermes.
const MAX_WRONG_REPLIES: u32 = 8;
/// From this share of the limit on, settling is urged: three quarters.
const URGE_NUMERATOR: u128 = 3;
const URGE_DENOMINATOR: u128 = 4;

/// Whether traffic passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It does.
    Open,
    /// It does not, until the reason is gone.
    Closed(GateReason),
}

/// Why traffic does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GateReason {
    /// No such agreement.
    #[error("the agreement is not open")]
    UnknownAgreement,
    /// It was closed.
    #[error("the agreement has ended")]
    Ended,
    /// The first chunk is not covered yet.
    #[error("the first payment is not there yet")]
    FirstPayment,
    /// More is unpaid than the consumer is trusted with.
    #[error(
        "{exposure} is used and not covered by a promise of the Hermes, {allowance} is allowed"
    )]
    Unpaid {
        /// Used and not covered.
        exposure: Amount,
        /// Trusted.
        allowance: Amount,
    },
    /// The Hermes will not pay for this consumer.
    #[error("the Hermes refuses this consumer's payments: {0}")]
    HermesRefuses(IssueRefusal),
    /// The chain has not been read.
    #[error("the Hermes has not been looked up on the chain yet")]
    HermesUnknown,
    /// The Hermes is taking its collateral back.
    #[error("the Hermes is leaving")]
    HermesLeaving,
    /// It keeps too large a share.
    #[error("the Hermes keeps {found}/10000 of each settlement, at most {cap}/10000 is accepted")]
    HermesFee {
        /// On the chain.
        found: u16,
        /// As configured.
        cap: u16,
    },
    /// It owes as much as it can be seen to have.
    #[error("the Hermes would owe {owed}, it can be seen to have {limit}: settle")]
    HermesLimit {
        /// Promised, and used beyond that.
        owed: Amount,
        /// Collateral, free balance and our own cap.
        limit: Amount,
    },
    /// It keeps answering wrongly.
    #[error("the Hermes answers wrongly")]
    HermesWrong,
    /// An earlier write failed.
    #[error("the ledger failed: this node has to be restarted")]
    Stopped,
}

impl Collector {
    /// Whether a session that has used this much may use more.
    ///
    /// INVARIANT: `exposure ≤ allowance` before a packet is let through, so what a consumer can take without paying is one
    /// allowance, and before its first payment its welcome, which is nothing unless [`Collector::welcome`] said otherwise.
    #[must_use]
    pub fn gate(&self, agreement: AgreementId, usage: &Usage) -> Gate {
        match self.objection(agreement, usage) {
            None => Gate::Open,
            Some(reason) => Gate::Closed(reason),
        }
    }

    /// Lets a consumer that was seen to have a deposit use up to `most` while its first payment is on its way; never more than the
    /// first chunk. It counts towards what it owes.
    pub fn welcome(&mut self, agreement: AgreementId, most: Amount) {
        self.earnings.edit(agreement, |earning| {
            earning.welcome = most.min(earning.terms.agreement.chunk);
        });
    }

    /// What was used and is not covered by durable promises of the Hermes. A consumer's own promise counts for nothing here.
    #[must_use]
    pub fn exposure(&self, agreement: AgreementId, usage: &Usage) -> Option<Amount> {
        let earning = self.earnings.get(&agreement)?;
        Some(
            earning
                .terms
                .agreement
                .price
                .cost_rounded_down(usage)
                .saturating_sub(earning.covered),
        )
    }

    /// Up to which cost an agreement is served before the next payment; the cheap form of [`Collector::gate`] for a packet path,
    /// asked again after every output of this machine.
    #[must_use]
    pub fn credit(&self, agreement: AgreementId) -> Amount {
        let Some(earning) = self.earnings.get(&agreement) else {
            return Amount::ZERO;
        };
        match self.objection(agreement, &earning.usage) {
            None => earning.covered.saturating_add(earning.trusted()),
            Some(_) => Amount::ZERO,
        }
    }

    /// What may be used beyond what this machine was told, before a gate closes for the Hermes' sake; nothing while anything speaks
    /// against it. While this is more than an agreement's allowance, only its own payments can close its gate.
    #[must_use]
    pub fn headroom(&self) -> Amount {
        if self.withheld.failed() || self.hermes_doubt(Amount::ZERO).is_some() {
            return Amount::ZERO;
        }
        self.limit().saturating_sub(self.owed())
    }

    /// What the Hermes owes us on the chain's books.
    #[must_use]
    pub fn unsettled(&self) -> Amount {
        self.promised().saturating_sub(self.pipeline.settled)
    }

    fn objection(&self, agreement: AgreementId, usage: &Usage) -> Option<GateReason> {
        if self.withheld.failed() {
            return Some(GateReason::Stopped);
        }
        let Some(earning) = self.earnings.get(&agreement) else {
            return Some(GateReason::UnknownAgreement);
        };
        if earning.ended_at.is_some() {
            return Some(GateReason::Ended);
        }
        if let Some(refusal) = earning.refused {
            return Some(GateReason::HermesRefuses(refusal));
        }
        let cost = earning.terms.agreement.price.cost_rounded_down(usage);
        let exposure = cost.saturating_sub(earning.covered);
        let allowance = earning.trusted();
        if earning.covered.is_zero() && (allowance.is_zero() || exposure > allowance) {
            return Some(GateReason::FirstPayment);
        }
        if exposure > allowance {
            return Some(GateReason::Unpaid {
                exposure,
                allowance,
            });
        }
        let counted = earning.covered.saturating_add(earning.claim());
        self.hermes_doubt(cost.saturating_sub(counted))
    }

    /// What speaks against being owed `more` by the Hermes.
    pub(super) fn hermes_doubt(&self, more: Amount) -> Option<GateReason> {
        let Some(hermes) = &self.hermes else {
            return Some(GateReason::HermesUnknown);
        };
        if self.pipeline.wrong_replies >= MAX_WRONG_REPLIES {
            return Some(GateReason::HermesWrong);
        }
        if hermes.leaving {
            return Some(GateReason::HermesLeaving);
        }
        let cap = self.config.fee_cap_basis_points;
        if hermes.fee_basis_points > cap {
            return Some(GateReason::HermesFee {
                found: hermes.fee_basis_points,
                cap,
            });
        }
        let limit = self.limit();
        let owed = self.owed().saturating_add(more);
        (owed > limit).then_some(GateReason::HermesLimit { owed, limit })
    }

    /// What the Hermes has promised and may yet have to promise, and did not settle.
    fn owed(&self) -> Amount {
        self.unsettled().saturating_add(self.earnings.claims())
    }

    /// What the Hermes can be seen to have, and our own cap on top.
    fn limit(&self) -> Amount {
        let seen = self.hermes.map_or(Amount::ZERO, |hermes| {
            hermes.collateral.saturating_add(hermes.free)
        });
        seen.saturating_add(self.config.own_cap)
    }

    pub(super) fn is_urgent(&self) -> bool {
        let leaving = self.hermes.is_some_and(|hermes| hermes.leaving);
        leaving || self.unsettled() >= self.limit().mul_div_down(URGE_NUMERATOR, URGE_DENOMINATOR)
    }

    /// Repeats the best promise to settle with when time presses.
    pub(super) fn urge(&mut self) {
        let Some(material) = self.settle_material() else {
            return;
        };
        if self.is_urgent() && !self.unsettled().is_zero() {
            self.outputs
                .push_back(CollectorOutput::Settleable(SettleMaterial {
                    urgent: true,
                    ..material
                }));
        }
    }
}
