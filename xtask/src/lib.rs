//! The workshop behind `cargo xtask`: the house rules, the test command, the machine's doctor, and
//! the namespace laboratory that the demo and the crash test are built on.
//!
//! It refuses to know anything of the product's insides: it runs the product as a stranger would,
//! by its binaries, and reads its source as text.
#![allow(
    clippy::disallowed_methods,
    reason = "the workshop is outside the house: it measures real time, polls real processes and reads the environment"
)]

pub mod bench;
pub mod ci;
pub mod cli;
pub mod commands;
pub mod crash;
pub mod demo;
pub mod doctor;
pub mod fuzz;
pub mod interrupt;
pub mod lab;
pub mod machine;
pub mod natlab;
pub mod need;
pub mod process;
pub mod progress;
pub mod report;
pub mod soak;
pub mod test;
pub mod tidy;
pub mod tree;
pub mod vectors;

pub use need::need;
