//! The money as Hermes and provider have it written down. It refuses to compare figures that were
//! read in the wrong order: sums only grow, so what must be smaller is read first.

use anyhow::Context as _;

use crate::demo::json;
use crate::demo::stage::Stage;

/// Sums in smallest units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Books {
    /// What the provider holds promises of the Hermes for.
    pub(super) covered: i128,
    /// What the Hermes has promised to providers.
    pub(super) promised: i128,
}

impl Books {
    /// Asks both.
    ///
    /// # Errors
    /// When one does not answer.
    pub(super) fn read(stage: &Stage) -> anyhow::Result<Self> {
        let earnings = stage.provider.ask(&["earnings"])?;
        let rows = earnings.as_array().context("`earnings` answers a list")?;
        let covered = rows.iter().map(|row| json::amount(row, "promised"));
        let covered = covered.sum::<anyhow::Result<i128>>()?;
        let status = stage.hermes.ask(&["status"])?;
        let promised = json::amount(&status, "promised")?;
        Ok(Self { covered, promised })
    }

    /// What the provider holds without the Hermes having promised it: zero, or something is wrong.
    pub(super) fn created(&self) -> i128 {
        (self.covered - self.promised).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_its_way_may_differ() {
        let books = |covered, promised| Books { covered, promised };
        assert_eq!(books(5, 5).created(), 0);
        assert_eq!(
            books(4, 5).created(),
            0,
            "one is on its way to the provider"
        );
        assert_eq!(books(6, 5).created(), 1, "the provider holds one too many");
    }
}
