//! OpenVPN from point to point: TLS with throwaway certificates, ChaCha20-Poly1305, no kernel
//! module. It refuses to be tuned: it runs as Debian ships it, with the MTU of the others.

use anyhow::Context as _;

use super::pair::{MTU, PORT, Side};
use crate::lab::Lab;
use crate::process::{SHORT, command, output};

/// The command line of one end.
///
/// # Errors
/// When no certificate can be made.
pub(super) fn words(own: &Side, far: &Side, lab: &Lab) -> anyhow::Result<Vec<String>> {
    let (certificate, _) = certificate(own, lab)?;
    let (_, far_print) = self::certificate(far, lab)?;
    let key = certificate.replace(".crt", ".pem");
    let role = if own.outer < far.outer {
        "--tls-client"
    } else {
        "--tls-server"
    };
    let port = PORT.to_string();
    let (outer, remote) = (own.outer.to_string(), far.outer.to_string());
    let words = [
        "--dev",
        &own.interface,
        "--dev-type",
        "tun",
        "--proto",
        "udp4",
        "--local",
        &outer,
        "--lport",
        &port,
        "--remote",
        &remote,
        "--rport",
        &port,
        "--tun-mtu",
        MTU,
        "--mssfix",
        "0",
        "--disable-dco",
        "--dh",
        "none",
        role,
        "--cert",
        &certificate,
        "--key",
        &key,
        "--peer-fingerprint",
        &far_print,
        "--data-ciphers",
        "CHACHA20-POLY1305",
        "--verb",
        "1",
    ];
    Ok(words.map(str::to_owned).to_vec())
}

/// A self-signed certificate, made at the first call, and its fingerprint.
fn certificate(of: &Side, lab: &Lab) -> anyhow::Result<(String, String)> {
    let file = lab.folder().join(format!("{}.crt", of.interface));
    let path = file.to_string_lossy().into_owned();
    if !file.exists() {
        let key = path.replace(".crt", ".pem");
        let words = [
            "req",
            "-x509",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-days",
            "2",
            "-subj",
            "/CN=bench",
            "-keyout",
            &key,
            "-out",
            &path,
        ];
        output(&mut command("openssl", words), SHORT)?;
    }
    let words = ["x509", "-noout", "-fingerprint", "-sha256", "-in", &path];
    let told = output(&mut command("openssl", words), SHORT)?;
    let print = told.trim().split_once('=').context("no fingerprint")?.1;
    Ok((path, print.to_owned()))
}
