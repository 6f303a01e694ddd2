//! Tests of the route finder: rules one by one, and random graphs against a model that tries everything.

mod model;

use ringway_proto::route::FindBy;

use super::graph::{END_BYTES, KEY_BYTES, TTL_MAX, TTL_MIN};
use super::search::{HOPS_MAX, PATHS_MAX, VISITS_MAX};
use super::*;

const TTL: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> Now {
    Now::ZERO + Duration::from_secs(seconds)
}

fn key(number: u32) -> PublicKey {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    PublicKey::native(bytes)
}

fn set(ends: &[(u32, u32)]) -> Vec<Transport> {
    let transport = |(peer, latency_us): &(u32, u32)| Transport {
        peer: key(*peer),
        latency_us: *latency_us,
    };
    ends.iter().map(transport).collect()
}

fn want(paths_max: u8, hops_max: u8, by: FindBy) -> Want {
    Want {
        paths_max,
        hops_max,
        by,
    }
}

/// Announces transports from both of their ends.
fn announce_both(finder: &mut Finder, transports: &[(u32, u32, u32)], now: Now) {
    let peers = transports.iter().flat_map(|(one, other, _)| [*one, *other]);
    let peers: std::collections::BTreeSet<u32> = peers.collect();
    for peer in peers {
        let ends = transports.iter().filter_map(|(one, other, latency)| {
            let end = (*one == peer).then_some((*other, *latency));
            end.or_else(|| (*other == peer).then_some((*one, *latency)))
        });
        let ends: Vec<(u32, u32)> = ends.collect();
        finder.announce(key(peer), &set(&ends), TTL, now).unwrap();
    }
}

/// Returns the numbers of the peers of each path.
fn peers_of(found: &Found) -> Vec<Vec<u32>> {
    let number = |key: &PublicKey| {
        let bytes = key.as_bytes();
        u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    };
    let paths = found.paths.iter();
    paths
        .map(|path| path.hops.iter().map(number).collect())
        .collect()
}

#[test]
fn alternatives_share_no_peer_and_the_best_comes_first() {
    let mut finder = Finder::default();
    // 1 - 2 - 9, 1 - 3 - 4 - 9, and 1 - 9 itself, which is slow.
    let transports = [
        (1, 2, 50),
        (2, 9, 50),
        (1, 3, 10),
        (3, 4, 10),
        (4, 9, 10),
        (1, 9, 500),
        (2, 4, 1),
    ];
    announce_both(&mut finder, &transports, at(0));
    let find = |by, paths, hops| finder.find(&key(1), &key(9), (want(paths, hops, by), &[]), at(1));
    let found = find(FindBy::Latency, 8, 16);
    assert!(found.is_complete);
    assert_eq!(
        peers_of(&found),
        [vec![1, 3, 4, 9], vec![1, 2, 9], vec![1, 9]]
    );
    assert_eq!(found.paths[0].latency_us, 30);
    let found = find(FindBy::Hops, 8, 16);
    assert_eq!(
        peers_of(&found),
        [vec![1, 9], vec![1, 2, 9], vec![1, 3, 4, 9]]
    );
    assert_eq!(peers_of(&find(FindBy::Latency, 1, 3)), [vec![1, 2, 9]]);
    assert_eq!(peers_of(&find(FindBy::Latency, 8, 2)), [vec![1, 9]]);
    assert!(find(FindBy::Latency, 0, 16).paths.is_empty());
    assert!(find(FindBy::Latency, 8, 1).paths.is_empty());
    assert_eq!(
        find(FindBy::Latency, 255, 255),
        find(FindBy::Latency, 8, 16)
    );
}

#[test]
fn transport_counts_only_while_both_ends_announce_it_and_the_slower_word_does() {
    let mut finder = Finder::default();
    let mut say = |peer, ends: &[(u32, u32)]| {
        finder.announce(key(peer), &set(ends), TTL, at(0)).unwrap();
        finder.find(&key(1), &key(2), (want(1, 2, FindBy::Hops), &[]), at(0))
    };
    assert!(say(1, &[(2, 7)]).paths.is_empty());
    // Somebody else cannot say it for the other end.
    assert!(say(3, &[(1, 0), (2, 0)]).paths.is_empty());
    assert_eq!(say(2, &[(1, 90)]).paths[0].latency_us, 90);
    assert_eq!(say(1, &[(2, 100)]).paths[0].latency_us, 100);
    assert!(finder.withdraw(&key(2)));
    assert!(!finder.withdraw(&key(2)));
    let found = finder.find(&key(1), &key(2), (want(1, 2, FindBy::Hops), &[]), at(0));
    assert!(found.paths.is_empty() && found.is_complete);
}

#[test]
fn liar_that_names_everybody_at_no_latency_gets_no_path_of_others() {
    let mut finder = Finder::default();
    let transports = [(1, 2, 1_000), (2, 3, 1_000), (3, 4, 1_000)];
    announce_both(&mut finder, &transports, at(0));
    let find =
        |finder: &Finder| finder.find(&key(1), &key(4), (want(8, 16, FindBy::Latency), &[]), at(0));
    let before = find(&finder);
    let everybody: Vec<(u32, u32)> = (1..=4).map(|peer| (peer, 0)).collect();
    finder
        .announce(key(66), &set(&everybody), TTL, at(0))
        .unwrap();
    assert_eq!(find(&finder).paths, before.paths);
    // One that is on the way makes its own transports no nearer than the other ends say.
    finder
        .announce(key(2), &set(&[(1, 0), (3, 0)]), TTL, at(0))
        .unwrap();
    assert_eq!(find(&finder).paths, before.paths);
}

#[test]
fn peers_to_avoid_stand_on_no_path_but_at_its_ends() {
    let mut finder = Finder::default();
    let transports = [(1, 2, 10), (2, 4, 10), (1, 3, 50), (3, 4, 50)];
    announce_both(&mut finder, &transports, at(0));
    let find = |avoid: &[PublicKey]| {
        let want = want(8, 16, FindBy::Latency);
        let found = finder.find(&key(1), &key(4), (want, avoid), at(0));
        found
            .paths
            .into_iter()
            .map(|path| path.hops)
            .collect::<Vec<_>>()
    };
    let (near, far) = (vec![key(1), key(2), key(4)], vec![key(1), key(3), key(4)]);
    assert_eq!(find(&[]), [near, far.clone()]);
    assert_eq!(find(&[key(2), key(77)]), std::slice::from_ref(&far));
    assert_eq!(find(&[key(2), key(3)]), Vec::<Vec<PublicKey>>::new());
    assert_eq!(
        find(&[key(1), key(2), key(4)]),
        [far],
        "the ends are no hops"
    );
}

#[test]
fn sets_expire_and_their_time_is_bounded() {
    let mut finder = Finder::default();
    let mut say = |peer, other, ttl, now| {
        finder
            .announce(key(peer), &set(&[(other, 1)]), ttl, now)
            .unwrap()
    };
    assert_eq!(say(1, 2, Duration::ZERO, at(5)), at(5) + TTL_MIN);
    assert_eq!(say(1, 2, Duration::MAX, at(5)), at(5) + TTL_MAX);
    assert_eq!(say(2, 1, TTL, at(5)), at(65));
    let is_found = |finder: &Finder, now| {
        let found = finder.find(&key(1), &key(2), (want(1, 2, FindBy::Hops), &[]), now);
        !found.paths.is_empty()
    };
    assert!(is_found(&finder, at(64)));
    assert!(!is_found(&finder, at(65)), "even before it is taken out");
    assert_eq!(finder.expire(at(64)), 0);
    assert_eq!(finder.expire(at(65)), 1);
    assert_eq!(finder.graph.keys_count(), 2, "the other set names both");
    assert_eq!(finder.expire(at(605)), 1);
    let graph = &finder.graph;
    let left = (graph.peers_count(), graph.ends_count(), graph.keys_count());
    assert_eq!(left, (0, 0, 0));
    assert_eq!(finder.numbers().expired.read(), 2);
}

#[test]
fn full_or_malformed_sets_are_refused_by_name_and_change_nothing() {
    let mut finder = Finder::new(Limits {
        peers_max: 2,
        transports_peer_max: 3,
        ends_max: 4,
        keys_max: 6,
    });
    let mut say = |peer, ends: &[(u32, u32)]| finder.announce(key(peer), &set(ends), TTL, at(0));
    say(1, &[(2, 1), (3, 1)]).unwrap();
    let (max, want) = (3, 4);
    assert_eq!(
        say(1, &[(2, 1), (3, 1), (4, 1), (5, 1)]),
        Err(AnnounceError::PeerTooManyTransports { want, max })
    );
    assert_eq!(say(1, &[(1, 1)]), Err(AnnounceError::PeerOwnKey));
    assert_eq!(
        say(1, &[(2, 1), (2, 2)]),
        Err(AnnounceError::PeerRepeatedKey)
    );
    let (have, want, max) = (2, 3, 4);
    assert_eq!(
        say(2, &[(1, 1), (3, 1), (4, 1)]),
        Err(AnnounceError::LocalEndsFull { have, want, max })
    );
    say(2, &[(1, 1)]).unwrap();
    assert_eq!(
        say(3, &[(1, 1)]),
        Err(AnnounceError::LocalPeersFull { max: 2 })
    );
    // Three keys are known: 1, 2 and 3. The set's own old ends make room, its own old keys do not.
    say(2, &[(7, 1), (8, 1)]).unwrap();
    let (have, want, max) = (5, 2, 6);
    assert_eq!(
        say(2, &[(4, 1), (5, 1)]),
        Err(AnnounceError::LocalKeysFull { have, want, max })
    );
    say(2, &[(1, 1), (4, 1)]).unwrap();
    let graph = &finder.graph;
    let held = (graph.peers_count(), graph.ends_count(), graph.keys_count());
    assert_eq!(held, (2, 4, 4));
    let numbers = finder.numbers();
    assert_eq!((numbers.announced.read(), numbers.refused.read()), (4, 6));
}

/// Announces a complete graph, but for the last peer, which nobody but the last but one knows.
fn complete(count: u32) -> Finder {
    let mut finder = Finder::new(Limits {
        transports_peer_max: 4_096,
        ends_max: 1 << 23,
        ..Limits::default()
    });
    for peer in 0..count {
        let to_all = (0..count).filter(|other| *other != peer);
        let latency = |other: u32| (peer ^ other).wrapping_mul(2_654_435_761) >> 16;
        let mut ends: Vec<(u32, u32)> = to_all.map(|other| (other, latency(other))).collect();
        if peer == count - 1 {
            ends.push((count, 1));
        }
        finder.announce(key(peer), &set(&ends), TTL, at(0)).unwrap();
    }
    let last = set(&[(count - 1, 1)]);
    finder.announce(key(count), &last, TTL, at(0)).unwrap();
    finder
}

#[test]
fn complete_graph_of_two_thousand_peers_costs_no_more_than_the_limits() {
    let finder = complete(2_000);
    for by in [FindBy::Hops, FindBy::Latency] {
        for (source, destination) in [(0, 1_999), (17, 2_000), (2_000, 3), (5, 7_777)] {
            let want = want(PATHS_MAX, HOPS_MAX, by);
            let found = finder.find(&key(source), &key(destination), (want, &[]), at(1));
            assert!(found.visits <= (VISITS_MAX + 1) * u32::from(PATHS_MAX));
            assert!(found.depth_max < usize::from(HOPS_MAX));
            let is_known = destination <= 2_000;
            assert_eq!(!found.paths.is_empty(), is_known, "{source} {destination}");
        }
    }
    let found = finder.find(
        &key(0),
        &key(1_999),
        (want(8, 16, FindBy::Hops), &[]),
        at(1),
    );
    assert_eq!((found.paths.len(), found.is_complete), (8, true));
}

#[test]
fn search_that_its_limit_has_cut_says_so() {
    let mut finder = complete(300);
    // A peer that announces a transport which the other end does not: it cannot be reached, and only a
    // search of everything can tell.
    finder
        .announce(key(900), &set(&[(0, 1)]), TTL, at(0))
        .unwrap();
    let found = finder.find(
        &key(1),
        &key(900),
        (want(1, 16, FindBy::Latency), &[]),
        at(1),
    );
    assert!(found.paths.is_empty() && !found.is_complete);
    assert!(found.visits <= VISITS_MAX + 1);
    assert!(found.depth_max <= usize::from(HOPS_MAX));
    assert_eq!(finder.numbers().cut.read(), 1);
    // Near ones are found all the same, because short paths are tried first.
    let found = finder.find(&key(1), &key(300), (want(1, 16, FindBy::Hops), &[]), at(1));
    assert_eq!(found.paths[0].hops.len(), 3);
}

#[test]
fn answer_does_not_depend_on_the_order_of_announcements() {
    let transports: Vec<(u32, u32, u32)> = (0..12)
        .flat_map(|one| (one + 1..12).map(move |other| (one, other, (one * other) % 5)))
        .collect();
    let backwards: Vec<_> = transports.iter().rev().copied().collect();
    let find = |transports: &[(u32, u32, u32)], churn: u32| {
        let mut finder = Finder::default();
        for peer in (0..churn).rev() {
            announce_both(&mut finder, &[(peer, peer + 20, 3)], at(0));
        }
        announce_both(&mut finder, transports, at(0));
        finder.find(&key(0), &key(11), (want(8, 4, FindBy::Latency), &[]), at(0))
    };
    let found = find(&transports, 0);
    assert!(found.paths.len() > 1);
    assert_eq!(find(&backwards, 9), found);
}

#[test]
fn memory_is_what_the_constants_say() {
    let empty = Finder::default().graph.memory_bytes();
    let (count, degree) = (1_024, 64);
    let mut finder = Finder::default();
    for peer in 0..count {
        let near = (1..=degree).map(|step| ((peer + step) % count, step));
        let ends: Vec<(u32, u32)> = near.collect();
        finder.announce(key(peer), &set(&ends), TTL, at(0)).unwrap();
    }
    let (count, degree) = (1_024, 64);
    let bound = count * (degree * END_BYTES + KEY_BYTES);
    let held = finder.graph.memory_bytes() - empty;
    assert!(held <= bound, "{held} > {bound}");
    assert!(held > count * degree * END_BYTES);
    assert_eq!(END_BYTES, 10);
}

#[test]
fn every_number_is_shown_once() {
    let names: std::collections::BTreeSet<&str> =
        numbers::SHOWN.iter().map(|shown| shown.name).collect();
    assert_eq!(names.len(), 12);
    let mut finder = Finder::default();
    announce_both(&mut finder, &[(1, 2, 3)], at(0));
    let found = finder.find(&key(1), &key(2), (want(1, 2, FindBy::Hops), &[]), at(0));
    let nowhere = finder.find(&key(1), &key(3), (want(1, 2, FindBy::Hops), &[]), at(0));
    assert_eq!(nowhere.paths, []);
    finder.withdraw(&key(1));
    assert!(
        finder
            .announce(key(1), &set(&[(1, 1)]), TTL, at(0))
            .is_err()
    );
    assert_eq!(finder.expire(at(60)), 1);
    announce_both(&mut finder, &[(1, 2, 3)], at(60));
    let numbers = finder.numbers();
    for shown in numbers::SHOWN {
        let value = (shown.read)(&numbers);
        let is_zero = shown.name == "ringway_finder_cut_total";
        assert_eq!(value == 0, is_zero, "{}", shown.name);
        assert_eq!(shown.kind == "counter", shown.name.ends_with("_total"));
        assert!(shown.help.ends_with('.'));
    }
    assert_eq!(numbers.visits.read(), u64::from(found.visits));
}
