//! Operations on two shard cores in any order: the laws hold after each, nothing is left at the end.
//!
//! Four sockets for each, accepted or dialed; honest peers that open, write, finish and reset; peers that
//! lie; sockets that take little, fail or end; results, messages and closes that come late; time; drain.
//!
//! Here: the entry and what must hold. `operation` is the input, `world` the sockets and peers, `book` the
//! bytes of honest peers. Not here: delays and bounded buffers of a network, goals that must be reached
//! (`sim`).
//!
//! Invariant: the checks use what the harness itself has counted, not what the core says of itself alone.
//! Bound: `OPERATIONS_MAX` operations, and `ROUNDS_MAX` of `world` rounds until nothing moves.

mod book;
mod operation;
mod world;

use self::operation::Input;
use self::world::{SHARDS, SLOTS, STREAMS_MAX, World};
use crate::structured;

/// Takes operations on a relay of two shards, as a structured input.
///
/// # Panics
///
/// When a law is broken, a byte goes astray or something is left at the end.
pub fn run(bytes: &[u8]) {
    let Some(input) = structured::<Input>(bytes) else {
        return;
    };
    let mut world = World::new(&input.setting);
    for operation in input.operations.iter().take(OPERATIONS_MAX) {
        world.step(operation);
        world.settle();
        check(&world);
    }
    world.end();
    check_empty(&world);
}

/// Operations of an input that count; later ones would only make it slow.
const OPERATIONS_MAX: usize = 300;

/// Streams beyond the limit that may wait for their refusal, for each session.
/// Source: shards/src/core/open.rs.
const REFUSALS_PENDING_MAX: u64 = 64;

/// What may wait for one session beside stream data: control frames and one more batch.
/// Source: `CONTROL_BYTES_MAX` of shards/src/core/open.rs, `BATCH_BYTES_MAX`.
const CONTROL_BYTES_MAX: u64 = 2 << 20;

/// What holds between any two calls.
fn check(world: &World) {
    let mut sessions = 0;
    for shard in 0..SHARDS {
        let core = &world.cores[shard];
        assert_eq!(core.stats().broken_laws(), Vec::<String>::new());
        let audit = core.audit();
        assert_eq!(audit.sockets, world.sockets_count(shard), "sockets");
        assert_eq!(
            audit.batches_in_flight,
            world.batches_count(shard),
            "batches"
        );
        assert_eq!(audit.dials, world.dials.connects_count(shard), "connects");
        assert_eq!(core.stats().dials_pending, world.dials.asked_count(shard));
        assert_eq!(audit.local_ports, world.dials.ports_count(shard), "ports");
        assert!(audit.handshakes + audit.sessions <= audit.sockets);
        assert!(
            audit.streams <= audit.sessions * 2 * (u64::from(STREAMS_MAX) + REFUSALS_PENDING_MAX)
        );
        assert!(
            audit.queued_bytes <= world.queue.shard_bytes_max + CONTROL_BYTES_MAX * SLOTS as u64,
            "{} bytes wait",
            audit.queued_bytes
        );
        sessions += audit.sessions;
    }
    let keys = world.directory.len() as u64;
    assert!(keys <= sessions, "a key without a session");
    if world.is_mail_empty() {
        assert_eq!(keys, sessions, "a session without a key");
    }
}

/// What holds when everything was closed.
fn check_empty(world: &World) {
    for core in &world.cores {
        assert!(core.is_drained(), "a socket is left: {:?}", core.audit());
        assert!(
            core.audit().is_zero(),
            "something is left: {:?}",
            core.audit()
        );
        assert_eq!(core.stats().broken_laws(), Vec::<String>::new());
        assert_eq!(core.stats().opens_pending, 0);
    }
    assert!(world.dials.is_empty(), "a dial is left");
    assert!(world.directory.is_empty(), "a key is left in the directory");
    assert_eq!(
        world.memory.leased_bytes(),
        0,
        "receive memory is left under lease"
    );
}
