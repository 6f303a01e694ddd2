#![no_main]
//! libFuzzer's way into `ringway_fuzz::handshake`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringway_fuzz::handshake::run(bytes));
