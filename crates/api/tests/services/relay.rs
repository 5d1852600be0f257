//! Paying a relay, over a stream in memory.

use std::sync::Arc;

use tokio::sync::mpsc;
use wayfare_api::peer::ConsumerLine;
use wayfare_api::relay::{RelayClient, RelayService, serve_stream};
use wayfare_api::{ApiError, Refusal, RefusalCode};
use wayfare_identity::{Address, Signer as _};
use wayfare_payment::{Amount, Usage};
use wayfare_session::{
    ConsumerFrame, Hello, ProviderFrame, SessionToken, Tariff, TollReply, TollRequest, Welcome,
};

use crate::nouns;

const TOKEN: SessionToken = SessionToken([9; 32]);

struct Double {
    lines: mpsc::Sender<ConsumerLine>,
}

fn tariff() -> Tariff {
    let agreement = nouns::agreement();
    Tariff {
        operator: agreement.provider,
        hermes: agreement.hermes,
        chain_id: agreement.chain_id,
        vault: agreement.vault,
        per_gib: Amount::MAX,
        chunk_most: Amount::from_units(3),
        free_bytes: u64::MAX,
    }
}

fn request() -> TollRequest {
    let agreement = nouns::agreement();
    TollRequest {
        hello: Hello::ours(),
        agreement,
        consumer_signature: nouns::consumer().sign_digest(agreement.digest()).unwrap(),
    }
}

impl RelayService for Double {
    async fn describe(&self) -> Result<Tariff, Refusal> {
        Ok(tariff())
    }

    async fn open(&self, asked: TollRequest) -> Result<TollReply, Refusal> {
        asked.verify().map_err(Refusal::from)?;
        assert_eq!(asked, request());
        let digest = asked.agreement.digest();
        Ok(TollReply {
            welcome: Welcome {
                protocol: asked.hello.protocol_max,
                capabilities: asked.hello.capabilities,
                software: asked.hello.software,
            },
            provider_signature: nouns::provider().sign_digest(digest).unwrap(),
            token: TOKEN,
        })
    }

    async fn converse(&self, line: ConsumerLine) -> Result<(), Refusal> {
        if line.token != TOKEN {
            let why = "no such agreement: make one";
            return Err(Refusal::new(RefusalCode::Unknown, why));
        }
        self.lines
            .send(line)
            .await
            .map_err(|_| Refusal::new(RefusalCode::Draining, "going"))
    }
}

fn relay() -> (mpsc::Receiver<ConsumerLine>, RelayClient) {
    let (lines, conversations) = mpsc::channel(4);
    let (near, far) = tokio::io::duplex(4_096);
    let service = Arc::new(Double { lines });
    tokio::spawn(serve_stream(far, None, service, std::future::pending()));
    (conversations, RelayClient::over(near, "the relay"))
}

#[tokio::test]
async fn a_tariff_terms_and_frames_arrive_as_they_were_sent() {
    let (mut conversations, client) = relay();
    assert_eq!(client.describe().await.unwrap(), tariff());
    let request = request();
    let reply = client.open(&request).await.unwrap();
    reply.verify(&request).unwrap();
    let mut consumer = client.converse(reply.token).await.unwrap();
    let mut relay = conversations.recv().await.unwrap();
    let paid = ConsumerFrame::Payment(nouns::exchange(3));
    consumer.replies.send(paid.clone()).await.unwrap();
    assert_eq!(relay.frames.next().await.unwrap().unwrap(), paid);
    let usage = ProviderFrame::Usage(Usage::default());
    relay.replies.send(usage.clone()).await.unwrap();
    assert_eq!(consumer.frames.next().await.unwrap().unwrap(), usage);
    drop(relay);
    assert!(consumer.frames.next().await.is_none());
}

#[tokio::test]
async fn forged_terms_and_unknown_agreements_are_refused_and_consent_is_checked() {
    let (_conversations, client) = relay();
    let mut forged = request();
    forged.agreement.hermes = Address::ZERO;
    let error = client.open(&forged).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, RefusalCode::Signature);
    let error = client.converse(SessionToken([1; 32])).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, RefusalCode::Unknown);
    let mut reply = client.open(&request()).await.unwrap();
    let digest = nouns::agreement().digest();
    reply.provider_signature = nouns::operator().sign_digest(digest).unwrap();
    reply.verify(&request()).unwrap_err();
    let foreign = TollRequest {
        hello: nouns::foreign_hello(),
        ..request()
    };
    let error = client.open(&foreign).await.unwrap_err();
    assert!(matches!(error, ApiError::Incompatible { .. }), "{error:?}");
}
