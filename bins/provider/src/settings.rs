//! The provider's settings, and the provider that they describe.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wayfare_cli::{Failure, Kind, Setting, Settings};
use wayfare_identity::{Address, LocalSigner, NodeAddress, SecretKey, keccak256};
use wayfare_node::{
    Amount, Limits, Network, NodeError, Offer, Price, ProviderBuilder, RelayToll, SettlePolicy,
    open_ledger,
};

/// Every key that `wayfare-provider` knows. Prices are in smallest units of a token with 18 decimals.
pub(crate) const TABLE: &[Setting] = &[
    Setting {
        key: "state_dir",
        preset: Some("/var/lib/wayfare/provider"),
        help: "directory of keys, ledger, journal, socket",
    },
    Setting {
        key: "passphrase_file",
        preset: None,
        help: "file whose first line is the keystore's passphrase",
    },
    Setting {
        key: "identity",
        preset: None,
        help: "address of the identity, where there are several",
    },
    Setting {
        key: "dev_keys",
        preset: Some("false"),
        help: "cheap passphrase hashing, for throw-away keys only",
    },
    Setting {
        key: "rpc",
        preset: Some("http://127.0.0.1:8545"),
        help: "JSON-RPC server of the chain",
    },
    Setting {
        key: "chain_id",
        preset: Some("31337"),
        help: "EIP-155 id of the chain",
    },
    Setting {
        key: "vault",
        preset: None,
        help: "address of the vault contract",
    },
    Setting {
        key: "hermes",
        preset: None,
        help: "id of the Hermes that payments come through",
    },
    Setting {
        key: "hermes_url",
        preset: Some("http://127.0.0.1:7400"),
        help: "where that Hermes listens",
    },
    Setting {
        key: "index_url",
        preset: Some("http://127.0.0.1:7401"),
        help: "where proposals are indexed: addresses with commas between, or empty for none",
    },
    Setting {
        key: "bootstrap",
        preset: None,
        help: "nodes that know the distributed table of proposals, each NODE@ADDRESS:PORT; any relay does",
    },
    Setting {
        key: "listen",
        preset: Some("[::]:51820"),
        help: "local address of the UDP socket; [::] is both families",
    },
    Setting {
        key: "port_mapping",
        preset: Some("true"),
        help: "ask the router to forward the port (PCP, NAT-PMP, UPnP)",
    },
    Setting {
        key: "advertise",
        preset: None,
        help: "addresses with port at which consumers reach this node",
    },
    Setting {
        key: "relays",
        preset: None,
        help: "relays that ring this node behind a router, each NODE@ADDRESS:PORT",
    },
    Setting {
        key: "country",
        preset: None,
        help: "country of the exit (ISO 3166, two letters)",
    },
    Setting {
        key: "price_per_gib",
        preset: Some("100000000000000000"),
        help: "price of a gibibyte (0.1 token)",
    },
    Setting {
        key: "relay_price_per_gib",
        preset: Some("0"),
        help: "price of a gibibyte that `relay` carries; 0: it carries for nothing",
    },
    Setting {
        key: "price_per_hour",
        preset: Some("100000000000000"),
        help: "price of an hour (0.0001 token)",
    },
    Setting {
        key: "chunk",
        preset: None,
        help: "largest first chunk accepted; 32 mebibytes' price by default",
    },
    Setting {
        key: "chunk_limit",
        preset: None,
        help: "most credit for one session; 256 mebibytes' price by default",
    },
    Setting {
        key: "device",
        preset: Some("wayfare-exit"),
        help: "name of the tunnel device",
    },
    Setting {
        key: "pool_v4",
        preset: Some("10.80.0.0/16"),
        help: "tunnel addresses of consumers",
    },
    Setting {
        key: "pool_v6",
        preset: Some("fd77:6179:6661:7265::/64"),
        help: "IPv6 tunnel addresses; empty for none",
    },
    Setting {
        key: "uplink",
        preset: None,
        help: "interface towards the internet; any by default",
    },
    Setting {
        key: "allow",
        preset: None,
        help: "special-purpose prefixes that consumers may reach, for test networks",
    },
    Setting {
        key: "max_sessions",
        preset: Some("256"),
        help: "most sessions at a time",
    },
    Setting {
        key: "session_mbps",
        preset: None,
        help: "most for one consumer, megabits a second each way; no limit by default",
    },
    Setting {
        key: "total_mbps",
        preset: None,
        help: "most for all consumers together; a little less than your line carries shares it fairly",
    },
    Setting {
        key: "beneficiary",
        preset: None,
        help: "where settled tokens go; the identity by default",
    },
    Setting {
        key: "settle_threshold",
        preset: Some("5000000000000000000"),
        help: "settle when this much is unsettled (5 tokens)",
    },
    Setting {
        key: "settle_hours",
        preset: Some("168"),
        help: "settle whatever is older than this many hours",
    },
    Setting {
        key: "settle_automatically",
        preset: Some("true"),
        help: "false: only on `settle`",
    },
];

/// Unlocks the identity, opens the ledger, and describes the provider.
pub(crate) fn builder(settings: &Settings) -> Result<ProviderBuilder, Failure> {
    let network = network(settings)?;
    let key = wayfare_cli::unlock(settings)?;
    let secret = node_secret(&key);
    let identity = key.address();
    let state: PathBuf = settings.need("state_dir")?;
    let ledger = open_ledger(&state.join("ledger")).map_err(failure)?;
    let settle = settle_policy(settings, identity)?;
    Ok(ProviderBuilder {
        network,
        signer: Arc::new(LocalSigner::new(key)),
        secret,
        ledger,
        offer: offer(settings)?,
        listen: settings.need("listen")?,
        port_mapping: settings.need("port_mapping")?,
        device: settings.need("device")?,
        pool_v4: settings.need("pool_v4")?,
        pool_v6: settings.parse("pool_v6")?,
        uplink: settings.parse("uplink")?,
        allow: settings.list("allow")?,
        max_sessions: settings.need("max_sessions")?,
        limits: Limits {
            session: megabits(settings, "session_mbps")?,
            total: megabits(settings, "total_mbps")?,
        },
        settle,
        state,
    })
}

/// When what `identity` earned is cashed, and for whom.
fn settle_policy(settings: &Settings, identity: Address) -> Result<SettlePolicy, Failure> {
    let hours: u64 = settings.need("settle_hours")?;
    Ok(SettlePolicy {
        enabled: settings.need("settle_automatically")?,
        threshold: settings.need("settle_threshold")?,
        max_age: Duration::from_secs(hours.saturating_mul(3_600)),
        beneficiary: settings
            .parse::<Address>("beneficiary")?
            .unwrap_or(identity),
    })
}

/// How a relay is paid to `key`: opens the ledger; `None` for one that carries for nothing.
pub(crate) fn toll(settings: &Settings, key: SecretKey) -> Result<Option<RelayToll>, Failure> {
    let per_gib: Amount = settings.need("relay_price_per_gib")?;
    if per_gib.is_zero() {
        return Ok(None);
    }
    let network = network(settings)?;
    let settle = settle_policy(settings, key.address())?;
    let state: PathBuf = settings.need("state_dir")?;
    Ok(Some(RelayToll {
        network,
        signer: Arc::new(LocalSigner::new(key)),
        ledger: open_ledger(&state.join("ledger")).map_err(failure)?,
        per_gib,
        settle,
    }))
}

/// Derived rather than stored: whoever has the identity can restore node key, tunnel key and preimages.
pub(crate) fn node_secret(key: &SecretKey) -> [u8; 32] {
    keccak256([b"wayfare node secret".as_slice(), key.to_bytes().as_slice()].concat()).0
}

/// The network that the settings describe.
pub(crate) fn network(settings: &Settings) -> Result<Network, Failure> {
    Ok(Network {
        rpc: settings.need("rpc")?,
        chain_id: settings.need("chain_id")?,
        vault: settings.need("vault")?,
        hermes: settings.need("hermes")?,
        hermes_url: settings.need("hermes_url")?,
        index_url: settings.parse::<String>("index_url")?.unwrap_or_default(),
        bootstrap: settings.list("bootstrap")?,
    })
}

/// A rate in bits a second, from a setting in megabits.
fn megabits(settings: &Settings, key: &'static str) -> Result<Option<u64>, Failure> {
    let Some(rate) = settings.parse::<u64>(key)? else {
        return Ok(None);
    };
    if rate == 0 {
        return Err(Failure::new(
            Kind::Usage,
            format!("{key} is 0: nobody would get anything"),
        )
        .next("set it to 1 or more, or leave it out for no limit"));
    }
    Ok(Some(rate.saturating_mul(1_000_000)))
}

fn offer(settings: &Settings) -> Result<Offer, Failure> {
    let price = Price {
        per_hour: settings.need("price_per_hour")?,
        per_gib: settings.need("price_per_gib")?,
    };
    let chunk: Amount = match settings.parse("chunk")? {
        Some(chunk) => chunk,
        // Twice what a consumer asks for whose payments take half a second: it has paid as much by then.
        None => price
            .per_gib
            .mul_div_down(32, 1_024)
            .max(price.per_hour.mul_div_down(2, 3_600))
            .max(Amount::from_units(2)),
    };
    let chunk_limit = match settings.parse("chunk_limit")? {
        Some(limit) => limit,
        // What a consumer asks for by default: 256 MiB, or 256 seconds.
        None => chunk
            .mul_div_down(8, 1)
            .max(price.per_hour.mul_div_down(256, 3_600)),
    };
    let contact: Vec<SocketAddr> = settings.list("advertise")?;
    let relays: Vec<NodeAddress> = settings.list("relays")?;
    if contact.is_empty() && relays.is_empty() {
        return Err(Failure::new(
            Kind::Usage,
            "neither advertise nor relays is set: consumers would not know where to connect",
        )
        .next("give --set advertise=YOUR.PUBLIC.ADDRESS:51820, or behind a router --set relays=NODE@ADDRESS:PORT"));
    }
    Ok(Offer {
        price,
        chunk,
        chunk_limit,
        country: settings.need("country")?,
        contact,
        relays,
    })
}

/// Where the daemon listens for the command line.
pub(crate) fn socket(settings: &Settings) -> Result<PathBuf, Failure> {
    Ok(settings.need::<PathBuf>("state_dir")?.join("control.sock"))
}

/// A provider's error as the command line tells it.
pub(crate) fn failure(error: NodeError) -> Failure {
    Failure::new(Kind::from_code(error.code()), &error).next(error.next_step())
}
