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
use ringway_sim::{Counts, Outcome, run, run_dmsg, run_mesh, run_routes};

/// Simulates relays, peers and networks; one seed decides a whole run.
#[derive(Debug, Parser)]
#[command(version)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
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
    /// Runs of so many linked relays, 2 to 4; 0: as each seed decides.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=4))]
    relays: Option<u8>,
    /// Runs with peers of the dmsg dialect.
    #[arg(long, conflicts_with_all = ["relays", "routes"])]
    dmsg: bool,
    /// Runs in which the relay sets routes up.
    #[arg(long, conflicts_with = "relays")]
    routes: bool,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
}

/// Seeds that failed once: they run first.
const KEPT_SEEDS: &str = include_str!("../seeds.txt");

/// Those of runs with several relays, as each seed decides.
const KEPT_MESH_SEEDS: &str = include_str!("../seeds-mesh.txt");

/// Those of runs with routes.
const KEPT_ROUTE_SEEDS: &str = include_str!("../seeds-routes.txt");

/// Those of runs with peers of the dmsg dialect.
const KEPT_DMSG_SEEDS: &str = include_str!("../seeds-dmsg.txt");

fn main() -> ExitCode {
    let flags = Flags::parse();
    let kind = flags.kind();
    let of_hook = kind.clone();
    std::panic::set_hook(Box::new(move |info| {
        let seed = SEED.with(std::cell::Cell::get);
        say(&format!("seed {seed} panics: {info}"));
        say(&format!("replay: {}", replay(seed, &of_hook)));
    }));
    if let Some(seed) = flags.seed {
        return report(&run_all(&[seed], &flags), &kind);
    }
    let mut seeds = kept_seeds(&flags);
    seeds.extend(flags.start..flags.start.saturating_add(flags.seeds));
    report(&run_all(&seeds, &flags), &kind)
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

impl Flags {
    /// Returns the flag that says which kind of run it is, with a space behind it.
    fn kind(&self) -> String {
        match self.relays {
            _ if self.dmsg => "--dmsg ".to_owned(),
            _ if self.routes => "--routes ".to_owned(),
            Some(relays) => format!("--relays {relays} "),
            None => String::new(),
        }
    }
}

fn kept_seeds(flags: &Flags) -> Vec<u64> {
    let kept = match flags.relays {
        _ if flags.dmsg => KEPT_DMSG_SEEDS,
        _ if flags.routes => KEPT_ROUTE_SEEDS,
        None | Some(1) => KEPT_SEEDS,
        Some(0) => KEPT_MESH_SEEDS,
        Some(_) => "",
    };
    kept.lines()
        .filter_map(|line| line.split('#').next()?.trim().parse().ok())
        .collect()
}

fn run_one(seed: u64, flags: &Flags) -> Outcome {
    match flags.relays {
        _ if flags.dmsg => run_dmsg(seed, flags.trace),
        _ if flags.routes => run_routes(seed, flags.trace),
        None | Some(1) => run(seed, flags.trace),
        Some(0) => run_mesh(seed, None, flags.trace),
        Some(relays) => run_mesh(seed, Some(usize::from(relays)), flags.trace),
    }
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
                    let outcome = run_one(seed, flags);
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

fn report(total: &Total, kind: &str) -> ExitCode {
    if let Some((seed, sentence)) = &total.failure {
        say(&format!("first failure: seed {seed}: {sentence}"));
        say(&format!("replay: {}", replay(*seed, kind)));
        return ExitCode::FAILURE;
    }
    say(&format!(
        "{} seeds passed in {:.1} s",
        total.seeds, total.seconds
    ));
    let counts = total.counts.fields();
    // Kinds of run differ in what can happen in them.
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        say(&format!("{count:>14}  {name}"));
    }
    ExitCode::SUCCESS
}

fn replay(seed: u64, kind: &str) -> String {
    format!("cargo run --release -p ringway-sim -- {kind}--seed {seed} --trace")
}

fn say(line: &str) {
    // Whoever closed the pipe wants to hear no more.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}
