//! `wayfare up`: find a provider, connect, stay connected, pay, leave cleanly.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use wayfare_cli::{Failure, Kind, Output, Settings};
use wayfare_identity::Address;
use wayfare_node::{
    Amount, Carrier, CloseReason, ConnectOptions, ConsumerEvent, GateState, LocalControl, Node,
    PathNow, Price, Proposal, ProposalShown, Query, SessionEvent, SessionReport, SystemTunnel,
    Tier, TollNews,
};

use crate::settings::{builder, failure, network, node, socket};

/// A lost session is replaced after this long at first, then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How long the last payment may take.
const LAST_PAYMENT: Duration = Duration::from_secs(8);
/// The tunnel must come up within this time.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// Which offers fit.
#[derive(Debug, Clone, Args)]
pub(crate) struct Choice {
    /// Only exits in this country (ISO 3166, two letters).
    #[arg(long, value_name = "CC")]
    country: Option<String>,
    /// Only this provider.
    #[arg(long, value_name = "ADDRESS")]
    provider: Option<Address>,
    /// Most per gibibyte, in smallest units.
    #[arg(long, value_name = "AMOUNT")]
    max_price: Option<Amount>,
}

/// Flags of `up`.
#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    choice: Choice,
    /// Give up when the session is lost, instead of opening another one.
    #[arg(long)]
    once: bool,
}

impl Choice {
    fn query(&self) -> Result<Query, Failure> {
        let mut query = Query::any();
        if let Some(country) = &self.country {
            let parsed = country.parse().map_err(|error| {
                Failure::new(Kind::Usage, format!("--country {country:?}: {error}"))
                    .next("write two letters (ISO 3166), as in --country NL")
            })?;
            query = Query::country(parsed);
        }
        if let Some(provider) = self.provider {
            query = query.provider(provider);
        }
        if let Some(per_gib) = self.max_price {
            query = query.max_price(Price {
                per_hour: Amount::MAX,
                per_gib,
            });
        }
        Ok(query)
    }
}

/// `wayfare proposals`.
pub(crate) async fn proposals(
    choice: &Choice,
    settings: &Settings,
    output: Output,
) -> Result<(), Failure> {
    let query = choice.query()?;
    let found = node(settings)
        .await?
        .discover(&query)
        .await
        .map_err(failure)?;
    let shown: Vec<_> = found.iter().map(ProposalShown::from).collect();
    output.show(&json!({ "proposals": shown }), |_| {
        let line = |p: &ProposalShown| {
            format!(
                "{}  {}  {} per GiB, {} per hour",
                p.provider, p.country, p.per_gib, p.per_hour
            )
        };
        match shown.as_slice() {
            [] => "no offer fits".into(),
            all => all.iter().map(line).collect::<Vec<_>>().join("\n"),
        }
    });
    Ok(())
}

/// Why the inner loop ended.
enum Ended {
    Asked,
    Lost(CloseReason),
}

/// What every attempt of one `up` shares.
struct Run<'a> {
    up: &'a Up,
    node: &'a Node,
    settings: &'a Settings,
    journal: &'a wayfare_node::Journal,
    device: &'a str,
    stop: &'a CancellationToken,
    output: Output,
    /// What all sessions together may still cost; `None`: no limit.
    budget: Option<Amount>,
}

/// `wayfare up`.
pub(crate) async fn run(up: &Up, settings: &Settings, output: Output) -> Result<(), Failure> {
    // What is wrong with the command line is told before anything is touched.
    let query = up.choice.query()?;
    network(settings)?;
    if !wayfare_node::may_change_network() {
        return Err(Failure::new(
            Kind::Privilege,
            "`wayfare up` makes a tunnel device and routes, which needs the capability CAP_NET_ADMIN",
        )
        .next("run it as root (`sudo wayfare up`), or as a service with AmbientCapabilities=CAP_NET_ADMIN"));
    }
    let state: PathBuf = settings.need("state_dir")?;
    let device: String = settings.need("device")?;
    let journal = SystemTunnel::recover(&state, &device)
        .await
        .map_err(failure)?;
    let builder = builder(settings)?.looking_for(query);
    let node = builder.build().await.map_err(failure)?;
    let stop = CancellationToken::new();
    let (signalled, terminated) = (stop.clone(), wayfare_cli::terminated());
    tokio::spawn(async move {
        terminated.await;
        signalled.cancel();
    });
    let mut run = Run {
        up,
        node: &node,
        settings,
        journal: &journal,
        device: &device,
        stop: &stop,
        output,
        budget: settings.parse("budget")?,
    };
    let mut pause = FIRST_PAUSE;
    let mut first = true;
    loop {
        let ended = match run.attempt().await {
            Ok(Ended::Asked) => return Ok(()),
            Ok(Ended::Lost(reason)) => {
                pause = FIRST_PAUSE;
                reason.to_string()
            }
            // The first attempt shows a user what is wrong; later ones are the network's troubles.
            Err(error) if first || up.once || !is_passing(error.kind) => return Err(error),
            Err(error) => error.cause,
        };
        first = false;
        if up.once {
            return Err(
                Failure::new(Kind::Unreachable, format!("the session is lost: {ended}"))
                    .next("without --once another one is opened by itself"),
            );
        }
        event(
            output,
            &json!({"event": "reconnecting", "reason": ended}),
            &format!("lost: {ended}; connecting again"),
        );
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn is_passing(kind: Kind) -> bool {
    match kind {
        Kind::Unreachable | Kind::Refused | Kind::Other => true,
        Kind::Usage | Kind::Privilege | Kind::Money | Kind::Storage | Kind::Busy => false,
    }
}

impl Run<'_> {
    /// One session, from the look for proposals to its end.
    async fn attempt(&mut self) -> Result<Ended, Failure> {
        let begun = started();
        if self.budget == Some(Amount::ZERO) {
            return Err(
                Failure::new(Kind::Money, "the budget of this run is used up")
                    .next("start again, with a larger --set budget=… if you like"),
            );
        }
        let proposal = choose(&self.up.choice, self.node).await?;
        let options = ConnectOptions {
            listen: self.settings.need("listen")?,
            budget: self.budget,
            chunk: self.settings.parse("chunk")?,
            relay_price_most: self.settings.parse("relay_price_most")?,
            port_mapping: self.settings.need("port_mapping")?,
            ..ConnectOptions::default()
        };
        let gate = self.settings.parse("kill_switch")?.unwrap_or(true);
        let opening = SystemTunnel::up(
            self.node,
            &proposal,
            self.journal,
            self.device,
            gate,
            options,
        );
        let mut tunnel = tokio::select! {
            () = self.stop.cancelled() => return Ok(Ended::Asked),
            opened = opening => opened.map_err(failure)?,
        };
        let control = LocalControl::of_consumer(
            tunnel.session.reporter(),
            self.node.identity(),
            proposal.provider,
        );
        let asked = control.stop_token();
        let served = CancellationToken::new();
        let (path, until) = (socket(self.settings)?, served.clone());
        let serving = tokio::spawn(async move {
            if let Err(error) = control.serve(path, until).await {
                tracing::warn!(%error, "`wayfare status` and `wayfare down` do not work");
            }
        });
        let ended = follow(&mut tunnel, self.stop, &asked, begun, self.output).await;
        served.cancel();
        // A panic in it has been logged, and took nothing with it.
        let _ = serving.await;
        let session = tunnel.down().await.map_err(failure)?;
        let Some(end) = session.finish().await else {
            return Ok(ended);
        };
        let (reason, report) = (end.reason.to_string(), &end.report);
        let toll = report
            .relay
            .as_ref()
            .map_or(Amount::ZERO, |relay| relay.promised);
        let cost = report.promised.saturating_add(toll);
        self.budget = self.budget.map(|left| left.saturating_sub(cost));
        event(
            self.output,
            &json!({"event": "closed", "reason": reason, "report": report}),
            &format!("closed: {reason}{}", summary(report)),
        );
        Ok(ended)
    }
}

async fn choose(choice: &Choice, node: &Node) -> Result<Proposal, Failure> {
    let found = node.discover(&choice.query()?).await.map_err(failure)?;
    found
        .into_iter()
        .next()
        .ok_or_else(|| failure(wayfare_node::NodeError::NoProposal))
}

/// Tells what happens until the session is lost or somebody asks for its end; then waits for the last payment.
async fn follow(
    tunnel: &mut SystemTunnel,
    stop: &CancellationToken,
    asked: &CancellationToken,
    begun: Instant,
    output: Output,
) -> Ended {
    let mut closing = false;
    let mut active = false;
    let deadline = tokio::time::sleep(HANDSHAKE);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            () = stop.cancelled(), if !closing => {
                closing = true;
                deadline.as_mut().reset(tokio::time::Instant::now() + LAST_PAYMENT);
                tunnel.session.close().await;
            }
            () = asked.cancelled(), if !closing => {
                closing = true;
                deadline.as_mut().reset(tokio::time::Instant::now() + LAST_PAYMENT);
                tunnel.session.close().await;
            }
            () = &mut deadline, if closing || !active => {
                return if closing { Ended::Asked } else { Ended::Lost(CloseReason::NoTunnel) };
            }
            next = tunnel.session.next_event() => match next {
                Some(SessionEvent::Session(ConsumerEvent::Closed(_))) if closing => return Ended::Asked,
                Some(SessionEvent::Session(ConsumerEvent::Closed(reason))) => return Ended::Lost(reason),
                Some(happened) => {
                    active |= happened == SessionEvent::Session(ConsumerEvent::Active);
                    tell(&happened, tunnel, begun, output);
                }
                None => return if closing { Ended::Asked } else { Ended::Lost(CloseReason::Silence) },
            },
        }
    }
}

fn tell(happened: &SessionEvent, tunnel: &SystemTunnel, begun: Instant, output: Output) {
    let (value, text) = match happened {
        SessionEvent::Session(ConsumerEvent::Active) => {
            let connect_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            let address = tunnel.session.network().consumer_v4;
            let provider = tunnel.session.provider();
            let value = json!({"event": "active", "provider": provider, "address": address, "connect_ms": connect_ms});
            (
                value,
                format!(
                    "connected in {connect_ms} ms; this computer's packets leave through the provider"
                ),
            )
        }
        SessionEvent::Session(ConsumerEvent::Paid(total)) => (
            json!({"event": "paid", "total": total}),
            format!("paid {total}"),
        ),
        SessionEvent::Session(ConsumerEvent::Gate(GateState::Open)) => (
            json!({"event": "gate", "open": true}),
            "traffic passes".to_owned(),
        ),
        SessionEvent::Session(ConsumerEvent::Gate(GateState::Closed(why))) => (
            json!({"event": "gate", "open": false, "why": why}),
            format!("the provider holds traffic back: {why}"),
        ),
        SessionEvent::Session(ConsumerEvent::Rekeyed) => {
            (json!({"event": "rekeyed"}), "keys renewed".to_owned())
        }
        SessionEvent::Session(ConsumerEvent::Draining(seconds)) => (
            json!({"event": "draining", "seconds": seconds}),
            format!("the provider stops within {seconds} s"),
        ),
        SessionEvent::Session(ConsumerEvent::Closed(reason)) => (
            json!({"event": "lost", "reason": reason.to_string()}),
            format!("lost: {reason}"),
        ),
        SessionEvent::Mtu(bytes) => (
            json!({"event": "mtu", "bytes": bytes}),
            format!("packets of up to {bytes} bytes fit the way to the provider"),
        ),
        SessionEvent::Path(path) => (
            json!({
                "event": "path",
                "kind": if path.tier.is_direct() { "direct" } else { "relayed" },
                "tier": tier(path.tier),
                "carrier": path.carrier.to_string(),
                "rtt_ms": path.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
                "outcome": path.outcome,
            }),
            described(path),
        ),
        SessionEvent::InvoiceRefused(why) => (
            json!({"event": "invoice_refused", "why": why}),
            format!("an invoice was not paid: {why}"),
        ),
        SessionEvent::Toll(news) => toll(news),
    };
    event(output, &value, &text);
}

/// What happens between us and a relay that asks for a price.
fn toll(news: &TollNews) -> (serde_json::Value, String) {
    let (state, rest, text) = match news {
        TollNews::Agreed {
            relay,
            operator,
            per_gib,
        } => (
            "agreed",
            json!({"relay": relay.to_string(), "operator": operator, "per_gib": per_gib}),
            format!("the relay on the way is paid {per_gib} per GiB"),
        ),
        TollNews::TooDear { per_gib, most } => (
            "too_dear",
            json!({"per_gib": per_gib, "most": most}),
            format!(
                "the relay on the way asks for {per_gib} per GiB, more than relay_price_most ({most}): only what it passes for nothing goes through it"
            ),
        ),
        TollNews::NotAgreed(why) => (
            "not_agreed",
            json!({"why": why}),
            format!("no agreement with the relay on the way: {why}"),
        ),
        TollNews::Paid(total) => (
            "paid",
            json!({"total": total}),
            format!("paid {total} to the relay"),
        ),
        TollNews::Gate(GateState::Open) => (
            "gate",
            json!({"open": true}),
            "the relay lets traffic pass".to_owned(),
        ),
        TollNews::Gate(GateState::Closed(why)) => (
            "gate",
            json!({"open": false, "why": why}),
            format!("the relay holds traffic back: {why}"),
        ),
        TollNews::InvoiceRefused(why) => (
            "invoice_refused",
            json!({"why": why}),
            format!("an invoice of the relay was not paid: {why}"),
        ),
        TollNews::Draining(seconds) => (
            "draining",
            json!({"seconds": seconds}),
            format!("the relay stops within {seconds} s"),
        ),
        TollNews::Closed(why) => (
            "closed",
            json!({"why": why}),
            format!("the relay is not paid any more: {why}"),
        ),
    };
    let mut value = json!({"event": "toll", "state": state});
    if let (Some(value), serde_json::Value::Object(rest)) = (value.as_object_mut(), rest) {
        value.extend(rest);
    }
    (value, text)
}

/// A kind of path in a word.
fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Lan => "lan",
        Tier::Ipv6 => "ipv6",
        Tier::Direct => "ipv4",
        Tier::Relayed => "relay",
        Tier::Carried => "carrier",
    }
}

fn described(path: &PathNow) -> String {
    let way = if path.outcome.is_empty() {
        match path.tier.is_direct() {
            true => "direct",
            false => "relayed; a direct way is looked for",
        }
    } else {
        &path.outcome
    };
    let inside = match path.carrier {
        Carrier::Udp => "",
        Carrier::Quic => ", inside QUIC",
        Carrier::Tls => ", inside TLS",
    };
    match path.rtt {
        Some(rtt) => format!(
            "the way to the provider: {way}{inside}; {:.1} ms there and back",
            rtt.as_secs_f64() * 1e3
        ),
        None => format!("the way to the provider: {way}{inside}"),
    }
}

fn event(output: Output, value: &serde_json::Value, text: &str) {
    output.show(value, |_| text.to_owned());
}

fn summary(report: &SessionReport) -> String {
    let toll = report.relay.as_ref().filter(|relay| relay.promises > 0);
    let toll = toll.map_or_else(String::new, |relay| {
        format!(
            "; {} promised to the relay for {} bytes",
            relay.promised,
            relay.usage.bytes()
        )
    });
    format!(
        "; {} up, {} down, {} promised in {} promises{toll}",
        report.usage.up, report.usage.down, report.promised, report.promises
    )
}

#[allow(
    clippy::disallowed_methods,
    reason = "a stopwatch for people, at the very edge"
)]
fn started() -> Instant {
    Instant::now()
}
