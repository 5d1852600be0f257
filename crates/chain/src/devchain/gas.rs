//! What the contracts cost, measured on transactions of everyday size with a token that costs what a bridged ERC-20 costs on
//! Polygon. Calldata is priced by its bytes, so amounts and signatures are real ones.
//! It refuses to judge: the table that figures are held to is the tests'.
//!
//! What is measured is what the client sends, on an ordinary day: accounts were settled before, receivers have tokens already; the
//! figures of a first time end with `_first`.
//!
//! - `settle_single`: a payee's own settlement into its credit in the vault (`keepCredit`). That is where the money of a
//!   provider goes that settles more often than it spends: it is the payee's alone from then on, out of the Hermes' reach.
//!   `settle_single_paid_out` is the same with tokens to the payee's address (`drawToPayee`), `withdraw_credit` takes credit out:
//!   from three settlements for each withdrawal on, credit is cheaper. With tokens of this cost nobody pays out for 56,000:
//!   21,000 for a transaction, 20,900 for a transfer from inside, two slots of 5,000 (the payee's total, the Hermes' `free`),
//!   3,100 for the signature's check, 1,536 for the bytes of R and signature, are 56,536 before the first instruction.
//! - `settle_batch100_n_signatures`, `settle_batch100_one_signature`: each of a hundred payees, tokens to their addresses, sent by a
//!   caller with their mandates.
//! - `settle_credit`: each of a hundred, into credit, by the operator's own transaction (`creditTotalsMany`), with totals as
//!   [`sheet_total`](crate::sheet_total) leaves them. `settle_credit_one_signature`: by another caller with the operator's signature.
//! - `deposit`: tokens of a caller who approved the vault, to a consumer's account (`placeApproved`).

use alloy::primitives::aliases::U40;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::sol_types::{SolCall, SolConstructor};
use wayfare_identity::{Domain, LocalSigner, SecretKey, Signature, Signer};
use wayfare_payment::{Amount, ChannelId, Preimage, Promise};

use super::Evm;
use crate::bindings::bridged::{BridgedToken, TokenProxy};
use crate::bindings::{Direct, Vault};
use crate::consent::{Mandate, Sheet};
use crate::rows::{SettleRow, compact, settle_rows, sheet_rows, word};
use crate::{consumer_channel, hermes_id};

/// Polygon's.
const CHAIN_ID: u64 = 137;
/// A day in 2024, so that timestamps have the width of real ones.
const NOW: u64 = 1_720_000_000;
/// One token, in its smallest unit.
const TOKEN: u128 = 1_000_000_000_000_000_000;
/// Rows of the batches that are measured.
const BATCH: usize = 100;

/// What each operation takes, by name, in gas. Of batches: for each row, rounded up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GasFigures(Vec<(&'static str, u64)>);

impl GasFigures {
    /// Deploys everything into an empty EVM, and measures.
    ///
    /// # Panics
    /// When an operation that must succeed does not: the contracts are broken then, and there is nothing to measure.
    #[must_use]
    pub fn measure() -> Self {
        let mut bench = Bench::new();
        let mut figures = Vec::new();
        bench.transfers(&mut figures);
        bench.consumers(&mut figures);
        bench.singles(&mut figures);
        bench.batches(&mut figures);
        bench.direct(&mut figures);
        Self(figures)
    }

    /// All figures, in the order of measuring.
    #[must_use]
    pub fn rows(&self) -> &[(&'static str, u64)] {
        &self.0
    }

    /// One of them.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<u64> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map(|(_, gas)| *gas)
    }
}

type Figures = Vec<(&'static str, u64)>;

struct Bench {
    evm: Evm,
    token: Address,
    vault: Address,
    direct: Address,
    owner: Address,
    operator: LocalSigner,
    hermes: Address,
}

fn key(name: &str) -> LocalSigner {
    LocalSigner::new(
        SecretKey::from_bytes(keccak256(name).0)
            .expect("a hash is a valid key but for one in 2^128"),
    )
}

fn bytes(signature: &Signature) -> Bytes {
    Bytes::copy_from_slice(signature.as_bytes())
}

/// An amount whose digits are as many as those of real ones.
fn units(tokens: u128, n: u128) -> U256 {
    U256::from(tokens * TOKEN + 123_456_789_012_345_678 + n)
}

fn packed(account: Address, amount: U256) -> B256 {
    word(account, Amount::new(amount)).expect("amounts fit into a word")
}

fn preimage(n: u64) -> Preimage {
    Preimage(keccak256(n.to_be_bytes()))
}

impl Bench {
    fn new() -> Self {
        let mut evm = Evm::new(CHAIN_ID, NOW);
        let owner = key("owner").address();
        let operator = key("operator");
        let mut deploy = |code: Vec<u8>| {
            evm.deploy(owner, code)
                .expect("the contract can be deployed")
        };
        let implementation = deploy(BridgedToken::BYTECODE.to_vec());
        let proxy = TokenProxy::constructorCall { implementation };
        let token = deploy([TokenProxy::BYTECODE.as_ref(), &proxy.abi_encode()].concat());
        let arguments = Vault::constructorCall {
            token_: token,
            exitDelay_: U40::from(86_400),
            collateralDelay_: U40::from(30 * 86_400),
        };
        let vault = deploy([Vault::BYTECODE.as_ref(), &arguments.abi_encode()].concat());
        let arguments = Direct::constructorCall {
            token_: token,
            unlockDelay_: U40::from(86_400),
        };
        let direct = deploy([Direct::BYTECODE.as_ref(), &arguments.abi_encode()].concat());
        let mut bench = Self {
            evm,
            token,
            vault,
            direct,
            owner,
            hermes: hermes_id(vault, owner),
            operator,
        };
        bench.mint(owner, 10_000_000);
        bench.gas(
            owner,
            token,
            &BridgedToken::approveCall {
                spender: vault,
                value: U256::MAX,
            },
        );
        bench.gas(
            owner,
            token,
            &BridgedToken::approveCall {
                spender: direct,
                value: U256::MAX,
            },
        );
        let register = Vault::registerHermesCall {
            operator: bench.operator.address(),
            feeBps: 500,
        };
        bench.gas(owner, vault, &register);
        bench.gas(owner, vault, &Vault::registerCallerCall {});
        // What pays the settlements below: collected once, so that `free` is warm with money as it is every day.
        let rich = key("rich consumer");
        bench.gas(
            owner,
            vault,
            &Vault::depositCall {
                consumer_: rich.address(),
                hermesId: bench.hermes,
                amount: units(5_000_000, 0),
            },
        );
        bench.collect(&rich, 4_000_000, 0);
        bench
    }

    fn gas<C: SolCall>(&mut self, from: Address, to: Address, call: &C) -> u64 {
        let outcome = self.evm.call(from, to, call);
        assert!(
            outcome.done,
            "{} reverted: {}",
            C::SIGNATURE,
            crate::explain(&outcome.output)
        );
        outcome.gas
    }

    fn mint(&mut self, to: Address, tokens: u128) {
        let (owner, token) = (self.owner, self.token);
        self.gas(
            owner,
            token,
            &BridgedToken::mintCall {
                to,
                value: units(tokens, 0),
            },
        );
    }

    fn promise(&self, by: &LocalSigner, channel: ChannelId, amount: U256, n: u64) -> Signature {
        let promise = Promise {
            chain_id: CHAIN_ID,
            channel,
            amount: Amount::new(amount),
            fee: Amount::ZERO,
            hashlock: preimage(n).hashlock(),
        };
        promise.sign(by).expect("a local key signs").signature
    }

    fn collect(&mut self, consumer: &LocalSigner, tokens: u128, n: u64) -> u64 {
        let amount = units(tokens, u128::from(n));
        let channel = consumer_channel(self.vault, consumer.address(), self.hermes);
        let call = Vault::collectCall {
            consumer_: consumer.address(),
            hermesId: self.hermes,
            amount,
            fee: U256::ZERO,
            R: preimage(n).0,
            sig: bytes(&self.promise(consumer, channel, amount, n)),
        };
        self.gas(self.owner, self.vault, &call)
    }

    /// The double itself, beside the 39,986 and 57,086 that were measured with the real one.
    fn transfers(&mut self, figures: &mut Figures) {
        let (owner, token, to) = (self.owner, self.token, key("holder").address());
        for name in ["token_transfer_first", "token_transfer"] {
            let call = BridgedToken::transferCall {
                to,
                value: units(1, 7),
            };
            figures.push((name, self.gas(owner, token, &call)));
        }
    }

    fn consumers(&mut self, figures: &mut Figures) {
        let alice = key("alice");
        for name in ["deposit_first", "deposit"] {
            let call = Vault::placeApprovedCall {
                hermesId: self.hermes,
                consumerAndAmount: packed(alice.address(), units(100, 3)),
            };
            figures.push((name, self.gas(self.owner, self.vault, &call)));
        }
        let box_ = crate::deposit_address(self.vault, alice.address(), self.hermes);
        for name in ["sweep_first", "sweep"] {
            self.mint(box_, 10);
            let call = Vault::sweepCall {
                consumer_: alice.address(),
                hermesId: self.hermes,
            };
            figures.push((name, self.gas(self.owner, self.vault, &call)));
        }
        self.collect(&alice, 3, 1);
        figures.push(("collect", self.collect(&alice, 7, 2)));
    }

    fn singles(&mut self, figures: &mut Figures) {
        let bob = key("bob").address();
        let channel = ChannelId::of_provider(bob, self.hermes);
        for (n, name) in [(1, "settle_single_first"), (2, "settle_single")] {
            let amount = units(u128::from(n) * 9, 0);
            let (r, vs) = compact(&self.promise(&self.operator, channel, amount, n));
            let call = Vault::keepCreditCall {
                hermesAndAmount: packed(self.hermes, amount),
                R: preimage(n).0,
                r,
                vs,
            };
            figures.push((name, self.gas(bob, self.vault, &call)));
        }
        let carol = key("carol").address();
        let carols = ChannelId::of_provider(carol, self.hermes);
        for (n, name) in [
            (1, "settle_single_paid_out_first"),
            (2, "settle_single_paid_out"),
        ] {
            let amount = units(u128::from(n) * 9, 0);
            let (r, vs) = compact(&self.promise(&self.operator, carols, amount, n));
            let call = Vault::drawToPayeeCall {
                hermesAndAmount: packed(self.hermes, amount).into(),
                R: preimage(n).0,
                r,
                vs,
            };
            figures.push((name, self.gas(carol, self.vault, &call)));
        }
        let amount = units(30, 0);
        let call = Vault::settleCall {
            hermesId: self.hermes,
            amount,
            fee: U256::ZERO,
            R: preimage(3).0,
            hermesSig: bytes(&self.promise(&self.operator, channel, amount, 3)),
            beneficiary: carol,
        };
        figures.push(("settle_single_to_anybody", self.gas(bob, self.vault, &call)));
    }

    /// A hundred payees with a mandate, settled before, as on every day but the first.
    fn batches(&mut self, figures: &mut Figures) {
        let payees: Vec<LocalSigner> = (0..BATCH).map(|n| key(&format!("payee {n}"))).collect();
        let domain = Domain {
            chain_id: CHAIN_ID,
            verifying_contract: self.vault,
        };
        self.mandates(&payees, &domain, self.owner, 0);
        for (n, name) in [
            (1u64, "settle_batch100_first"),
            (2, "settle_batch100_n_signatures"),
        ] {
            let rows = payees.iter().enumerate().map(|(i, payee)| {
                let amount = units(u128::from(n) * 9, i as u128);
                let channel = ChannelId::of_provider(payee.address(), self.hermes);
                let number = n * 1_000 + i as u64;
                SettleRow {
                    account: payee.address(),
                    amount: Amount::new(amount),
                    preimage: preimage(number),
                    signature: self.promise(&self.operator, channel, amount, number),
                }
            });
            let call = Vault::settleManyCall {
                hermesId: self.hermes,
                method: U256::from(Mandate::PAY_OUT),
                rows: settle_rows(rows).expect("amounts fit into a row"),
            };
            let gas = self.gas(self.owner, self.vault, &call);
            figures.push((name, gas.div_ceil(BATCH as u64)));
        }
        for (n, name, method) in [
            (3, "settle_batch100_one_signature", Mandate::PAY_OUT),
            (4, "settle_credit_one_signature", Mandate::CREDIT),
        ] {
            let rows = payees.iter().enumerate();
            let rows =
                rows.map(|(i, payee)| (payee.address(), Amount::new(units(n * 9, i as u128))));
            let sheet = Sheet {
                hermes: self.hermes,
                rows: sheet_rows(rows).expect("amounts fit into a row"),
            };
            let signature = self
                .operator
                .sign_digest(sheet.digest(&domain))
                .expect("a local key signs");
            let call = sheet.call(method, &signature);
            let gas = self.gas(self.owner, self.vault, &call);
            figures.push((name, gas.div_ceil(BATCH as u64)));
        }
        self.mandates(&payees, &domain, self.hermes, 1);
        for (n, name) in [(5, "settle_credit_first"), (6, "settle_credit")] {
            let rows = payees.iter().enumerate();
            let rows =
                rows.map(|(i, payee)| (payee.address(), Amount::new(units(n * 9, i as u128))));
            let call = Vault::creditTotalsManyCall {
                hermesId: self.hermes,
                rows: sheet_rows(rows).expect("amounts fit into a row"),
            };
            let gas = self.gas(self.operator.address(), self.vault, &call);
            figures.push((name, gas.div_ceil(BATCH as u64)));
        }
        let payee = payees[0].address();
        let call = Vault::withdrawCreditCall {
            hermesId: self.hermes,
            beneficiary: payee,
        };
        figures.push(("withdraw_credit", self.gas(payee, self.vault, &call)));
    }

    fn mandates(&mut self, payees: &[LocalSigner], domain: &Domain, caller: Address, nonce: u64) {
        for payee in payees {
            let mandate = Mandate {
                payee: payee.address(),
                hermes: self.hermes,
                caller,
                // The Hermes itself gets one for credit alone.
                methods: if caller == self.hermes {
                    Mandate::CREDIT
                } else {
                    Mandate::PAY_OUT | Mandate::CREDIT
                },
                until_day: u16::MAX,
                nonce: U256::from(nonce),
                deadline: NOW + 60,
            };
            let signature = payee
                .sign_digest(mandate.digest(domain))
                .expect("a local key signs");
            let call = mandate.call(&signature);
            self.gas(self.owner, self.vault, &call);
        }
    }

    fn direct(&mut self, figures: &mut Figures) {
        let (owner, provider) = (key("owner"), key("provider").address());
        for name in ["direct_lock_first", "direct_lock"] {
            let call = Direct::lockCall {
                provider,
                amount: units(100, 0),
            };
            figures.push((name, self.gas(owner.address(), self.direct, &call)));
        }
        let channel = crate::direct_channel(self.direct, owner.address(), provider);
        for (n, name) in [(1, "direct_draw_first"), (2, "direct_draw")] {
            let ceiling = units(u128::from(n) * 9, 0);
            let call = Direct::drawCall {
                payer: owner.address(),
                total: ceiling - U256::from(TOKEN),
                ceiling,
                fee: U256::ZERO,
                R: preimage(n).0,
                payerSig: bytes(&self.promise(&owner, channel, ceiling, n)),
                beneficiary: provider,
            };
            figures.push((name, self.gas(provider, self.direct, &call)));
        }
    }
}
