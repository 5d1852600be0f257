//! Examples that embed the crates.
