//! Some dozen seeds of runs in which the relay sets routes up; the program runs them by the hundred.

use ringway_sim::{Counts, run_routes};

#[test]
fn seeds_pass_and_every_kind_of_fault_happens() {
    let mut counts = Counts::default();
    for seed in 0..60 {
        let outcome = run_routes(seed, false);
        assert_eq!(
            outcome.failure, None,
            "replay: cargo run --release -p ringway-sim -- --routes --seed {seed} --trace"
        );
        counts.add(&outcome.counts);
    }
    let least = [
        ("setups", counts.setups, 800),
        ("setups that stand", counts.setups_stand, 300),
        ("refused setups", counts.setups_refused, 100),
        ("setups refused with 501", counts.setups_busy, 20),
        ("askers that went", counts.askers_gone, 10),
        ("streams to hops", counts.hop_streams, 400),
        ("questions to hops", counts.hop_questions, 2_000),
        ("refusals of hops", counts.hop_refusals, 20),
        ("silences of hops", counts.hop_silences, 20),
        ("lies of hops", counts.hop_lies, 20),
        ("delays of hops", counts.hop_delays, 20),
        ("deaths of hops", counts.hops_died, 10),
        ("lost sessions of services", counts.services_lost, 10),
        ("broken sessions", counts.resets, 10),
        ("vanished peers", counts.vanished, 5),
    ];
    for (what, count, least) in least {
        assert!(count >= least, "{what}: {count}");
    }
}

#[test]
fn seed_decides_every_event() {
    let hashes = [3, 11, 40, 41].map(|seed| {
        let outcomes = [(); 2].map(|()| {
            let outcome = run_routes(seed, false);
            (outcome.counts.fields(), outcome.trace_hash)
        });
        assert_eq!(outcomes[0], outcomes[1], "seed {seed}");
        outcomes[0].1
    });
    assert!(hashes.windows(2).all(|pair| pair[0] != pair[1]));
}
