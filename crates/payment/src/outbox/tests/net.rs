//! A chain for one account and a driver for its outbox, both in memory: every block, queue and answer is the test's to bend.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use wayfare_identity::keccak256;

use super::super::*;
use crate::fixture::{Rows, start};

/// Rounds of questions and answers after which a machine that still asks is broken.
const ROUNDS: usize = 4_000;

pub(super) fn config() -> OutboxConfig {
    OutboxConfig {
        account: Address::repeat_byte(1),
        chain_id: 1,
        confirmations: 1,
        finality: 16,
        stuck_blocks: 1_000,
        stuck_after: Duration::from_secs(60),
        fee_cap: None,
        poll: Duration::from_secs(1),
        recheck: Duration::from_secs(10),
        patience: Duration::from_secs(5),
    }
}

pub(super) fn errand(n: u8) -> Errand {
    Errand {
        to: Some(Address::repeat_byte(2)),
        value: U256::ZERO,
        input: vec![n],
        gas: None,
    }
}

/// A transaction in a queue or a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) hash: B256,
    pub(super) fees: Fees,
    /// `None` for a stranger's, and for one that does nothing.
    pub(super) does: Option<JobId>,
}

#[derive(Debug, Clone)]
pub(super) struct MinedBlock {
    pub(super) hash: B256,
    pub(super) sent: Vec<Sent>,
    reverts: bool,
}

/// The chain, as its one server shows it.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) blocks: Vec<MinedBlock>,
    pub(super) pool: BTreeMap<u64, Sent>,
    pub(super) base: u128,
    pub(super) silent: bool,
    /// Takes transactions and does not answer.
    pub(super) mute: bool,
    pub(super) poor: bool,
    pub(super) reverts: bool,
    pub(super) estimate: Result<u64, EstimateFault>,
    /// Nonces that are not mined for now.
    pub(super) held_back: BTreeSet<u64>,
    /// Every transaction that arrived, in order.
    pub(super) heard: Vec<B256>,
    signed: BTreeMap<B256, (u64, Sent)>,
    branch: u64,
    strangers: u64,
}

impl Net {
    fn new() -> Self {
        let mut net = Self {
            blocks: Vec::new(),
            pool: BTreeMap::new(),
            base: 1_000,
            silent: false,
            mute: false,
            poor: false,
            reverts: false,
            estimate: Ok(50_000),
            held_back: BTreeSet::new(),
            heard: Vec::new(),
            signed: BTreeMap::new(),
            branch: 0,
            strangers: 0,
        };
        net.block(Vec::new());
        net
    }

    pub(super) fn nonce(&self) -> u64 {
        let sent: usize = self.blocks.iter().map(|block| block.sent.len()).sum();
        sent as u64
    }

    /// How often the chain has done what a job wants.
    pub(super) fn executions(&self, id: JobId) -> usize {
        let sent = self.blocks.iter().flat_map(|block| &block.sent);
        sent.filter(|sent| sent.does == Some(id)).count()
    }

    pub(super) fn holds(&self, block: Block) -> bool {
        let at = self.blocks.get(block.number as usize);
        at.is_some_and(|at| at.hash == block.hash)
    }

    fn block(&mut self, sent: Vec<Sent>) {
        let name = format!("{} {} {sent:?}", self.branch, self.blocks.len());
        self.blocks.push(MinedBlock {
            hash: keccak256(name),
            sent,
            reverts: self.reverts,
        });
    }

    pub(super) fn mine(&mut self) {
        let mut sent = Vec::new();
        let mut nonce = self.nonce();
        while let Some(next) = self.pool.get(&nonce).copied() {
            if next.fees.most < self.base || self.held_back.contains(&nonce) {
                break;
            }
            self.pool.remove(&nonce);
            sent.push(next);
            nonce += 1;
        }
        self.block(sent);
        self.pool.retain(|at, _| *at >= nonce);
    }

    /// Other blocks in the place of the last `depth`, and one more. What was in them waits again, or is forgotten.
    pub(super) fn reorganise(&mut self, depth: usize, keep: bool) {
        let depth = depth.min(self.blocks.len() - 1);
        self.branch += 1;
        let gone = self.blocks.split_off(self.blocks.len() - depth);
        let again = gone.iter().flat_map(|block| &block.sent);
        for (nonce, sent) in (self.nonce()..).zip(again).filter(|_| keep) {
            self.pool.entry(nonce).or_insert(*sent);
        }
        for _ in 0..=depth {
            self.block(Vec::new());
        }
    }

    pub(super) fn forget(&mut self) {
        self.pool.clear();
    }

    /// Another program with the same key sends something dear with the next nonce.
    pub(super) fn stranger(&mut self) {
        self.strangers += 1;
        let stranger = Sent {
            hash: keccak256(self.strangers.to_be_bytes()),
            fees: Fees {
                most: 1_000_000,
                tip: 1_000,
            },
            does: None,
        };
        self.pool.insert(self.nonce(), stranger);
    }

    fn look(&self, hashes: &[B256]) -> Look {
        let mut mined = Vec::new();
        for (number, block) in self.blocks.iter().enumerate() {
            let ours = block.sent.iter().filter(|sent| hashes.contains(&sent.hash));
            mined.extend(ours.map(|sent| Mined {
                hash: sent.hash,
                block: Block {
                    number: number as u64,
                    hash: block.hash,
                },
                // What does nothing cannot fail.
                succeeded: !block.reverts || sent.does.is_none(),
                gas: 40_000,
                price: self.base,
            }));
        }
        let nonce = self.nonce();
        Look {
            head: Block {
                number: self.blocks.len() as u64 - 1,
                hash: self.blocks.last().unwrap().hash,
            },
            nonce,
            pending: (nonce..).find(|at| !self.pool.contains_key(at)).unwrap(),
            base: self.base,
            fees: Fees {
                most: self.base * 2 + 10,
                tip: 10,
            },
            mined,
        }
    }

    fn take(&mut self, hash: B256) -> Result<(), SendFault> {
        if self.silent {
            return Err(SendFault::Unreachable("nobody answers".into()));
        }
        let (nonce, sent) = self.signed[&hash];
        if nonce < self.nonce() {
            return Err(SendFault::NonceTaken);
        }
        if self.poor {
            return Err(SendFault::NoGas);
        }
        if let Some(earlier) = self.pool.get(&nonce) {
            let dearer = sent.fees.most * 10 >= earlier.fees.most * 11
                && sent.fees.tip * 10 >= earlier.fees.tip * 11;
            if earlier.hash != hash && !dearer {
                return Err(SendFault::Underpriced);
            }
        }
        self.heard.push(hash);
        self.pool.insert(nonce, sent);
        if self.mute {
            return Err(SendFault::Unreachable("no answer".into()));
        }
        Ok(())
    }
}

/// The outbox, its ledger and its chain.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) outbox: Outbox,
    pub(super) rows: Rows,
    pub(super) net: Net,
    pub(super) now: Instant,
    /// The power fails after so many commits: nothing is written or sent any more.
    pub(super) cut_after: Option<usize>,
    config: OutboxConfig,
}

impl Bench {
    pub(super) fn new(config: OutboxConfig) -> Self {
        let now = start();
        Self {
            outbox: Outbox::new(config.clone(), now, 1_000),
            rows: Rows::default(),
            net: Net::new(),
            now,
            cut_after: None,
            config,
        }
    }

    pub(super) fn enqueue(&mut self, purpose: Purpose, n: u8) -> JobId {
        self.outbox.enqueue(purpose, errand(n), self.now).unwrap()
    }

    /// The process dies and comes back with its ledger.
    pub(super) fn restart(&mut self) {
        let rows = self.rows.of(Outbox::TABLES);
        self.outbox = Outbox::restore(self.config.clone(), rows, self.now, 1_000).unwrap();
    }

    /// Answers all that is asked at this moment.
    pub(super) fn run(&mut self) {
        for _ in 0..ROUNDS {
            self.outbox.handle_timeout(self.now);
            let Some(output) = self.outbox.poll_output() else {
                return;
            };
            if self.cut_after == Some(0) {
                return;
            }
            self.answer(output);
        }
        panic!("it never comes to rest");
    }

    pub(super) fn mine(&mut self, blocks: usize) {
        for _ in 0..blocks {
            self.net.mine();
            self.pass(self.config.poll);
        }
    }

    /// Lets time pass, a second at a time.
    pub(super) fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_secs().max(1) {
            self.now += Duration::from_secs(1);
            self.run();
        }
    }

    fn answer(&mut self, output: OutboxOutput) {
        let now = self.now;
        match output {
            OutboxOutput::Persist { ticket, batch } => {
                self.rows.commit(batch);
                self.cut_after = self.cut_after.map(|left| left - 1);
                if self.cut_after != Some(0) {
                    self.outbox.handle_durable(ticket, now);
                }
            }
            OutboxOutput::Look { hashes } => {
                let look = if self.net.silent {
                    Err("nobody answers".to_owned())
                } else {
                    Ok(self.net.look(&hashes))
                };
                self.outbox.handle_look(look, now);
            }
            OutboxOutput::Estimate { job, .. } => {
                let estimate = self.net.estimate.clone();
                self.outbox.handle_estimate(job, estimate, now);
            }
            OutboxOutput::Sign { job, unsigned } => {
                let raw = format!("{unsigned:?} {:?}", unsigned.errand.input).into_bytes();
                let hash = keccak256(&raw);
                let does = (unsigned.errand.to != Some(self.config.account)).then_some(job);
                let fees = unsigned.fees;
                self.net
                    .signed
                    .insert(hash, (unsigned.nonce, Sent { hash, fees, does }));
                self.outbox
                    .handle_signed(job, &unsigned, Ok((hash, raw)), now);
            }
            OutboxOutput::Broadcast { job, hash, raw } => {
                self.assert_durable(hash, &raw);
                let taken = self.net.take(hash);
                self.outbox.handle_broadcast(job, hash, taken, now);
            }
            OutboxOutput::Explain { job, .. } => {
                self.outbox.handle_explained(job, "because".into(), now);
            }
            OutboxOutput::Changed(_) => {}
        }
    }

    /// INVARIANT: nothing leaves whose bytes are not in the ledger.
    fn assert_durable(&self, hash: B256, raw: &[u8]) {
        assert_eq!(keccak256(raw), hash);
        let written = self.rows.0.values().any(|record| {
            let job: Job =
                crate::record::decode(Table::Transactions, &(Vec::new(), record.clone())).unwrap();
            job.envelopes.iter().any(|envelope| envelope.hash == hash)
        });
        assert!(written, "{hash} leaves before it is durable");
    }
}
