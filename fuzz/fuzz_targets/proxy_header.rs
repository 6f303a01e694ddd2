#![no_main]
//! libFuzzer's way into `ringway_fuzz::proxy_header`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringway_fuzz::proxy_header::run(bytes));
