//! From the queue into circulation: whose turn it is, with which nonce, for how much; again when forgotten, dearer when stuck.
//! It refuses to send what is not durable, and to pay above the cap.

use std::time::{Duration, Instant};

use wayfare_identity::B256;

use crate::deadline::backoff;

use super::{
    Envelope, EstimateFault, Failure, Fees, JobId, JobState, Look, Outbox, OutboxOutput, Purpose,
    SendFault, Unsigned,
};

/// What a plain transfer costs on an EVM chain.
pub(super) const TRANSFER_GAS: u64 = 21_000;
/// Gas limit over the estimate, in percent: a fifth more, for slots that other transactions fill in the meantime.
const GAS_MARGIN: u64 = 120;
/// Envelopes of one job. Each pays an eighth more: 24 of them come to sixteen times the first price.
const MAX_ENVELOPES: usize = 24;
/// A look that is older than this is no ground to sign on: some blocks of any chain.
const FRESH: Duration = Duration::from_secs(10);
/// How far a server's own queue may be ahead of the chain and still be believed.
const MAX_PENDING: u64 = 64;

impl Outbox {
    /// The gas limit with which a call would succeed now, or why it would not.
    pub fn handle_estimate(
        &mut self,
        id: JobId,
        estimate: Result<u64, EstimateFault>,
        now: Instant,
    ) {
        if self.busy != Some(id) {
            return;
        }
        let queued = |job: &super::Job| job.state == JobState::Queued;
        if !self.jobs.get(&id).is_some_and(queued) {
            self.busy = None;
            self.advance(now);
            return;
        }
        let failure = match estimate {
            Ok(gas) => {
                self.stumbles = 0;
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.gas = Some(gas.saturating_mul(GAS_MARGIN) / 100);
                }
                self.sign_first(id, now);
                return;
            }
            Err(EstimateFault::Unreachable(why)) => {
                self.busy = None;
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.waiting = Some(why);
                }
                let pause = backoff(self.config.poll, self.stumbles, super::RETRY_MOST);
                self.pause = Some(now + pause);
                self.stumbles = self.stumbles.saturating_add(1);
                return;
            }
            Err(EstimateFault::Refused(why)) => Failure::Refused(why),
            Err(EstimateFault::NoGas) => Failure::NoGas,
        };
        self.fail(id, failure, now);
    }

    /// A signed transaction: its hash and its bytes; or why it could not be signed.
    pub fn handle_signed(
        &mut self,
        id: JobId,
        unsigned: &Unsigned,
        signed: Result<(B256, Vec<u8>), String>,
        now: Instant,
    ) {
        if self.busy != Some(id) {
            return;
        }
        let (hash, raw) = match signed {
            Ok(signed) => signed,
            Err(why) => {
                self.fail(id, Failure::Refused(why), now);
                return;
            }
        };
        let unix = self.unix(now);
        let wanted = |job: &super::Job| match job.state {
            JobState::Queued | JobState::Sent => true,
            // An earlier one was mined in the meantime.
            JobState::Mined(_)
            | JobState::Confirmed { .. }
            | JobState::SettledByAnother
            | JobState::Failed(_) => false,
        };
        if !self.jobs.get(&id).is_some_and(wanted) {
            self.busy = None;
            self.advance(now);
            return;
        }
        self.hand_over(hash, id);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        for older in &mut job.envelopes {
            older.raw = Vec::new();
        }
        let fresh = !job.envelopes.iter().any(|e| e.nonce == unsigned.nonce);
        job.envelopes.push(Envelope {
            nonce: unsigned.nonce,
            fees: unsigned.fees,
            hash,
            cancels: unsigned.errand != job.errand || job.purpose == Purpose::Filler,
            raw: raw.clone(),
        });
        job.nonce = Some(unsigned.nonce);
        job.lost_at = None;
        job.live = super::Live {
            fresh,
            explaining: job.live.explaining,
            ..super::Live::default()
        };
        if job.state != JobState::Sent {
            job.state = JobState::Sent;
            job.changed = unix;
        }
        let send = OutboxOutput::Broadcast { job: id, hash, raw };
        self.sending = Some(hash);
        self.persist(id, vec![send, OutboxOutput::Changed(id)]);
    }

    /// What the servers said to a transaction.
    pub fn handle_broadcast(
        &mut self,
        id: JobId,
        hash: B256,
        outcome: Result<(), SendFault>,
        now: Instant,
    ) {
        if self.sending == Some(hash) {
            self.busy = None;
            self.sending = None;
        }
        let head = self.seen.as_ref().map_or(0, |(_, look)| look.head.number);
        self.want_look(now);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job
            .envelopes
            .last()
            .is_none_or(|newest| newest.hash != hash)
            || job.state != JobState::Sent
        {
            self.advance(now);
            return;
        }
        let never_taken = std::mem::take(&mut job.live.fresh);
        match outcome {
            Ok(()) => {
                job.live.sent.get_or_insert((now, head));
                job.waiting = None;
            }
            // No server has ever had it, so the transaction with this nonce is not ours.
            Err(SendFault::NonceTaken) if never_taken => {
                job.state = JobState::Queued;
                job.nonce = None;
                job.gas = None;
                job.waiting = Some("another program with this key was faster".to_owned());
                self.persist(id, Vec::new());
                // The count that was seen is out of date.
                self.seen = None;
            }
            Err(SendFault::NonceTaken) => {}
            Err(SendFault::Underpriced) => {
                job.live.underpriced = true;
                job.live.sent.get_or_insert((now, head));
            }
            Err(SendFault::NoGas) if never_taken && job.purpose != Purpose::Filler => {
                self.fail(id, Failure::NoGas, now);
                return;
            }
            Err(SendFault::NoGas) => job.waiting = Some(Failure::NoGas.to_string()),
            Err(SendFault::Unreachable(why)) => {
                // It may have arrived all the same.
                job.live.sent.get_or_insert((now, head));
                job.waiting = Some(why);
            }
        }
        self.advance(now);
    }

    /// Does whatever the last look allows.
    pub(super) fn advance(&mut self, now: Instant) {
        if self.withheld.failed() {
            return;
        }
        let Some((at, look)) = self.seen.clone() else {
            if self.asked.is_none() && self.look_at.is_none() && self.open() > 0 {
                self.look_at = Some(now);
            }
            return;
        };
        self.repeat(now);
        if self.busy.is_some() {
            return;
        }
        if now >= at + FRESH {
            self.want_look(now);
            return;
        }
        self.cancel(&look, now);
        self.unstick(&look, now);
        self.begin(&look, now);
    }

    /// Uses a nonce up that nothing wanted has; `instead_of` is the job whose transaction has it.
    pub(super) fn use_up(&mut self, nonce: u64, instead_of: Option<JobId>, now: Instant) {
        let taken = self
            .jobs
            .values()
            .any(|job| job.nonce == Some(nonce) && Some(job.id) != instead_of && !job.last);
        if taken {
            return;
        }
        let replaced = instead_of
            .and_then(|id| self.jobs.get(&id))
            .into_iter()
            .flat_map(|job| &job.envelopes)
            .filter(|envelope| envelope.nonce == nonce)
            .map(|envelope| envelope.fees)
            .reduce(Fees::at_least);
        let errand = self.nothing();
        let id = self.insert(Purpose::Filler, errand, now);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.nonce = Some(nonce);
            job.floor = replaced.map_or(Fees::default(), Fees::raised);
        }
        self.persist(id, Vec::new());
    }

    // ------------------------------------------------------------------------------------------------- private

    /// The same errand with the same nonce and fees is the same transaction, to the byte. It is the newer job's: one transaction does
    /// not do two jobs.
    fn hand_over(&mut self, hash: B256, to: JobId) {
        let had = |job: &&mut super::Job| {
            job.id != to
                && job.mined().is_none()
                && job.envelopes.iter().any(|envelope| envelope.hash == hash)
        };
        let Some(job) = self.jobs.values_mut().find(had) else {
            return;
        };
        job.envelopes.retain(|envelope| envelope.hash != hash);
        job.last |= job.is_finished() && job.envelopes.is_empty();
        let id = job.id;
        self.persist(id, Vec::new());
    }

    fn fail(&mut self, id: JobId, failure: Failure, now: Instant) {
        let unix = self.unix(now);
        if self.busy == Some(id) {
            self.busy = None;
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            if job.purpose == Purpose::Filler {
                // Others wait behind it: it is tried for as long as they do.
                job.waiting = Some(failure.to_string());
                self.pause = Some(now + super::RETRY_MOST);
                return;
            }
            job.state = JobState::Failed(failure);
            job.changed = unix;
            job.waiting = None;
            job.nonce = None;
            job.last = job.envelopes.is_empty();
            self.persist(id, vec![OutboxOutput::Changed(id)]);
        }
        self.advance(now);
    }

    /// Sends what is in circulation again: servers forget. A restart has forgotten when it last did.
    fn repeat(&mut self, now: Instant) {
        let every = self.config.stuck_after / 2;
        let held: Vec<JobId> = self.busy.into_iter().collect();
        for job in self.jobs.values_mut() {
            let due = job.live.repeated.is_none_or(|at| now >= at + every);
            if job.state != JobState::Sent || held.contains(&job.id) || !due {
                continue;
            }
            if let Some(newest) = job.envelopes.last() {
                job.live.repeated = Some(now);
                self.outputs.push_back(OutboxOutput::Broadcast {
                    job: job.id,
                    hash: newest.hash,
                    raw: newest.raw.clone(),
                });
            }
        }
    }

    /// Puts a transaction that does nothing in the place of one that is no longer wanted.
    fn cancel(&mut self, look: &Look, now: Instant) {
        let unwanted = self.jobs.values().find(|job| {
            job.state == JobState::Sent
                && job.moot.is_some()
                && job.nonce.is_some_and(|nonce| nonce >= look.nonce)
                && job.envelopes.last().is_some_and(|e| !e.cancels)
        });
        if let Some(id) = unwanted.map(|job| job.id) {
            self.replace(id, look, now);
        }
    }

    /// The one that is next to be mined holds up all others: it is made dearer when it has waited long enough.
    fn unstick(&mut self, look: &Look, now: Instant) {
        if self.busy.is_some() {
            return;
        }
        let sent = self
            .jobs
            .values()
            .filter(|job| job.state == JobState::Sent)
            .filter_map(|job| job.nonce.map(|nonce| (nonce, job.id)))
            .filter(|(nonce, _)| *nonce >= look.nonce)
            .min();
        let Some((nonce, id)) = sent else {
            return;
        };
        let config = &self.config;
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let stuck = job.live.sent.is_some_and(|(at, height)| {
            now >= at + config.stuck_after
                || look.head.number >= height.saturating_add(config.stuck_blocks)
        });
        if nonce == look.nonce {
            if stuck || job.live.underpriced {
                self.replace(id, look, now);
            }
            return;
        }
        // One that was confirmed, and whose block is gone, is soon found to be missing and sent again.
        let ours = |job: &super::Job| job.nonce == Some(look.nonce) && !job.last;
        if !stuck || self.jobs.values().any(ours) {
            return;
        }
        if look.pending > look.nonce {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.waiting = Some(format!(
                    "waits behind a transaction of another program with this key, nonce {}",
                    look.nonce
                ));
            }
        } else {
            self.use_up(look.nonce, None, now);
        }
    }

    fn replace(&mut self, id: JobId, look: &Look, now: Instant) {
        let quote = self.quote(look);
        let nothing = self.nothing();
        let cap = self.config.fee_cap;
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let (Some(newest), Some(nonce)) = (job.envelopes.last(), job.nonce) else {
            return;
        };
        let raised = newest.fees.raised();
        let fees = match quote {
            Ok(quote) => raised.at_least(quote),
            Err(why) => {
                job.waiting = Some(why);
                return;
            }
        };
        if let Some(cap) = cap.filter(|cap| fees.most > *cap) {
            job.waiting = Some(format!(
                "stuck: a replacement would cost up to {} wei and the cap is {cap}: it waits for cheaper gas, or a higher cap",
                fees.most
            ));
            return;
        }
        if job.envelopes.len() >= MAX_ENVELOPES {
            job.waiting = Some(format!("stuck: replaced {MAX_ENVELOPES} times; it waits"));
            return;
        }
        let cancels = newest.cancels || job.moot.is_some() || job.purpose == Purpose::Filler;
        let (errand, gas) = if cancels {
            (nothing, TRANSFER_GAS)
        } else {
            let gas = job.gas.or(job.errand.gas).unwrap_or(TRANSFER_GAS);
            (job.errand.clone(), gas)
        };
        let unsigned = Unsigned {
            nonce,
            gas,
            fees,
            errand,
        };
        // Until its replacement is out it is not replaced again.
        job.live.sent = Some((now, look.head.number));
        job.live.underpriced = false;
        self.busy = Some(id);
        self.outputs
            .push_back(OutboxOutput::Sign { job: id, unsigned });
    }

    /// Takes the next job of the queue; what uses a nonce up goes first, since others wait behind it.
    fn begin(&mut self, look: &Look, now: Instant) {
        if self.busy.is_some() || self.pause.is_some_and(|until| now < until) {
            return;
        }
        let queued = |job: &&super::Job| job.state == JobState::Queued;
        let next = self
            .jobs
            .values()
            .filter(queued)
            .find(|job| job.nonce.is_some())
            .or_else(|| self.jobs.values().find(queued))
            .map(|job| job.id);
        let Some(id) = next else {
            return;
        };
        if let Err(why) = self.quote(look) {
            for job in self.jobs.values_mut() {
                if job.state == JobState::Queued {
                    job.waiting = Some(why.clone());
                }
            }
            return;
        }
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.nonce.is_some_and(|nonce| nonce < look.nonce) {
            // Somebody has used it up: nothing to do.
            self.handle_moot(id, super::Moot::SettledByAnother, now);
            return;
        }
        job.waiting = None;
        self.busy = Some(id);
        if let Some(gas) = job.errand.gas {
            job.gas = Some(gas);
            self.sign_first(id, now);
        } else {
            let errand = job.errand.clone();
            self.outputs
                .push_back(OutboxOutput::Estimate { job: id, errand });
        }
    }

    fn sign_first(&mut self, id: JobId, now: Instant) {
        let Some((_, look)) = self.seen.clone() else {
            self.busy = None;
            self.want_look(now);
            return;
        };
        let (quote, free) = (self.quote(&look), self.free_nonce(&look));
        let cap = self.config.fee_cap;
        let Some(job) = self.jobs.get_mut(&id) else {
            self.busy = None;
            return;
        };
        let fees = quote.map(|quote| quote.at_least(job.floor));
        let fees = fees.and_then(|fees| match cap {
            Some(cap) if fees.most > cap => Err(too_dear(fees.most, cap)),
            Some(_) | None => Ok(fees),
        });
        match fees {
            Ok(fees) => {
                let unsigned = Unsigned {
                    nonce: job.nonce.unwrap_or(free),
                    gas: job.gas.unwrap_or(TRANSFER_GAS),
                    fees,
                    errand: job.errand.clone(),
                };
                self.outputs
                    .push_back(OutboxOutput::Sign { job: id, unsigned });
            }
            Err(why) => {
                job.waiting = Some(why);
                self.busy = None;
            }
        }
    }

    /// What to offer: what the chain asks, within the cap. The usual offer leaves room for six full blocks; a cap below that is
    /// offered whole while the next block would take it.
    fn quote(&self, look: &Look) -> Result<Fees, String> {
        let Some(cap) = self.config.fee_cap else {
            return Ok(look.fees);
        };
        if look.fees.most <= cap {
            return Ok(look.fees);
        }
        let least = look.base.saturating_add(look.fees.tip);
        if least > cap {
            return Err(too_dear(least, cap));
        }
        Ok(Fees {
            most: cap,
            tip: look.fees.tip,
        })
    }

    /// The first nonce that neither the chain, nor the server's queue, nor a job that may still be mined has.
    fn free_nonce(&self, look: &Look) -> u64 {
        let ours = self.jobs.values().filter(|job| !job.last);
        let ours = ours.filter_map(|job| job.nonce).max();
        let believable = look.nonce..=look.nonce.saturating_add(MAX_PENDING);
        let queued = Some(look.pending).filter(|pending| believable.contains(pending));
        look.nonce
            .max(queued.unwrap_or(0))
            .max(ours.map_or(0, |nonce| nonce + 1))
    }
}

fn too_dear(costs: u128, cap: u128) -> String {
    format!(
        "gas costs up to {costs} wei and the cap is {cap}: it waits for cheaper gas, or a higher cap"
    )
}
