#![no_main]
//! libFuzzer's way into `ringway_fuzz::dmsg_open`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringway_fuzz::dmsg_open::run(bytes));
