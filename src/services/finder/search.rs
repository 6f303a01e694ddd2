//! The search for paths.
//!
//! Here: a depth-first search with an explicit stack. Not here: what it searches (`graph`).
//!
//! Each path is searched for by itself, the best one first; its peers between the ends, or the transport
//! that is all of it, are left out for the next one. So alternatives have no peer in common but the two ends.
//! They may be fewer than there could be: a best path that crosses two others is taken all the same.
//!
//! A search tries paths of two peers, then of three, and so on: what is near is found in a large graph
//! too, even if the limit cuts the search for what is far. Within a length: nearest transports first; a
//! branch ends where even its lower bound is no better than the best path so far, and at a peer that was
//! reached before over no more peers in no more time. The latter loses nothing: what can be reached from
//! there in any way was, or will be from a peer before it, for no more.
//!
//! Bound: [`VISITS_MAX`] visits a path, [`PATHS_MAX`] paths; the stack is as deep as a path is long, the
//! table of reached peers has at most one entry a visit. So an answer costs at most a quarter of a million
//! visits, whatever peers have announced; `is_complete` says if that has cut it.

use std::collections::HashMap;

use ringway_proto::key::PublicKey;
use ringway_proto::limits::{ROUTE_HOPS_MAX, ROUTE_PATHS_MAX};
use ringway_proto::route::{FindBy, FoundPath};
use ringway_proto::time::Now;

use super::graph::{Graph, Slot};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Want {
    /// Paths, at most [`PATHS_MAX`].
    pub(crate) paths_max: u8,
    /// Peers of a path, both ends included, at most [`HOPS_MAX`].
    pub(crate) hops_max: u8,
    /// Which ones.
    pub(crate) by: FindBy,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Paths, the best one first, without a peer in common but the ends.
    pub(crate) paths: Vec<FoundPath>,
    /// No limit has cut the search: the first path is the best there is, and without a path there is none.
    pub(crate) is_complete: bool,
    /// Transports looked at.
    pub(crate) visits: u32,
    /// The deepest that the stack was.
    pub(crate) depth_max: usize,
}

/// Finds disjoint paths that have none of `avoid` between their ends.
pub(crate) fn find(
    graph: &Graph,
    source: &PublicKey,
    destination: &PublicKey,
    (want, avoid): (Want, &[PublicKey]),
    now: Now,
) -> Found {
    let mut found = Found {
        paths: Vec::new(),
        is_complete: true,
        visits: 0,
        depth_max: 0,
    };
    let ends = graph.slot(source).zip(graph.slot(destination));
    let Some((source, destination)) = ends.filter(|(source, destination)| source != destination)
    else {
        return found;
    };
    let between = |slot: &Slot| *slot != source && *slot != destination;
    let mut used = Used {
        peers: avoid
            .iter()
            .filter_map(|key| graph.slot(key))
            .filter(between)
            .collect(),
        is_direct: false,
    };
    for _ in 0..want.paths_max.min(PATHS_MAX) {
        let mut search = Search::new(graph, destination, &used, want.by, now);
        let is_complete = search.run(source, want.hops_max.min(HOPS_MAX));
        found.is_complete &= is_complete;
        found.visits += search.visits;
        found.depth_max = found.depth_max.max(search.depth_max);
        let Some(best) = search.best else { break };
        used.add(&best.peers);
        found.paths.push(FoundPath {
            hops: best
                .peers
                .iter()
                .filter_map(|slot| graph.key(*slot))
                .collect(),
            latency_us: best.rank.latency_us,
        });
    }
    found
}

/// What paths found before have taken, and peers to avoid.
#[derive(Debug)]
struct Used {
    /// Peers between the ends. Bound: those of [`PATHS_MAX`] paths, and `ROUTE_AVOID_MAX`.
    peers: Vec<Slot>,
    /// The transport from end to end.
    is_direct: bool,
}

impl Used {
    fn add(&mut self, path: &[Slot]) {
        let between = path.get(1..path.len() - 1).unwrap_or_default();
        self.peers.extend(between);
        self.is_direct |= between.is_empty();
    }
}

/// How long a path is, or begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rank {
    peers: usize,
    latency_us: u64,
}

impl Rank {
    fn is_better_than(self, other: Self, by: FindBy) -> bool {
        let (one, other) = match by {
            FindBy::Hops => (
                (self.peers as u64, self.latency_us),
                (other.peers as u64, other.latency_us),
            ),
            FindBy::Latency => (
                (self.latency_us, self.peers as u64),
                (other.latency_us, other.peers as u64),
            ),
        };
        one < other
    }

    /// Nothing that goes on from `other` can be better than what goes on from here.
    const fn covers(self, other: Self) -> bool {
        self.peers <= other.peers && self.latency_us <= other.latency_us
    }

    const fn with(self, latency_us: u64) -> Self {
        Self {
            peers: self.peers + 1,
            latency_us: self.latency_us + latency_us,
        }
    }
}

#[derive(Debug)]
struct Best {
    peers: Vec<Slot>,
    rank: Rank,
}

/// A peer on the way, and how many of its transports were looked at.
#[derive(Debug)]
struct Frame {
    peer: Slot,
    rank: Rank,
    next: usize,
}

struct Search<'a> {
    graph: &'a Graph,
    destination: Slot,
    used: &'a Used,
    by: FindBy,
    now: Now,
    stack: Vec<Frame>,
    /// How peers were reached on paths of the present length.
    reached: HashMap<Slot, Rank>,
    best: Option<Best>,
    visits: u32,
    depth_max: usize,
}

/// How the search among paths of one length has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// The limit of visits has cut it.
    Cut,
    /// Longer paths may be better.
    Open,
    /// No path goes on.
    Exhausted,
}

impl<'a> Search<'a> {
    fn new(graph: &'a Graph, destination: Slot, used: &'a Used, by: FindBy, now: Now) -> Self {
        Self {
            graph,
            destination,
            used,
            by,
            now,
            stack: Vec::with_capacity(usize::from(HOPS_MAX)),
            reached: HashMap::new(),
            best: None,
            visits: 0,
            depth_max: 0,
        }
    }

    /// Searches for the best path of at most `hops_max` peers; returns whether it is sure of it.
    fn run(&mut self, source: Slot, hops_max: u8) -> bool {
        for peers_max in 2..=usize::from(hops_max) {
            match self.level(source, peers_max) {
                Level::Cut => return false,
                Level::Exhausted => return true,
                Level::Open if self.by == FindBy::Hops && self.best.is_some() => return true,
                Level::Open => {}
            }
        }
        true
    }

    /// Searches among paths of at most `peers_max` peers.
    fn level(&mut self, source: Slot, peers_max: usize) -> Level {
        self.stack.clear();
        self.reached.clear();
        let start = Rank {
            peers: 1,
            latency_us: 0,
        };
        let mut level = Level::Exhausted;
        self.enter(source, start, peers_max, &mut level);
        while let Some(frame) = self.stack.last_mut() {
            if self.visits >= VISITS_MAX {
                return Level::Cut;
            }
            let Frame { peer, rank, .. } = *frame;
            let announced = self.graph.announced(peer, self.now);
            let Some(end) = announced.and_then(|announced| announced.nearest(frame.next)) else {
                self.stack.pop();
                continue;
            };
            frame.next += 1;
            self.visits += 1;
            // This end's word is a lower bound of it, and those that follow are no nearer.
            if !self.may_win(rank.with(u64::from(end.latency_us))) {
                self.stack.pop();
                continue;
            }
            if self.is_taken(end.peer) {
                continue;
            }
            let Some(latency_us) = self.graph.latency_us(peer, end.peer, self.now) else {
                continue;
            };
            let rank = rank.with(u64::from(latency_us));
            let before = self.reached.get(&end.peer);
            if !self.may_win(rank) || before.is_some_and(|before| before.covers(rank)) {
                continue;
            }
            self.enter(end.peer, rank, peers_max, &mut level);
        }
        level
    }

    /// Notes that a peer is reached: looks for the destination from it, and goes on from it if a path of
    /// this length may.
    fn enter(&mut self, peer: Slot, rank: Rank, peers_max: usize, level: &mut Level) {
        self.reached.insert(peer, rank);
        self.visits += 1;
        let is_start = rank.peers == 1;
        if let Some(latency_us) = self.graph.latency_us(peer, self.destination, self.now)
            && !(is_start && self.used.is_direct)
        {
            let rank = rank.with(u64::from(latency_us));
            if self.beats_best(rank) {
                let way = self.stack.iter().map(|frame| frame.peer);
                let peers = way.chain([peer, self.destination]).collect();
                self.best = Some(Best { peers, rank });
            }
        }
        if rank.peers + 2 > peers_max {
            *level = Level::Open;
            return;
        }
        self.stack.push(Frame {
            peer,
            rank,
            next: 0,
        });
        self.depth_max = self.depth_max.max(self.stack.len());
    }

    /// Whether a path that begins like this can be better than the best one: it has one more peer at least.
    fn may_win(&self, start: Rank) -> bool {
        self.beats_best(start.with(0))
    }

    fn beats_best(&self, rank: Rank) -> bool {
        let best = self.best.as_ref();
        best.is_none_or(|best| rank.is_better_than(best.rank, self.by))
    }

    /// Whether a peer may not stand on the path here.
    fn is_taken(&self, peer: Slot) -> bool {
        peer == self.destination
            || self.used.peers.contains(&peer)
            || self.stack.iter().any(|frame| frame.peer == peer)
    }
}

/// Transports looked at for one path.
pub(crate) const VISITS_MAX: u32 = 32_768;

/// Paths of one answer.
pub(crate) const PATHS_MAX: u8 = 8;

/// Peers of a path, both ends included.
pub(crate) const HOPS_MAX: u8 = 16;

// What the wire lets peers ask for.
const _: () = assert!(PATHS_MAX as usize == ROUTE_PATHS_MAX);
const _: () = assert!(HOPS_MAX as usize == ROUTE_HOPS_MAX);
