//! What a relay may have to hold in memory, term by term.
//!
//! Here: the worst case of an idle session, a full session, a shard and the process, as constant
//! functions of the settings; every term names its holder. Not here: the bounds themselves
//! (`ringway_proto::limits`, the configuration) and who keeps to them (`core::egress`, `ring::buffers`).
//!
//! The sizes are `size_of` of the structs, so a struct that grows changes docs/limits.md, where a test
//! compares the table; and an idle session that outgrows [`IDLE_SESSION_BYTES_MAX`] does not compile.
//!
//! Units: bytes. Sums saturate; no relay of 2^64 bytes exists.
//! Source: after `message_pool.zig` of `TigerBeetle`, one line a term.

use ringway_proto::handshake::Responder;
use ringway_proto::key::PublicKey;
use ringway_proto::limits::BATCH_BYTES_MAX;
use ringway_proto::limits::BATCH_SEGMENTS_MAX;
use ringway_proto::limits::COPY_THRESHOLD;
use ringway_proto::limits::DIALS_MAX;
use ringway_proto::limits::HANDSHAKE_MESSAGE_MAX;
use ringway_proto::limits::HANDSHAKES_MAX;
use ringway_proto::limits::PIPELINED_SHARD_MAX;
use ringway_proto::limits::RECEIVE_MEMORY_MAX;
use ringway_proto::limits::SEALED_OBJECT_MAX;
use ringway_proto::limits::SESSION_QUEUE_MAX;
use ringway_proto::limits::SHARD_QUEUE_MAX;
use ringway_proto::limits::SHARD_STREAMS_MAX;
use ringway_proto::limits::STREAMS_MAX;

use crate::core::CoreSizes;
use crate::core::Holder;
use crate::load::PERMIT_BYTES;
use crate::mailbox::MAILBOX_MESSAGES;
use crate::ring;
use crate::ring::RingLease;
use crate::snapshot::ShardAudit;

/// Most bytes of user space that an established session without traffic may cost.
///
/// A million sessions a host then fit in 1.5 GiB. What it costs the kernel comes on top
/// ([`KERNEL_SOCKET_BYTES`]).
pub const IDLE_SESSION_BYTES_MAX: u64 = 1_536;

/// Bytes of kernel memory behind an idle connection with an armed multishot receive, one end.
///
/// Half of the 7.2 to 9.0 KiB that were measured for both ends, the upper half of the range. It is no
/// memory of the process: it stands in the host's slab and not in the process's RSS.
/// Source: docs/internals/uring.md F.
pub const KERNEL_SOCKET_BYTES: u64 = 4_608;

/// Bytes of kernel memory of one slot of a ring's file table, used or not.
///
/// A pointer and a bit, rounded up by the table's doubling of what it holds for each node in use.
/// Source: docs/config.md, `limits.sessions_max`; `io_uring_register(2)`, `IORING_REGISTER_FILES2`.
pub const KERNEL_SLOT_BYTES: u64 = 16;

/// Bytes that a shard costs before the first connection, its receive memory at rest excepted: two
/// threads with their stacks, histograms, pools of idle chunks, tables.
///
/// Measured: relays of one, two and four shards without a connection have 7.7, 8.3 and 10.1 MiB of RSS, 0.6
/// to 0.9 MiB for each shard; the rest is for the idle pools, which fill with use.
/// Source: docs/benchmarks.md, "Many sessions".
pub const SHARD_FIXED_BYTES: u64 = 8 << 20;

/// Receive memory that a shard lends to the kernel at rest: 32 blocks of 256 KiB.
pub const RECEIVE_REST_BYTES: u64 = 8 << 20;

/// Bytes of one block of it.
pub const BLOCK_BYTES: u64 = RECEIVE_REST_BYTES / 32;

/// Settings that the sums depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Shards.
    pub shards: u64,
    /// Sessions of each shard.
    pub sessions_max: u64,
    /// Handshakes in progress on each shard.
    pub handshakes_max: u64,
    /// Connections that each shard makes at once.
    pub dials_max: u64,
    /// Streams of each session.
    pub streams_max: u64,
    /// Stream legs of each shard.
    pub shard_streams_max: u64,
    /// Bytes that may wait for one session.
    pub session_queue_bytes_max: u64,
    /// Bytes that may wait for all sessions of a shard.
    pub shard_queue_bytes_max: u64,
    /// Receive memory of a shard.
    pub receive_bytes_max: u64,
    /// Peers of other relays that a shard may be told of; none without links.
    pub announced_max: u64,
}

impl Bounds {
    /// The default settings of one shard with this many sessions.
    #[must_use]
    pub const fn of_one_shard(sessions_max: u64) -> Self {
        Self {
            shards: 1,
            sessions_max,
            handshakes_max: widen(HANDSHAKES_MAX as usize),
            dials_max: widen(DIALS_MAX as usize),
            streams_max: widen(STREAMS_MAX as usize),
            shard_streams_max: widen(SHARD_STREAMS_MAX as usize),
            session_queue_bytes_max: widen(SESSION_QUEUE_MAX as usize),
            shard_queue_bytes_max: SHARD_QUEUE_MAX,
            receive_bytes_max: RECEIVE_MEMORY_MAX,
            announced_max: 0,
        }
    }
}

/// One line of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// What it is.
    pub name: &'static str,
    /// Who holds it.
    pub holder: &'static str,
    /// How many there may be.
    pub count: u64,
    /// Bytes of each.
    pub each_bytes: u64,
}

impl Term {
    const fn new(name: &'static str, holder: &'static str, count: u64, each_bytes: u64) -> Self {
        Self {
            name,
            holder,
            count,
            each_bytes,
        }
    }

    /// Returns the bytes of all of them.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.count.saturating_mul(self.each_bytes)
    }
}

/// Returns the sum of the terms.
#[must_use]
pub const fn sum(terms: &[Term]) -> u64 {
    let mut total: u64 = 0;
    let mut rest = terms;
    while let [term, tail @ ..] = rest {
        total = total.saturating_add(term.bytes());
        rest = tail;
    }
    total
}

/// An established session that neither sends nor receives.
#[must_use]
pub const fn idle_session() -> [Term; 6] {
    let entry = size_of::<PublicKey>() + SIZES.registration;
    [
        // Tables grow by doubling; of what was added the half that is not used was never touched.
        Term::new(
            "place in the session table",
            "the core",
            1,
            widen(SIZES.session),
        ),
        Term::new("the session", "the session table", 1, heap(SIZES.live)),
        Term::new(
            "slot of the file table",
            "the ring",
            1,
            widen(ring::SLOT_BYTES),
        ),
        Term::new(
            "permit of the shard's load",
            "the data thread",
            1,
            widen(PERMIT_BYTES),
        ),
        Term::new("timer", "the timer wheel", 1, widen(SIZES.timer)),
        Term::new(
            "entry and places in the directory",
            "the process",
            1,
            heap(entry) + DIRECTORY_PLACES * DIRECTORY_PLACE_BYTES,
        ),
    ]
}

/// A session with every stream opened and its queue full.
#[must_use]
pub const fn session(bounds: &Bounds) -> [Term; 6] {
    let places = (bounds.streams_max * 2).next_power_of_two();
    [
        Term::new("an idle session", "the core", 1, sum(&idle_session())),
        Term::new("queues and batch", "the session", 1, heap(SIZES.egress)),
        Term::new(
            "stream legs, each with an open and a timer",
            "the stream table",
            bounds.streams_max,
            LEG_BYTES,
        ),
        Term::new(
            "places for stream ids",
            "the session",
            places,
            widen(SIZES.id_place),
        ),
        Term::new(
            "bytes that wait",
            "the session's queues",
            1,
            bounds.session_queue_bytes_max,
        ),
        Term::new(
            "ranges that these bytes come in",
            "the streams' queues",
            bounds.session_queue_bytes_max / widen(COPY_THRESHOLD) + 1,
            widen(SIZES.piece) * 2,
        ),
    ]
}

/// What a shard holds at a moment, by the counts of its snapshot.
#[must_use]
pub fn held(snapshot: &ShardAudit) -> [Term; 8] {
    let core = &snapshot.core;
    let sessions = core.sessions + core.links + core.own_sessions;
    [
        Term::new(
            "established sessions",
            "the core",
            sessions,
            sum(&idle_session()),
        ),
        Term::new(
            "handshakes in progress",
            "the core",
            core.handshakes,
            heap(SIZES.handshake) + heap(size_of::<Responder>()),
        ),
        Term::new(
            "bytes behind handshakes",
            "the core",
            core.pipelined_bytes,
            1,
        ),
        Term::new("stream legs", "the stream table", core.streams, LEG_BYTES),
        Term::new(
            "bytes that wait",
            "queues of sessions",
            core.queued_bytes,
            1,
        ),
        Term::new(
            "peers of other relays",
            "the directory",
            core.announced,
            heap(size_of::<PublicKey>() + size_of::<Holder>())
                + DIRECTORY_PLACES * DIRECTORY_PLACE_BYTES,
        ),
        Term::new(
            "messages in mailboxes",
            "the mailboxes",
            snapshot.mailbox_messages + snapshot.outbox_messages,
            widen(SIZES.message),
        ),
        Term::new(
            "receive blocks of which something is held",
            "the ring",
            snapshot.blocks_leased,
            BLOCK_BYTES,
        ),
    ]
}

/// Returns the stream legs that there may be.
const fn legs_max(bounds: &Bounds) -> u64 {
    let asked = bounds.sessions_max.saturating_mul(bounds.streams_max);
    if asked < bounds.shard_streams_max {
        asked
    } else {
        bounds.shard_streams_max
    }
}

/// A shard with every session established, as many streams being opened as may be, and every queue full.
#[must_use]
pub const fn shard(bounds: &Bounds) -> [Term; 12] {
    let queue = bounds.shard_queue_bytes_max;
    let streams = legs_max(bounds);
    [
        Term::new(
            "idle sessions",
            "the core",
            bounds.sessions_max,
            sum(&idle_session()),
        ),
        Term::new(
            "handshakes in progress",
            "the core and the service executor",
            bounds.handshakes_max,
            HANDSHAKE_BYTES,
        ),
        Term::new(
            "connections being made, each with who waits for it",
            "the core and the ring",
            bounds.dials_max,
            DIAL_BYTES,
        ),
        Term::new(
            "bytes that peers sent ahead of their verdicts",
            "the handshakes",
            1,
            PIPELINED_SHARD_MAX,
        ),
        Term::new(
            "stream legs, each with an open, a timer and its id",
            "the stream table",
            streams,
            LEG_BYTES + 4 * widen(SIZES.id_place),
        ),
        Term::new(
            "peers of other relays",
            "the links and the directory",
            bounds.announced_max,
            ANNOUNCED_BYTES,
        ),
        Term::new("receive blocks", "the ring", 1, bounds.receive_bytes_max),
        Term::new("bytes that wait", "the sessions' queues", 1, queue),
        Term::new(
            "ranges that these bytes come in",
            "the streams' queues",
            queue / widen(COPY_THRESHOLD) + 1,
            widen(SIZES.piece) * 2,
        ),
        Term::new(
            "sessions that send: queues, batch, slices",
            "the core and the ring",
            bounds.sessions_max,
            heap(SIZES.egress) + heap(ring::SEND_BYTES),
        ),
        Term::new(
            "mailboxes of the other shards",
            "the data thread",
            bounds.shards.saturating_sub(1),
            widen(MAILBOX_MESSAGES * SIZES.message),
        ),
        Term::new(
            "threads, rings, histograms, idle pools",
            "the shard",
            1,
            SHARD_FIXED_BYTES,
        ),
    ]
}

/// What all shards of a relay may hold, in memory of the process.
#[must_use]
pub const fn process(bounds: &Bounds) -> [Term; 1] {
    [Term::new(
        "shards",
        "the process",
        bounds.shards,
        sum(&shard(bounds)),
    )]
}

/// What the relay's connections may cost the kernel.
#[must_use]
pub const fn kernel(bounds: &Bounds) -> [Term; 2] {
    let sockets = bounds.shards.saturating_mul(bounds.sessions_max);
    [
        Term::new(
            "idle sockets with an armed receive",
            "the kernel",
            sockets,
            KERNEL_SOCKET_BYTES,
        ),
        Term::new(
            "slots of the file tables",
            "the kernel",
            sockets.saturating_add(bounds.shards),
            KERNEL_SLOT_BYTES,
        ),
    ]
}

/// Returns how many sessions of a shard fit in `available` bytes of a host, by what each costs idle in
/// process and kernel together, after the fixed part of a shard. Queues and receive memory beyond the
/// blocks at rest are not taken off: they are bounds for slow receivers, not what sessions cost.
#[must_use]
pub const fn sessions_in(available: u64, shards: u64) -> u64 {
    let shards = if shards == 0 { 1 } else { shards };
    let each = sum(&idle_session()) + KERNEL_SOCKET_BYTES + KERNEL_SLOT_BYTES;
    let fixed = SHARD_FIXED_BYTES + RECEIVE_REST_BYTES;
    (available / shards).saturating_sub(fixed) / each
}

const SIZES: CoreSizes = CoreSizes::of::<RingLease>();

/// Places that the directory keeps for an entry: it doubles when half full, so four just after.
/// Source: papaya 0.2, `src/raw/mod.rs`, `get_or_alloc_next`.
const DIRECTORY_PLACES: u64 = 4;

/// A pointer and one byte of its hash.
const DIRECTORY_PLACE_BYTES: u64 = 9;

/// A peer of another relay: its key with the link, half as much again for the gaps in a tree's nodes; its
/// directory entry with one holder.
const ANNOUNCED_BYTES: u64 = widen(size_of::<PublicKey>()) * 3 / 2
    + heap(size_of::<PublicKey>() + size_of::<Box<[Holder]>>())
    + heap(size_of::<Holder>())
    + DIRECTORY_PLACES * DIRECTORY_PLACE_BYTES;

/// A stream leg while it is being opened: entry, open with the request, its copy in a message, timer.
const LEG_BYTES: u64 =
    widen(SIZES.stream) + heap(SIZES.opening) + 2 * heap(SEALED_OBJECT_MAX) + widen(SIZES.timer);

/// A handshake: its state, the key exchange, and a message that is being collected or computed. What a
/// peer sends behind it has a bound of its own.
const HANDSHAKE_BYTES: u64 =
    heap(SIZES.handshake) + heap(size_of::<Responder>()) + 2 * heap(2 + HANDSHAKE_MESSAGE_MAX);

/// A connection being made: its entry, the ring's, a timer, and the channel of whoever asked.
const DIAL_BYTES: u64 = widen(SIZES.dial)
    + heap(ring::CONNECT_BYTES)
    + widen(SIZES.timer)
    + heap(crate::data::DIAL_ANSWER_BYTES);

// PERFORMANCE: the bound of an idle session holds, whatever a struct grows by.
const _: () = assert!(sum(&idle_session()) <= IDLE_SESSION_BYTES_MAX);
// One gather send is a part of the session's queue, and its slices are those of a batch.
const _: () = assert!(BATCH_BYTES_MAX <= SESSION_QUEUE_MAX as usize);
const _: () = assert!(BATCH_SEGMENTS_MAX <= 1_024);

/// What the allocator takes for `bytes`: classes of 16 bytes up to 128, then four to a doubling.
/// Source: mimalloc, `src/page-queue.c`, `mi_bin`.
const fn heap(bytes: usize) -> u64 {
    let step = if bytes <= 128 {
        16
    } else {
        bytes.next_power_of_two() / 8
    };
    widen(bytes.next_multiple_of(step))
}

/// Widens a size; no target of this crate has sizes of more than 64 bits.
const fn widen(size: usize) -> u64 {
    size as u64
}

#[cfg(test)]
mod tests;
