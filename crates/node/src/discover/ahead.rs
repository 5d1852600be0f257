//! A question to the sources of proposals, asked before anybody waits for its answer. It refuses to give an answer that is old.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use wayfare_discovery::{Proposal, Query};
use wayfare_transport::Clock;

use crate::NodeError;

/// So long its answer may be taken: a slow chain's check and some air. Proposals live for minutes.
const FRESH: Duration = Duration::from_secs(20);

type Answer = Result<Vec<Proposal>, NodeError>;

/// It is not asked any further once this value is dropped.
#[derive(Debug)]
pub(super) struct Asked {
    query: Query,
    at: Instant,
    answer: JoinHandle<Answer>,
}

impl Asked {
    pub(super) fn begin(
        query: Query,
        asking: impl Future<Output = Answer> + Send + 'static,
    ) -> Self {
        Self {
            query,
            at: Clock::now(),
            answer: tokio::spawn(asking),
        }
    }

    pub(super) fn is_for(&self, query: &Query) -> bool {
        self.query == *query && Clock::now().saturating_duration_since(self.at) < FRESH
    }

    pub(super) async fn answer(mut self) -> Answer {
        match (&mut self.answer).await {
            Ok(answer) => answer,
            Err(error) => Err(NodeError::NoSource(error.to_string())),
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_for_its_own_question() {
        let none = || async { Ok(Vec::new()) };
        let asked = Asked::begin(Query::any(), none());
        assert!(asked.is_for(&Query::any()));
        assert!(!asked.is_for(&Query::any().provider(wayfare_identity::Address([7; 20].into()))));
        assert!(asked.answer().await.is_ok_and(|found| found.is_empty()));
    }

    #[tokio::test]
    async fn nobody_is_asked_for_an_answer_that_nobody_takes() {
        let (held, mut dropped) = tokio::sync::oneshot::channel::<()>();
        let asked = Asked::begin(Query::any(), async move {
            let _held = held;
            std::future::pending().await
        });
        drop(asked);
        assert!((&mut dropped).await.is_err());
    }
}
