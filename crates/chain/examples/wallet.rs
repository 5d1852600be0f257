//! An ordinary wallet for development chains: sends coin and tokens, and reads what anybody may read of a vault. Every answer is
//! one JSON document on standard output.
//!
//! It knows nothing of consumers, providers and promises, which is the point: a top-up is a plain token transfer. It refuses to
//! keep a key: the key is an argument, so never give it one that guards real money.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use clap::{Parser, Subcommand};
use serde_json::{Value, json};
use wayfare_chain::bindings::Vault::VaultEvents;
use wayfare_chain::{Endpoint, TokenClient, VaultClient, Wallet};
use wayfare_identity::{LocalSigner, SecretKey};
use wayfare_payment::Amount;

/// An ordinary wallet for development chains.
#[derive(Debug, Parser)]
struct Options {
    /// JSON-RPC server of the chain.
    #[arg(long, default_value = "http://127.0.0.1:8545")]
    rpc: String,
    /// EIP-155 id that the server must serve.
    #[arg(long, default_value_t = 31_337)]
    chain_id: u64,
    /// The account's secret key, 32 bytes in hex; commands that only read may go without.
    #[arg(long)]
    key: Option<B256>,
    #[command(subcommand)]
    command: Command,
}

/// Amounts are whole numbers of smallest units.
#[derive(Debug, Subcommand)]
enum Command {
    /// The key's address.
    Address,
    /// Sends native coin.
    SendNative { to: Address, wei: U256 },
    /// Sends tokens.
    Send {
        token: Address,
        to: Address,
        amount: Amount,
    },
    /// Makes tokens; only the deployer of a development token may.
    Mint {
        token: Address,
        to: Address,
        amount: Amount,
    },
    /// Tokens and native coin of accounts.
    Balances {
        token: Address,
        accounts: Vec<Address>,
    },
    /// Everything that was ever minted.
    Supply { token: Address },
    /// What moved through a vault since the first block, by the vault's own events.
    Movements { vault: Address },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let answer = match run(Options::parse()).await {
        Ok(answer) => answer,
        Err(why) => {
            eprintln!("wallet: {why}");
            return ExitCode::FAILURE;
        }
    };
    match writeln!(std::io::stdout(), "{answer}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

async fn run(options: Options) -> Result<Value, String> {
    let reads_only = matches!(
        options.command,
        Command::Balances { .. } | Command::Supply { .. } | Command::Movements { .. }
    );
    // Reading needs a sender in the call and nothing of it: any key will do.
    let key = match options.key {
        Some(key) => key,
        None if reads_only => B256::with_last_byte(1),
        None => return Err("give the account's key with --key".to_owned()),
    };
    let key = SecretKey::from_bytes(key.0).map_err(|why| why.to_string())?;
    let address = key.address();
    let endpoint = Endpoint {
        poll: Duration::from_millis(10),
        ..Endpoint::new(options.rpc, options.chain_id)
    };
    let wallet =
        Wallet::new(endpoint, Arc::new(LocalSigner::new(key))).map_err(|why| why.to_string())?;
    obey(&wallet, address, options.command)
        .await
        .map_err(|why| why.to_string())
}

async fn obey(
    wallet: &Wallet,
    address: Address,
    command: Command,
) -> Result<Value, wayfare_payment::ChainError> {
    let token = |token| TokenClient::new(wallet.clone(), token);
    let receipt = match command {
        Command::Address => return Ok(json!({ "address": address })),
        Command::Balances {
            token: contract,
            accounts,
        } => return balances(wallet, &token(contract), &accounts).await,
        Command::Supply { token: contract } => {
            return Ok(json!({ "supply": token(contract).total_supply().await?.to_string() }));
        }
        Command::Movements { vault } => {
            return movements(&VaultClient::new(wallet.clone(), vault)).await;
        }
        Command::SendNative { to, wei } => wallet.send_native(to, wei).await?,
        Command::Send {
            token: contract,
            to,
            amount,
        } => token(contract).transfer(to, amount).await?,
        Command::Mint {
            token: contract,
            to,
            amount,
        } => token(contract).mint(to, amount).await?,
    };
    Ok(json!({ "transaction": receipt.transaction_hash, "gas": receipt.gas_used }))
}

async fn balances(
    wallet: &Wallet,
    token: &TokenClient,
    accounts: &[Address],
) -> Result<Value, wayfare_payment::ChainError> {
    let mut rows = Vec::new();
    for account in accounts {
        rows.push(json!({
            "address": account,
            "tokens": token.balance(*account).await?,
            "native": wallet.native_balance(*account).await?.to_string(),
        }));
    }
    Ok(json!({ "balances": rows }))
}

/// One row for each step of money; other events move none.
async fn movements(vault: &VaultClient) -> Result<Value, wayfare_payment::ChainError> {
    let mut rows = Vec::new();
    for seen in vault.events(0).await? {
        let (kind, who, amount) = match &seen.event {
            VaultEvents::CollateralAdded(event) => ("collateral_added", event.hermes, event.amount),
            VaultEvents::CollateralWithdrawn(event) => {
                ("collateral_withdrawn", event.hermes, event.amount)
            }
            VaultEvents::Deposited(event) => {
                let (consumer, amount) = wayfare_chain::unpacked(event.consumerAndAmount);
                ("deposited", consumer, amount.units())
            }
            VaultEvents::Collected(event) => ("collected", event.consumer, event.amount),
            VaultEvents::Settled(event) => ("settled", event.payee, event.amountPaid),
            VaultEvents::CreditWithdrawn(event) => ("credit_withdrawn", event.payee, event.amount),
            VaultEvents::SheetSettled(event) => ("settled", event.hermes, event.amountPaid),
            VaultEvents::Credited(event) => ("credited", event.hermes, event.amount),
            VaultEvents::ClaimPaid(event) => ("claim_paid", event.payee, event.amount),
            VaultEvents::ExitFinalized(event) => ("exited", event.consumer, event.amount),
            VaultEvents::HermesRegistered(_)
            | VaultEvents::OperatorRotating(_)
            | VaultEvents::OperatorRotated(_)
            | VaultEvents::HermesClosing(_)
            | VaultEvents::LiabilitiesProven(_)
            | VaultEvents::InsolvencyDeclared(_)
            | VaultEvents::InsolvencyCured(_)
            | VaultEvents::Ruined(_)
            | VaultEvents::ClaimFiled(_)
            | VaultEvents::CallerRegistered(_)
            | VaultEvents::MandateChanged(_)
            // Part of the settlement beside it.
            | VaultEvents::Relayed(_)
            | VaultEvents::PromiseSettled(_)
            | VaultEvents::Retained(_)
            | VaultEvents::CollateralRequested(_)
            | VaultEvents::ExitRequested(_)
            | VaultEvents::ExitCancelled(_) => continue,
        };
        rows.push(json!({
            "kind": kind,
            "who": who,
            "amount": amount.to_string(),
            "transaction": seen.transaction,
            "block": seen.block,
        }));
    }
    Ok(json!({ "movements": rows }))
}
