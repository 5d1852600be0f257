//! The committed corpora, replayed through the same bodies that libFuzzer runs (see `fuzz/` beside `src/`).
//! It refuses to know how: see `replay`.

#![allow(clippy::unwrap_used)]
#![allow(
    unreachable_pub,
    reason = "the bodies are a library for libFuzzer and private here"
)]

#[path = "fuzz/bodies.rs"]
pub mod bodies;
#[path = "corpus/replay.rs"]
mod replay;
