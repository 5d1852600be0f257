//! Money: what there is, how to add some, how to take the rest back.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use wayfare_cli::{Failure, Kind, Output, Settings};
use wayfare_identity::Address;
use wayfare_node::{Account, Amount};

use crate::settings::{failure, node};

/// How often a deposit is looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How long a deposit is waited for.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// `wayfare exit`.
#[derive(Debug, Args)]
pub(crate) struct Exit {
    /// Take the deposit out now; possible once the vault's delay has passed.
    #[arg(long)]
    finalize: bool,
    /// Where the deposit goes; the identity itself by default.
    #[arg(long, value_name = "ADDRESS", requires = "finalize")]
    to: Option<Address>,
}

/// `wayfare account`.
pub(crate) async fn show(settings: &Settings, output: Output) -> Result<(), Failure> {
    let account = node(settings).await?.account().await.map_err(failure)?;
    output.show(&account, text);
    Ok(())
}

/// `wayfare topup`.
pub(crate) async fn topup(
    wait: Option<Amount>,
    settings: &Settings,
    output: Output,
) -> Result<(), Failure> {
    let node = node(settings).await?;
    let before = node.account().await.map_err(failure)?;
    let Some(wanted) = wait else {
        output.show(&before, |account| {
            format!(
                "send tokens from any wallet to {}\n(yours alone: only the vault can move them, only for your promises or back to \
                 you)\nspendable now: {}",
                account.deposit_address, account.spendable
            )
        });
        return Ok(());
    };
    eprintln!("waiting for {wanted} at {}", before.deposit_address);
    let goal = before.spendable.saturating_add(wanted);
    let arrived = tokio::time::timeout(PATIENCE, async {
        loop {
            let account = node.account().await.map_err(failure)?;
            if account.spendable >= goal {
                return Ok::<_, Failure>(account);
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    let account = arrived.await.map_err(|_| {
        Failure::new(Kind::Money, "nothing has arrived within an hour")
            .next("check the address and the chain in your wallet")
    })??;
    output.show(&account, text);
    Ok(())
}

#[derive(Serialize)]
struct Asked {
    exit_at: Option<u64>,
}

#[derive(Serialize)]
struct Paid {
    paid: Amount,
    to: Address,
}

/// `wayfare exit`.
pub(crate) async fn exit(exit: &Exit, settings: &Settings, output: Output) -> Result<(), Failure> {
    let node = node(settings).await?;
    if exit.finalize {
        let to = exit.to.unwrap_or(node.identity());
        let paid = node.finalize_exit(to).await.map_err(failure)?;
        output.show(&Paid { paid, to }, |paid| {
            format!("{} paid out to {}", paid.paid, paid.to)
        });
        return Ok(());
    }
    node.request_exit().await.map_err(failure)?;
    let account = node.account().await.map_err(failure)?;
    output.show(
        &Asked {
            exit_at: account.exit_at,
        },
        |asked| match asked.exit_at {
            Some(at) => {
                format!("asked for; take it with `wayfare exit --finalize` from unix time {at}")
            }
            None => "asked for".into(),
        },
    );
    Ok(())
}

fn text(account: &Account) -> String {
    let exit = account
        .exit_at
        .map(|at| format!("\nexit pending until unix time {at}"))
        .unwrap_or_default();
    format!(
        "identity         {}\ndeposit address  {}\nin the vault     {}\ncollected        {}\npromised         {}\nspendable        {}{exit}",
        account.identity,
        account.deposit_address,
        account.balance,
        account.collected,
        account.promised,
        account.spendable
    )
}
