//! Properties that hold for any split of the bytes and for any bytes.

use proptest::prelude::*;
use ringway_proto::dialect::Dialect;
use ringway_proto::peer::PeerEvent;
use ringway_proto::time::Now;

use crate::world::{World, config};
use crate::{SECOND, pattern};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the splits, sessions are established and streams deliver.
    #[test]
    fn any_split_gives_the_same_session(
        pieces in prop::collection::vec(1_usize..700, 1..12),
        turn_bytes in 1_usize..3_000,
        len in 0_usize..30_000,
        dialect in prop::sample::select(&Dialect::ALL),
    ) {
        let mut world = World::empty_of(dialect);
        world.pieces = pieces;
        world.turn_bytes = turn_bytes;
        world.connect(config());
        world.connect(config());
        world.settle();
        for events in &mut world.events {
            let is_ready = matches!(events.remove(0), PeerEvent::Ready { .. });
            prop_assert!(is_ready);
        }
        let [(near, _), (far, _)] = world.join(0, 1);
        let data = pattern(len);
        prop_assert!(world.transfer((0, near), (1, far), &data) == data);
        prop_assert!(world.transfer((1, far), (0, near), &data) == data);
    }

    /// No bytes of a relay make a session panic, at any point of its life.
    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        stage in 0_usize..4,
        at in 0_u64..200,
        dialect in prop::sample::select(&Dialect::ALL),
    ) {
        let mut world = World::empty_of(dialect);
        world.connect(config());
        for _ in 0..stage {
            world.carry_up(0);
            world.carry_down(0);
        }
        let now = world.now + SECOND * u32::try_from(at).unwrap();
        for piece in bytes.chunks(7) {
            if world.peers[0].receive(piece, now).is_err() {
                break;
            }
        }
        world.peers[0].handle_timeout(now);
        world.peers[0].eof(Now::MAX);
        world.poll(0);
        let is_closed = matches!(world.events[0].pop(), Some(PeerEvent::Closed { .. }));
        prop_assert!(is_closed);
    }
}
