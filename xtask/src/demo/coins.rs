//! The chain as anybody sees it, through an ordinary wallet. It refuses to believe the product: it
//! counts tokens where they lie and reads the vault's own events.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::lab::{Background, Namespace, wait_for};
use crate::process::{SHORT, output};

use super::json;
use super::network::SERVICES;
use super::programs::Programs;

/// The chain's port.
const PORT: u16 = 8_545;

/// From the start of the chain until its contracts are deployed.
const DEPLOYED: Duration = Duration::from_secs(60);

/// One token, or one ether, in smallest units.
pub const ONE: i128 = 1_000_000_000_000_000_000;

/// The development chain with its token and vault, and the wallets around it.
#[derive(Debug)]
pub struct Coins {
    chain: Background,
    at: Namespace,
    wallet: PathBuf,
    developer: String,
    shopper: String,
    /// JSON-RPC address, as everybody in the lab reaches it.
    pub rpc: String,
    /// The chain's id.
    pub chain_id: u64,
    /// The token.
    pub token: String,
    /// The vault.
    pub vault: String,
    /// The account that deployed everything and makes the tokens.
    pub maker: String,
    /// An ordinary account of an ordinary person, from which consumers are topped up.
    pub purse: String,
}

/// A step of money in the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Movement {
    /// `deposited`, `collected`, `settled`, `exited`, `collateral_added`.
    pub kind: String,
    /// Whose.
    pub who: String,
    /// Smallest units.
    pub amount: i128,
    /// The transaction.
    pub transaction: String,
}

impl Coins {
    /// Starts the chain, deploys the contracts, and fills the ordinary wallet.
    ///
    /// # Errors
    /// When the chain does not come up.
    pub fn start(
        at: &Namespace,
        programs: &Programs,
        folder: &std::path::Path,
        exit_delay: Duration,
    ) -> anyhow::Result<Self> {
        let file = folder.join("chain.json");
        let listen = format!("{SERVICES}:{PORT}");
        let delay = exit_delay.as_secs().to_string();
        let shown = file.to_string_lossy();
        let args = [
            "--listen",
            &listen,
            "--deploy",
            "--exit-delay",
            &delay,
            "--json",
            &shown,
        ];
        let mut chain = at.spawn("chain", programs.chain(), args)?;
        let told = wait_for("the contracts to be deployed", DEPLOYED, || {
            chain.must_live()?;
            Ok(std::fs::read(&file).ok())
        })?;
        let told: Value = serde_json::from_slice(&told).context("the chain's file is not JSON")?;
        let developer = &told["developer"];
        let mut coins = Self {
            chain,
            at: at.clone(),
            wallet: programs.wallet(),
            developer: json::text(developer, "key")?,
            shopper: random_key()?,
            rpc: json::text(&told, "rpc")?,
            chain_id: told["chain_id"].as_u64().context("the chain has an id")?,
            token: json::text(&told, "token")?,
            vault: json::text(&told, "vault")?,
            maker: json::text(developer, "address")?,
            purse: String::new(),
        };
        let shopper = coins.shopper.clone();
        coins.purse = json::text(&coins.wallet(Some(&shopper), &["address"])?, "address")?;
        coins.give_native(&coins.purse, ONE)?;
        Ok(coins)
    }

    /// An error once the chain is no more.
    ///
    /// # Errors
    /// As said.
    pub fn must_live(&mut self) -> anyhow::Result<()> {
        self.chain.must_live()
    }

    /// The developer gives native coin, in wei, for gas.
    ///
    /// # Errors
    /// When the chain refuses.
    pub fn give_native(&self, to: &str, wei: i128) -> anyhow::Result<()> {
        self.wallet(
            Some(&self.developer),
            &["send-native", to, &wei.to_string()],
        )
        .map(drop)
    }

    /// The developer makes tokens.
    ///
    /// # Errors
    /// When the chain refuses.
    pub fn make_tokens(&self, to: &str, amount: i128) -> anyhow::Result<()> {
        let amount = amount.to_string();
        self.wallet(Some(&self.developer), &["mint", &self.token, to, &amount])
            .map(drop)
    }

    /// The ordinary wallet sends tokens, as for anything else.
    ///
    /// # Errors
    /// When the chain refuses.
    pub fn send_tokens(&self, to: &str, amount: i128) -> anyhow::Result<()> {
        let amount = amount.to_string();
        self.wallet(Some(&self.shopper), &["send", &self.token, to, &amount])
            .map(drop)
    }

    /// Tokens of each account, in the order asked.
    ///
    /// # Errors
    /// When the chain does not answer.
    pub fn tokens(&self, accounts: &[&str]) -> anyhow::Result<Vec<i128>> {
        let mut args = vec!["balances", self.token.as_str()];
        args.extend(accounts);
        let told = self.wallet(None, &args)?;
        let rows = told["balances"].as_array().context("balances are a list")?;
        rows.iter().map(|row| json::amount(row, "tokens")).collect()
    }

    /// Everything that was ever minted.
    ///
    /// # Errors
    /// When the chain does not answer.
    pub fn supply(&self) -> anyhow::Result<i128> {
        json::amount(&self.wallet(None, &["supply", &self.token])?, "supply")
    }

    /// Everything that moved through the vault, oldest first.
    ///
    /// # Errors
    /// When the chain does not answer.
    pub fn movements(&self) -> anyhow::Result<Vec<Movement>> {
        let told = self.wallet(None, &["movements", &self.vault])?;
        let rows = told["movements"]
            .as_array()
            .context("movements are a list")?;
        let movement = |row: &Value| {
            Ok(Movement {
                kind: json::text(row, "kind")?,
                who: json::text(row, "who")?,
                amount: json::amount(row, "amount")?,
                transaction: json::text(row, "transaction")?,
            })
        };
        rows.iter().map(movement).collect()
    }

    fn wallet(&self, key: Option<&str>, args: &[&str]) -> anyhow::Result<Value> {
        let chain_id = self.chain_id.to_string();
        let mut all = vec!["--rpc", self.rpc.as_str(), "--chain-id", &chain_id];
        all.extend(key.iter().flat_map(|key| ["--key", key]));
        all.extend(args);
        let mut command = self.at.command(&self.wallet, all);
        let said = output(&mut command, SHORT)
            .with_context(|| format!("the wallet failed at {}", args.join(" ")))?;
        serde_json::from_str(&said).context("the wallet's answer is not JSON")
    }
}

/// The sum of the movements of one kind.
pub fn sum(movements: &[Movement], kind: &str) -> i128 {
    let of_kind = movements.iter().filter(|movement| movement.kind == kind);
    of_kind.map(|movement| movement.amount).sum()
}

/// An amount in tokens, for people: six decimals, rounded down.
pub fn shown(amount: i128) -> String {
    let micro = ONE / 1_000_000;
    let sign = if amount < 0 { "-" } else { "" };
    let amount = amount.unsigned_abs();
    let (one, micro) = (ONE.unsigned_abs(), micro.unsigned_abs());
    format!("{sign}{}.{:06}", amount / one, amount % one / micro)
}

fn random_key() -> anyhow::Result<String> {
    use std::io::Read as _;
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut chance| chance.read_exact(&mut bytes))
        .context("the system's random generator does not answer")?;
    // The group's order begins with 32 ones; this keeps the key below it, and above zero.
    bytes[0] = 0x7f;
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("0x{}", digits.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_in_tokens() {
        assert_eq!(shown(0), "0.000000");
        assert_eq!(shown(ONE * 12 + ONE / 2), "12.500000");
        assert_eq!(shown(-ONE / 1000), "-0.001000");
        assert_eq!(shown(1), "0.000000", "rounded down");
    }

    #[test]
    fn movements_are_summed_by_kind() {
        let movement = |kind: &str, amount| Movement {
            kind: kind.to_owned(),
            who: String::new(),
            amount,
            transaction: String::new(),
        };
        let all = [
            movement("settled", 2),
            movement("exited", 3),
            movement("settled", 5),
        ];
        assert_eq!((sum(&all, "settled"), sum(&all, "collected")), (7, 0));
    }
}
