//! Every service of this door, client against server, over loopback, a Unix socket or a stream in memory.

#![allow(clippy::unwrap_used)]

mod control;
mod discovery;
mod hermes;
mod nouns;
mod peer;
mod relay;
