//! What a look at the chain means for each job: found, deep enough, taken back, or its nonce used by somebody else.
//! It refuses to remember an earlier look's opinion: the chain as it is now decides.

use std::time::Instant;

use super::{Failure, Job, JobId, JobState, Look, Mined, Outbox, OutboxOutput, Purpose};

impl Outbox {
    /// What the chain looks like, or why no server could be asked (or believed).
    pub fn handle_look(&mut self, look: Result<Look, String>, now: Instant) {
        let Some(asked) = self.asked.take() else {
            return;
        };
        let look = match look {
            Ok(_) if self.outdated => {
                self.look_at = Some(now);
                return;
            }
            Ok(look) => look,
            Err(why) => {
                self.trouble(&why, now);
                return;
            }
        };
        if let Some((_, before)) = &self.seen
            && look.head.number.saturating_add(self.config.finality) < before.head.number
        {
            let why = format!(
                "the server's newest block is {}, and {} was seen already: it lags",
                look.head.number, before.head.number
            );
            self.trouble(&why, now);
            return;
        }
        self.failures = 0;
        for id in &asked {
            self.judge(*id, &look, now);
        }
        // A nonce that a finished job has used and that is free again: its block is gone.
        let gone = self.jobs.values().any(|job| {
            !job.last
                && job.mined().is_some()
                && !asked.contains(&job.id)
                && job.nonce.is_some_and(|nonce| nonce >= look.nonce)
        });
        if gone {
            self.rechecked = None;
            self.want_look(now);
        }
        self.seen = Some((now, look));
        self.advance(now);
    }

    /// Nothing is known for now: everything waits, and says why.
    fn trouble(&mut self, why: &str, now: Instant) {
        for job in self.jobs.values_mut().filter(|job| !job.is_finished()) {
            job.waiting = Some(why.to_owned());
        }
        self.look_at = Some(now + self.retry_in());
        self.failures = self.failures.saturating_add(1);
    }

    fn judge(&mut self, id: JobId, look: &Look, now: Instant) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let of = |mined: &&Mined| job.envelopes.iter().any(|e| e.hash == mined.hash);
        let does = |mined: &&Mined| {
            let envelope = job.envelopes.iter().find(|e| e.hash == mined.hash);
            envelope.is_some_and(|envelope| !envelope.cancels)
        };
        // Two of one job can only be mined under two nonces; the one that does something tells more.
        let found = look
            .mined
            .iter()
            .filter(of)
            .find(does)
            .or_else(|| look.mined.iter().find(of))
            .copied();
        match found {
            Some(mined) => self.found(id, mined, look, now),
            None => self.not_found(id, look, now),
        }
    }

    fn found(&mut self, id: JobId, mined: Mined, look: &Look, now: Instant) {
        let unix = self.unix(now);
        let depth = (look.head.number + 1).saturating_sub(mined.block.number);
        let deep = depth >= self.config.confirmations.max(1);
        let finality = self.config.finality.max(self.config.confirmations);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(envelope) = job.envelopes.iter().find(|e| e.hash == mined.hash) else {
            return;
        };
        let cancels = envelope.cancels && job.purpose != Purpose::Filler;
        let (nonce, given) = (envelope.nonce, job.nonce);
        let before = (job.state.clone(), job.last);
        let moved = job
            .mined()
            .is_some_and(|earlier| earlier.block != mined.block);
        let again = job.mined() == Some(mined);
        job.lost_at = None;
        job.live.missing = None;
        job.live.underpriced = false;
        job.nonce = Some(nonce);
        job.waiting = None;
        if moved {
            job.reorganised += 1;
        }
        if !deep {
            job.waiting = Some(format!(
                "in block {}, {depth} of {} deep",
                mined.block.number, self.config.confirmations
            ));
        }
        let verdict = if deep {
            verdict(job, mined, depth, cancels, again)
        } else {
            Some(JobState::Mined(mined))
        };
        let explain = verdict.is_none() && !std::mem::replace(&mut job.live.explaining, true);
        job.state = verdict.unwrap_or(JobState::Mined(mined));
        let spent = matches!(job.state, JobState::SettledByAnother | JobState::Failed(_));
        job.spent = spent.then_some(mined);
        job.last = depth >= finality && job.is_finished();
        if job.last {
            job.forget_bytes();
        }
        if before != (job.state.clone(), job.last) {
            job.changed = if before.0 == job.state {
                job.changed
            } else {
                unix
            };
            self.persist(id, vec![OutboxOutput::Changed(id)]);
        }
        if explain && let Some(job) = self.jobs.get(&id) {
            self.outputs.push_back(OutboxOutput::Explain {
                job: id,
                errand: job.errand.clone(),
            });
        }
        // Given up once, sent again under another nonce, and then mined after all: the second must not be.
        if let Some(second) = given.filter(|given| *given != nonce) {
            self.use_up(second, Some(id), now);
        }
    }

    /// Why it reverted.
    pub fn handle_explained(&mut self, id: JobId, why: String, now: Instant) {
        let unix = self.unix(now);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.live.explaining = false;
        let JobState::Mined(mined) = job.state else {
            return;
        };
        if mined.succeeded {
            return;
        }
        job.spent = Some(mined);
        job.state = JobState::Failed(Failure::Reverted(why));
        job.waiting = None;
        job.changed = unix;
        self.persist(id, vec![OutboxOutput::Changed(id)]);
    }

    fn not_found(&mut self, id: JobId, look: &Look, now: Instant) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let newest = job.envelopes.last().map(|envelope| envelope.nonce);
        // Where it was given up, its last one may still turn up.
        let Some(nonce) = job.nonce.or(newest) else {
            return;
        };
        if look.nonce > nonce {
            self.nonce_used(id, nonce, look, now);
        } else {
            self.not_mined(id, look, now);
        }
    }

    /// The chain has no transaction with its nonce. If one of ours was in a block, that block is gone.
    fn not_mined(&mut self, id: JobId, look: &Look, now: Instant) {
        let (unix, patience) = (self.unix(now), self.config.patience);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.lost_at = None;
        let Some(mined) = job.mined() else {
            job.live.missing = None;
            return;
        };
        // A server that has not come as far as the block says nothing about it, for a while.
        let since = *job.live.missing.get_or_insert(now);
        if look.head.number < mined.block.number && now < since + patience {
            self.rechecked = None;
            return;
        }
        // What there is to send again may be of another nonce: then it is begun anew.
        let newest = job.envelopes.last().map(|envelope| envelope.nonce);
        if newest == job.nonce {
            job.state = JobState::Sent;
        } else {
            job.state = JobState::Queued;
            job.nonce = None;
        }
        job.spent = None;
        job.reorganised += 1;
        job.changed = unix;
        job.waiting = Some(format!(
            "a reorganisation took block {} back: it is sent again",
            mined.block.number
        ));
        job.live = super::Live {
            sent: Some((now, look.head.number)),
            ..super::Live::default()
        };
        self.persist(id, vec![OutboxOutput::Changed(id)]);
    }

    /// The chain has a transaction with its nonce, and none of ours. Once that is certain it is another program's.
    fn nonce_used(&mut self, id: JobId, nonce: u64, look: &Look, now: Instant) {
        let (unix, config) = (self.unix(now), &self.config);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let head = look.head.number;
        let first = *job.lost_at.get_or_insert(head);
        let since = *job.live.missing.get_or_insert(now);
        if now < since + config.patience || head + 1 < first + config.confirmations {
            return;
        }
        let final_by = first.saturating_add(config.finality);
        match &job.state {
            JobState::Queued => return,
            JobState::SettledByAnother | JobState::Failed(_) if job.spent.is_none() => {
                if head < final_by {
                    return;
                }
                job.last = true;
                job.forget_bytes();
            }
            JobState::Sent
            | JobState::Mined(_)
            | JobState::Confirmed { .. }
            | JobState::SettledByAnother
            | JobState::Failed(_) => {
                job.reorganised += u32::from(job.mined().is_some());
                job.spent = None;
                job.changed = unix;
                job.live = super::Live::default();
                job.nonce = None;
                match (&job.moot, &job.purpose) {
                    (Some(moot), _) => job.state = moot.state(),
                    (None, Purpose::Filler) => job.state = JobState::SettledByAnother,
                    (None, _) => {
                        job.state = JobState::Queued;
                        job.gas = None;
                        job.floor = super::Fees::default();
                        job.waiting = Some(format!(
                            "another program with this key used nonce {nonce}: it is sent again with another"
                        ));
                    }
                }
            }
        }
        self.persist(id, vec![OutboxOutput::Changed(id)]);
    }
}

/// What a transaction that is deep enough makes of its job; `None` when it reverted and nobody knows why yet.
fn verdict(job: &Job, mined: Mined, depth: u64, cancels: bool, again: bool) -> Option<JobState> {
    if mined.succeeded && !cancels {
        let depth = match &job.state {
            JobState::Confirmed { depth: first, .. } if again => *first,
            JobState::Queued
            | JobState::Sent
            | JobState::Mined(_)
            | JobState::Confirmed { .. }
            | JobState::SettledByAnother
            | JobState::Failed(_) => depth,
        };
        return Some(JobState::Confirmed { mined, depth });
    }
    if let Some(moot) = &job.moot {
        return Some(moot.state());
    }
    if cancels {
        let why = "its nonce was used up".to_owned();
        return Some(JobState::Failed(Failure::Withdrawn(why)));
    }
    match &job.state {
        JobState::Failed(why @ Failure::Reverted(_)) if again => {
            Some(JobState::Failed(why.clone()))
        }
        JobState::Queued
        | JobState::Sent
        | JobState::Mined(_)
        | JobState::Confirmed { .. }
        | JobState::SettledByAnother
        | JobState::Failed(_) => None,
    }
}
