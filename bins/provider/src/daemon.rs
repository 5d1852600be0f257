//! `wayfare-provider run`: the exit as a daemon, and `doctor`, which looks at what it needs.

use serde_json::json;
use tokio_util::sync::CancellationToken;
use wayfare_cli::{Failure, Finding, Kind, Output, Settings, tell_findings};
use wayfare_node::{LocalControl, RouterAnswers};

use crate::settings::{builder, failure, socket};

/// Runs until a signal or a request on the control socket, then drains.
pub(crate) async fn run(settings: &Settings, output: Output) -> Result<(), Failure> {
    let builder = builder(settings)?;
    if !wayfare_node::may_change_network() {
        return Err(Failure::new(
            Kind::Privilege,
            "`wayfare-provider run` makes a tunnel device and firewall rules, which needs the capability CAP_NET_ADMIN",
        )
        .next("run it as root (`sudo wayfare-provider run`), or as a service with AmbientCapabilities=CAP_NET_ADMIN"));
    }
    let (identity, hermes) = (builder.signer.address(), builder.network.hermes);
    let mut provider = builder.start().await.map_err(failure)?;
    let running = json!({
        "event": "running", "identity": identity, "listen": provider.local_addr(), "node": provider.node().to_string(),
    });
    let terminated = wayfare_cli::terminated();
    output.show(&running, |_| {
        format!("serving consumers on UDP {}", provider.local_addr())
    });

    let control = LocalControl::of_provider(provider.remote(), identity, hermes);
    let asked = control.stop_token();
    let served = CancellationToken::new();
    let (path, until) = (socket(settings)?, served.clone());
    let serving = tokio::spawn(async move {
        if let Err(error) = control.serve(path, until).await {
            tracing::warn!(%error, "`status`, `settle` and `drain` do not work");
        }
    });
    let failed = tokio::select! {
        () = terminated => None,
        () = asked.cancelled() => None,
        result = provider.failed() => Some(result),
    };
    output.show(&json!({"event": "draining"}), |_| {
        "taking the last payments".into()
    });
    let stopped = provider.stop().await;
    served.cancel();
    // A panic in it has been logged, and took nothing with it.
    let _ = serving.await;
    if let Some(result) = failed {
        result.map_err(failure)?;
    }
    stopped.map_err(failure)?;
    output.show(&json!({"event": "stopped"}), |_| {
        "stopped; nothing is left behind".into()
    });
    Ok(())
}

/// Told, never a failure: who advertises an address needs no router, and relays reach around any.
async fn router(settings: &Settings) -> Result<Finding, Failure> {
    let said = if settings.need("port_mapping")? {
        let answers = RouterAnswers::ask().await;
        let forwards = match answers.forwards() {
            true => "forwards ports",
            false => "forwards no ports by itself",
        };
        format!("{forwards}: {answers}")
    } else {
        "not asked: port_mapping is false".into()
    };
    Ok(Finding {
        what: "router",
        ok: true,
        said,
    })
}

/// Looks at privileges, router, settings, keys, ledger, chain and services.
pub(crate) async fn doctor(settings: &Settings, output: Output) -> Result<(), Failure> {
    let may = wayfare_node::may_change_network();
    let said = if may {
        "may create a tunnel device and firewall rules"
    } else {
        "needs CAP_NET_ADMIN: run as root"
    };
    let mut findings = vec![Finding {
        what: "privileges",
        ok: may,
        said: said.into(),
    }];
    findings.push(router(settings).await?);
    match builder(settings) {
        Ok(builder) => {
            findings.push(Finding {
                what: "settings, keys, ledger",
                ok: true,
                said: "complete".into(),
            });
            for (what, result) in builder.check().await {
                let ok = result.is_ok();
                findings.push(Finding {
                    what,
                    ok,
                    said: result.unwrap_or_else(|error| error.to_string()),
                });
            }
        }
        Err(error) => findings.push(Finding {
            what: "settings, keys, ledger",
            ok: false,
            said: error.to_string(),
        }),
    }
    tell_findings(&findings, output)
}
