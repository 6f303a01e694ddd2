//! Which relays are kept, by example and by rule.
//!
//! Here: tests of the pure choice. Not here: sessions.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn kept(selection: &Selection) -> Vec<usize> {
    (0..RELAYS_MAX)
        .filter(|relay| selection.kept().contains(*relay))
        .collect()
}

/// Returns a selection whose relays stand at these distances.
fn standing(kept_max: usize, rtts_ms: &[u32]) -> Selection {
    let mut selection = Selection::new(rtts_ms.len(), kept_max);
    for (relay, rtt) in rtts_ms.iter().enumerate() {
        selection.admitted(relay);
        selection.measured(relay, MS * *rtt);
    }
    selection
}

#[test]
fn every_relay_is_tried_once_then_the_nearest_are_kept() {
    let mut selection = Selection::new(4, 2);
    assert_eq!(kept(&selection), [0, 1, 2, 3]);
    selection.failed(0);
    selection.admitted(1);
    selection.measured(1, MS * 80);
    assert_eq!(kept(&selection), [0, 1, 2, 3]);
    selection.admitted(2);
    selection.measured(2, MS * 20);
    selection.admitted(3);
    assert_eq!(kept(&selection), [1, 2], "0 is farther than both, and down");
    selection.measured(3, MS * 10);
    assert_eq!(kept(&selection), [2, 3]);
    assert_eq!(selection.by_distance(), [3, 2, 1, 0]);
}

#[test]
fn the_next_relay_stands_in_for_a_lost_one_until_it_is_back() {
    let mut selection = standing(2, &[10, 20, 30, 40]);
    assert_eq!(kept(&selection), [0, 1]);
    selection.failed(0);
    assert_eq!(kept(&selection), [0, 1, 2]);
    selection.failed(2);
    assert_eq!(kept(&selection), [0, 1, 2, 3]);
    selection.admitted(0);
    assert_eq!(kept(&selection), [0, 1]);
}

#[test]
fn relays_at_about_the_same_distance_do_not_take_turns() {
    let mut selection = standing(1, &[100, 99]);
    let first = kept(&selection);
    for _ in 0..100 {
        for relay in [0, 1] {
            selection.measured(relay, MS * 85);
            assert_eq!(kept(&selection), first);
            selection.measured(relay, MS * 100);
            assert_eq!(kept(&selection), first);
        }
    }
}

#[test]
fn a_relay_that_comes_closer_for_good_is_taken() {
    let mut selection = standing(1, &[100, 200]);
    let mut measurements_count = 0;
    while kept(&selection) == [0] {
        selection.measured(1, MS * 40);
        measurements_count += 1;
        assert!(measurements_count < 10);
    }
    assert_eq!(kept(&selection), [1]);
    assert!(measurements_count > 3, "one answer does not decide");
    selection.measured(0, MS * 1);
    assert_eq!(kept(&selection), [1], "and back neither");
}

#[test]
fn a_set_has_a_place_for_every_relay() {
    let mut set = RelaySet::default();
    set.insert(15);
    set.insert(16);
    assert!(set.contains(15) && !set.contains(16) && !set.contains(0));
    assert!(set.union(RelaySet(1)).contains(0));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Admitted(usize),
    Failed(usize),
    Measured(usize, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let relay = 0..6_usize;
    prop_oneof![
        relay.clone().prop_map(Step::Admitted),
        relay.clone().prop_map(Step::Failed),
        (relay, 0..200_u32).prop_map(|(relay, ms)| Step::Measured(relay, ms)),
    ]
}

proptest! {
    #[test]
    fn the_kept_set_obeys_its_rules(
        steps in prop::collection::vec(step(), 0..120),
        kept_max in 1..4_usize,
    ) {
        let mut selection = Selection::new(6, kept_max);
        for step in steps {
            match step {
                Step::Admitted(relay) => selection.admitted(relay),
                Step::Failed(relay) => selection.failed(relay),
                Step::Measured(relay, ms) => selection.measured(relay, MS * ms),
            }
            let all = &selection.candidates;
            let kept = kept(&selection);
            let outside: Vec<usize> = (0..6).filter(|one| !kept.contains(one)).collect();
            let up = |set: &[usize]| set.iter().filter(|one| !all[**one].is_down).count();

            prop_assert!(outside.iter().all(|one| all[*one].is_tried));
            // Enough relays that are not down, unless there are no more.
            prop_assert!(up(&kept) >= kept_max || outside.is_empty());
            // No more than needed, but for those to be tried.
            let untried = kept.iter().filter(|one| !all[**one].is_tried).count();
            prop_assert!(up(&kept) <= kept_max + untried);
            // Nobody outside is nearer by more than the margin.
            let far = |relay: &usize| selection.rtt(*relay).unwrap_or(Duration::MAX);
            for inside in kept.iter().filter(|one| all[**one].is_tried) {
                let bar = selection.rtt(*inside).map_or(Duration::MAX, nearer);
                prop_assert!(outside.iter().all(|one| far(one) >= bar.min(far(inside))));
            }
            // What is reported again changes nothing.
            let before = selection.kept();
            for relay in 0..6 {
                if selection.candidates[relay].is_down {
                    selection.failed(relay);
                    prop_assert_eq!(selection.kept(), before);
                }
            }
        }
    }
}
