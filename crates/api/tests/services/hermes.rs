//! The Hermes service.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use wayfare_api::hermes::{
    ConsumerState, HermesClient, HermesService, HermesTerms, ProviderState, serve,
};
use wayfare_api::{ApiError, Refusal, RefusalCode, ServeError};
use wayfare_identity::{Address, B256, Signer};
use wayfare_payment::{
    Amount, ChannelId, Hashlock, IssueFailure, IssueRefusal, IssueReply, Preimage,
    SignedIssueRequest,
};

use crate::nouns;

/// Promises anything up to 100 units; 99 never gets an answer.
struct Double;

const STUCK: u128 = 99;
const LIMIT: u128 = 100;

impl HermesService for Double {
    async fn describe(&self) -> HermesTerms {
        terms()
    }

    async fn issue(&self, signed: SignedIssueRequest) -> Result<IssueReply, Refusal> {
        let request = signed.request;
        if request.exchange.agreement_total > Amount::from_units(LIMIT) {
            return Err(IssueRefusal::OverDeposit.into());
        }
        if request.exchange.agreement_total == Amount::from_units(STUCK) {
            pending::<()>().await;
        }
        Ok(nouns::issue_reply(&signed))
    }

    async fn reveal(
        &self,
        _: ChannelId,
        hashlock: Hashlock,
        preimage: Preimage,
    ) -> Result<(), Refusal> {
        if preimage.hashlock() == hashlock {
            Ok(())
        } else {
            Err(IssueRefusal::WrongPreimage.into())
        }
    }

    async fn consumer_state(&self, consumer: Address) -> Result<ConsumerState, Refusal> {
        let state = consumer_state();
        if consumer == nouns::consumer().address() {
            Ok(state)
        } else {
            Err(Refusal::new(RefusalCode::Unknown, "who?"))
        }
    }

    async fn provider_state(&self, channel: ChannelId) -> Result<ProviderState, Refusal> {
        Ok(provider_state(channel))
    }
}

fn terms() -> HermesTerms {
    HermesTerms {
        hermes: nouns::hermes(),
        operator: nouns::operator().address(),
        chain_id: u64::MAX,
        vault: Address::repeat_byte(9),
        fee_basis_points: 250,
        draining: true,
    }
}

fn consumer_state() -> ConsumerState {
    ConsumerState {
        channel: ChannelId(B256::repeat_byte(3)),
        promised: Amount::from_units(3),
        deposit: Amount::MAX,
        exit_at: Some(12),
    }
}

fn provider_state(channel: ChannelId) -> ProviderState {
    let last = Some(nouns::promise(&nouns::operator(), channel, 9));
    ProviderState {
        promised: Amount::from_units(9),
        last,
    }
}

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    async fn at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(listener, Double, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            stop,
            serving,
        }
    }

    fn client(&self) -> HermesClient {
        HermesClient::connect(&format!("http://{}", self.address)).unwrap()
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn everything_arrives_as_it_was_sent() {
    let server = Server::at("127.0.0.1:0").await;
    let client = server.client();
    let described = client.describe().await.unwrap();
    assert_eq!((described.terms, described.welcome.protocol), (terms(), 1));

    let request = nouns::issue_request(17);
    let issued = client.issue(&request).await.unwrap();
    assert_eq!(issued, nouns::issue_reply(&request));
    issued.promise.verify(nouns::operator().address()).unwrap();

    let preimage = Preimage(B256::repeat_byte(1));
    let channel = ChannelId(B256::repeat_byte(2));
    client
        .reveal(channel, preimage.hashlock(), preimage)
        .await
        .unwrap();
    assert_eq!(
        client
            .consumer_state(request.request.consumer)
            .await
            .unwrap(),
        consumer_state()
    );
    assert_eq!(
        client.provider_state(channel).await.unwrap(),
        provider_state(channel)
    );
    server.end().await;
}

#[tokio::test]
async fn a_refusal_arrives_with_its_code_and_the_machines_own_word() {
    let server = Server::at("127.0.0.1:0").await;
    let error = server
        .client()
        .issue(&nouns::issue_request(LIMIT + 1))
        .await
        .unwrap_err();
    assert_eq!(error.refusal().unwrap().code, RefusalCode::Unfunded);
    assert_eq!(
        error.issue_failure(),
        IssueFailure::Refused(IssueRefusal::OverDeposit)
    );
    assert!(
        error.to_string().contains("top up"),
        "names the next step: {error}"
    );

    let wrong = (Hashlock(B256::ZERO), Preimage(B256::ZERO));
    let error = server
        .client()
        .reveal(ChannelId(B256::ZERO), wrong.0, wrong.1)
        .await
        .unwrap_err();
    assert_eq!(
        error.issue_failure(),
        IssueFailure::Refused(IssueRefusal::WrongPreimage)
    );
    let error = server
        .client()
        .consumer_state(Address::ZERO)
        .await
        .unwrap_err();
    assert_eq!(error.refusal().unwrap().code, RefusalCode::Unknown);
    server.end().await;
}

#[tokio::test]
async fn no_common_version_names_both_ranges() {
    let server = Server::at("127.0.0.1:0").await;
    let error = server
        .client()
        .with_hello(nouns::foreign_hello())
        .describe()
        .await
        .unwrap_err();
    let address = format!("http://{}", server.address);
    assert_eq!(
        error,
        ApiError::Incompatible {
            address,
            ours: (7, 9),
            theirs: (1, 1)
        }
    );
    server.end().await;
}

#[tokio::test]
async fn a_dead_server_is_named_and_found_again_when_it_is_back() {
    let server = Server::at("127.0.0.1:0").await;
    let (client, address) = (server.client(), server.address);
    client.describe().await.unwrap();
    server.end().await;

    let error = client.describe().await.unwrap_err();
    assert!(
        matches!(&error, ApiError::Unreachable { address: named, .. } if named.contains(&address.to_string())),
        "{error:?}"
    );
    assert_eq!(error.issue_failure(), IssueFailure::Unreachable);
    assert!(error.is_transient());

    let server = Server::at(&address.to_string()).await;
    client.describe().await.unwrap();
    server.end().await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    let server = Server::at("127.0.0.1:0").await;
    let client = server.client().with_deadline(Duration::from_millis(100));
    let error = client
        .issue(&nouns::issue_request(STUCK))
        .await
        .unwrap_err();
    assert!(matches!(error, ApiError::Deadline { .. }), "{error:?}");
    server.end().await;
}

#[tokio::test]
async fn something_else_than_a_hermes_is_recognised() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client =
        HermesClient::connect(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let answering = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut connection, b"220 mail.example ESMTP\r\n")
            .await
            .unwrap();
    });
    let error = client.describe().await.unwrap_err();
    assert!(
        matches!(
            error,
            ApiError::Unreachable { .. } | ApiError::Malformed { .. }
        ),
        "{error:?}"
    );
    answering.await.unwrap();
}

#[tokio::test]
async fn addresses_that_are_none_are_refused_before_anything_is_sent() {
    for address in [
        "",
        "localhost:1",
        "https://hermes.example",
        "http://",
        "http:///",
        "http://a b",
        "ftp://x",
    ] {
        let error = HermesClient::connect(address).unwrap_err();
        assert!(
            matches!(error, ApiError::BadAddress { .. }),
            "{address:?}: {error:?}"
        );
    }
}

#[tokio::test]
async fn open_calls_do_not_keep_a_server_from_ending() {
    let server = Server::at("127.0.0.1:0").await;
    let client = server.client();
    client.describe().await.unwrap();
    let request = nouns::issue_request(STUCK);
    let stuck = tokio::spawn(async move { client.issue(&request).await });
    // The describe of a second client shows that the server has had the time to see the first one's call.
    server.client().describe().await.unwrap();
    tokio::time::timeout(wayfare_api::DRAIN_GRACE * 2, server.end())
        .await
        .unwrap();
    stuck.await.unwrap().unwrap_err();
}

/// A way to the server on which the first connection falls silent when `dead` says so, as if its address had gone; later ones are
/// carried.
async fn way_that_dies(server: SocketAddr, dead: watch::Receiver<bool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut mortal = true;
        while let Ok((mut near, _)) = listener.accept().await {
            let mut dead = dead.clone();
            let dies = std::mem::replace(&mut mortal, false);
            tokio::spawn(async move {
                let mut far = TcpStream::connect(server).await.unwrap();
                let carried = tokio::io::copy_bidirectional(&mut near, &mut far);
                let dying = async { drop(dead.wait_for(|dead| *dead).await) };
                let died = tokio::select! {
                    _ = carried => false,
                    () = dying, if dies => true,
                };
                if died {
                    pending::<()>().await;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_connection_that_died_silently_is_given_up_while_an_answer_is_owed() {
    let server = Server::at("127.0.0.1:0").await;
    let (die, dead) = watch::channel(false);
    let way = way_that_dies(server.address, dead).await;
    let client = HermesClient::connect(&format!("http://{way}")).unwrap();
    client.describe().await.unwrap();
    die.send_replace(true);
    let began = tokio::time::Instant::now();
    assert!(client.describe().await.is_err());
    let noticed = began.elapsed();
    assert!(noticed < Duration::from_secs(6), "{noticed:?}");
    client.describe().await.unwrap();
    server.end().await;
}
