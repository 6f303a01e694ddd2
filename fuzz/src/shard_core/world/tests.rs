//! What operations bring about: a target whose peers never meet would find nothing.

use ringway_proto::reason::Reason;

use super::*;
use crate::hostile::Wrong;
use crate::shard_core::operation::DmsgOperation;

fn world() -> World {
    let setting = Setting {
        piece: 255,
        handshakes_max: 3,
        handshakes_source_max: 3,
        slice_ports: 3,
        is_tight: false,
        believes_all: true,
    };
    World::new(&setting)
}

fn common(world: &mut World, operation: Operation) {
    world.step(&Step::Common(operation));
    world.settle();
}

fn dmsg(world: &mut World, operation: DmsgOperation) {
    world.step(&Step::Dmsg(operation));
    world.settle();
}

fn refused(world: &World, reason: Reason) -> u64 {
    let of = |core: &ShardCore<HeapLease, Map>| core.stats().opens_refused.of(reason);
    world.cores.iter().map(of).sum()
}

#[test]
fn peers_of_the_dmsg_dialect_exchange_bytes_within_a_shard_and_across() {
    for other in [1, 4] {
        let mut world = world();
        dmsg(&mut world, DmsgOperation::Accept { socket: 0, key: 0 });
        let (socket, key, place) = (other, 1, 2);
        dmsg(
            &mut world,
            DmsgOperation::AcceptProxied { socket, key, place },
        );
        let (socket, which, bytes) = (0, 0, 30_000);
        common(
            &mut world,
            Operation::Open {
                socket,
                key,
                port: 7,
            },
        );
        let write = Operation::Write {
            socket,
            which,
            bytes,
        };
        common(&mut world, write);
        assert_eq!(world.book.arrived_bytes(), u64::from(bytes));
        world.end();
    }
}

#[test]
fn opens_between_dialects_are_refused_as_such() {
    let mut world = world();
    for key in 0..4 {
        common(&mut world, Operation::Accept { socket: key, key });
        let socket = key + 4;
        dmsg(&mut world, DmsgOperation::Accept { socket, key });
    }
    for (socket, key) in (0..8).flat_map(|socket| (0..4).map(move |key| (socket, key))) {
        let port = 7;
        dmsg(&mut world, DmsgOperation::OpenAcross { socket, key, port });
    }
    let [native, other] = Dialect::ALL.map(|dialect| {
        let of = |core: &ShardCore<HeapLease, Map>| {
            core.stats().dialects[dialect.index()].opens_received
        };
        world.cores.iter().map(of).sum::<u64>()
    });
    assert!(native > 0 && other > 0, "{native} and {other} opens");
    assert_eq!(refused(&world, Reason::OtherDialect), native + other);
    world.end();
}

#[test]
fn hostile_peers_of_the_dmsg_dialect_are_refused_for_what_they_do() {
    let mut world = world();
    dmsg(
        &mut world,
        DmsgOperation::AcceptHostile { socket: 0, key: 0 },
    );
    dmsg(&mut world, DmsgOperation::Accept { socket: 4, key: 1 });
    let wrongs = [
        (Wrong::Signature, Reason::BadSignature),
        (Wrong::Source, Reason::NotAllowed),
        (Wrong::Truncated, Reason::ProtocolError),
    ];
    for ((wrong, reason), stream) in wrongs.into_iter().zip([1, 3, 5]) {
        let (socket, key) = (0, 1);
        let request = Operation::Request {
            socket,
            key,
            stream,
            wrong,
        };
        common(&mut world, request);
        assert_eq!(refused(&world, reason), 1, "{wrong:?}");
    }
    let stats = world.cores[0].stats();
    assert_eq!(stats.sessions_closed.sum(), 0);
    let (socket, stream) = (0, 7);
    dmsg(&mut world, DmsgOperation::Replay { socket, stream });
    let closed = &world.cores[0].stats().sessions_closed;
    assert_eq!(closed.of(Reason::Replay), 1);
    world.end();
}
