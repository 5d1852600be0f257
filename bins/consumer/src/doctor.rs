//! `wayfare doctor`: looks at everything that a session needs, and says what to do about what is missing.

use wayfare_cli::{Failure, Finding, Output, Settings, tell_findings};
use wayfare_node::{Node, Query, RouterAnswers};

use crate::settings::node;

/// Runs every check and fails if one does.
pub(crate) async fn run(settings: &Settings, output: Output) -> Result<(), Failure> {
    let (router, opened) = tokio::join!(router(settings), node(settings));
    let mut findings = vec![privilege(), router?];
    match opened {
        Ok(node) => {
            findings.push(Finding {
                what: "keys, ledger and chain",
                ok: true,
                said: "open, and the vault is there".into(),
            });
            findings.extend(services(&node).await);
        }
        Err(error) => findings.push(Finding {
            what: "keys, ledger and chain",
            ok: false,
            said: error.to_string(),
        }),
    }
    tell_findings(&findings, output)
}

fn privilege() -> Finding {
    let device = std::path::Path::new("/dev/net/tun").exists();
    let may = wayfare_node::may_change_network();
    let said = match (device, may) {
        (true, true) => "may create a tunnel device and change routes".into(),
        (false, _) => "/dev/net/tun is missing: modprobe tun".into(),
        (true, false) => "needs CAP_NET_ADMIN: run `wayfare up` as root".into(),
    };
    Finding {
        what: "privileges",
        ok: device && may,
        said,
    }
}

/// Told, never a failure: relays reach around any router.
async fn router(settings: &Settings) -> Result<Finding, Failure> {
    let said = if settings.need("port_mapping")? {
        let answers = RouterAnswers::ask().await;
        let forwards = match answers.forwards() {
            true => "forwards ports",
            false => "forwards no ports, which is slower to get through",
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

async fn services(node: &Node) -> Vec<Finding> {
    let account = match node.account().await {
        Ok(account) => {
            let ok = !account.spendable.is_zero();
            let hint = if ok {
                ""
            } else {
                ": top up with `wayfare topup`"
            };
            Finding {
                what: "deposit",
                ok,
                said: format!("{} can be spent{hint}", account.spendable),
            }
        }
        Err(error) => Finding {
            what: "deposit",
            ok: false,
            said: error.to_string(),
        },
    };
    let hermes = match node.hermes_state().await {
        Ok(state) => Finding {
            what: "Hermes",
            ok: true,
            said: format!("answers; it has accepted {}", state.promised),
        },
        Err(error) => Finding {
            what: "Hermes",
            ok: false,
            said: error.to_string(),
        },
    };
    let index = match node.discover(&Query::any()).await {
        Ok(found) => Finding {
            what: "index",
            ok: !found.is_empty(),
            said: format!("{} offers fit this network", found.len()),
        },
        Err(error) => Finding {
            what: "index",
            ok: false,
            said: error.to_string(),
        },
    };
    vec![account, hermes, index]
}
