//! Tests of the choice, and of the counts under all that can happen to a connection.

use proptest::prelude::*;

use super::*;

fn open(counts: &[u32]) -> Vec<Seen> {
    let seen = |connections: &u32| Seen {
        connections: *connections,
        is_shut: false,
    };
    counts.iter().map(seen).collect()
}

fn chosen(own: u16, counts: &[u32], connections_max: u32) -> Option<u16> {
    least_loaded(own, open(counts).into_iter(), connections_max).map(|(shard, _)| shard)
}

#[test]
fn connection_stays_unless_another_shard_is_a_run_behind() {
    assert_eq!(chosen(0, &[5], 9), None);
    assert_eq!(chosen(0, &[5, 5], 9), None);
    assert_eq!(chosen(0, &[5, 4], 9), None);
    assert_eq!(chosen(0, &[5, 3], 9), Some(1));
    assert_eq!(chosen(0, &[4, 3], 9), Some(1), "its run is not full");
    assert_eq!(chosen(0, &[4, 4], 9), None);
    assert_eq!(chosen(1, &[5, 3], 9), None);
    assert_eq!(chosen(0, &[u32::MAX, u32::MAX], u32::MAX), None);
}

#[test]
fn of_equals_the_nearest_behind_is_chosen() {
    assert_eq!(chosen(1, &[0, 9, 0, 0], 99), Some(2));
    assert_eq!(chosen(3, &[0, 0, 0, 9], 99), Some(0));
}

#[test]
fn burst_from_one_listener_goes_out_in_runs() {
    let loads = Loads::new(3, 100);
    let mut held = Vec::new();
    let mut places = Vec::new();
    for _ in 0..12 {
        let permit = loads.choose(0).unwrap_or_else(|| loads.enter(0));
        places.push(permit.shard());
        held.push(permit);
    }
    assert_eq!(places, [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]);
    assert_eq!(chosen(0, &[9, 0, 1, 0], 99), Some(2), "a run goes on");
}

#[test]
fn full_and_shut_shards_are_passed_over() {
    assert_eq!(chosen(0, &[9, 4, 5], 5), Some(1));
    assert_eq!(chosen(0, &[9, 5, 5], 5), None, "both are full");
    let mut seen = open(&[9, 1, 4]);
    seen[1].is_shut = true;
    let target = least_loaded(0, seen.into_iter(), 99);
    assert_eq!(target, Some((2, 4)));
}

#[test]
fn permit_counts_from_the_choice_to_its_drop() {
    let loads = Loads::new(2, 10);
    let mut held: Vec<_> = (0..2).map(|_| loads.enter(0)).collect();
    let moved = loads.choose(0).unwrap();
    assert_eq!((moved.shard(), loads.count(1)), (1, 1), "at the choice");
    let second = loads.choose(0).unwrap();
    assert!(loads.choose(0).is_none(), "they are equal now");
    drop(second);
    moved.pass_on();
    let adopted = loads.adopt(1);
    assert_eq!(loads.count(1), 1, "the owner has it");
    drop(adopted);
    assert_eq!(loads.count(1), 0);
    drop(loads.choose(0).unwrap());
    assert_eq!(loads.count(1), 0, "a hand-over that failed");
    held.clear();
    assert_eq!(loads.count(0), 0);
}

#[test]
fn shard_counts_as_full_with_what_is_on_its_way() {
    let loads = Loads::new(2, 2);
    let held: Vec<_> = (0..9).map(|_| loads.enter(0)).collect();
    let moved: Vec<_> = (0..2).map(|_| loads.choose(0).unwrap()).collect();
    assert!(loads.is_full(1) && loads.choose(0).is_none());
    drop(moved);
    loads.set_shut(1, true);
    assert!(!loads.is_full(1) && loads.choose(0).is_none());
    loads.set_shut(1, false);
    assert!(loads.choose(0).is_some());
    drop(held);
}

/// What happens next, with a number that says to whom.
#[derive(Debug, Clone, Copy)]
enum Step {
    Arrive(u16),
    Land(usize),
    Fail(usize),
    Leave(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0_u8..8, any::<u16>()).prop_map(|(kind, number)| match kind {
        0..4 => Step::Arrive(number),
        4 => Step::Land(number.into()),
        5 => Step::Fail(number.into()),
        _ => Step::Leave(number.into()),
    });
    proptest::collection::vec(step, 1..400)
}

proptest! {
    /// Shards accept in any order, hand-overs land late or fail, connections leave.
    #[test]
    fn counts_are_the_connections_and_those_on_their_way(
        shards in 1_u16..6,
        connections_max in 1_u32..40,
        steps in steps(),
    ) {
        let loads = Loads::new(shards, connections_max);
        let mut held: Vec<LoadPermit> = Vec::new();
        // Who sent it, and where to.
        let mut flying: Vec<(u16, LoadPermit)> = Vec::new();
        for step in steps {
            match step {
                Step::Arrive(number) => {
                    let own = number % shards;
                    match loads.choose(own) {
                        Some(permit) => {
                            prop_assert!(permit.shard() != own);
                            prop_assert!(loads.count(permit.shard()) <= connections_max);
                            prop_assert!(loads.count(permit.shard()) <= loads.count(own));
                            flying.push((own, permit));
                        }
                        None => held.push(loads.enter(own)),
                    }
                }
                Step::Land(number) if !flying.is_empty() => {
                    let (_, permit) = flying.swap_remove(number % flying.len());
                    let shard = permit.shard();
                    permit.pass_on();
                    held.push(loads.adopt(shard));
                }
                Step::Fail(number) if !flying.is_empty() => {
                    let (own, permit) = flying.swap_remove(number % flying.len());
                    drop(permit);
                    held.push(loads.enter(own));
                }
                Step::Leave(number) if !held.is_empty() => {
                    drop(held.swap_remove(number % held.len()));
                }
                Step::Land(_) | Step::Fail(_) | Step::Leave(_) => {}
            }
            for shard in 0..shards {
                let here = held.iter().chain(flying.iter().map(|(_, permit)| permit));
                let count = here.filter(|permit| permit.shard() == shard).count();
                prop_assert_eq!(usize::try_from(loads.count(shard)).unwrap(), count);
            }
        }
        drop((held, flying));
        prop_assert!((0..shards).all(|shard| loads.count(shard) == 0));
    }

    /// However the kernel deals them out, arrivals alone leave no two shards far apart.
    #[test]
    fn arrivals_leave_the_shards_within_a_run(
        shards in 1_u16..9,
        arrivals in proptest::collection::vec(any::<u16>(), 1..600),
    ) {
        let loads = Loads::new(shards, u32::MAX);
        let mut held = Vec::new();
        for number in arrivals {
            // Half of them come to the first listener: a hash that is far from even.
            let own = if number % 2 == 0 { 0 } else { number / 2 % shards };
            held.push(loads.choose(own).unwrap_or_else(|| loads.enter(own)));
            let counts = (0..shards).map(|shard| loads.count(shard));
            let (least, most) = (counts.clone().min().unwrap(), counts.max().unwrap());
            prop_assert!(most - least <= RUN, "{least} to {most}");
        }
    }
}

/// Two threads that choose at the same moments never give one shard more than the gap it had.
#[test]
fn choices_at_once_do_not_overfill() {
    let loads = Loads::new(3, u32::MAX);
    let rounds: u32 = 2_000;
    let held: Vec<_> = (0..rounds)
        .flat_map(|_| [loads.enter(0), loads.enter(1)])
        .collect();
    let choose = |own: u16, loads: Loads| {
        std::thread::spawn(move || {
            let mut taken = Vec::new();
            while let Some(permit) = loads.choose(own) {
                taken.push(permit);
            }
            taken
        })
    };
    let threads = [choose(0, loads.clone()), choose(1, loads.clone())];
    let taken: Vec<_> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    assert!(loads.count(2) <= rounds, "{}", loads.count(2));
    drop((held, taken));
    assert_eq!([0, 1, 2].map(|shard| loads.count(shard)), [0, 0, 0]);
}
