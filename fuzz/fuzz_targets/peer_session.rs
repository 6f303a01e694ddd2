#![no_main]
//! libFuzzer's way into `ringway_fuzz::peer_session`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringway_fuzz::peer_session::run(bytes));
