//! Compiles `proto/` to Rust, without any `protoc`. Refuses to read anything but that folder.

#![allow(
    clippy::disallowed_methods,
    reason = "cargo tells build scripts where they are by environment"
)]

use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 7] = [
    "wayfare/link/v1/link.proto",
    "wayfare/payment/v1/payment.proto",
    "wayfare/hermes/v1/hermes.proto",
    "wayfare/discovery/v1/discovery.proto",
    "wayfare/peer/v1/peer.proto",
    "wayfare/relay/v1/relay.proto",
    "wayfare/control/v1/control.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut compiler = protox::Compiler::new([&root])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(FILES)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(
        out.join("descriptors.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    tonic_prost_build::configure()
        .include_file("wayfare.rs")
        .emit_rerun_if_changed(false)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
