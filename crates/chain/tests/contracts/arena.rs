//! The contracts in a bare EVM, whole or without one of their guards, and what an attacker has at hand: every key but the
//! victim's. It refuses to know which attack is tried.

use std::path::Path;

use alloy::primitives::aliases::U40;
use alloy::primitives::{Address, Bytes, U256, hex};
use alloy::sol_types::{SolCall, SolConstructor};
use wayfare_chain::bindings::{Direct, Token, Vault};
use wayfare_chain::devchain::{Evm, Outcome};
use wayfare_chain::{
    Mandate, SettleConsent, SettleRow, Sheet, consumer_channel, hermes_id, onchain_receipt,
    settle_rows, sheet_rows,
};
use wayfare_identity::{B256, Domain, LocalSigner, Signature, Signer};
use wayfare_payment::{Amount, ChannelId, Promise, Receipt, SignedReceipt};

use crate::net::{CHAIN_ID, COLLATERAL_DELAY, EXIT_DELAY, FEE_BPS, key, preimage, wei};

pub(crate) const DAY: u64 = 24 * 60 * 60;
const NOW: u64 = 1_720_000_000;

#[derive(Clone)]
pub(crate) struct Arena {
    pub(crate) evm: Evm,
    pub(crate) token: Address,
    pub(crate) vault: Address,
    pub(crate) direct: Address,
    /// Deploys, mints, owns the Hermes.
    pub(crate) owner: Address,
    pub(crate) operator: LocalSigner,
    pub(crate) hermes: Address,
}

pub(crate) fn bytes(signature: &Signature) -> Bytes {
    signature.as_bytes().to_vec().into()
}

/// The code of a contract without one guard, and which contract.
fn weakened(guard: &str) -> (String, Vec<u8>) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/weakened/{guard}.json"));
    let variant: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let code = hex::decode(variant["bytecode"].as_str().unwrap()).unwrap();
    (variant["contractName"].as_str().unwrap().to_owned(), code)
}

impl Arena {
    pub(crate) fn new() -> Self {
        Self::of(Vault::BYTECODE.to_vec(), Direct::BYTECODE.to_vec())
    }

    pub(crate) fn without(guard: &str) -> Self {
        let (contract, code) = weakened(guard);
        match contract.as_str() {
            "Vault" => Self::of(code, Direct::BYTECODE.to_vec()),
            "Direct" => Self::of(Vault::BYTECODE.to_vec(), code),
            other => panic!("{guard} weakens {other}"),
        }
    }

    fn of(vault: Vec<u8>, direct: Vec<u8>) -> Self {
        let mut evm = Evm::new(CHAIN_ID, NOW);
        let owner = key("owner").address();
        let token = evm.deploy(owner, Token::BYTECODE.to_vec()).unwrap();
        let arguments = Vault::constructorCall {
            token_: token,
            exitDelay_: U40::from(EXIT_DELAY),
            collateralDelay_: U40::from(COLLATERAL_DELAY),
        };
        let vault = evm
            .deploy(owner, [vault, arguments.abi_encode()].concat())
            .unwrap();
        let arguments = Direct::constructorCall {
            token_: token,
            unlockDelay_: U40::from(EXIT_DELAY),
        };
        let direct = evm
            .deploy(owner, [direct, arguments.abi_encode()].concat())
            .unwrap();
        let operator = key("operator");
        let mut arena = Self {
            evm,
            token,
            vault,
            direct,
            owner,
            hermes: hermes_id(vault, owner),
            operator,
        };
        let call = Vault::registerHermesCall {
            operator: arena.operator.address(),
            feeBps: FEE_BPS,
        };
        arena.must(owner, &call);
        arena
    }

    /// A call to the vault.
    pub(crate) fn call<C: SolCall>(&mut self, from: Address, call: &C) -> Outcome {
        self.evm.call(from, self.vault, call)
    }

    /// A call that is no part of the attack, and must work.
    #[track_caller]
    pub(crate) fn must<C: SolCall>(&mut self, from: Address, call: &C) -> Outcome {
        let outcome = self.call(from, call);
        assert!(
            outcome.done,
            "{}: {}",
            C::SIGNATURE,
            wayfare_chain::explain(&outcome.output)
        );
        outcome
    }

    pub(crate) fn domain(&self) -> Domain {
        Domain {
            chain_id: CHAIN_ID,
            verifying_contract: self.vault,
        }
    }

    pub(crate) fn tokens(&mut self, account: Address) -> u128 {
        self.evm
            .view(self.token, &Token::balanceOfCall(account))
            .to()
    }

    pub(crate) fn mint(&mut self, to: Address, units: u128) {
        let call = Token::mintCall {
            to,
            value: U256::from(units),
        };
        assert!(self.evm.call(self.owner, self.token, &call).done);
    }

    pub(crate) fn approve(&mut self, from: Address, spender: Address) {
        let call = Token::approveCall {
            spender,
            value: U256::MAX,
        };
        assert!(self.evm.call(from, self.token, &call).done);
    }

    pub(crate) fn collateral(&mut self, units: u128) {
        let (owner, vault) = (self.owner, self.vault);
        self.mint(owner, units);
        self.approve(owner, vault);
        let call = Vault::addCollateralCall {
            hermesId: self.hermes,
            amount: U256::from(units),
        };
        self.must(owner, &call);
    }

    pub(crate) fn deposit(&mut self, consumer: Address, units: u128) {
        let (owner, vault) = (self.owner, self.vault);
        self.mint(owner, units);
        self.approve(owner, vault);
        let call = Vault::depositCall {
            consumer_: consumer,
            hermesId: self.hermes,
            amount: U256::from(units),
        };
        self.must(owner, &call);
    }

    pub(crate) fn promise(&self, channel: ChannelId, units: u128, fee: u128) -> Promise {
        Promise {
            chain_id: CHAIN_ID,
            channel,
            amount: wei(units),
            fee: wei(fee),
            hashlock: preimage(1).hashlock(),
        }
    }

    pub(crate) fn collect_call(
        &self,
        consumer: Address,
        by: &LocalSigner,
        units: u128,
    ) -> Vault::collectCall {
        let channel = consumer_channel(self.vault, consumer, self.hermes);
        let signed = self.promise(channel, units, 0).sign(by).unwrap();
        Vault::collectCall {
            consumer_: consumer,
            hermesId: self.hermes,
            amount: U256::from(units),
            fee: U256::ZERO,
            R: preimage(1).0,
            sig: bytes(&signed.signature),
        }
    }

    pub(crate) fn settle_call(
        &self,
        payee: Address,
        by: &LocalSigner,
        units: u128,
    ) -> Vault::settleCall {
        let channel = ChannelId::of_provider(payee, self.hermes);
        let signed = self.promise(channel, units, 0).sign(by).unwrap();
        Vault::settleCall {
            hermesId: self.hermes,
            amount: U256::from(units),
            fee: U256::ZERO,
            R: preimage(1).0,
            hermesSig: bytes(&signed.signature),
            beneficiary: payee,
        }
    }

    pub(crate) fn settled(&mut self, payee: Address) -> u128 {
        let call = Vault::providerCall {
            payee,
            hermesId: self.hermes,
        };
        self.evm.view(self.vault, &call).settled.to()
    }

    pub(crate) fn hermes_account(&mut self) -> Vault::hermesReturn {
        let call = Vault::hermesCall {
            hermesId: self.hermes,
        };
        self.evm.view(self.vault, &call)
    }

    /// The receipt of a promise of `units` in all to a payee, as the first entry after `before`.
    pub(crate) fn receipt(
        &self,
        payee: Address,
        units: u128,
        increment: u128,
        before: Option<&Receipt>,
    ) -> SignedReceipt {
        let channel = ChannelId::of_provider(payee, self.hermes);
        let receipt = Receipt {
            hermes: self.hermes,
            sequence: before.map_or(1, |before| before.sequence + 1),
            previous: before.map_or(B256::ZERO, |before| before.digest(&self.domain())),
            channel,
            promise: self.promise(channel, units, 0).digest(),
            increment: wei(increment),
            total_promised: before
                .map_or(wei(0), |before| before.total_promised)
                .saturating_add(wei(increment)),
        };
        receipt.sign(&self.operator, &self.domain()).unwrap()
    }

    pub(crate) fn prove(&mut self, signed: &SignedReceipt) -> Outcome {
        let call = Vault::proveLiabilitiesCall {
            receipt: onchain_receipt(&signed.receipt),
            sig: bytes(&signed.signature),
        };
        self.call(self.owner, &call)
    }

    pub(crate) fn fraud(
        &mut self,
        by: Address,
        earlier: &SignedReceipt,
        later: &SignedReceipt,
    ) -> Outcome {
        let call = Vault::proveFraudCall {
            earlier: onchain_receipt(&earlier.receipt),
            earlierSig: bytes(&earlier.signature),
            later: onchain_receipt(&later.receipt),
            laterSig: bytes(&later.signature),
        };
        self.call(by, &call)
    }

    pub(crate) fn claim_call(
        &self,
        payee: Address,
        units: u128,
        signed: Option<&SignedReceipt>,
    ) -> Vault::fileClaimCall {
        let settle = self.settle_call(payee, &self.operator, units);
        Vault::fileClaimCall {
            hermesId: self.hermes,
            amount: settle.amount,
            fee: U256::ZERO,
            R: settle.R,
            hermesSig: settle.hermesSig,
            receipt: signed
                .map(|signed| onchain_receipt(&signed.receipt))
                .unwrap_or_default(),
            receiptSig: signed.map_or_else(Bytes::new, |signed| bytes(&signed.signature)),
        }
    }

    pub(crate) fn sheet_call(
        &self,
        payees: &[(Address, u128)],
        method: u8,
    ) -> Vault::settleSheetCall {
        let rows = payees
            .iter()
            .map(|(payee, units)| (*payee, Amount::from_units(*units)));
        let sheet = Sheet {
            hermes: self.hermes,
            rows: sheet_rows(rows).unwrap(),
        };
        let signature = self
            .operator
            .sign_digest(sheet.digest(&self.domain()))
            .unwrap();
        sheet.call(method, &signature)
    }

    /// A settlement of the payee's own in the fewest bytes.
    pub(crate) fn draw_call(
        &self,
        payee: Address,
        by: &LocalSigner,
        units: u128,
    ) -> Vault::drawToPayeeCall {
        let row = &self.rows(&[(payee, units)], by, false)[..];
        Vault::drawToPayeeCall {
            hermesAndAmount: U256::from_be_slice(&[self.hermes.as_slice(), &row[20..32]].concat()),
            R: B256::from_slice(&row[32..64]),
            r: B256::from_slice(&row[64..96]),
            vs: B256::from_slice(&row[96..]),
        }
    }

    /// The same, kept as credit.
    pub(crate) fn keep_call(
        &self,
        payee: Address,
        by: &LocalSigner,
        units: u128,
    ) -> Vault::keepCreditCall {
        let draw = self.draw_call(payee, by, units);
        Vault::keepCreditCall {
            hermesAndAmount: draw.hermesAndAmount.into(),
            R: draw.R,
            r: draw.r,
            vs: draw.vs,
        }
    }

    /// Rows of promises to payees, or of consumers, all signed by one key.
    pub(crate) fn rows(&self, to: &[(Address, u128)], by: &LocalSigner, collected: bool) -> Bytes {
        let rows = to.iter().map(|(account, units)| {
            let channel = if collected {
                consumer_channel(self.vault, *account, self.hermes)
            } else {
                ChannelId::of_provider(*account, self.hermes)
            };
            SettleRow {
                account: *account,
                amount: wei(*units),
                preimage: preimage(1),
                signature: self.promise(channel, *units, 0).sign(by).unwrap().signature,
            }
        });
        settle_rows(rows).unwrap()
    }

    pub(crate) fn many_call(&self, rows: Bytes, method: u8) -> Vault::settleManyCall {
        Vault::settleManyCall {
            hermesId: self.hermes,
            method: U256::from(method),
            rows,
        }
    }

    pub(crate) fn credits_call(&self, payees: &[(Address, u128)]) -> Vault::creditTotalsManyCall {
        let totals = payees.iter().map(|(payee, units)| (*payee, wei(*units)));
        Vault::creditTotalsManyCall {
            hermesId: self.hermes,
            rows: sheet_rows(totals).unwrap(),
        }
    }

    pub(crate) fn mandate_call(
        &self,
        payee: &LocalSigner,
        caller: Address,
        until_day: u16,
        nonce: u64,
    ) -> Vault::giveMandateBySigCall {
        let mandate = Mandate {
            payee: payee.address(),
            hermes: self.hermes,
            caller,
            methods: Mandate::PAY_OUT | Mandate::CREDIT,
            until_day,
            nonce: U256::from(nonce),
            deadline: NOW + 400 * DAY,
        };
        mandate.call(&payee.sign_digest(mandate.digest(&self.domain())).unwrap())
    }

    /// A relayed settlement of a promise of 500, whose consent names `caller`.
    pub(crate) fn relay_call(
        &self,
        payee: &LocalSigner,
        caller: Address,
        fee: u128,
        max_fee: u128,
    ) -> Vault::settleForCall {
        let consent = SettleConsent {
            payee: payee.address(),
            hermes: self.hermes,
            caller,
            beneficiary: payee.address(),
            amount: wei(500),
            max_fee: wei(max_fee),
            deadline: NOW + DAY,
        };
        let channel = ChannelId::of_provider(payee.address(), self.hermes);
        let promise = self
            .promise(channel, 500, fee)
            .sign(&self.operator)
            .unwrap();
        Vault::settleForCall {
            payee: payee.address(),
            hermesId: self.hermes,
            amount: U256::from(500),
            fee: U256::from(fee),
            R: preimage(1).0,
            hermesSig: bytes(&promise.signature),
            beneficiary: payee.address(),
            maxFee: U256::from(max_fee),
            deadline: U256::from(consent.deadline),
            payeeSig: bytes(&payee.sign_digest(consent.digest(&self.domain())).unwrap()),
        }
    }

    pub(crate) fn today(&self) -> u16 {
        u16::try_from(self.evm.now() / DAY).unwrap()
    }
}
