//! The fuzz bodies as a library: the very files that the corpus test of the crate above compiles.
//! It refuses bodies of its own, so that whatever libFuzzer finds is replayed by every test run.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/fuzz/bodies.rs"]
pub mod bodies;
