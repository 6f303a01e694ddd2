//! The search against servers that are made up.
//!
//! Here: known knees, noise, edges. Not here: runs.

use super::*;

const LIMITS: Limits = Limits {
    from: 100,
    max: 1_000_000,
    factor: 2.0,
    resolution: 0.05,
    confirm: 5,
};

fn search(limits: Limits, mut server: impl FnMut(u64) -> Seen) -> (End, u32) {
    let mut search = Search::new(limits).unwrap();
    while let Some(value) = search.next_value() {
        assert!((1..=limits.max).contains(&value));
        assert!(search.probes() < 1_000, "the search does not end");
        search.observe(server(value));
    }
    (search.end().unwrap(), search.probes())
}

fn sharp(knee: u64) -> impl FnMut(u64) -> Seen {
    move |value| {
        if value <= knee {
            Seen::Met
        } else {
            Seen::Missed
        }
    }
}

/// A server whose capacity differs from window to window by a normal distribution.
fn noisy(knee: f64, spread: f64, seed: u64) -> impl FnMut(u64) -> Seen {
    let mut random = fastrand::Rng::with_seed(seed);
    move |value| {
        let normal = (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        if float(value) <= knee * (1.0 + spread * normal) {
            Seen::Met
        } else {
            Seen::Missed
        }
    }
}

#[test]
fn a_sharp_knee_is_found() {
    for knee in [100, 101, 137, 5_000, 77_777, 999_999] {
        let (end, probes) = search(LIMITS, sharp(knee));
        let End::Found(found) = end else {
            panic!("{knee}: {end:?}");
        };
        let knee = float(knee);
        assert!(found.low <= knee && knee <= found.high, "{knee}: {found:?}");
        assert!(found.high / found.low < 1.25, "{knee}: {found:?}");
        assert!(probes < 90, "{probes}");
    }
}

#[test]
fn small_counts_are_searched_one_by_one() {
    let limits = Limits {
        from: 1,
        max: 50,
        ..LIMITS
    };
    let (end, _) = search(limits, sharp(7));
    let End::Found(found) = end else {
        panic!("{end:?}");
    };
    assert!((6.5..=8.0).contains(&found.knee), "{found:?}");
}

#[test]
fn the_edges_are_told() {
    assert_eq!(search(LIMITS, sharp(99)), (End::FirstMisses, 2));
    assert_eq!(search(LIMITS, sharp(1_000_000)).0, End::MaximumMeets);
    let late = search(LIMITS, |_| Seen::Untrustworthy);
    assert_eq!(late, (End::Untrustworthy(100), UNTRUSTWORTHY_MAX));
    // A generator that is late above some value says so instead of blaming the server.
    let (end, _) = search(LIMITS, |value| {
        if value > 3_000 {
            Seen::Untrustworthy
        } else {
            Seen::Met
        }
    });
    assert_eq!(end, End::Untrustworthy(3_200));
}

#[test]
fn single_late_windows_are_repeated() {
    let (mut server, mut count) = (sharp(5_000), 0);
    let (end, _) = search(LIMITS, |value| {
        count += 1;
        if count % 3 == 0 {
            Seen::Untrustworthy
        } else {
            server(value)
        }
    });
    assert!(matches!(end, End::Found(_)), "{end:?}");
}

#[test]
fn pure_noise_ends_too() {
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        search(LIMITS, |_| {
            if random.bool() {
                Seen::Met
            } else {
                Seen::Missed
            }
        });
    }
}

#[test]
fn the_interval_covers_the_known_knee() {
    for spread in [0.01, 0.05, 0.1] {
        let mut covered = 0;
        for seed in 0..200 {
            let knee = 3_000.0 + 37.0 * float(seed);
            let (end, _) = search(LIMITS, noisy(knee, spread, seed));
            if let End::Found(found) = end {
                covered += u32::from(found.low <= knee && knee <= found.high);
            }
        }
        assert!(covered >= 182, "spread {spread}: {covered} of 200");
    }
}

#[test]
fn nonsense_is_refused() {
    for limits in [
        Limits { from: 0, ..LIMITS },
        Limits {
            from: 2,
            max: 1,
            ..LIMITS
        },
        Limits {
            factor: 1.0,
            ..LIMITS
        },
        Limits {
            factor: f64::NAN,
            ..LIMITS
        },
        Limits {
            resolution: 0.0,
            ..LIMITS
        },
        Limits {
            confirm: 0,
            ..LIMITS
        },
    ] {
        assert!(Search::new(limits).unwrap_err().contains("--"));
    }
}
