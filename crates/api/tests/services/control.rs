//! The control socket.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use wayfare_api::control::{
    ControlClient, ControlService, Earning, NodeEvent, NodeStatus, PathView, Role, SessionList,
    SessionState, SessionView, SettlementView, serve_unix,
};
use wayfare_api::{ApiError, Refusal, RefusalCode, ServeError};
use wayfare_identity::{Address, B256};
use wayfare_payment::{Amount, Usage};

use crate::nouns;

struct Double {
    down: Arc<Notify>,
}

fn status() -> NodeStatus {
    NodeStatus {
        role: Role::Provider,
        identity: Address::repeat_byte(1),
        process: std::process::id(),
        started_ms: 7,
        draining: true,
        summary: "serving".into(),
        sessions: 1,
        usage: Usage {
            up: 1,
            down: 2,
            time: Duration::from_millis(3),
        },
        paid: Amount::MAX,
        promises: 4,
    }
}

fn sessions() -> SessionList {
    let session = |state| SessionView {
        agreement: nouns::agreement().id,
        peer: Address::repeat_byte(2),
        state,
        started_ms: 8,
        usage: Usage::default(),
        price: nouns::agreement().price,
        invoiced: Amount::from_units(9),
        paid: Amount::from_units(8),
        path: (state == SessionState::Active).then(|| PathView {
            direct: true,
            carrier: "udp".into(),
            rtt: Some(Duration::from_micros(1_500)),
            outcome: "direct through two NATs after 180 ms".into(),
        }),
    };
    let states = [
        SessionState::Opening,
        SessionState::Active,
        SessionState::Gated,
        SessionState::Closing,
    ];
    SessionList {
        sessions: states.map(session).to_vec(),
        total: 4,
    }
}

fn event(at_ms: u64) -> NodeEvent {
    NodeEvent {
        at_ms,
        kind: "paid".into(),
        message: "paid 3".into(),
        agreement: Some(nouns::agreement().id),
    }
}

fn earning() -> Earning {
    Earning {
        hermes: nouns::hermes(),
        promised: Amount::MAX,
        settled: Amount::from_units(1),
        settling: true,
    }
}

fn settlement(transaction: Option<B256>) -> SettlementView {
    SettlementView {
        hermes: nouns::hermes(),
        transaction,
        total: Amount::from_units(3),
        gas: 55_000,
    }
}

impl ControlService for Double {
    async fn status(&self) -> NodeStatus {
        status()
    }

    async fn sessions(&self) -> SessionList {
        sessions()
    }

    async fn events(&self) -> mpsc::Receiver<NodeEvent> {
        let (sender, events) = mpsc::channel(2);
        for at_ms in [1, 2] {
            sender.send(event(at_ms)).await.unwrap();
        }
        events
    }

    async fn down(&self) -> Result<(), Refusal> {
        self.down.notify_one();
        Ok(())
    }

    async fn drain(&self, seconds: u32) -> Result<u32, Refusal> {
        Ok(seconds + 1)
    }

    async fn earnings(&self) -> Result<Vec<Earning>, Refusal> {
        Ok(vec![earning()])
    }

    async fn settle(&self, hermes: Option<Address>) -> Result<Vec<SettlementView>, Refusal> {
        match hermes {
            None => Ok(vec![
                settlement(None),
                settlement(Some(B256::repeat_byte(7))),
            ]),
            Some(_) => Err(Refusal::new(
                RefusalCode::Unknown,
                "no channel there: see earnings",
            )),
        }
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("wayfare-control-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Starts a daemon and waits until it answers.
async fn daemon(
    path: &Path,
) -> (
    ControlClient,
    tokio::task::JoinHandle<Result<(), ServeError>>,
) {
    let down = Arc::new(Notify::new());
    let (service, path) = (
        Double {
            down: Arc::clone(&down),
        },
        path.to_owned(),
    );
    let client = ControlClient::connect_unix(&path);
    let serving = tokio::spawn(async move { serve_unix(&path, service, down.notified()).await });
    for _ in 0..1_000 {
        if client.status().await.is_ok() {
            return (client, serving);
        }
        tokio::task::yield_now().await;
    }
    panic!("the daemon does not come up");
}

#[tokio::test]
async fn everything_arrives_as_it_was_sent_and_the_socket_goes_with_the_daemon() {
    let folder = Folder::new("round");
    let path = folder.0.join("control.sock");
    let (client, serving) = daemon(&path).await;
    assert_eq!(client.status().await.unwrap(), status());
    assert_eq!(client.sessions().await.unwrap(), sessions());
    assert_eq!(client.drain(29).await.unwrap(), 30);
    assert_eq!(client.earnings().await.unwrap(), [earning()]);
    assert_eq!(
        client.settle(None).await.unwrap(),
        [settlement(None), settlement(Some(B256::repeat_byte(7)))]
    );
    let error = client.settle(Some(Address::ZERO)).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, RefusalCode::Unknown);
    let mut events = client.events().await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap(), event(1));
    assert_eq!(events.next().await.unwrap().unwrap(), event(2));
    assert!(events.next().await.is_none());
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    client.down().await.unwrap();
    serving.await.unwrap().unwrap();
    assert!(!path.exists(), "the socket is removed");
}

#[tokio::test]
async fn no_daemon_another_version_and_a_path_in_use_are_told_apart() {
    let folder = Folder::new("trouble");
    let path = folder.0.join("control.sock");
    let error = ControlClient::connect_unix(&path)
        .status()
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ApiError::Unreachable { address, .. } if address.contains("control.sock")),
        "{error:?}"
    );

    let (client, serving) = daemon(&path).await;
    let error = ControlClient::connect_unix(&path)
        .with_hello(nouns::foreign_hello())
        .status()
        .await
        .unwrap_err();
    assert!(matches!(error, ApiError::Incompatible { .. }), "{error:?}");
    let second = serve_unix(
        &path,
        Double {
            down: Arc::default(),
        },
        std::future::pending(),
    )
    .await;
    assert!(matches!(second, Err(ServeError::InUse(_))), "{second:?}");
    client.status().await.unwrap();
    client.down().await.unwrap();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_file_is_not() {
    let folder = Folder::new("stale");
    let path = folder.0.join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a crash leaves the socket behind");
    let (client, serving) = daemon(&path).await;
    client.down().await.unwrap();
    serving.await.unwrap().unwrap();

    std::fs::write(&path, "precious").unwrap();
    let refused = serve_unix(
        &path,
        Double {
            down: Arc::default(),
        },
        std::future::pending(),
    )
    .await;
    assert!(
        matches!(refused, Err(ServeError::NotASocket(_))),
        "{refused:?}"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");

    let nowhere = folder.0.join("absent/control.sock");
    let refused = serve_unix(
        &nowhere,
        Double {
            down: Arc::default(),
        },
        std::future::pending(),
    )
    .await;
    assert!(
        matches!(refused, Err(ServeError::Socket { .. })),
        "{refused:?}"
    );
}
