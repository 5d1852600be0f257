//! What the bare cipher costs: ChaCha20-Poly1305 over packets of 1,420 bytes, sealed and opened
//! where they lie, as many as fit into a core's nearest caches but one. It refuses to measure
//! anything of the tunnel around it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

const PACKET: usize = 1_420;
const TAG: usize = 16;

/// Packets of one pass: 64 KiB, a super-packet's worth.
const PASS: usize = 46;

/// For each of the two; tens of thousands of passes.
const TIME: Duration = Duration::from_millis(300);

/// Measures, and tells nanoseconds a byte as JSON.
pub(crate) fn measure() -> anyhow::Result<String> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]);
    let key = LessSafeKey::new(key.map_err(|_| anyhow!("the cipher refuses its key"))?);
    let mut packets = vec![[0x5a; PACKET + TAG]; PASS];
    let seal = |packet: &mut [u8; PACKET + TAG], number: usize| {
        let (text, tag) = packet.split_at_mut(PACKET);
        let made = key
            .seal_in_place_separate_tag(nonce(number), Aad::empty(), text)
            .ok()?;
        tag.copy_from_slice(made.as_ref());
        Some(())
    };
    let open = |packet: &mut [u8; PACKET + TAG], number: usize| {
        key.open_in_place(nonce(number), Aad::empty(), packet)
            .ok()
            .map(drop)
    };
    // Passes alternate, so that what is opened was sealed; each kind has a clock of its own.
    let (mut sealing, mut opening) = (Duration::ZERO, Duration::ZERO);
    let mut passes = 0_u32;
    while sealing + opening < 2 * TIME {
        sealing += pass(&mut packets, seal)?;
        opening += pass(&mut packets, open)?;
        passes += 1;
    }
    let bytes = f64::from(passes) * (PASS * PACKET) as f64;
    let cost = |time: Duration| time.as_secs_f64() * 1e9 / bytes;
    Ok(format!(
        "{{\"seal_ns_per_byte\": {:.4}, \"open_ns_per_byte\": {:.4}}}",
        cost(sealing),
        cost(opening)
    ))
}

fn pass(
    packets: &mut [[u8; PACKET + TAG]],
    work: impl Fn(&mut [u8; PACKET + TAG], usize) -> Option<()>,
) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    for (number, packet) in packets.iter_mut().enumerate() {
        work(packet, number).context("the cipher failed")?;
    }
    Ok(begun.elapsed())
}

fn nonce(number: usize) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&(number as u64).to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}
