//! The generated code. Private: nothing outside this crate ever sees a protobuf type.

#![allow(
    clippy::all,
    clippy::unwrap_used,
    clippy::wildcard_imports,
    unreachable_pub,
    missing_debug_implementations
)]
#![allow(dead_code, rustdoc::all)]

include!(concat!(env!("OUT_DIR"), "/wayfare.rs"));

pub(crate) use wayfare::{control, discovery, hermes, link, payment, peer, relay};

/// The descriptors of all services, for reflection.
pub(crate) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
