//! The program `ringway-sim`: runs seeds and says which one failed.
//!
//! Here: flags, progress, the summary. Not here: the simulation (the library).

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use ringway_sim::{Counts, run};

/// Simulates relays, peers and networks; one seed decides a whole run.
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    /// How many seeds to run.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Replay one seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Print every event of the run; with --seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Go on after a failure and list every seed that failed.
    #[arg(long)]
    keep_going: bool,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
}

/// Seeds that failed once: they run first.
const KEPT_SEEDS: &str = include_str!("../seeds.txt");

fn main() -> ExitCode {
    let flags = Flags::parse();
    std::panic::set_hook(Box::new(|info| {
        let seed = SEED.with(std::cell::Cell::get);
        say(&format!("seed {seed} panics: {info}"));
        say(&format!("replay: {}", replay(seed)));
    }));
    if let Some(seed) = flags.seed {
        return report(&run_all(&[seed], &flags));
    }
    let mut seeds = kept_seeds();
    seeds.extend(flags.start..flags.start.saturating_add(flags.seeds));
    report(&run_all(&seeds, &flags))
}

thread_local! {
    static SEED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// What all runs came to.
struct Total {
    counts: Counts,
    seeds: u64,
    seconds: f64,
    failure: Option<(u64, String)>,
}

fn kept_seeds() -> Vec<u64> {
    KEPT_SEEDS
        .lines()
        .filter_map(|line| line.split('#').next()?.trim().parse().ok())
        .collect()
}

fn run_all(seeds: &[u64], flags: &Flags) -> Total {
    let begin = Instant::now();
    let next = AtomicU64::new(0);
    let total = Mutex::new(Total {
        counts: Counts::default(),
        seeds: 0,
        seconds: 0.0,
        failure: None,
    });
    std::thread::scope(|scope| {
        for _ in 0..flags.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let index = usize::try_from(next.fetch_add(1, Ordering::Relaxed));
                    let Some(seed) = index.ok().and_then(|index| seeds.get(index)).copied() else {
                        return;
                    };
                    SEED.with(|cell| cell.set(seed));
                    let outcome = run(seed, flags.trace);
                    let Ok(mut total) = total.lock() else { return };
                    total.counts.add(&outcome.counts);
                    total.seeds += 1;
                    if total.seeds.is_multiple_of(500) {
                        say(&format!("{} seeds passed", total.seeds));
                    }
                    if let Some(sentence) = outcome.failure {
                        say(&format!("seed {seed} FAILED: {sentence}"));
                        total.failure.get_or_insert((seed, sentence));
                    }
                    if total.failure.is_some() && !flags.keep_going {
                        return;
                    }
                }
            });
        }
    });
    let mut total = total
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    total.seconds = begin.elapsed().as_secs_f64();
    total
}

fn report(total: &Total) -> ExitCode {
    if let Some((seed, sentence)) = &total.failure {
        say(&format!("first failure: seed {seed}: {sentence}"));
        say(&format!("replay: {}", replay(*seed)));
        return ExitCode::FAILURE;
    }
    say(&format!(
        "{} seeds passed in {:.1} s",
        total.seeds, total.seconds
    ));
    for (name, count) in total.counts.fields() {
        say(&format!("{count:>14}  {name}"));
    }
    ExitCode::SUCCESS
}

fn replay(seed: u64) -> String {
    format!("cargo run --release -p ringway-sim -- --seed {seed} --trace")
}

fn say(line: &str) {
    // Whoever closed the pipe wants to hear no more.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}
