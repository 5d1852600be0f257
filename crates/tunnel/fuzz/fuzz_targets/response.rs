//! libFuzzer's door to the body `response`. It refuses to do anything else.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    wayfare_tunnel_fuzz::bodies::response(bytes);
});
