//! Registering, serving and commanding a Hermes.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use wayfare_cli::{Failure, Kind, Output, Settings, chance};
use wayfare_hermes::{Admin, ApiError, Hermes, Index, Limits, ask_collect, ask_drain, ask_status};
use wayfare_payment::Amount;

use crate::settings::{config, failure, operator, site, socket};

/// Callers that may wait to be accepted, as the standard library has it.
const BACKLOG: i32 = 128;
/// `EAFNOSUPPORT` of Linux: no IPv6 in this kernel.
const NO_FAMILY: i32 = 97;

/// Flags of `init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Collateral to add, in smallest units; the identity must hold it.
    #[arg(long, value_name = "AMOUNT", default_value = "0")]
    collateral: Amount,
}

/// `wayfare-hermes init`.
pub(crate) async fn init(init: &Init, settings: &Settings, output: Output) -> Result<(), Failure> {
    let owner = operator(settings)?;
    let address = owner.address();
    let fee = settings.need("fee_basis_points")?;
    let id = site(settings)?
        .register(owner, address, fee, init.collateral)
        .await
        .map_err(failure)?;
    output.show(&json!({"hermes": id, "operator": address}), |_| {
        format!("registered as {id}\nset it from now on: --set hermes={id}, or WAYFARE_HERMES={id}")
    });
    Ok(())
}

fn listener(settings: &Settings, key: &'static str) -> Result<TcpListener, Failure> {
    let address: SocketAddr = settings.need(key)?;
    listening(address).map_err(|error| {
        let (kind, next) = match error.kind() {
            ErrorKind::AddrInUse => (
                Kind::Busy,
                "stop what uses the port, or choose another with",
            ),
            ErrorKind::PermissionDenied => (
                Kind::Privilege,
                "run it as root, or choose a port above 1023 with",
            ),
            _ => (
                Kind::Usage,
                "choose an address of this computer, or [::], with",
            ),
        };
        Failure::new(kind, format!("cannot listen on {address}: {error}"))
            .next(format!("{next} --set {key}=…"))
    })
}

/// `[::]` means both families, whatever the system's default is, or IPv4 alone where it has no IPv6.
fn listening(address: SocketAddr) -> std::io::Result<TcpListener> {
    let every = address.ip().is_unspecified();
    let open = |at: SocketAddr| {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
        if at.is_ipv6() {
            socket.set_only_v6(!every)?;
        }
        // It may be started again at once.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&at.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open(address).or_else(|error| match error.raw_os_error() {
        Some(NO_FAMILY) if every && address.is_ipv6() => {
            open((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        _ => Err(error),
    })
}

/// `wayfare-hermes run`.
pub(crate) async fn hermes(settings: &Settings, output: Output) -> Result<(), Failure> {
    let config = config(settings)?;
    let operator = operator(settings)?;
    let listener = listener(settings, "listen")?;
    let ports = site(settings)?.open(operator).await.map_err(failure)?;
    let hermes = Arc::new(
        Hermes::start(config, ports, listener)
            .await
            .map_err(failure)?,
    );
    let address = hermes.address();
    let terminated = wayfare_cli::terminated();
    output.show(
        &json!({"event": "running", "hermes": config.issuer.hermes, "listen": address}),
        |_| format!("Hermes {} listens on {address}", config.issuer.hermes),
    );
    let admin = Admin::new(Arc::clone(&hermes), unix_ms());
    let asked = admin.stop_token();
    let served = CancellationToken::new();
    let (path, until) = (socket(settings)?, served.clone());
    let serving = tokio::spawn(async move {
        if let Err(error) = admin.serve(&path, until).await {
            tracing::warn!(%error, "`status`, `collect` and `drain` do not work");
        }
    });
    let own_end = hermes.ended();
    tokio::select! {
        () = terminated => {}
        () = asked.cancelled() => {}
        () = own_end.cancelled() => {}
    }
    served.cancel();
    // A panic in it has been logged, and took nothing with it.
    let _ = serving.await;
    let Ok(hermes) = Arc::try_unwrap(hermes) else {
        return Err(
            Failure::new(Kind::Other, "the Hermes is still in use while stopping")
                .next("start it again: what was promised is durable"),
        );
    };
    let stopped = hermes.shutdown().await;
    stopped.map_err(|error| {
        Failure::new(Kind::Storage, error)
            .next("`wayfare-hermes check` proves what the ledger holds")
    })?;
    output.show(&json!({"event": "stopped"}), |_| {
        "stopped; every promise is durable".into()
    });
    Ok(())
}

/// `wayfare-hermes index`.
pub(crate) async fn index(settings: &Settings, output: Output) -> Result<(), Failure> {
    let listener = listener(settings, "index_listen")?;
    let clock: wayfare_hermes::UnixClock = Arc::new(|| unix_ms() / 1_000);
    let index = Index::start(listener, Limits::default(), chance()?, clock).map_err(failure)?;
    let address = index.address();
    let terminated = wayfare_cli::terminated();
    output.show(&json!({"event": "running", "listen": address}), |_| {
        format!("the index listens on {address}")
    });
    terminated.await;
    index
        .shutdown()
        .await
        .map_err(|error| Failure::new(Kind::Other, error))?;
    output.show(&json!({"event": "stopped"}), |_| "stopped".into());
    Ok(())
}

/// `wayfare-hermes status`.
pub(crate) async fn status(settings: &Settings, output: Output) -> Result<(), Failure> {
    let status = ask_status(&socket(settings)?).await.map_err(absent)?;
    let shown = json!({
        "hermes": status.hermes, "process": status.process, "draining": status.draining, "promised": status.promised,
    });
    output.show(&shown, |_| {
        format!("Hermes {}: {} promised", status.hermes, status.promised)
    });
    Ok(())
}

/// `wayfare-hermes collect`.
pub(crate) async fn collect(settings: &Settings, output: Output) -> Result<(), Failure> {
    let collected = ask_collect(&socket(settings)?).await.map_err(absent)?;
    let rows: Vec<_> = collected
        .iter()
        .map(|(consumer, total)| json!({"consumer": consumer, "total": total}))
        .collect();
    output.show(&json!({ "collected": rows }), |_| {
        match collected.as_slice() {
            [] => "no consumer owes anything".into(),
            all => all
                .iter()
                .map(|(who, total)| format!("{who}: {total} in all"))
                .collect::<Vec<_>>()
                .join("\n"),
        }
    });
    Ok(())
}

/// `wayfare-hermes drain`.
pub(crate) async fn drain(settings: &Settings, output: Output) -> Result<(), Failure> {
    ask_drain(&socket(settings)?).await.map_err(absent)?;
    output.show(&json!({"draining": true}), |_| {
        "new sessions are sent elsewhere".into()
    });
    Ok(())
}

fn absent(error: ApiError) -> Failure {
    match error.refusal() {
        Some(refusal) => Failure::new(Kind::Refused, &refusal.message)
            .next("`wayfare-hermes status` tells how it stands"),
        None => Failure::new(
            Kind::Unreachable,
            format!("no Hermes is running here: {error}"),
        )
        .next("start it with `wayfare-hermes run`; if it runs, give its --set state_dir=…"),
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the wall clock of a daemon, read at its very edge"
)]
fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Used by `check` to tell a running Hermes from a stopped one.
pub(crate) async fn is_running(socket: &Path) -> bool {
    ask_status(socket).await.is_ok()
}
