//! `wayfare-provider relay`: a public node that carries sealed datagrams between peers behind routers.

use std::net::SocketAddr;

use serde_json::json;
use wayfare_cli::{Failure, Kind, Output, Settings};
use wayfare_node::{RelayBuilder, RelayLimits};

use crate::settings::{failure, node_secret};

/// Runs until a signal.
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
    };
    let relay = builder.start().await.map_err(failure)?;
    let address = relay.address();
    output.show(
        &json!({"event": "relaying", "relay": address.to_string()}),
        |_| format!("relaying; providers name this relay by\n  --set relays={address}"),
    );
    wayfare_cli::terminated().await;
    relay.stop().await;
    output.show(&json!({"event": "stopped"}), |_| {
        "stopped; nothing is left behind".into()
    });
    Ok(())
}
