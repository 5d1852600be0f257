//! Reading a ledger as a whole: for a start, and for an audit.

use wayfare_identity::Address;
use wayfare_payment::{CheckReport, Depth, Issuer, IssuerConfig, Ledger, LedgerError, Row, Table};

use crate::CheckError;

/// Rows of one read: 1,024 × 1 KiB.
const PAGE: usize = 1_024;

/// Whose ledger is audited, and how thoroughly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audit {
    /// The Hermes.
    pub issuer: IssuerConfig,
    /// Whose signature its promises carry.
    pub operator: Address,
    /// Sums only, or every signature too.
    pub depth: Depth,
}

/// Audits the ledger of a Hermes that is not running. Writes nothing.
///
/// # Errors
/// [`CheckError`] when it cannot be read at all; what is wrong *in* it is a finding of the report.
pub async fn check(ledger: &dyn Ledger, audit: Audit) -> Result<CheckReport, CheckError> {
    let rows = rows(ledger, Issuer::CHECKED_TABLES).await?;
    Ok(Issuer::check(
        &audit.issuer,
        audit.operator,
        rows,
        audit.depth,
    )?)
}

/// All rows of some tables.
pub(crate) async fn rows(
    ledger: &dyn Ledger,
    tables: &[Table],
) -> Result<Vec<(Table, Row)>, LedgerError> {
    let mut all: Vec<(Table, Row)> = Vec::new();
    for table in tables {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = ledger.scan(*table, after.as_deref(), PAGE).await?;
            let last = page.last().map(|(key, _)| key.clone());
            let complete = page.len() < PAGE;
            all.extend(page.into_iter().map(|row| (*table, row)));
            // INVARIANT: keys grow strictly from page to page, so this ends.
            if complete || last <= after {
                break;
            }
            after = last;
        }
    }
    Ok(all)
}
