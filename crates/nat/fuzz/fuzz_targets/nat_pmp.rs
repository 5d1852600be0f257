//! libFuzzer's door to the body `nat_pmp`. It refuses to do anything else.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    wayfare_nat_fuzz::run("nat_pmp", bytes);
});
