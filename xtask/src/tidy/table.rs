//! The layer table and the bans, as data: the architecture in the form that can fail.
//! It refuses to hold logic. A new row is an architectural change and is argued in
//! ARCHITECTURE.md in the same commit.

/// A workspace crate and the workspace crates it may depend on.
#[derive(Debug)]
pub(super) struct Row {
    /// Package name without the prefix; see [`room`].
    pub(super) name: &'static str,
    /// Rooms it may use in normal and build dependencies.
    pub(super) may_use: &'static [&'static str],
    /// Rooms that only its tests may use.
    pub(super) tests_may_use: &'static [&'static str],
}

const fn row(
    name: &'static str,
    may_use: &'static [&'static str],
    tests_may_use: &'static [&'static str],
) -> Row {
    Row {
        name,
        may_use,
        tests_may_use,
    }
}

/// The six rooms below the sans-IO line.
pub(super) const THINKING: &[&str] = &[
    "identity",
    "payment",
    "tunnel",
    "discovery",
    "path",
    "session",
];

const ROOMS_AND_DOORS: &[&str] = &[
    "identity",
    "payment",
    "tunnel",
    "discovery",
    "path",
    "session",
    "transport",
    "nat",
    "host",
    "chain",
    "store",
    "api",
];

/// The binaries' tests run the real programs against a chain, a Hermes and an index of their own.
const BINARIES_TESTS: &[&str] = &["sim", "api", "chain", "discovery", "hermes"];

/// The layer table, from the bottom up.
pub(super) const LAYERS: &[Row] = &[
    // L0 to L2: rooms that think
    row("identity", &[], &[]),
    row("payment", &["identity"], &[]),
    row("tunnel", &["identity"], &[]),
    row("discovery", &["identity", "payment"], &[]),
    row(
        "session",
        &["identity", "payment", "tunnel", "discovery"],
        &[],
    ),
    // L3: doors, never sideways
    row("transport", &[], &["sim", "tunnel"]),
    row("path", &["identity"], &[]),
    row("nat", &["identity"], &["sim"]),
    row("host", &[], &["sim"]),
    row("chain", &["identity", "payment"], &["sim"]),
    row("store", &["payment"], &["identity", "sim"]),
    row(
        "api",
        &["identity", "payment", "discovery", "session"],
        &["sim"],
    ),
    // L4: houses
    row("wireguard", &["tunnel", "transport"], &["sim"]),
    // Its tests are paid through a real Hermes.
    row("node", ROOMS_AND_DOORS, &["sim", "hermes"]),
    row(
        "hermes",
        &["identity", "payment", "discovery", "chain", "store", "api"],
        &["sim"],
    ),
    // L5: porches and binaries
    row("control", &["node"], &["sim"]),
    row("ffi", &["node"], &["sim"]),
    row("cli", &["identity"], &["sim"]),
    row(
        "consumer-cli",
        &["cli", "node", "control", "identity", "payment"],
        BINARIES_TESTS,
    ),
    row(
        "provider-cli",
        &["cli", "node", "control", "identity", "payment"],
        BINARIES_TESTS,
    ),
    row(
        "hermes-cli",
        &["cli", "hermes", "identity", "payment"],
        BINARIES_TESTS,
    ),
    // beside the house
    row("sim", THINKING, &[]),
    row("examples", &["node", "identity"], &["sim"]),
    row(
        "benches",
        &["identity", "payment", "tunnel", "transport", "nat"],
        &["sim"],
    ),
    row("xtask", &[], &[]),
];

/// Crates that only some rooms may depend on.
#[derive(Debug)]
pub(super) struct Ban {
    /// Name of the crate, or a prefix when it ends in `*`.
    pub(super) of: &'static str,
    /// Crates that the pattern covers and the ban does not.
    pub(super) except: &'static [&'static str],
    /// Rooms that may use it.
    pub(super) only_in: &'static [&'static str],
}

const fn only(of: &'static str, only_in: &'static [&'static str]) -> Ban {
    Ban {
        of,
        except: &[],
        only_in,
    }
}

/// Direct dependencies, whatever their kind.
pub(super) const BANS: &[Ban] = &[
    only("libp2p*", &["nat"]),
    // Numbers and addresses are values, welcome in any room.
    Ban {
        of: "alloy*",
        except: &["alloy-primitives"],
        only_in: &["chain"],
    },
    only("revm*", &["chain"]),
    only("rocksdb", &["store"]),
    only("tokio-postgres", &["store"]),
    only("deadpool*", &["store"]),
    only("refinery*", &["store"]),
    only("prost*", &["api"]),
    only("protox*", &["api"]),
    only("tonic*", &["api"]),
    // nat uses the endpoint that transport built and node, or a bench in its place, hands over.
    only("quinn*", &["transport", "node", "nat", "benches"]),
    only("axum*", &["chain", "control"]),
    only("uniffi*", &["ffi"]),
];

/// What no room below the line may reach, not even through another crate.
pub(super) const BELOW_THE_LINE: &[&str] = &[
    "tokio",
    "quinn*",
    "libp2p*",
    "alloy-provider",
    "alloy-transport*",
    "rocksdb",
    "tonic*",
    "mio",
    "reqwest",
    "hyper*",
    "async-std",
    "smol",
];

/// What no room below the line may depend on itself.
pub(super) const BELOW_THE_LINE_DIRECTLY: &[&str] = &[
    "rand*",
    "getrandom",
    "fastrand",
    "tracing-subscriber",
    "nix",
    "libc",
    "socket2",
    "futures*",
    "chrono",
    "time",
    "web-time",
];

/// `wayfare-x` is the room `x`.
pub(super) fn room(package: &str) -> &str {
    package.strip_prefix("wayfare-").unwrap_or(package)
}

/// Whether `name` is meant by `pattern`, which may end in `*`.
pub(super) fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}
