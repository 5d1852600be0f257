//! `wayfare-provider relay`: a public node that carries sealed datagrams between peers behind routers, for nothing or for a price.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wayfare_cli::{Failure, Kind, Output, Settings};
use wayfare_identity::{Address, NodeAddress};
use wayfare_node::{LocalControl, Relay, RelayBuilder, RelayLimits};

use crate::settings::{failure, node_secret, socket, toll};

/// Runs until a signal, or with a price until a request on the control socket; then takes the last payments.
pub(crate) async fn run(settings: &Settings, output: Output) -> Result<(), Failure> {
    let advertised: Vec<SocketAddr> = settings.list("advertise")?;
    let Some(advertise) = advertised.first().copied() else {
        return Err(Failure::new(
            Kind::Usage,
            "advertise is not set: providers would not know where this relay is",
        )
        .next("give --set advertise=YOUR.PUBLIC.ADDRESS:51820"));
    };
    let key = wayfare_cli::unlock(settings)?;
    let builder = RelayBuilder {
        secret: node_secret(&key),
        listen: settings.need("listen")?,
        advertise,
        limits: RelayLimits::default(),
        bootstrap: settings.list("bootstrap")?,
        toll: toll(settings, key)?,
    };
    let paid = builder.toll.as_ref().map(Paid::of);
    let mut relay = builder.start().await.map_err(failure)?;
    let address = relay.address();
    // One entry for each address: who has one family only finds its own among them.
    let entries = advertised
        .iter()
        .map(|at| NodeAddress { at: *at, ..address });
    let entries: Vec<String> = entries.map(|entry| entry.to_string()).collect();
    output.show(&running(&entries, paid.as_ref()), |_| {
        let price = match &paid {
            Some(paid) => format!(" for {} a GiB", paid.per_gib),
            None => String::new(),
        };
        let entries = entries.join(",");
        format!("relaying{price}; providers name this relay by\n  --set relays={entries}")
    });
    let terminated = wayfare_cli::terminated();
    let desk = match &paid {
        Some(paid) => paid.serve(&relay, socket(settings)?),
        None => None,
    };
    let asked = desk.as_ref().map(|desk| desk.asked.clone());
    let stop = async {
        match asked {
            Some(asked) => asked.cancelled_owned().await,
            None => std::future::pending().await,
        }
    };
    let failed = tokio::select! {
        () = terminated => None,
        () = stop => None,
        result = relay.failed() => Some(result),
    };
    if paid.is_some() {
        output.show(&json!({"event": "draining"}), |_| {
            "taking the last payments".into()
        });
    }
    relay.stop().await;
    if let Some(desk) = desk {
        desk.served.cancel();
        // A panic in it has been logged, and took nothing with it.
        let _ = desk.serving.await;
    }
    if let Some(result) = failed {
        result.map_err(failure)?;
    }
    output.show(&json!({"event": "stopped"}), |_| {
        "stopped; nothing is left behind".into()
    });
    Ok(())
}

fn running(entries: &[String], paid: Option<&Paid>) -> serde_json::Value {
    let mut running = json!({"event": "relaying", "relay": entries.first(), "relays": entries});
    if let Some(paid) = paid {
        running["identity"] = json!(paid.identity);
        running["price_per_gib"] = json!(paid.per_gib);
    }
    running
}

/// Who is paid, and what.
struct Paid {
    identity: Address,
    hermes: Address,
    per_gib: wayfare_node::Amount,
}

/// The control socket of a relay with a price.
struct Desk {
    asked: CancellationToken,
    served: CancellationToken,
    serving: JoinHandle<()>,
}

impl Paid {
    fn of(toll: &wayfare_node::RelayToll) -> Self {
        Self {
            identity: toll.signer.address(),
            hermes: toll.network.hermes,
            per_gib: toll.per_gib,
        }
    }

    /// `status`, `sessions`, `earnings`, `settle` and `drain` ask here.
    fn serve(&self, relay: &Relay, path: PathBuf) -> Option<Desk> {
        let control = LocalControl::of_provider(relay.remote()?, self.identity, self.hermes);
        let (asked, served) = (control.stop_token(), CancellationToken::new());
        let until = served.clone();
        let serving = tokio::spawn(async move {
            if let Err(error) = control.serve(path, until).await {
                tracing::warn!(%error, "`status`, `settle` and `drain` do not work");
            }
        });
        Some(Desk {
            asked,
            served,
            serving,
        })
    }
}
