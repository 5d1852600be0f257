//! Session control, over a stream in memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use wayfare_api::peer::{ConsumerLine, PeerClient, PeerService, serve, serve_stream};
use wayfare_api::{ApiError, Refusal, RefusalCode};
use wayfare_identity::B256;
use wayfare_payment::{Amount, Hashlock, Invoice, Usage};
use wayfare_session as session;
use wayfare_session::{
    ConsumerFrame, GateState, OpenReply, OpenRequest, ProviderFrame, SessionToken,
};

use crate::nouns;

/// Consents to everything and hands its conversations out.
struct Double {
    opened: Mutex<Option<(Option<std::net::SocketAddr>, OpenRequest)>>,
    lines: mpsc::Sender<ConsumerLine>,
}

impl PeerService for Double {
    async fn open(
        &self,
        from: Option<std::net::SocketAddr>,
        request: OpenRequest,
    ) -> Result<OpenReply, Refusal> {
        request.verify().map_err(Refusal::from)?;
        *self.opened.lock().await = Some((from, request));
        Ok(nouns::open_reply())
    }

    async fn converse(&self, line: ConsumerLine) -> Result<(), Refusal> {
        if line.token != nouns::open_reply().token {
            return Err(Refusal::new(
                RefusalCode::Unknown,
                "no such session: open one",
            ));
        }
        self.lines
            .send(line)
            .await
            .map_err(|_| Refusal::new(RefusalCode::Draining, "going"))
    }
}

fn provider() -> (Arc<Double>, mpsc::Receiver<ConsumerLine>, PeerClient) {
    let (lines, conversations) = mpsc::channel(4);
    let service = Arc::new(Double {
        opened: Mutex::default(),
        lines,
    });
    let (near, far) = tokio::io::duplex(4_096);
    tokio::spawn(serve_stream(
        far,
        Some("192.0.2.7:51".parse().unwrap()),
        Arc::clone(&service),
        std::future::pending(),
    ));
    (
        service,
        conversations,
        PeerClient::over(near, "the provider"),
    )
}

#[tokio::test]
async fn a_session_is_opened_and_every_frame_arrives_as_it_was_sent() {
    let (service, mut conversations, client) = provider();
    let request = nouns::open_request();
    let reply = client.open(&request).await.unwrap();
    assert_eq!(reply, nouns::open_reply());
    reply.verify(&request).unwrap();
    let opened = service.opened.lock().await.take().unwrap();
    assert_eq!(opened, (Some("192.0.2.7:51".parse().unwrap()), request));

    let mut consumer = client.converse(reply.token).await.unwrap();
    let mut provider = conversations.recv().await.unwrap();
    let usage = Usage {
        up: 1,
        down: u64::MAX,
        time: Duration::from_millis(1_234),
    };
    let said = [
        ConsumerFrame::Payment(nouns::exchange(3)),
        ConsumerFrame::Usage(usage),
        ConsumerFrame::KeepAlive,
        ConsumerFrame::Close,
    ];
    for frame in said {
        consumer.replies.send(frame.clone()).await.unwrap();
        assert_eq!(provider.frames.next().await.unwrap().unwrap(), frame);
    }
    let agreement = nouns::agreement().id;
    let invoice = Invoice {
        agreement,
        total: Amount::MAX,
        hashlock: Hashlock(B256::repeat_byte(8)),
    };
    let said = [
        ProviderFrame::Invoice(invoice),
        ProviderFrame::Paid(Amount::from_units(5)),
        ProviderFrame::Usage(usage),
        ProviderFrame::Gate(GateState::Open),
        ProviderFrame::Gate(GateState::Closed("pay first".into())),
        ProviderFrame::Draining { seconds: 30 },
        ProviderFrame::KeepAlive,
        ProviderFrame::Closed(session::Refusal::new(
            session::RefusalCode::Unpaid,
            "you did not pay",
        )),
    ];
    for frame in said {
        provider.replies.send(frame.clone()).await.unwrap();
        assert_eq!(consumer.frames.next().await.unwrap().unwrap(), frame);
    }
    drop(provider);
    assert!(consumer.frames.next().await.is_none());
    consumer.replies.closed().await;
}

#[tokio::test]
async fn a_conversation_ends_for_the_provider_when_the_consumer_goes() {
    let (_service, mut conversations, client) = provider();
    let consumer = client.converse(nouns::open_reply().token).await.unwrap();
    let mut provider = conversations.recv().await.unwrap();
    drop((consumer, client));
    assert!(!matches!(provider.frames.next().await, Some(Ok(_))));
    provider.replies.closed().await;
}

#[tokio::test]
async fn an_unknown_session_is_refused() {
    let (_service, _conversations, client) = provider();
    let error = client.converse(SessionToken([0; 32])).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, RefusalCode::Unknown);
}

#[tokio::test]
async fn a_session_is_named_only_once() {
    let (_service, mut conversations, client) = provider();
    let consumer = client.converse(nouns::open_reply().token).await.unwrap();
    let mut provider = conversations.recv().await.unwrap();
    consumer
        .replies
        .send(ConsumerFrame::Attach(SessionToken([1; 32])))
        .await
        .unwrap();
    consumer
        .replies
        .send(ConsumerFrame::KeepAlive)
        .await
        .unwrap();
    let error = provider.frames.next().await.unwrap().unwrap_err();
    assert!(matches!(error, ApiError::Malformed { .. }), "{error:?}");
    assert!(
        provider.frames.next().await.is_none(),
        "nothing follows an error"
    );
}

#[tokio::test]
async fn a_forged_request_and_a_foreign_version_are_refused() {
    let (_service, _conversations, client) = provider();
    let mut forged = nouns::open_request();
    forged.agreement.chunk = Amount::ZERO;
    let error = client.open(&forged).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, RefusalCode::Signature);

    let foreign = OpenRequest {
        hello: nouns::foreign_hello(),
        ..nouns::open_request()
    };
    let error = client.open(&foreign).await.unwrap_err();
    assert!(
        matches!(
            error,
            ApiError::Incompatible {
                ours: (7, 9),
                theirs: (1, 1),
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_broken_stream_is_named_and_not_opened_again() {
    let (near, far) = tokio::io::duplex(64);
    drop(far);
    let client = PeerClient::over(near, "192.0.2.1:9");
    for _ in 0..2 {
        let error = client.open(&nouns::open_request()).await.unwrap_err();
        assert!(
            matches!(&error, ApiError::Unreachable { address, .. } if address == "192.0.2.1:9"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn many_streams_are_served_until_the_end() {
    let (lines, _conversations) = mpsc::channel(4);
    let service = Double {
        opened: Mutex::default(),
        lines,
    };
    let (streams, incoming) = mpsc::channel(4);
    let (stop, stopped) = oneshot::channel::<()>();
    let incoming = tokio_stream::wrappers::ReceiverStream::new(incoming);
    let serving = tokio::spawn(serve(incoming, service, async {
        let _ = stopped.await;
    }));
    let mut clients = Vec::new();
    for port in 1..=3 {
        let (near, far) = tokio::io::duplex(4_096);
        streams
            .send((far, std::net::SocketAddr::from(([192, 0, 2, 1], port))))
            .await
            .unwrap();
        clients.push(PeerClient::over(near, "the provider"));
    }
    for client in &clients {
        assert_eq!(
            client.open(&nouns::open_request()).await.unwrap(),
            nouns::open_reply()
        );
    }
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
    clients[0].open(&nouns::open_request()).await.unwrap_err();
}
