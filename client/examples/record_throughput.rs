//! Measures how fast records are sealed and opened on one core, and prints a table.
//!
//! `cargo run --release -p ringway-client --example record_throughput`
//!
//! `native` is what the client uses, `portable` is the implementation in `ringway-proto`. The payload
//! stays in the core's cache, as it does between a socket read and the application.

#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use ringway_client::NativeAead;
use ringway_proto::limits::RECORD_TAG;
use ringway_proto::record::{RecordAead, SoftAead};

fn main() {
    let key = [7; 32];
    println!("| payload | native seal | native open | portable seal | portable open |");
    println!("|---|---|---|---|---|");
    for payload in [64, 1_024, 4_096, 16_384, 65_519] {
        let (native, soft) = (NativeAead::new(&key), SoftAead::new(&key));
        let cells = [
            seal(&native, payload),
            open(&native, payload),
            seal(&soft, payload),
            open(&soft, payload),
        ];
        let cells = cells.map(|rate| format!("{rate:.2} GB/s")).join(" | ");
        println!("| {payload} B | {cells} |");
    }
}

/// Returns the payload bytes sealed in a nanosecond.
fn seal(aead: &impl RecordAead, payload: usize) -> f64 {
    let mut buf = vec![1; payload];
    let mut tag = [0; RECORD_TAG];
    best_rate(payload, |records| {
        let started = Instant::now();
        for nonce in 0..records {
            aead.seal_in_place(nonce, black_box(&mut buf), &mut tag);
        }
        started.elapsed()
    })
}

/// Returns the payload bytes opened in a nanosecond. Opening in place uses a record up, so each round
/// gets fresh ones before the clock starts.
fn open(aead: &impl RecordAead, payload: usize) -> f64 {
    let mut record = vec![1; payload];
    let mut tag = [0; RECORD_TAG];
    aead.seal_in_place(0, &mut record, &mut tag);
    record.extend_from_slice(&tag);
    let mut copies = Vec::new();
    best_rate(payload, |records| {
        copies.resize_with(usize::try_from(records).unwrap_or(usize::MAX), Vec::new);
        for copy in &mut copies {
            copy.clone_from(&record);
        }
        let started = Instant::now();
        for copy in &mut copies {
            let len = aead.open_in_place(0, black_box(copy));
            assert_eq!(len, Ok(payload), "the record opens");
        }
        started.elapsed()
    })
}

/// Repeats `round`, which handles some records and says how long it took, and returns the bytes a
/// nanosecond of the best one: the others shared the core with other work of the machine.
fn best_rate(payload: usize, mut round: impl FnMut(u64) -> Duration) -> f64 {
    let records = u64::try_from(ROUND_BYTES / payload).unwrap_or(1).max(1);
    let best = (0..ROUNDS)
        .map(|_| round(records))
        .min()
        .unwrap_or(Duration::MAX);
    let bytes = u32::try_from(ROUND_BYTES / payload * payload).map_or(0.0, f64::from);
    bytes / (best.as_secs_f64() * 1e9)
}

const ROUNDS: usize = 1_000;

/// Bytes of one round: under the second-level cache, and short against a time slice.
const ROUND_BYTES: usize = 262_144;
