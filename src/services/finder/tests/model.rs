//! A finder that tries everything, and random graphs and histories for both.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Sets by peer, with the second of their end.
type Sets = BTreeMap<u32, (u64, BTreeMap<u32, u32>)>;

/// Returns the latency of a transport that counts.
fn latency(sets: &Sets, one: u32, other: u32, now: u64) -> Option<u64> {
    let end = |one: u32, other: u32| {
        let (expires_s, ends) = sets.get(&one)?;
        (*expires_s > now).then(|| ends.get(&other).copied())?
    };
    Some(u64::from(end(one, other)?.max(end(other, one)?)))
}

/// Returns every simple path that begins with `path` and ends at `to`, with its latency.
fn all_paths(
    sets: &Sets,
    path: &mut Vec<u32>,
    to: u32,
    hops_max: usize,
    out: &mut Vec<(u64, Vec<u32>)>,
) {
    let last = *path.last().unwrap();
    if last == to {
        let length = path.windows(2);
        let length = length.map(|pair| latency(sets, pair[0], pair[1], 0).unwrap());
        out.push((length.sum(), path.clone()));
        return;
    }
    if path.len() == hops_max {
        return;
    }
    for next in 0..PEERS {
        if !path.contains(&next) && latency(sets, last, next, 0).is_some() {
            path.push(next);
            all_paths(sets, path, to, hops_max, out);
            path.pop();
        }
    }
}

fn rank(by: FindBy, path: &(u64, Vec<u32>)) -> (u64, u64) {
    let peers = path.1.len() as u64;
    match by {
        FindBy::Hops => (peers, path.0),
        FindBy::Latency => (path.0, peers),
    }
}

const PEERS: u32 = 8;

fn sets() -> impl Strategy<Value = Sets> {
    // Few different latencies, zero among them: ties are where mistakes are.
    let end = (0..PEERS, 0..6_u32);
    let ends = proptest::collection::btree_map(0..PEERS, end, 0..=PEERS as usize);
    let set = ends.prop_map(|ends| (60, ends.into_values().collect::<BTreeMap<u32, u32>>()));
    let symmetric = proptest::collection::vec((0..PEERS, 0..PEERS, 0..6_u32), 0..24);
    let single = proptest::collection::btree_map(0..PEERS, set, 0..=2);
    (single, symmetric).prop_map(|(single, both)| {
        let mut sets: Sets = single;
        for (one, other, latency) in both {
            for (one, other) in [(one, other), (other, one)] {
                let (_, ends) = sets.entry(one).or_insert((60, BTreeMap::new()));
                ends.insert(other, latency);
            }
        }
        for (peer, (_, ends)) in &mut sets {
            ends.remove(peer);
        }
        sets.retain(|_, (_, ends)| !ends.is_empty());
        sets
    })
}

fn finder_of(sets: &Sets) -> Finder {
    let mut finder = Finder::default();
    for (peer, (_, ends)) in sets {
        let ends: Vec<(u32, u32)> = ends.iter().map(|(peer, us)| (*peer, *us)).collect();
        finder
            .announce(key(*peer), &set(&ends), TTL, at(0))
            .unwrap();
    }
    finder
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn paths_are_those_that_trying_everything_finds(
        sets in sets(),
        by in prop_oneof![Just(FindBy::Hops), Just(FindBy::Latency)],
        hops_max in 2..=9_u8,
        paths_max in 1..=8_u8,
    ) {
        let finder = finder_of(&sets);
        let want = want(paths_max, hops_max, by);
        let found = finder.find(&key(0), &key(1), (want, &[]), at(0));
        prop_assert!(found.is_complete);
        let mut all = Vec::new();
        all_paths(&sets, &mut vec![0], 1, usize::from(hops_max), &mut all);
        for (path, numbers) in found.paths.iter().zip(peers_of(&found)) {
            let found = (path.latency_us, numbers);
            prop_assert!(all.contains(&found), "{:?} is no path, or was not disjoint", found);
            let best = all.iter().map(|path| rank(by, path)).min();
            prop_assert_eq!(Some(rank(by, &found)), best);
            let taken: BTreeSet<u32> = found.1[1..found.1.len() - 1].iter().copied().collect();
            let is_direct = taken.is_empty();
            all.retain(|(_, peers)| match is_direct {
                true => peers.len() > 2,
                false => !peers.iter().any(|peer| taken.contains(peer)),
            });
        }
        let is_short = found.paths.len() < usize::from(paths_max);
        prop_assert!(!is_short || all.is_empty(), "one was not found: {:?}", all);
    }

    #[test]
    fn what_is_held_is_what_was_announced_last(
        history in proptest::collection::vec(step(), 0..60),
    ) {
        let limits = Limits { peers_max: 4, transports_peer_max: 4, ends_max: 9, keys_max: 7 };
        let mut finder = Finder::new(limits);
        let mut model = Sets::new();
        let mut now_s = 0;
        for step in history {
            match step {
                Step::Announce { peer, ends, ttl_s } => {
                    model.retain(|_, (expires_s, _)| *expires_s > now_s);
                    let list: Vec<(u32, u32)> = ends.iter().map(|(peer, us)| (*peer, *us)).collect();
                    let ttl = Duration::from_secs(ttl_s);
                    let answer = finder.announce(key(peer), &set(&list), ttl, at(now_s));
                    let is_taken = fits(&model, limits, peer, &ends);
                    prop_assert_eq!(answer.is_ok(), is_taken, "{:?}", answer);
                    if is_taken {
                        model.remove(&peer);
                        if !ends.is_empty() {
                            model.insert(peer, (now_s + ttl_s, ends));
                        }
                    }
                }
                Step::Withdraw(peer) => {
                    let was_there = finder.withdraw(&key(peer));
                    prop_assert_eq!(was_there, model.remove(&peer).is_some());
                }
                Step::Wait(seconds) => {
                    now_s += seconds;
                }
                Step::Expire => {
                    let before = model.len();
                    model.retain(|_, (expires_s, _)| *expires_s > now_s);
                    prop_assert_eq!(finder.expire(at(now_s)), before - model.len());
                }
            }
            let graph = &finder.graph;
            prop_assert_eq!(graph.peers_count(), model.len());
            prop_assert_eq!(graph.ends_count(), model.values().map(|set| set.1.len()).sum::<usize>());
            prop_assert_eq!(graph.keys_count(), keys(&model).len());
            for (one, other) in (0..PEERS).flat_map(|one| (0..PEERS).map(move |other| (one, other))) {
                let ends = graph.slot(&key(one)).zip(graph.slot(&key(other)));
                let held = ends.and_then(|(one, other)| graph.latency_us(one, other, at(now_s)));
                prop_assert_eq!(held.map(u64::from), latency(&model, one, other, now_s));
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Announce {
        peer: u32,
        ends: BTreeMap<u32, u32>,
        ttl_s: u64,
    },
    Expire,
    Wait(u64),
    Withdraw(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let ends = proptest::collection::btree_map(0..PEERS, 0..9_u32, 0..6);
    let announce = (0..PEERS, ends, 1..20_u64).prop_map(|(peer, ends, ttl_s)| Step::Announce {
        peer,
        ends,
        ttl_s,
    });
    prop_oneof![
        6 => announce,
        1 => (0..PEERS).prop_map(Step::Withdraw),
        1 => (0..10_u64).prop_map(Step::Wait),
        1 => Just(Step::Expire),
    ]
}

fn keys(model: &Sets) -> BTreeSet<u32> {
    let named = model.values().flat_map(|(_, ends)| ends.keys());
    named.chain(model.keys()).copied().collect()
}

/// Whether a set is to be taken.
fn fits(model: &Sets, limits: Limits, peer: u32, ends: &BTreeMap<u32, u32>) -> bool {
    let others = model.iter().filter(|(other, _)| **other != peer);
    let others: Vec<_> = others.collect();
    let ends_held: usize = others.iter().map(|(_, set)| set.1.len()).sum();
    let known = keys(model);
    let new = ends
        .keys()
        .chain([&peer])
        .filter(|key| !known.contains(key));
    let new: BTreeSet<&u32> = new.collect();
    let is_keys_free = known.len() + new.len() <= limits.keys_max;
    ends.len() <= limits.transports_peer_max
        && !ends.contains_key(&peer)
        && (others.len() < limits.peers_max || ends.is_empty())
        && ends_held + ends.len() <= limits.ends_max
        && is_keys_free
}
