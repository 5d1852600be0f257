//! A lookup with what it is for: to join, to find what is under a topic, or to bring a record there. It refuses to send anything;
//! `task` asks whom it names.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::lookup::{Lookup, Target};
use super::words::{ANSWER_VALUES, Question};
use super::{DhtError, Records, Topic};

/// How long a lookup may go on before a record is brought to whoever was found until then.
const PUBLISH_LIMIT: Duration = Duration::from_secs(4);
/// How long those who are to keep it may take.
const KEEP_LIMIT: Duration = Duration::from_secs(3);
const JOIN_LIMIT: Duration = Duration::from_secs(10);
/// Answers whose values are merged: 128 of at most 48 KiB, 6 MiB for as long as the search lasts.
const MOST_ANSWERS: usize = 128;
/// Values of one answer that may be nothing, by clocks that differ, before the rest of it is not looked at.
const FORGIVEN: usize = 4;

/// How many answered, or keep.
pub(crate) type Published = oneshot::Sender<Result<usize, DhtError>>;
pub(crate) type Found = oneshot::Sender<Result<Vec<Vec<u8>>, DhtError>>;

#[derive(Debug)]
pub(crate) enum Purpose {
    Join {
        done: Option<Published>,
    },
    Find {
        values: BTreeSet<Vec<u8>>,
        answers: usize,
        /// From here on it ends as soon as there is something.
        enough_at: Instant,
        done: Found,
    },
    Publish {
        value: Vec<u8>,
        done: Published,
    },
    /// The second half of publishing: who was asked to keep it, who answered, who does.
    Keep {
        asked: usize,
        answered: usize,
        kept: usize,
        done: Published,
    },
}

#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) lookup: Lookup,
    pub(crate) target: Target,
    pub(crate) purpose: Purpose,
    pub(crate) until: Instant,
}

impl Search {
    pub(crate) fn join(
        lookup: Lookup,
        target: Target,
        done: Option<Published>,
        now: Instant,
    ) -> Self {
        Self {
            lookup,
            target,
            purpose: Purpose::Join { done },
            until: now + JOIN_LIMIT,
        }
    }

    pub(crate) fn publish(
        lookup: Lookup,
        topic: Topic,
        value: Vec<u8>,
        done: Published,
        now: Instant,
    ) -> Self {
        Self {
            lookup,
            target: Target::Topic(topic),
            purpose: Purpose::Publish { value, done },
            until: now + PUBLISH_LIMIT,
        }
    }

    /// Ends when everybody useful was asked; from `enough` on with what there is, at `limit` in any case.
    pub(crate) fn find(
        lookup: Lookup,
        topic: Topic,
        (enough, limit): (Duration, Duration),
        done: Found,
        now: Instant,
    ) -> Self {
        Self {
            lookup,
            target: Target::Topic(topic),
            purpose: Purpose::Find {
                values: BTreeSet::new(),
                answers: 0,
                enough_at: now + enough,
                done,
            },
            until: now + limit,
        }
    }

    /// What those who are looked up are asked.
    pub(crate) fn question(&self) -> Question {
        match (self.target, &self.purpose) {
            (Target::Oneself, _) => Question::Around,
            (Target::Topic(topic), Purpose::Find { .. }) => Question::Find(topic),
            (Target::Topic(topic), _) => Question::Closer(topic),
        }
    }

    /// Takes what an answer holds, as far as it is what it should be.
    pub(crate) fn take(&mut self, found: Vec<Vec<u8>>, records: &dyn Records) {
        let (
            Purpose::Find {
                values, answers, ..
            },
            Target::Topic(topic),
        ) = (&mut self.purpose, self.target)
        else {
            return;
        };
        if *answers >= MOST_ANSWERS {
            return;
        }
        *answers += 1;
        let mut junk = 0;
        for value in found.into_iter().take(ANSWER_VALUES) {
            if values.contains(&value) {
                continue;
            }
            if records.admit(&topic, &value).is_some() {
                values.insert(value);
            } else {
                junk += 1;
            }
            if junk > FORGIVEN {
                tracing::debug!("a node's answer is junk");
                return;
            }
        }
    }

    /// Whether it has come to its end, or to the end of its first half.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        let enough = match &self.purpose {
            Purpose::Join { .. } => false,
            Purpose::Find {
                values, enough_at, ..
            } => !values.is_empty() && now >= *enough_at,
            Purpose::Publish { done, .. } => done.is_closed(),
            Purpose::Keep {
                asked, answered, ..
            } => return answered >= asked || now >= self.until,
        };
        enough || now >= self.until || self.lookup.is_done()
    }

    /// Begins the second half of publishing.
    pub(crate) fn keeping(lookup: Lookup, topic: Topic, done: Published, now: Instant) -> Self {
        let asked = lookup.closest().count();
        Self {
            lookup,
            target: Target::Topic(topic),
            purpose: Purpose::Keep {
                asked,
                answered: 0,
                kept: 0,
                done,
            },
            until: now + KEEP_LIMIT,
        }
    }

    /// One of those who were asked to keep a record does, or does not.
    pub(crate) fn told(&mut self, keeps: bool) {
        if let Purpose::Keep { answered, kept, .. } = &mut self.purpose {
            *answered += 1;
            *kept += usize::from(keeps);
        }
    }
}
