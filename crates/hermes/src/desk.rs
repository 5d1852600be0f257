//! Where requests from the network arrive: deposits are looked up, the machine is asked, answers go back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use wayfare_api::hermes::{ConsumerState, HermesService, HermesTerms, ProviderState};
use wayfare_api::{Refusal, RefusalCode};
use wayfare_identity::Address;
use wayfare_payment::{
    Amount, ChainError, ChannelId, ConsumerAccount, Hashlock, IssueRefusal, IssueReply,
    IssueRequest, Preimage, SignedIssueRequest,
};

use crate::accounts::Accounts;
use crate::driver::Command;

/// The network's side of the house.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) terms: HermesTerms,
    pub(crate) draining: Arc<AtomicBool>,
}

/// Asks the machine. `None` when it has stopped.
pub(crate) async fn ask<T>(
    commands: &mpsc::Sender<Command>,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    commands.send(command(answer)).await.ok()?;
    answered.await.ok()
}

impl Desk {
    async fn decide(
        &self,
        request: &IssueRequest,
        account: ConsumerAccount,
    ) -> Result<Result<IssueReply, IssueRefusal>, Refusal> {
        let channel = self.accounts.channel(request.consumer);
        let request = Box::new(*request);
        let command = |answer| Command::Issue {
            request,
            channel,
            account,
            answer,
        };
        ask(&self.commands, command).await.ok_or_else(stopped)
    }
}

impl HermesService for Desk {
    async fn describe(&self) -> HermesTerms {
        HermesTerms {
            draining: self.draining.load(Ordering::Relaxed),
            ..self.terms
        }
    }

    async fn issue(&self, signed: SignedIssueRequest) -> Result<IssueReply, Refusal> {
        // Before any state is looked up: nobody but the provider may move the provider's channel.
        if signed.verify(self.terms.vault).is_err() {
            return Err(Refusal::new(
                RefusalCode::Signature,
                "the request is not signed by the provider that the payment names",
            ));
        }
        let request = signed.request;
        let asked = Instant::now();
        let seen = self
            .accounts
            .recent(request.consumer)
            .await
            .map_err(unseen)?;
        let decision = self.decide(&request, seen.account).await?;
        let poor = matches!(
            decision,
            Err(IssueRefusal::OverDeposit | IssueRefusal::ExitPending)
        );
        if poor && seen.at < asked {
            // It may have topped up, or taken its exit back, since we last looked.
            let seen = self
                .accounts
                .since(request.consumer, asked)
                .await
                .map_err(unseen)?;
            return self.decide(&request, seen.account).await?.map_err(refused);
        }
        decision.map_err(refused)
    }

    async fn reveal(
        &self,
        channel: ChannelId,
        hashlock: Hashlock,
        preimage: Preimage,
    ) -> Result<(), Refusal> {
        if preimage.hashlock() != hashlock {
            return Err(refused(IssueRefusal::WrongPreimage));
        }
        let command = |answer| Command::Reveal {
            channel,
            preimage,
            answer,
        };
        ask(&self.commands, command)
            .await
            .ok_or_else(stopped)?
            .map_err(refused)
    }

    async fn consumer_state(&self, consumer: Address) -> Result<ConsumerState, Refusal> {
        let command = |answer| Command::Consumer { consumer, answer };
        let view = ask(&self.commands, command).await.ok_or_else(stopped)?;
        let account = self
            .accounts
            .recent(consumer)
            .await
            .map_err(unseen)?
            .account;
        Ok(ConsumerState {
            channel: self.accounts.channel(consumer),
            promised: view.map_or(Amount::ZERO, |view| view.accepted),
            deposit: account.balance.saturating_add(account.collected),
            exit_at: account.exit_at,
        })
    }

    async fn provider_state(&self, channel: ChannelId) -> Result<ProviderState, Refusal> {
        let command = |answer| Command::Provider { channel, answer };
        let last = ask(&self.commands, command)
            .await
            .ok_or_else(stopped)?
            .map(|reply| reply.promise);
        Ok(ProviderState {
            promised: last.map_or(Amount::ZERO, |last| last.promise.amount),
            last,
        })
    }
}

fn refused(why: IssueRefusal) -> Refusal {
    tracing::debug!(%why, "a request was refused");
    why.into()
}

fn unseen(cause: ChainError) -> Refusal {
    tracing::warn!(%cause, "a deposit could not be looked up");
    Refusal::new(
        RefusalCode::Chain,
        "the consumer's deposit cannot be looked up on the chain now: try again later",
    )
}

fn stopped() -> Refusal {
    Refusal::new(
        RefusalCode::Draining,
        "this Hermes is stopping: try again later, or use another",
    )
}
