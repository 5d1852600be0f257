//! What is said to a relay: the question for its price, the terms, and the conversation of an agreement, taken up again when the
//! connection broke. It refuses to interpret frames.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use wayfare_api::peer::ProviderLine;
use wayfare_api::relay::RelayClient;
use wayfare_api::{ApiError, RefusalCode};
use wayfare_identity::{NodeId, Signer};
use wayfare_payment::{Agreement, Amount, GIB, SignedAgreement};
use wayfare_session::{ConsumerFrame, Hello, ProviderFrame, SessionToken, Tariff, TollRequest};
use wayfare_transport::{BiStream, QuicEndpoint};

use crate::chance;
use crate::consumer::agreement_id;
use crate::consumer::payer::{PayerAnswer, PayerLink};
use crate::reach::RelayInUse;

/// The relay answers on the same path as its swarm, within round trips.
const DIAL: Duration = Duration::from_secs(5);
/// A broken conversation is taken up again this often while its agreement lives.
const REATTACH: Duration = Duration::from_secs(1);
/// What an endpoint closes connections with that nobody serves.
const NOT_SERVED: u32 = 1;
/// The first chunk: 16 MiB at the relay's price. At 200 Mb/s half of it is 335 ms, in which a payment fits.
const CHUNK_BYTES: u64 = 16 << 20;
/// The most credit, in first chunks: 256 MiB.
const CHUNK_GROWTH: u128 = 16;

/// A relay that said what it asks for.
pub(super) struct Asked {
    pub(super) connection: quinn::Connection,
    pub(super) client: RelayClient,
    pub(super) tariff: Tariff,
}

/// Asks a relay for its price; `None`: it has none, and serves no such connections.
pub(super) async fn ask(
    endpoint: &QuicEndpoint,
    relay: &RelayInUse,
) -> Result<Option<Asked>, String> {
    let dialed = endpoint.dial_within(relay.at, relay.node.0, DIAL).await;
    let connection = dialed.map_err(|error| error.to_string())?;
    let described = async {
        let client = client(&connection).await?;
        let tariff = client.describe().await.map_err(|error| error.to_string())?;
        Ok((client, tariff))
    };
    match described.await {
        Ok((client, tariff)) => Ok(Some(Asked {
            connection,
            client,
            tariff,
        })),
        Err(error) => match connection.close_reason() {
            Some(quinn::ConnectionError::ApplicationClosed(close))
                if close.error_code == quinn::VarInt::from_u32(NOT_SERVED) =>
            {
                Ok(None)
            }
            _ => Err(error),
        },
    }
}

async fn client(connection: &quinn::Connection) -> Result<RelayClient, String> {
    let stream = BiStream::open(connection).await;
    let stream = stream.map_err(|error| error.to_string())?;
    Ok(RelayClient::over(stream, "the relay"))
}

/// Who pays, and out of whose budget.
pub(super) struct Wallet {
    /// The session's own agreement.
    pub(super) exit: Agreement,
    pub(super) signer: Arc<dyn Signer>,
    pub(super) payer: PayerLink,
}

/// Terms that a relay has signed.
pub(super) struct Opened {
    pub(super) terms: SignedAgreement,
    pub(super) token: SessionToken,
    pub(super) payments: mpsc::Receiver<PayerAnswer>,
}

impl Wallet {
    /// Makes an agreement, or says in words why there is none.
    pub(super) async fn open(
        &self,
        client: &RelayClient,
        tariff: &Tariff,
    ) -> Result<Opened, String> {
        let exit = &self.exit;
        let theirs = (tariff.chain_id, tariff.vault, tariff.hermes);
        if theirs != (exit.chain_id, exit.vault, exit.hermes) {
            return Err(format!(
                "the relay is paid through the Hermes {} on chain {}, we pay through {} on {}",
                tariff.hermes, tariff.chain_id, exit.hermes, exit.chain_id
            ));
        }
        let usual = tariff
            .per_gib
            .mul_div_down(CHUNK_BYTES.into(), GIB.into())
            .max(Amount::from_units(1));
        let chunk = usual.min(tariff.chunk_most);
        let id = chance::bytes().map_err(|error| error.to_string())?;
        let agreement = Agreement {
            id: agreement_id(id),
            provider: tariff.operator,
            price: tariff.price(),
            chunk,
            chunk_limit: usual.mul_div_down(CHUNK_GROWTH, 1).max(chunk),
            ..*exit
        };
        let signed = self.signer.sign_digest(agreement.digest());
        let request = TollRequest {
            hello: Hello::ours(),
            agreement,
            consumer_signature: signed.map_err(|error| error.to_string())?,
        };
        let reply = client.open(&request).await;
        let reply = reply.map_err(|error| error.to_string())?;
        let terms = reply.verify(&request).map_err(|refusal| refusal.message)?;
        let payments = self.payer.open_beside(terms, exit.id).await;
        let payments = payments.map_err(|refusal| match refusal {
            Some(refusal) => refusal.to_string(),
            None => "payments have stopped; see the log".to_owned(),
        })?;
        Ok(Opened {
            terms,
            token: reply.token,
            payments,
        })
    }
}

/// Attached anew; or whether the relay says that there is no such agreement.
type Attaching = BoxFuture<'static, Result<(quinn::Connection, RelayClient, ProviderLine), bool>>;

/// The conversation of one agreement.
pub(super) struct TollLine {
    endpoint: QuicEndpoint,
    relay: RelayInUse,
    token: SessionToken,
    connection: quinn::Connection,
    client: RelayClient,
    line: Option<ProviderLine>,
    attaching: Option<Attaching>,
    /// Before the next try.
    pause: Duration,
}

impl TollLine {
    pub(super) fn new(
        endpoint: QuicEndpoint,
        relay: RelayInUse,
        token: SessionToken,
        connection: quinn::Connection,
        client: RelayClient,
    ) -> Self {
        Self {
            endpoint,
            relay,
            token,
            connection,
            client,
            line: None,
            attaching: None,
            pause: Duration::ZERO,
        }
    }

    pub(super) fn relay(&self) -> NodeId {
        self.relay.node
    }

    /// Where the relay is reached from now on, if it is the same.
    pub(super) fn follow(&mut self, relay: &RelayInUse) {
        if relay.node == self.relay.node {
            self.relay.at = relay.at;
        }
    }

    /// Says something, if the relay listens: what is lost is asked for again by both machines.
    pub(super) fn send(&mut self, frame: ConsumerFrame) {
        let listening = self.line.as_ref();
        if listening.is_none_or(|line| line.replies.try_send(frame).is_err()) {
            tracing::debug!("the relay's stream does not take a frame");
        }
    }

    /// The relay's next frame; `None` when it knows no such agreement. Waits while the line is broken. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<ProviderFrame> {
        loop {
            if let Some(open) = &mut self.line {
                match open.frames.next().await {
                    Some(Ok(frame)) => return Some(frame),
                    Some(Err(error)) => tracing::debug!(%error, "the relay's stream broke"),
                    None => tracing::debug!("the relay's stream ended"),
                }
                self.line = None;
                continue;
            }
            if self.attaching.is_none() {
                self.attaching = Some(self.attach());
            }
            let Some(attaching) = &mut self.attaching else {
                continue;
            };
            let attached = attaching.await;
            self.attaching = None;
            self.pause = REATTACH;
            match attached {
                Ok((connection, client, line)) => {
                    (self.connection, self.client) = (connection, client);
                    self.line = Some(line);
                }
                Err(true) => return None,
                Err(false) => {}
            }
        }
    }

    /// On the connection that there is, else on a new one.
    fn attach(&self) -> Attaching {
        let (endpoint, relay, token) = (self.endpoint.clone(), self.relay.clone(), self.token);
        let (connection, old) = (self.connection.clone(), self.client.clone());
        let (pause, first) = (self.pause, self.pause.is_zero());
        async move {
            tokio::time::sleep(pause).await;
            if first && let Ok(line) = old.converse(token).await {
                return Ok((connection, old, line));
            }
            let connection = match connection.close_reason() {
                None => connection,
                Some(_) => endpoint
                    .dial_within(relay.at, relay.node.0, DIAL)
                    .await
                    .map_err(|_| false)?,
            };
            let client = client(&connection).await.map_err(|_| false)?;
            let line = client.converse(token).await;
            let line = line.map_err(|error| is_unknown(&error))?;
            Ok((connection, client, line))
        }
        .boxed()
    }
}

impl Drop for TollLine {
    fn drop(&mut self) {
        self.connection.close(quinn::VarInt::from_u32(0), b"done");
    }
}

fn is_unknown(error: &ApiError) -> bool {
    let refusal = error.refusal();
    refusal.is_some_and(|refusal| refusal.code == RefusalCode::Unknown)
}
