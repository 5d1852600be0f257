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

use bodies::{Ending, TARGETS};

/// Small enough to be cloned and replayed by everybody.
const MOST_FILES: usize = 200;
const MOST_BYTES: usize = 300 << 10;
/// Of how many short inputs one is tried.
const STEP: usize = 3;
