//! What must hold whatever happens: checked at each packet that passes and at each promise that is signed. It refuses to look at a
//! machine's insides: it compares what is said and done with the terms.

use wayfare_identity::SignError;
use wayfare_payment::{Agreement, Amount, LedgerError, RecordError, Usage};

use super::packet::Label;
use super::{World, cost};

/// What a consumer's own meter may be exceeded by, beside the allowance: 1/100.
const METER_TOLERANCE: u128 = 100;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(String);

impl Violation {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

macro_rules! violated_by {
    ($($error:ty),+) => {
        $(impl From<$error> for Violation {
            fn from(error: $error) -> Self {
                Self::new(error.to_string())
            }
        })+
    };
}
violated_by!(RecordError, LedgerError, SignError);

impl World {
    /// A packet of `bytes` has passed the exit, in a direction in which `usage` counts it already: before it, what was used and not
    /// covered stayed within the allowance, and something had been paid.
    pub(super) fn packet_passed(
        &self,
        consumer: usize,
        before: Usage,
        label: Label,
    ) -> Result<(), Violation> {
        let Some(agreement) = self.consumers[consumer].agreement else {
            return Err(Violation::new("a packet passes without an agreement"));
        };
        let covered = self
            .exit()
            .collector()
            .covered(agreement.id)
            .unwrap_or_default();
        let exposure = cost(&agreement.price, &before).saturating_sub(covered);
        let allowance = agreement.allowance(covered);
        if covered.is_zero() || exposure > allowance {
            return Err(Violation::new(format!(
                "{label:?} passes with {exposure} used beyond the {covered} covered; {allowance} is allowed"
            )));
        }
        Ok(())
    }

    /// A consumer signed a promise of `total` after `signed`: by its own meter it owes that much at most.
    pub(super) fn consumer_signs(
        agreement: &Agreement,
        own: &Usage,
        signed: Amount,
        total: Amount,
    ) -> Result<(), Violation> {
        let own_cost = cost(&agreement.price, own);
        let limit = own_cost
            .saturating_add(own_cost.mul_div_up(1, METER_TOLERANCE))
            .saturating_add(agreement.allowance(signed));
        if total > limit {
            return Err(Violation::new(format!(
                "the consumer signs {total}, its own meter and the allowance make {limit}"
            )));
        }
        Ok(())
    }
}
