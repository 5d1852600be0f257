//! Random calls by everybody, honest and not, on the bare EVM, with a ledger of our own beside it that knows only what was signed
//! and what was handed in. After every call the vault's and the direct channels' books must balance; every so often everybody
//! leaves, and must get what is his. The seed is printed with every failure.

use std::time::{Duration, Instant};

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::SolCall;
use wayfare_chain::bindings::{Direct, Token, Vault};
use wayfare_chain::{Mandate, direct_channel, onchain_receipt};
use wayfare_identity::{LocalSigner, Signer};
use wayfare_payment::Receipt;

use crate::arena::{Arena, DAY, bytes};
use crate::net::{COLLATERAL_DELAY, EXIT_DELAY, key, preimage};

/// Actors of each kind: enough for one to take another's.
const CROWD: usize = 3;
/// Calls of one life, from an empty vault to everybody's leaving: enough for a Hermes to close or fall in most of them.
const LIFE: u64 = 400;
/// The largest sum of one step.
const MOST: u64 = 1_000_000;

/// What an actor signed or handed in; the contracts are not asked.
#[derive(Clone)]
struct World {
    arena: Arena,
    consumers: Vec<LocalSigner>,
    payees: Vec<LocalSigner>,
    relayer: Address,
    promised_by: [u128; CROWD],
    promised_to: [u128; CROWD],
    ceiling: [u128; CROWD],
    receipts: Vec<(Receipt, [u8; 65])>,
    last_receipt: [Option<usize>; CROWD],
    /// Totals that were seen, which may only grow.
    settled: [u128; CROWD],
    collected: [u128; CROWD],
}

struct Dice(u64);

impl Dice {
    /// Splitmix: fast, and every seed is as good as another.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn roll(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

impl World {
    fn new(mut arena: Arena) -> Self {
        let crowd = |kind: &str| {
            (0..CROWD)
                .map(|n| key(&format!("{kind} {n}")))
                .collect::<Vec<_>>()
        };
        let (consumers, payees) = (crowd("consumer"), crowd("payee"));
        let relayer = key("relayer").address();
        arena.must(relayer, &Vault::registerCallerCall {});
        arena.collateral(1);
        let (owner, vault, direct) = (arena.owner, arena.vault, arena.direct);
        arena.mint(owner, u128::MAX >> 40);
        for consumer in &consumers {
            arena.mint(consumer.address(), u128::MAX >> 40);
            arena.approve(consumer.address(), direct);
            arena.approve(consumer.address(), vault);
        }
        Self {
            arena,
            consumers,
            payees,
            relayer,
            promised_by: [0; CROWD],
            promised_to: [0; CROWD],
            ceiling: [0; CROWD],
            receipts: Vec::new(),
            last_receipt: [None; CROWD],
            settled: [0; CROWD],
            collected: [0; CROWD],
        }
    }

    /// One call by somebody; whether it worked. Most are meant to work and some are not: whatever the answer, the books are
    /// looked at.
    fn step(&mut self, dice: &mut Dice) -> bool {
        let (n, m) = (
            dice.roll(CROWD as u64) as usize,
            dice.roll(CROWD as u64) as usize,
        );
        let units = u128::from(dice.roll(MOST)) + 1;
        match dice.roll(34) {
            0..=11 => self.by_consumers(dice, n, m, units),
            12..=21 => self.by_payees(dice, n, m, units),
            22..=30 => self.by_owner(dice, n, units),
            _ => self.direct(dice, n, units),
        }
    }

    fn call<C: SolCall>(&mut self, from: Address, call: &C) -> bool {
        self.arena.call(from, call).done
    }

    fn by_consumers(&mut self, dice: &mut Dice, n: usize, m: usize, units: u128) -> bool {
        let (who, hermes) = (self.consumers[n].address(), self.arena.hermes);
        let stranger = self.consumers[m].address();
        match dice.roll(8) {
            0 => {
                let word = [stranger.as_slice(), &units.to_be_bytes()[4..]].concat();
                let call = Vault::placeApprovedCall {
                    hermesId: hermes,
                    consumerAndAmount: B256::from_slice(&word),
                };
                self.call(who, &call)
            }
            1 => {
                let call = Vault::depositCall {
                    consumer_: stranger,
                    hermesId: hermes,
                    amount: U256::from(units),
                };
                self.call(who, &call)
            }
            2 => {
                let to = wayfare_chain::deposit_address(self.arena.vault, who, hermes);
                let token = self.arena.token;
                let call = Token::transferCall {
                    to,
                    value: U256::from(units),
                };
                assert!(self.arena.evm.call(who, token, &call).done);
                self.call(
                    stranger,
                    &Vault::sweepCall {
                        consumer_: who,
                        hermesId: hermes,
                    },
                )
            }
            3 => {
                self.promised_by[n] += units;
                let rows = (0..CROWD).map(|i| {
                    let to = [(self.consumers[i].address(), self.promised_by[i])];
                    self.arena.rows(&to, &self.consumers[i], true)
                });
                let rows: Vec<_> = rows.collect();
                let call = Vault::collectManyCall {
                    hermesId: hermes,
                    rows: rows.concat().into(),
                };
                self.call(stranger, &call)
            }
            4 => {
                self.promised_by[n] += units;
                let call = self
                    .arena
                    .collect_call(who, &self.consumers[n], self.promised_by[n]);
                self.call(stranger, &call)
            }
            5 => self.call(who, &Vault::requestExitCall { hermesId: hermes }),
            6 => {
                self.arena.evm.pass(dice.roll(2) * EXIT_DELAY);
                self.call(
                    who,
                    &Vault::finalizeExitCall {
                        hermesId: hermes,
                        beneficiary: who,
                    },
                )
            }
            // A promise in another's name.
            _ => {
                let call = self
                    .arena
                    .collect_call(stranger, &self.payees[n], units << 20);
                assert!(!self.call(who, &call), "a forged promise was collected");
                false
            }
        }
    }

    /// A new promise to a payee with its receipt.
    fn promise_to(&mut self, n: usize, units: u128) {
        self.promised_to[n] += units;
        let before = self.receipts.last().map(|(receipt, _)| *receipt);
        let signed = self.arena.receipt(
            self.payees[n].address(),
            self.promised_to[n],
            units,
            before.as_ref(),
        );
        self.last_receipt[n] = Some(self.receipts.len());
        self.receipts
            .push((signed.receipt, *signed.signature.as_bytes()));
    }

    fn by_payees(&mut self, dice: &mut Dice, n: usize, m: usize, units: u128) -> bool {
        let (who, hermes) = (self.payees[n].address(), self.arena.hermes);
        if dice.roll(3) > 0 {
            self.promise_to(n, units);
        }
        let amount = self.promised_to[n];
        match dice.roll(12) {
            0 => {
                let call = self.arena.draw_call(who, &self.arena.operator, amount);
                self.call(who, &call)
            }
            1 => {
                let call = self.arena.keep_call(who, &self.arena.operator, amount);
                self.call(who, &call)
            }
            2 => {
                let mut call = self.arena.settle_call(who, &self.arena.operator, amount);
                if dice.roll(2) == 0 {
                    call.beneficiary = self.arena.vault;
                }
                self.call(who, &call)
            }
            3 => {
                let Some(at) = self.last_receipt[n] else {
                    return false;
                };
                let (receipt, signature) = self.receipts[at];
                let settle = self.arena.settle_call(who, &self.arena.operator, amount);
                let call = Vault::settleWithReceiptCall {
                    amount: settle.amount,
                    R: settle.R,
                    hermesSig: settle.hermesSig,
                    beneficiary: who,
                    receipt: onchain_receipt(&receipt),
                    receiptSig: signature.to_vec().into(),
                };
                self.call(who, &call)
            }
            4 => {
                let (caller, methods) = match dice.roll(3) {
                    0 => (hermes, dice.roll(2) * u64::from(Mandate::CREDIT)),
                    _ => (self.relayer, dice.roll(4)),
                };
                let call = Vault::giveMandateCall {
                    hermesId: hermes,
                    caller,
                    methods: U256::from(methods),
                    untilDay: self.arena.today() + dice.roll(60) as u16,
                };
                self.call(who, &call)
            }
            5 | 6 => {
                let method = if dice.roll(2) == 0 {
                    Mandate::PAY_OUT
                } else {
                    Mandate::CREDIT
                };
                let rows: Vec<_> = (0..CROWD)
                    .map(|i| (self.payees[i].address(), self.promised_to[i]))
                    .collect();
                match dice.roll(3) {
                    0 => {
                        let rows = self.arena.rows(&rows, &self.arena.operator, false);
                        let call = self.arena.many_call(rows, method);
                        self.call(self.relayer, &call)
                    }
                    1 => {
                        let call = self.arena.credits_call(&rows);
                        let operator = self.arena.operator.address();
                        self.call(operator, &call)
                    }
                    _ => {
                        let call = self.arena.sheet_call(&rows, method);
                        self.call(self.relayer, &call)
                    }
                }
            }
            7 => self.call(
                who,
                &Vault::withdrawCreditCall {
                    hermesId: hermes,
                    beneficiary: who,
                },
            ),
            8 => {
                let signed = self.last_receipt[n].map(|at| self.receipts[at]);
                let mut call = self.arena.claim_call(who, amount, None);
                if let Some((receipt, signature)) = signed {
                    call.receipt = onchain_receipt(&receipt);
                    call.receiptSig = signature.to_vec().into();
                }
                self.call(who, &call)
                    | self.call(
                        who,
                        &Vault::withdrawClaimCall {
                            hermesId: hermes,
                            beneficiary: who,
                        },
                    )
            }
            // Another's promise, and one that nobody signed.
            _ => {
                let other = self.payees[(n + 1) % CROWD].address();
                let mut call = self
                    .arena
                    .settle_call(who, &self.arena.operator, amount + 1);
                call.beneficiary = other;
                assert!(!self.call(other, &call), "another's promise was settled");
                let forged = self.arena.settle_call(who, &self.consumers[m], amount + 1);
                assert!(!self.call(who, &forged), "a forged promise was settled");
                let forged = self.arena.draw_call(who, &self.consumers[m], amount + 1);
                assert!(!self.call(who, &forged), "a forged promise was drawn");
                let credits = self.arena.credits_call(&[(who, amount + 1)]);
                assert!(!self.call(who, &credits), "who is no operator booked");
                false
            }
        }
    }

    fn by_owner(&mut self, dice: &mut Dice, n: usize, units: u128) -> bool {
        let (owner, hermes) = (self.arena.owner, self.arena.hermes);
        let stranger = self.payees[n].address();
        match dice.roll(40) {
            0..=7 => {
                let call = Vault::addCollateralCall {
                    hermesId: hermes,
                    amount: U256::from(units * 2),
                };
                self.call(owner, &call)
            }
            8..=12 => self.call(
                owner,
                &Vault::retainCall {
                    amount: U256::from(units / 4),
                },
            ),
            13..=17 => self.call(
                owner,
                &Vault::requestCollateralCall {
                    amount: U256::from(units / 4),
                },
            ),
            18..=22 => {
                self.arena.evm.pass(dice.roll(2) * COLLATERAL_DELAY);
                self.call(owner, &Vault::withdrawCollateralCall {})
            }
            23..=28 => {
                let Some((receipt, signature)) = self.receipts.last().copied() else {
                    return false;
                };
                let call = Vault::proveLiabilitiesCall {
                    receipt: onchain_receipt(&receipt),
                    sig: signature.to_vec().into(),
                };
                self.call(stranger, &call)
            }
            29 | 30 => self.call(stranger, &Vault::declareInsolvencyCall { hermesId: hermes }),
            31 => {
                self.arena.evm.pass(dice.roll(2) * EXIT_DELAY);
                self.call(stranger, &Vault::resolveInsolvencyCall { hermesId: hermes })
            }
            // Honest receipts, however chosen, are no fraud.
            32..=35 if self.receipts.len() > 1 => {
                let mut two = [
                    dice.roll(self.receipts.len() as u64) as usize,
                    dice.roll(self.receipts.len() as u64) as usize,
                ];
                two.sort_unstable();
                let [(earlier, earlier_sig), (later, later_sig)] = two.map(|at| self.receipts[at]);
                let call = Vault::proveFraudCall {
                    earlier: onchain_receipt(&earlier),
                    earlierSig: earlier_sig.to_vec().into(),
                    later: onchain_receipt(&later),
                    laterSig: later_sig.to_vec().into(),
                };
                assert!(!self.call(stranger, &call), "an honest Hermes was ruined");
                false
            }
            36 if dice.roll(8) == 0 => self.call(owner, &Vault::closeHermesCall {}),
            37 => {
                self.arena.evm.pass(dice.roll(2) * 30 * DAY);
                self.call(owner, &Vault::withdrawClosedCall {})
            }
            38 if dice.roll(8) == 0 => {
                let Some((receipt, _)) = self.receipts.last().copied() else {
                    return false;
                };
                let fork = Receipt {
                    promise: B256::repeat_byte(1),
                    ..receipt
                };
                let domain = self.arena.domain();
                let [one, two] =
                    [receipt, fork].map(|r| r.sign(&self.arena.operator, &domain).unwrap());
                self.arena.fraud(stranger, &one, &two).done
            }
            _ => {
                let refused = !self.call(stranger, &Vault::withdrawCollateralCall {})
                    && !self.call(stranger, &Vault::withdrawClosedCall {});
                assert!(refused, "a stranger took collateral");
                false
            }
        }
    }

    fn direct(&mut self, dice: &mut Dice, n: usize, units: u128) -> bool {
        let (payer, provider) = (self.consumers[n].address(), self.payees[n].address());
        let direct = self.arena.direct;
        match dice.roll(6) {
            0 | 1 => {
                let call = Direct::lockCall {
                    provider,
                    amount: U256::from(units),
                };
                self.arena.evm.call(payer, direct, &call).done
            }
            2 => {
                self.arena
                    .evm
                    .call(payer, direct, &Direct::requestUnlockCall { provider });
                self.arena.evm.pass(dice.roll(2) * EXIT_DELAY);
                self.arena
                    .evm
                    .call(
                        payer,
                        direct,
                        &Direct::unlockCall {
                            provider,
                            beneficiary: payer,
                        },
                    )
                    .done
            }
            _ => {
                self.ceiling[n] += units;
                let channel = direct_channel(direct, payer, provider);
                let promise = self
                    .arena
                    .promise(channel, self.ceiling[n], 0)
                    .sign(&self.consumers[n])
                    .unwrap();
                let over = dice.roll(8) == 0;
                let below = u128::from(dice.roll(units as u64));
                let call = Direct::drawCall {
                    payer,
                    total: U256::from(if over {
                        self.ceiling[n] + 1
                    } else {
                        self.ceiling[n] - below
                    }),
                    ceiling: U256::from(self.ceiling[n]),
                    fee: U256::ZERO,
                    R: preimage(1).0,
                    payerSig: bytes(&promise.signature),
                    beneficiary: provider,
                };
                let done = self.arena.evm.call(provider, direct, &call).done;
                assert!(!(over && done), "a ceiling was passed");
                done
            }
        }
    }

    /// INVARIANTS: each contract holds what it owes, totals never shrink, and nothing is paid that was not promised.
    fn check(&mut self) {
        let (vault, direct, hermes) = (self.arena.vault, self.arena.direct, self.arena.hermes);
        let account = self.arena.hermes_account().account;
        let mut owed = account.free.to::<u128>() + account.collateral.to::<u128>();
        let mut locked = 0;
        for n in 0..CROWD {
            let (consumer, payee) = (self.consumers[n].address(), self.payees[n].address());
            let at = self
                .arena
                .evm
                .view(
                    vault,
                    &Vault::consumerCall {
                        consumer_: consumer,
                        hermesId: hermes,
                    },
                )
                .account;
            owed += at.balance.to::<u128>();
            let collected = at.collected.to::<u128>();
            assert!(collected >= self.collected[n], "a collected total shrank");
            assert!(
                collected <= self.promised_by[n],
                "collected more than promised"
            );
            self.collected[n] = collected;
            let at = self.arena.evm.view(
                vault,
                &Vault::providerCall {
                    payee,
                    hermesId: hermes,
                },
            );
            owed += at.credit.to::<u128>();
            let settled = at.settled.to::<u128>();
            assert!(settled >= self.settled[n], "a settled total shrank");
            assert!(settled <= self.promised_to[n], "settled more than promised");
            self.settled[n] = settled;
            let has = self.arena.tokens(payee) + at.credit.to::<u128>();
            assert!(has <= settled + self.ceiling[n], "a payee was paid twice");
            let at = self.arena.evm.view(
                direct,
                &Direct::channelCall {
                    payer: consumer,
                    provider: payee,
                },
            );
            assert!(at.drawn <= at.locked, "drawn more than locked");
            locked += at.locked.to::<u128>() - at.drawn.to::<u128>();
        }
        assert_eq!(
            self.arena.tokens(vault),
            owed,
            "the vault holds something else than it owes"
        );
        assert_eq!(
            self.arena.tokens(direct),
            locked,
            "the channels hold something else than they owe"
        );
    }

    /// Everybody takes what is his; what is left belongs to holders who hold nothing, and to rounding.
    fn everybody_leaves(&mut self) {
        let hermes = self.arena.hermes;
        let ruined = self.arena.hermes_account().account.state == 2;
        self.collected_last();
        for n in 0..CROWD {
            let (payee, amount) = (self.payees[n].address(), self.promised_to[n]);
            if ruined {
                let call = self.arena.claim_call(payee, amount, None);
                assert_eq!(self.call(payee, &call), amount > self.settled[n], "a claim");
            } else if amount > self.settled[n] {
                // The Hermes makes good what it owes: then everybody must be payable in full.
                self.arena.collateral(amount - self.settled[n]);
            }
        }
        self.arena.evm.pass(31 * DAY);
        for n in 0..CROWD {
            let (consumer, payee) = (self.consumers[n].address(), self.payees[n].address());
            if !ruined && self.promised_to[n] > self.settled[n] {
                self.settle_whatever_it_takes(n);
            }
            self.call(
                payee,
                &Vault::withdrawClaimCall {
                    hermesId: hermes,
                    beneficiary: payee,
                },
            );
            self.call(
                payee,
                &Vault::withdrawCreditCall {
                    hermesId: hermes,
                    beneficiary: payee,
                },
            );
            self.call(consumer, &Vault::requestExitCall { hermesId: hermes });
            let direct = self.arena.direct;
            self.arena.evm.call(
                consumer,
                direct,
                &Direct::requestUnlockCall { provider: payee },
            );
        }
        self.arena.evm.pass(EXIT_DELAY);
        for n in 0..CROWD {
            let (consumer, payee) = (self.consumers[n].address(), self.payees[n].address());
            let call = Vault::finalizeExitCall {
                hermesId: hermes,
                beneficiary: consumer,
            };
            assert!(self.call(consumer, &call), "a consumer is kept");
            let direct = self.arena.direct;
            let call = Direct::unlockCall {
                provider: payee,
                beneficiary: consumer,
            };
            assert!(
                self.arena.evm.call(consumer, direct, &call).done,
                "a payer is kept"
            );
        }
        self.check();
        let direct = self.arena.direct;
        assert_eq!(self.arena.tokens(direct), 0);
        self.the_owner_leaves(ruined);
    }

    fn collected_last(&mut self) {
        for n in 0..CROWD {
            let who = self.consumers[n].address();
            let call = self
                .arena
                .collect_call(who, &self.consumers[n], self.promised_by[n]);
            self.call(who, &call);
        }
        self.check();
    }

    fn settle_whatever_it_takes(&mut self, n: usize) {
        let payee = self.payees[n].address();
        let settle = self
            .arena
            .settle_call(payee, &self.arena.operator, self.promised_to[n]);
        if self.call(payee, &settle) && self.arena.settled(payee) == self.promised_to[n] {
            return;
        }
        let (receipt, signature) = self.receipts[self.last_receipt[n].unwrap()];
        let call = Vault::settleWithReceiptCall {
            amount: settle.amount,
            R: settle.R,
            hermesSig: settle.hermesSig,
            beneficiary: payee,
            receipt: onchain_receipt(&receipt),
            receiptSig: signature.to_vec().into(),
        };
        let outcome = self.arena.call(payee, &call);
        assert!(
            outcome.done,
            "a payee of a solvent Hermes is not paid: {}",
            wayfare_chain::explain(&outcome.output)
        );
    }

    fn the_owner_leaves(&mut self, ruined: bool) {
        let owner = self.arena.owner;
        if ruined {
            assert!(
                !self.call(owner, &Vault::withdrawClosedCall {}),
                "an owner got a ruined Hermes' money"
            );
            return;
        }
        self.call(owner, &Vault::closeHermesCall {});
        self.arena.evm.pass(COLLATERAL_DELAY);
        self.call(owner, &Vault::withdrawClosedCall {});
        let vault = self.arena.vault;
        // Everybody is paid, so nothing is owed but what the estimate of rounding keeps.
        let left = self.arena.tokens(vault);
        assert!(
            left <= self.receipts.len() as u128 * 2,
            "{left} units are stuck"
        );
    }
}

// Calls a second are what a long run is asked for.
#[allow(clippy::disallowed_methods)]
/// Plays lives until there are enough calls or no more time; answers calls, those that worked, and seconds.
fn play(arena: Arena, seed: u64, most: u64, time: Option<Duration>) -> (u64, u64, f64) {
    let began = Instant::now();
    let fresh = World::new(arena);
    let (mut calls, mut worked) = (0, 0);
    let mut life = 0;
    while calls < most && time.is_none_or(|time| began.elapsed() < time) {
        life += 1;
        let mut dice = Dice(seed ^ life << 32);
        let mut world = fresh.clone();
        for step in 0..LIFE {
            let context = Told { seed, life, step };
            calls += 1;
            worked += u64::from(world.step(&mut dice));
            world.check();
            std::mem::forget(context);
        }
        let context = Told {
            seed,
            life,
            step: LIFE,
        };
        world.everybody_leaves();
        std::mem::forget(context);
    }
    (calls, worked, began.elapsed().as_secs_f64())
}

/// Says where a panic was.
struct Told {
    seed: u64,
    life: u64,
    step: u64,
}

impl Drop for Told {
    fn drop(&mut self) {
        eprintln!(
            "seed {:#x}, life {}, step {}",
            self.seed, self.life, self.step
        );
    }
}

#[test]
fn books_balance_and_everybody_can_leave() {
    let (calls, worked, _) = play(
        Arena::new(),
        0x5EED_0002,
        60 * LIFE,
        Some(Duration::from_secs(12)),
    );
    assert!(calls >= 5 * LIFE, "only {calls} calls");
    assert!(
        worked * 4 > calls,
        "{worked} of {calls} calls worked: the dice are bad"
    );
}

/// The positive control: a driver that finds nothing in broken contracts would prove nothing of whole ones.
#[test]
fn broken_books_are_found() {
    for guard in [
        "own-deposit",
        "settled-advances",
        "hermes-signature",
        "consumer-signature",
        "closing-own-money",
        "equivocation-is-two",
        "ceiling",
    ] {
        let arena = Arena::without(guard);
        let found = std::panic::catch_unwind(|| play(arena, 0x5EED_0004, 60 * LIFE, None));
        assert!(found.is_err(), "without {guard} everything seems well");
    }
}

/// `cargo test -p wayfare-chain --features devchain --test contracts -- --ignored --nocapture a_million_calls`
#[test]
#[ignore = "takes minutes"]
fn a_million_calls() {
    let (calls, worked, seconds) = play(Arena::new(), 0x5EED_0003, 1_000_000, None);
    println!(
        "{calls} calls, {worked} of them worked, {:.0} calls/s",
        calls as f64 / seconds
    );
}
