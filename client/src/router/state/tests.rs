//! Five peers without sockets: packets that are lost, neighbours that are lost, paths that change.

use proptest::collection::vec;
use proptest::prelude::*;
use ringway_proto::key::{Address, SecretKey};
use ringway_proto::route::{PacketReader, Rule};

use super::*;
use crate::router::group::Path;

const KEEP_ALIVE: Duration = Duration::from_secs(30);
const NAME: GroupName = GroupName([9; 16]);
const PORT: u16 = 80;

/// The peer that opens the group, and the one where it ends.
const ENDS: [usize; 2] = [0, 4];

/// Paths that are tried in turn; they go back as they go forth, but for the last one.
const PATHS: [[&[usize]; 2]; 4] = [
    [&[0, 1, 2, 4], &[4, 2, 1, 0]],
    [&[0, 3, 4], &[4, 3, 0]],
    [&[0, 4], &[4, 0]],
    [&[0, 2, 3, 4], &[4, 3, 1, 0]],
];

struct World {
    states: Vec<State>,
    secrets: Vec<SecretKey>,
    now: Now,
    /// A word for each packet; then none is lost.
    plan: Vec<u8>,
    sent_count: usize,
    is_path_wanted: bool,
    setups_count: usize,
    /// Keeps the place in the listener.
    _listener: mpsc::Receiver<RouteStream>,
}

impl World {
    fn new(plan: Vec<u8>) -> Self {
        let secrets: Vec<_> = (1..=5)
            .map(|byte| SecretKey::from_seed([byte; 32]))
            .collect();
        let state = |secret: &SecretKey| {
            let identity = std::sync::Arc::new(secret.clone());
            State::new(secret.public(), identity, 4, Duration::from_secs(60))
        };
        let mut states: Vec<_> = secrets.iter().map(state).collect();
        let (sender, listener) = mpsc::channel(4);
        states[ENDS[1]].listeners.insert(PORT, sender);
        Self {
            states,
            secrets,
            now: Now::ZERO,
            plan,
            sent_count: 0,
            is_path_wanted: true,
            setups_count: 0,
            _listener: listener,
        }
    }

    fn key(&self, peer: usize) -> PublicKey {
        self.states[peer].key
    }

    fn act<R>(&mut self, peer: usize, act: impl FnOnce(&mut State, &mut Effects) -> R) -> R {
        let mut fx = Effects {
            now: self.now,
            ..Effects::default()
        };
        let result = act(&mut self.states[peer], &mut fx);
        self.is_path_wanted |= !fx.repair.is_empty();
        result
    }

    fn open(&mut self) {
        let peer = Address::new(self.key(ENDS[1]), PORT);
        let times = (KEEP_ALIVE, self.now);
        let opened = Group::opener(&self.secrets[ENDS[0]], peer, 50_000, [7; 32], times);
        let (group, _) = opened.expect("a good key");
        self.states[ENDS[0]].groups.insert(NAME, group);
    }

    fn rule(&mut self, three: [usize; 2], kind: RuleKind) -> RouteId {
        let [previous, hop] = three;
        let previous = self.key(previous);
        let reserved = self.act(hop, |state, fx| {
            state.hop_request(HopRequest::Reserve { count: 1 }, fx)
        });
        let HopReply::Reserved { ids } = reserved else {
            panic!("{reserved:?}");
        };
        let rule = Rule {
            id: ids[0],
            keep_alive_ms: 30_000,
            previous,
            kind,
        };
        let add = HopRequest::AddRules { rules: vec![rule] };
        let done = self.act(hop, |state, fx| state.hop_request(add, fx));
        assert_eq!(done, HopReply::Done);
        ids[0]
    }

    fn way(&mut self, path: &[usize], mut next_id: RouteId) -> RouteId {
        for three in path.windows(3).rev() {
            let next = self.key(three[2]);
            let kind = RuleKind::Intermediary { next, next_id };
            next_id = self.rule([three[0], three[1]], kind);
        }
        next_id
    }

    /// Does what a relay does.
    fn set_up(&mut self) {
        if !self.states[ENDS[0]].groups.contains_key(&NAME) {
            return;
        }
        let [forward, reverse] = PATHS[self.setups_count % PATHS.len()];
        self.setups_count += 1;
        let previous = self.key(reverse[reverse.len() - 2]);
        let own_id = self.act(ENDS[0], |state, _| {
            state.table.own(NAME, previous, &mut random_u32)
        });
        let own_id = own_id.expect("there is room");
        let kind = RuleKind::Destination {
            group: NAME,
            source: self.key(ENDS[0]),
            source_port: 50_000,
            destination_port: PORT,
            next: self.key(reverse[1]),
            next_id: self.way(reverse, own_id),
        };
        let id = self.rule([forward[forward.len() - 2], ENDS[1]], kind);
        let next_id = self.way(forward, id);
        let next = self.key(forward[1]);
        let path = Path {
            next,
            next_id,
            own_id,
        };
        let keys: Vec<_> = forward.iter().map(|hop| self.key(*hop)).collect();
        self.act(ENDS[0], |state, fx| {
            state.install_path(&NAME, path, (&keys, KEEP_ALIVE), fx)
        });
        self.is_path_wanted = false;
    }

    /// Carries what waits to the neighbours.
    fn carry(&mut self) {
        for peer in 0..self.states.len() {
            for other in 0..self.states.len() {
                let (from, to) = (self.key(peer), self.key(other));
                let mut bytes = Vec::new();
                if let Some(neighbour) = self.states[peer].neighbours.get_mut(&to) {
                    neighbour.take(usize::MAX, &mut bytes);
                }
                let mut reader = PacketReader::new();
                reader.push(&bytes);
                while let Some((head, payload)) = reader.next_packet().expect("a good packet") {
                    let word = self.plan.get(self.sent_count).copied().unwrap_or(255);
                    self.sent_count += 1;
                    match word {
                        0..30 => continue,
                        30..36 => self.lose(peer, other),
                        _ => {}
                    }
                    let payload = payload.to_vec();
                    self.act(other, |state, fx| {
                        state.adopt(&from, fx.now);
                        state.packet(&from, head, &payload, fx);
                    });
                }
            }
        }
    }

    /// The stream of two neighbours is lost.
    fn lose(&mut self, one: usize, two: usize) {
        for (peer, other) in [(one, two), (two, one)] {
            let other = self.key(other);
            let neighbour = self.states[peer].neighbours.get(&other);
            if let Some(generation) = neighbour.map(|one| one.generation) {
                self.act(peer, |state, fx| {
                    state.neighbour_lost(&other, generation, fx);
                });
            }
        }
    }

    fn step(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
        for peer in 0..self.states.len() {
            self.act(peer, State::tick);
        }
        if self.is_path_wanted {
            self.set_up();
        }
        self.carry();
    }

    /// Writes and reads at one end.
    fn work(&mut self, end: usize, data: &[u8], written: &mut usize, read: &mut Vec<u8>) {
        self.act(ENDS[end], |state, fx| {
            let Some(group) = state.groups.get_mut(&NAME) else {
                return;
            };
            assert!(group.error.is_none(), "{end}: {:?}", group.error);
            if group.keys.is_none() {
                return;
            }
            *written += group.flow.write(&data[*written..]);
            if *written == data.len() {
                group.flow.finish();
            }
            let mut buf = [0; 10_000];
            while let Some(n @ 1..) = group.flow.read(&mut buf) {
                read.extend_from_slice(&buf[..n]);
            }
            state.pump(&NAME, fx);
        });
    }

    fn is_done(&self, end: usize) -> bool {
        let group = self.states[ENDS[end]].groups.get(&NAME);
        group.is_some_and(|group| group.keys.is_some() && group.flow.is_done())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn bytes_arrive_whatever_is_lost_and_every_id_comes_back(
        lens in (0_usize..600_000, 0_usize..200_000),
        plan in vec(any::<u8>(), 0..400),
    ) {
        let data = [vec![1; lens.0], (0..lens.1).map(|at| u8::try_from(at % 251).unwrap()).collect()];
        let mut world = World::new(plan);
        world.open();
        let (mut written, mut read) = ([0; 2], [Vec::new(), Vec::new()]);
        for _ in 0..4_000 {
            world.step(50);
            for end in 0..2 {
                world.work(end, &data[end], &mut written[end], &mut read[end]);
            }
            let entries = world.states.iter().map(|state| state.table.entries().count());
            prop_assert!(entries.sum::<usize>() < 200);
            if world.is_done(0) && read[1].len() == data[0].len() {
                break;
            }
        }
        prop_assert!(read[1] == data[0] && read[0] == data[1], "at {:?}", world.now);
        for end in ENDS {
            world.act(end, |state, fx| state.dropped(&NAME, fx));
        }
        for _ in 0..60 {
            world.step(2_000);
        }
        for (peer, state) in world.states.iter().enumerate() {
            prop_assert_eq!(state.table.entries().count(), 0, "{}", peer);
            prop_assert!(state.groups.is_empty());
            prop_assert!(state.neighbours.is_empty());
        }
    }
}
