//! Opening the doors that a Hermes in production stands on: the ledger on disk and the vault on a chain.
//!
//! Refuses to choose: every address, path and key is an argument.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wayfare_chain::{Endpoint, VaultClient, Wallet};
use wayfare_identity::{Address, Signer};
use wayfare_payment::{Amount, Chain, ChainError, Ledger};
use wayfare_store::{LedgerOptions, RocksLedger};

use crate::{Ports, StartError};

/// Where a Hermes in production finds its ledger and its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Folder of the ledger.
    pub ledger: PathBuf,
    /// The chain's RPC server, its id, and how patient to be with it.
    pub chain: Endpoint,
    /// The vault on that chain.
    pub vault: Address,
}

impl Site {
    /// The vault, seen by one account. Asks the server whether it serves the right chain and has the vault.
    ///
    /// # Errors
    /// [`StartError::Chain`].
    pub async fn vault(&self, account: Arc<dyn Signer>) -> Result<VaultClient, StartError> {
        self.checked(Wallet::new(self.chain.clone(), account)?)
            .await
    }

    async fn checked(&self, wallet: Wallet) -> Result<VaultClient, StartError> {
        let client = VaultClient::new(wallet, self.vault);
        client.check().await?;
        Ok(client)
    }

    /// The ledger, alone: for an audit or a backup.
    ///
    /// # Errors
    /// [`StartError::Ledger`].
    pub fn ledger(&self) -> Result<RocksLedger, StartError> {
        Ok(RocksLedger::open(&self.ledger, LedgerOptions::default())?)
    }

    /// Ledger and chain for [`Hermes::start`](crate::Hermes::start). The operator signs promises and pays the gas of collections.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(&self, operator: Arc<dyn Signer>) -> Result<Ports, StartError> {
        // A wrong chain is found out before a ledger is made.
        self.vault(Arc::clone(&operator)).await?;
        let ledger: Arc<dyn Ledger> = Arc::new(self.ledger()?);
        // Collections that an earlier run had sent go on from here.
        let wallet = Wallet::open(
            self.chain.clone(),
            Arc::clone(&operator),
            Arc::clone(&ledger),
        )
        .await?;
        Ok(Ports {
            ledger,
            chain: Arc::new(self.checked(wallet).await?),
            operator,
        })
    }

    /// Registers the Hermes of an owner: its operator's address, its fee (fixed for ever) and its first collateral, which the
    /// owner must hold in tokens. Repeating it registers nothing twice, but adds collateral again.
    ///
    /// # Errors
    /// [`StartError::Chain`]; [`StartError::WrongOperator`] when it is registered with another operator already.
    pub async fn register(
        &self,
        owner: Arc<dyn Signer>,
        operator: Address,
        fee_basis_points: u16,
        collateral: Amount,
    ) -> Result<Address, StartError> {
        let vault = self.vault(owner).await?;
        let hermes = vault.hermes_id(vault.wallet().address());
        match vault.hermes(hermes).await {
            Ok(account) if account.operator == operator => {}
            Ok(account) => {
                return Err(StartError::WrongOperator {
                    hermes,
                    registered: account.operator,
                    ours: operator,
                });
            }
            Err(ChainError::UnknownHermes(_)) => {
                vault.register_hermes(operator, fee_basis_points).await?;
            }
            Err(error) => return Err(error.into()),
        }
        if !collateral.is_zero() {
            vault.add_collateral(hermes, collateral).await?;
        }
        Ok(hermes)
    }
}

/// Copies a backup back to where a ledger belongs; refuses a damaged copy.
///
/// A backup is older than the last promise: a Hermes that goes on from it numbers receipts twice, which is a proof of fraud. Only
/// one that was made after the Hermes had stopped may be used as it is.
///
/// # Errors
/// [`StartError::Ledger`].
pub fn restore_backup(from: &Path, to: &Path) -> Result<(), StartError> {
    RocksLedger::restore(from, to)?;
    Ok(())
}
