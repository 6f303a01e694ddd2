//! Measures how fast records are sealed and opened on one core, and prints a table.
//!
//! `cargo run --release -p ringway-client --example record_throughput`
//!
//! `ring` is what the client uses, `portable` is the implementation in `ringway-proto`. The payload
//! stays in the core's cache, as it does between a socket read and the application.

#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use ringway_client::RingAead;
use ringway_proto::limits::RECORD_TAG;
use ringway_proto::record::{RecordAead, SoftAead};

fn main() {
    let key = [7; 32];
    println!("| payload | ring seal | ring open | portable seal | portable open |");
    println!("|---|---|---|---|---|");
    for payload in [64, 1_024, 4_096, 16_384, 65_519] {
        let (ring, soft) = (RingAead::new(&key), SoftAead::new(&key));
        let cells = [
            seal(&ring, payload),
            open(&ring, payload),
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
    rate(payload, |nonce| {
        aead.seal_in_place(nonce, black_box(&mut buf), &mut tag);
    })
}

/// Returns the payload bytes opened in a nanosecond, the copy that restores the record included.
fn open(aead: &impl RecordAead, payload: usize) -> f64 {
    let mut record = vec![1; payload];
    let mut tag = [0; RECORD_TAG];
    aead.seal_in_place(0, &mut record, &mut tag);
    record.extend_from_slice(&tag);
    let mut buf = record.clone();
    rate(payload, |_| {
        buf.copy_from_slice(&record);
        let len = aead.open_in_place(0, black_box(&mut buf));
        assert_eq!(len, Ok(payload), "the record opens");
    })
}

/// Repeats `step` and returns the bytes a nanosecond of the best of the rounds: the others had to
/// share the core.
fn rate(payload: usize, mut step: impl FnMut(u64)) -> f64 {
    let mut best: f64 = 0.0;
    let mut nonce = 0;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let mut bytes: u64 = 0;
        while started.elapsed() < ROUND_TIME {
            for _ in 0..STEPS {
                step(nonce);
                nonce += 1;
            }
            bytes += u64::try_from(payload * STEPS).unwrap_or(u64::MAX);
        }
        best = best.max(per_nanosecond(bytes, started.elapsed()));
    }
    best
}

fn per_nanosecond(bytes: u64, elapsed: Duration) -> f64 {
    let kib = u32::try_from(bytes / 1_024).unwrap_or(u32::MAX);
    f64::from(kib) * 1_024.0 / (elapsed.as_secs_f64() * 1e9)
}

const ROUNDS: usize = 8;
const ROUND_TIME: Duration = Duration::from_millis(100);

/// Steps between two looks at the clock.
const STEPS: usize = 16;
