//! The money as Hermes and provider have it written down. It refuses to compare figures that were
//! read in the wrong order: sums only grow, so what must be smaller is read first.

use anyhow::Context as _;
use serde_json::Value;

use crate::demo::json;
use crate::demo::stage::Stage;

/// Sums in smallest units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Books {
    /// What the provider holds promises of the Hermes for.
    pub(super) covered: i128,
    /// What the Hermes has promised to providers.
    pub(super) promised: i128,
    /// What the Hermes has accepted from consumers.
    pub(super) accepted: i128,
}

impl Books {
    /// Asks both, and lets the Hermes prove every invariant of its own ledger.
    ///
    /// # Errors
    /// When one does not answer, or the ledger does not balance.
    pub(super) fn read(stage: &Stage) -> anyhow::Result<Self> {
        let earnings = stage.provider.ask(&["earnings"])?;
        let covered = sum(&earnings, "promised")?;
        stage.hermes.ask(&["check"]).context("the Hermes' ledger")?;
        let channels = stage.hermes.ask(&["channels"])?;
        Ok(Self {
            covered,
            promised: sum(&channels["providers"], "promised")?,
            accepted: sum(&channels["consumers"], "accepted")?,
        })
    }

    /// What is there without anybody having given it: zero, or something is wrong.
    pub(super) fn created(&self) -> i128 {
        (self.covered - self.promised).max(0) + (self.promised - self.accepted).abs()
    }
}

fn sum(rows: &Value, name: &str) -> anyhow::Result<i128> {
    let rows = rows
        .as_array()
        .with_context(|| format!("no list of `{name}`"))?;
    rows.iter().map(|row| json::amount(row, name)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_its_way_may_differ() {
        let books = |covered, promised, accepted| Books {
            covered,
            promised,
            accepted,
        };
        assert_eq!(books(5, 5, 5).created(), 0);
        assert_eq!(
            books(4, 5, 5).created(),
            0,
            "one is on its way to the provider"
        );
        assert_eq!(
            books(6, 5, 5).created(),
            1,
            "the provider holds one too many"
        );
        assert_eq!(
            books(4, 5, 4).created(),
            1,
            "the Hermes promised one too many"
        );
        assert_eq!(books(4, 4, 5).created(), 1, "the Hermes kept one");
    }
}
