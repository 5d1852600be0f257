//! What hostile peers send: junk in every message, too much, too late, out of turn. Tests only.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use futures::{StreamExt, stream};
use proptest::prelude::*;
use prost::Message;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use wayfare_discovery::Query;
use wayfare_payment::{
    Agreement, Exchange, Invoice, IssueReply, SignedIssueRequest, SignedReceipt,
};
use wayfare_session::{
    ConsumerFrame, Hello, OpenRequest, ProviderFrame, TollReply, TollRequest, Welcome,
};

use crate::control::{NodeEvent, NodeStatus, SessionList};
use crate::hermes::{ConsumerState, Described, ProviderState};
use crate::proto::{control, discovery, hermes, link, payment, peer, relay};
use crate::relay::convert::Described as Tariff;
use crate::serve::Served;
use crate::{MAX_MESSAGE, Malformed, Refusal};

fn read<P: Message + Default, T: TryFrom<P, Error = Malformed>>(bytes: &[u8]) {
    if let Ok(message) = P::decode(bytes)
        && let Err(malformed) = T::try_from(message)
    {
        assert!(!malformed.field.is_empty() && !malformed.why.is_empty());
    }
}

fn read_everything(bytes: &[u8]) {
    read::<link::v1::Hello, Hello>(bytes);
    read::<link::v1::Welcome, Welcome>(bytes);
    read::<payment::v1::Agreement, Agreement>(bytes);
    read::<payment::v1::Exchange, Exchange>(bytes);
    read::<payment::v1::Invoice, Invoice>(bytes);
    read::<payment::v1::SignedReceipt, SignedReceipt>(bytes);
    read::<hermes::v1::DescribeReply, Described>(bytes);
    read::<hermes::v1::IssueRequest, SignedIssueRequest>(bytes);
    read::<hermes::v1::IssueReply, IssueReply>(bytes);
    read::<hermes::v1::ConsumerStateReply, ConsumerState>(bytes);
    read::<hermes::v1::ProviderStateReply, ProviderState>(bytes);
    read::<discovery::v1::QueryRequest, Query>(bytes);
    read::<peer::v1::OpenRequest, OpenRequest>(bytes);
    read::<peer::v1::ConsumerFrame, ConsumerFrame>(bytes);
    read::<peer::v1::ProviderFrame, ProviderFrame>(bytes);
    read::<relay::v1::Tariff, Tariff>(bytes);
    read::<relay::v1::OpenRequest, TollRequest>(bytes);
    read::<relay::v1::OpenReply, TollReply>(bytes);
    read::<control::v1::StatusReply, NodeStatus>(bytes);
    read::<control::v1::SessionsReply, SessionList>(bytes);
    read::<control::v1::Event, NodeEvent>(bytes);
    if let Ok(refusal) = link::v1::Refusal::decode(bytes) {
        assert!(Refusal::from_wire(&refusal).message.len() <= crate::limits::MAX_TEXT);
    }
}

/// Bytes that decode as often as possible: well-formed fields with numbers that exist and lengths that are nearly right.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        Just(0usize),
        Just(4),
        Just(16),
        Just(20),
        Just(32),
        Just(65),
        0usize..100
    ];
    let blob = (1u8..12, length, any::<u8>()).prop_map(|(field, length, byte)| {
        let mut bytes = vec![field << 3 | 2, u8::try_from(length).unwrap()];
        bytes.extend(std::iter::repeat_n(byte, length));
        bytes
    });
    let number = (1u8..12, 0u8..128).prop_map(|(field, number)| vec![field << 3, number]);
    let flat = proptest::collection::vec(prop_oneof![blob, number], 0..12)
        .prop_map(|fields| fields.concat());
    (flat.clone(), flat, 1u8..12).prop_map(|(outer, inner, field)| {
        let inner = &inner[..inner.len().min(127)];
        let mut bytes = vec![field << 3 | 2, u8::try_from(inner.len()).unwrap()];
        bytes.extend_from_slice(inner);
        bytes.extend_from_slice(&outer);
        bytes
    })
}

proptest! {
    #[test]
    fn junk_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_everything(&bytes);
    }

    #[test]
    fn plausible_junk_never_panics_and_names_the_field(bytes in plausible()) {
        read_everything(&bytes);
    }
}

#[test]
fn the_path_of_a_wrong_field_is_told() {
    let exchange = payment::v1::Exchange {
        promise: Some(payment::v1::SignedPromise::default()),
        ..Default::default()
    };
    let request = hermes::v1::IssueRequest {
        consumer: vec![0; 20],
        exchange: Some(exchange),
        provider_signature: vec![0; 65],
    };
    let malformed = SignedIssueRequest::try_from(request).unwrap_err();
    assert_eq!(malformed.field, "exchange.promise.channel");
    let status = Status::from(malformed);
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains("exchange.promise.channel"),
        "{status}"
    );
}

/// A Hermes of which only `describe` and `issue` do something.
#[derive(Debug)]
struct Slow;

impl crate::hermes::HermesService for Slow {
    async fn describe(&self) -> crate::hermes::HermesTerms {
        std::future::pending().await
    }

    async fn issue(&self, _: SignedIssueRequest) -> Result<IssueReply, Refusal> {
        Err(wayfare_payment::IssueRefusal::OverDeposit.into())
    }

    async fn reveal(
        &self,
        _: wayfare_payment::ChannelId,
        _: wayfare_payment::Hashlock,
        _: wayfare_payment::Preimage,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    async fn consumer_state(&self, _: wayfare_identity::Address) -> Result<ConsumerState, Refusal> {
        Err(Refusal::new(crate::RefusalCode::Unknown, "nobody"))
    }

    async fn provider_state(
        &self,
        _: wayfare_payment::ChannelId,
    ) -> Result<ProviderState, Refusal> {
        Err(Refusal::new(crate::RefusalCode::Unknown, "nobody"))
    }
}

type RawHermes = hermes::v1::hermes_client::HermesClient<tonic::transport::Channel>;

async fn raw_hermes() -> (RawHermes, tonic::transport::Channel) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(crate::hermes::serve(listener, Slow, std::future::pending()));
    let channel = tonic::transport::Endpoint::from_shared(url)
        .unwrap()
        .connect()
        .await
        .unwrap();
    (RawHermes::new(channel.clone()), channel)
}

fn pay(request: u64, kind: hermes::v1::payment_request::Kind) -> hermes::v1::PaymentRequest {
    hermes::v1::PaymentRequest {
        request,
        kind: Some(kind),
    }
}

#[tokio::test]
async fn a_message_above_the_bound_is_refused_by_the_server() {
    let (mut raw, _) = raw_hermes().await;
    let request = hermes::v1::ConsumerStateRequest {
        consumer: vec![0; MAX_MESSAGE + 1],
    };
    assert_eq!(
        raw.consumer_state(request).await.unwrap_err().code(),
        Code::OutOfRange
    );
    let request = hermes::v1::ConsumerStateRequest {
        consumer: vec![0; MAX_MESSAGE / 2],
    };
    assert_eq!(
        raw.consumer_state(request).await.unwrap_err().code(),
        Code::InvalidArgument,
        "the connection lives on"
    );
}

#[tokio::test]
async fn a_caller_without_a_hello_is_told_so() {
    let (mut raw, _) = raw_hermes().await;
    let status = raw
        .describe(hermes::v1::DescribeRequest { hello: None })
        .await
        .unwrap_err();
    assert!(status.message().contains("hello"), "{status}");
    let stream = stream::iter([pay(
        1,
        hermes::v1::payment_request::Kind::Reveal(Default::default()),
    )]);
    let status = raw.payments(stream).await.unwrap_err();
    assert!(status.message().contains("hello"), "{status}");
}

#[tokio::test]
async fn a_stream_of_payments_answers_each_request_by_its_number() {
    use hermes::v1::payment_reply::Kind as Reply;
    use hermes::v1::payment_request::Kind;

    let (mut raw, _) = raw_hermes().await;
    let words = |byte: u8| vec![byte; 32];
    let reveal = hermes::v1::RevealRequest {
        channel: words(1),
        hashlock: words(2),
        preimage: words(3),
    };
    let requests = stream::iter([
        pay(7, Kind::Hello((&Hello::ours()).into())),
        pay(8, Kind::Reveal(reveal)),
        pay(9, Kind::Issue(Default::default())),
        hermes::v1::PaymentRequest {
            request: 10,
            kind: None,
        },
        pay(11, Kind::Hello((&Hello::ours()).into())),
    ]);
    let replies = raw.payments(requests).await.unwrap().into_inner();
    let mut replies: Vec<_> = replies
        .map(|reply| reply.map(|r| (r.request, r.kind.unwrap())).unwrap())
        .collect()
        .await;
    replies.sort_by_key(|(request, _)| *request);
    assert_eq!(
        replies
            .iter()
            .map(|(request, _)| *request)
            .collect::<Vec<_>>(),
        [7, 8, 9, 10, 11]
    );
    assert!(matches!(replies[0].1, Reply::Welcome(_)));
    assert!(matches!(replies[1].1, Reply::Revealed(_)));
    for (request, reply) in &replies[2..] {
        let Reply::Refused(refusal) = reply else {
            panic!("{request}: {reply:?}")
        };
        assert_eq!(
            Refusal::from_wire(refusal).code,
            crate::RefusalCode::Malformed
        );
    }
}

#[tokio::test]
async fn health_and_reflection_answer() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_response::MessageResponse,
    };

    let (_, channel) = raw_hermes().await;
    let service = "wayfare.hermes.v1.Hermes".to_owned();
    let health = HealthClient::new(channel.clone())
        .check(HealthCheckRequest {
            service: service.clone(),
        })
        .await
        .unwrap();
    assert_eq!(
        health.into_inner().status(),
        tonic_health::pb::health_check_response::ServingStatus::Serving
    );

    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(service)),
    };
    let reply = ServerReflectionClient::new(channel)
        .server_reflection_info(stream::iter([request]))
        .await
        .unwrap();
    let reply = reply
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    assert!(
        matches!(reply, MessageResponse::FileDescriptorResponse(_)),
        "{reply:?}"
    );
}

/// Answers nothing but the deadline of the server itself.
#[derive(Debug)]
struct Silent;

#[tonic::async_trait]
impl discovery::v1::index_server::Index for Silent {
    async fn describe(
        &self,
        _: Request<discovery::v1::DescribeRequest>,
    ) -> Result<Response<discovery::v1::DescribeReply>, Status> {
        std::future::pending().await
    }

    async fn register(
        &self,
        _: Request<discovery::v1::RegisterRequest>,
    ) -> Result<Response<discovery::v1::RegisterReply>, Status> {
        Err(Status::internal("unused"))
    }

    async fn withdraw(
        &self,
        _: Request<discovery::v1::WithdrawRequest>,
    ) -> Result<Response<discovery::v1::WithdrawReply>, Status> {
        Err(Status::internal("unused"))
    }

    /// A lying index: more than was asked for.
    async fn query(
        &self,
        request: Request<discovery::v1::QueryRequest>,
    ) -> Result<Response<discovery::v1::QueryReply>, Status> {
        let proposals = vec![vec![1]; request.into_inner().limit as usize + 1];
        Ok(Response::new(discovery::v1::QueryReply {
            proposals,
            next_offset: 5,
        }))
    }
}

#[tokio::test]
async fn a_server_gives_up_a_call_that_takes_too_long_and_a_client_an_index_that_floods() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let name = discovery::v1::index_server::SERVICE_NAME;
    let mut served = Served::new(
        name,
        Routes::new(discovery::v1::index_server::IndexServer::new(Silent)),
    );
    served.deadline = Duration::from_millis(50);
    tokio::spawn(served.on_tcp(listener, std::future::pending()));
    let client = crate::discovery::IndexClient::connect(&url).unwrap();
    let error = client.describe().await.unwrap_err();
    assert!(
        matches!(error, crate::ApiError::Deadline { .. }),
        "{error:?}"
    );
    let error = client.query(&Query::any()).await.unwrap_err();
    assert!(
        matches!(error, crate::ApiError::Malformed { .. }),
        "{error:?}"
    );
}
