#![no_main]
//! libFuzzer's way into `ringway_fuzz::shard_core`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringway_fuzz::shard_core::run(bytes));
