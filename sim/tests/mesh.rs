//! Two hundred seeds of runs with several relays; the program runs them by the thousand.

use ringway_sim::{Counts, run_mesh};

#[test]
fn seeds_pass_and_every_kind_of_fault_happens() {
    let mut counts = Counts::default();
    for seed in 0..200 {
        let outcome = run_mesh(seed, None, false);
        assert_eq!(
            outcome.failure, None,
            "replay: cargo run --release -p ringway-sim -- --relays 0 --seed {seed} --trace"
        );
        counts.add(&outcome.counts);
    }
    let least = [
        ("links", counts.links_opened, 2_000),
        ("sets of peers", counts.peer_sets, 1_000),
        ("forwards", counts.forwards, 1_000),
        ("forwards to a second relay", counts.forwards_again, 2),
        ("lookups", counts.lookups, 300),
        ("wrong lookups", counts.lookups_wrong, 20),
        ("cuts", counts.links_cut, 50),
        ("resets", counts.links_reset, 50),
        ("delays", counts.links_delayed, 50),
        ("failed connects", counts.connects_failed, 200),
        ("kills", counts.relays_killed, 50),
        ("drains", counts.relays_drained, 40),
        ("changes of wanted relays", counts.wants_changed, 50),
        ("moves", counts.peers_moved, 100),
        ("vanished", counts.vanished, 30),
        ("streams completed", counts.streams_completed, 3_000),
        ("pairs reached", counts.probes_reached, 1_000),
    ];
    for (what, count, least) in least {
        assert!(count >= least, "{what}: {count}");
    }
    // Some pairs have no link, and must not be reached.
    assert!(counts.probes_reached < counts.probes);
}

#[test]
fn number_of_relays_can_be_fixed() {
    for relays in 2..=4 {
        let outcome = run_mesh(7, Some(relays), false);
        assert_eq!(outcome.failure, None, "{relays} relays");
        assert_eq!(outcome.counts.relays, relays as u64);
    }
}

#[test]
fn seed_decides_every_event() {
    let hashes = [3, 11, 40, 41].map(|seed| {
        let hashes = [(); 2].map(|()| run_mesh(seed, None, false).trace_hash);
        assert_eq!(hashes[0], hashes[1], "seed {seed}");
        hashes[0]
    });
    assert!(hashes.windows(2).all(|pair| pair[0] != pair[1]));
}
