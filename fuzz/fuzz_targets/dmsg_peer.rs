#![no_main]
//! libFuzzer's way into `ringway_fuzz::peer_session`, dmsg dialect.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringway_fuzz::peer_session::run_dmsg(bytes));
