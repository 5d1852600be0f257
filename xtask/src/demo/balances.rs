//! Who holds how many tokens, before and after, and whether the sums come out. It refuses to round:
//! a single smallest unit that appears or vanishes is told.

use crate::progress::table;
use crate::report::Report;

use super::coins::{Movement, shown, sum};
use super::json;
use super::stage::Stage;

const RELAYS_WALLET: &str = "the relay's wallet";

/// Everybody's tokens at one moment. No programs may be running on the consumers' state folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balances {
    rows: Vec<(String, i128)>,
    supply: i128,
    vault: i128,
    /// Lying at deposit addresses, not yet in the vault.
    boxes: i128,
}

impl Balances {
    /// Reads them from the chain; what of the vault is whose, from the consumers' own accounts.
    ///
    /// # Errors
    /// When chain or consumers do not answer.
    pub fn read(stage: &Stage) -> anyhow::Result<Self> {
        let coins = &stage.coins;
        let mut accounts = vec![
            coins.purse.as_str(),
            &stage.provider.identity,
            &stage.hermes.identity,
            &coins.maker,
            &coins.vault,
        ];
        accounts.extend(stage.consumers.iter().map(|c| c.party.identity.as_str()));
        accounts.extend(stage.consumers.iter().map(|c| c.deposit_address.as_str()));
        let relay = stage.relay.as_ref().map(|(relay, _)| relay);
        accounts.extend(relay.map(|relay| relay.identity.as_str()));
        let mut tokens = coins.tokens(&accounts)?;
        let relay = relay.and_then(|_| tokens.pop());
        let (known, rest) = tokens.split_at(5);
        let (identities, boxes) = rest.split_at(stage.consumers.len());
        let vault = known[4];
        let boxes: i128 = boxes.iter().sum();
        let mut rows = vec![("an ordinary wallet".to_owned(), known[0])];
        let mut deposits = 0;
        for (consumer, own) in stage.consumers.iter().zip(identities) {
            let account = consumer.party.ask(&["account"])?;
            let deposit = json::amount(&account, "balance")?;
            deposits += deposit;
            rows.push((format!("{}'s deposit", consumer.party.name), deposit));
            rows.push((format!("{}'s own account", consumer.party.name), *own));
        }
        rows.push(("the provider's wallet".to_owned(), known[1]));
        rows.extend(relay.map(|tokens| (RELAYS_WALLET.to_owned(), tokens)));
        rows.push((
            "the Hermes in the vault".to_owned(),
            vault + boxes - deposits,
        ));
        rows.push(("the Hermes' own account".to_owned(), known[2]));
        rows.push(("the maker of the token".to_owned(), known[3]));
        Ok(Self {
            rows,
            supply: coins.supply()?,
            vault,
            boxes,
        })
    }

    fn total(&self) -> i128 {
        self.rows.iter().map(|(_, tokens)| tokens).sum()
    }

    /// What the provider's wallet holds.
    pub fn provider(&self) -> i128 {
        self.of("the provider's wallet")
    }

    /// What the relay's wallet holds.
    pub fn relay(&self) -> i128 {
        self.of(RELAYS_WALLET)
    }

    fn of(&self, who: &str) -> i128 {
        let row = self.rows.iter().find(|(row, _)| row == who);
        row.map_or(0, |(_, tokens)| *tokens)
    }

    /// The table of before and after.
    pub fn compared(&self, after: &Self) -> String {
        let line = |who: &str, before: i128, after: i128| {
            let change = after - before;
            let sign = if change > 0 { "+" } else { "" };
            let change = format!("{sign}{}", shown(change));
            vec![who.to_owned(), shown(before), shown(after), change]
        };
        let both = self.rows.iter().zip(&after.rows);
        let mut rows: Vec<Vec<String>> = both
            .filter(|((_, before), (_, after))| (*before, *after) != (0, 0))
            .map(|((who, before), (_, after))| line(who, *before, *after))
            .collect();
        rows.push(line("together", self.total(), after.total()));
        table(&["tokens", "before", "after", "change"], &rows)
    }
}

/// Adds the check `conservation_wei`: the sum of everything that does not come out, of
/// the tokens in the world, of the vault by its own events, of what was promised and what was paid.
pub fn judge(
    report: &mut Report,
    name: &str,
    now: &Balances,
    movements: &[Movement],
    promised: Option<i128>,
) {
    let of = |kind: &str| sum(movements, kind);
    let entered = of("collateral_added") + of("deposited");
    let left = of("settled") + of("exited") + of("collateral_withdrawn");
    let mut differences = vec![
        ("supply less all holders", now.supply - now.total()),
        ("vault less its events", now.vault - (entered - left)),
    ];
    if let Some(promised) = promised {
        differences.push(("promised less settled", promised - of("settled")));
        differences.push(("collected less settled", of("collected") - of("settled")));
    }
    let value = differences
        .iter()
        .map(|(_, difference)| difference.abs())
        .sum();
    let words: Vec<String> = differences
        .iter()
        .map(|(what, difference)| format!("{what}: {difference}"))
        .collect();
    let note = format!("{}; at deposit addresses: {}", words.join(", "), now.boxes);
    report.whole(name, Some(value), "wei", 0, &note);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balances(wallet: i128, vault: i128) -> Balances {
        Balances {
            rows: vec![
                ("an ordinary wallet".to_owned(), wallet),
                ("the Hermes in the vault".to_owned(), vault),
                ("nobody".to_owned(), 0),
            ],
            supply: 10,
            vault,
            boxes: 0,
        }
    }

    fn step(kind: &str, amount: i128) -> Movement {
        Movement {
            kind: kind.to_owned(),
            who: String::new(),
            amount,
            transaction: String::new(),
        }
    }

    fn judged(wallet: i128, vault: i128, movements: &[Movement], promised: i128) -> i64 {
        let mut report = Report::begin("test");
        let now = balances(wallet, vault);
        judge(
            &mut report,
            "conservation_wei",
            &now,
            movements,
            Some(promised),
        );
        report.checks[0].value.as_i64().unwrap()
    }

    #[test]
    fn each_kind_of_loss_is_told() {
        let moved = [
            step("deposited", 8),
            step("collected", 3),
            step("settled", 3),
        ];
        assert_eq!(judged(5, 5, &moved, 3), 0);
        assert_eq!(judged(4, 5, &moved, 3), 1, "a token has vanished");
        assert_eq!(
            judged(4, 6, &moved, 3),
            1,
            "the vault holds one that no event explains"
        );
        assert_eq!(
            judged(5, 5, &moved, 4),
            1,
            "one was promised and never paid"
        );
        let uncollected = [
            step("deposited", 8),
            step("collected", 2),
            step("settled", 3),
        ];
        assert_eq!(
            judged(5, 5, &uncollected, 3),
            1,
            "one was paid and never collected"
        );
    }

    #[test]
    fn the_table_leaves_out_who_never_had_anything() {
        let text = balances(5, 5).compared(&balances(4, 6));
        assert!(text.contains("together") && !text.contains("nobody"));
    }
}
