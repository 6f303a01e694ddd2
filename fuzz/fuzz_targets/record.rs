#![no_main]
//! libFuzzer's way into `ringway_fuzz::record`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringway_fuzz::record::run(bytes));
