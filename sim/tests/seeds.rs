//! A few dozen seeds as an ordinary test; the program runs them by the thousand.

use ringway_sim::run;

#[test]
fn seeds_pass() {
    for seed in 0..48 {
        let outcome = run(seed, false);
        assert_eq!(
            outcome.failure, None,
            "replay: cargo run --release -p ringway-sim -- --seed {seed} --trace"
        );
    }
}

#[test]
fn seed_decides_the_whole_run() {
    for seed in [3, 11, 40] {
        let counts = [(); 2].map(|()| {
            let outcome = run(seed, false);
            (outcome.counts.fields(), outcome.trace_hash)
        });
        assert_eq!(counts[0], counts[1], "seed {seed}");
    }
}
