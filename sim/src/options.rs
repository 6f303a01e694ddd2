//! What a run is like: sizes and which kinds of fault it has.
//!
//! Here: the draw (swarm testing, Groce et al. 2012: a fault that is always on hides others, so each
//! seed leaves whole kinds out). Not here: how faults happen.
//!
//! Units: nanoseconds, bytes.

use crate::limits::Limits;
use crate::rng::Rng;

/// One millisecond.
pub(crate) const MS: u64 = 1_000_000;
/// One second.
pub(crate) const SECOND: u64 = 1_000 * MS;

/// Settings of one run, drawn from its seed.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) shards: usize,
    /// Keys of honest peers.
    pub(crate) identities: usize,
    /// Sockets a shard may hold.
    pub(crate) sockets_max: u32,
    pub(crate) handshakes_max: u32,
    pub(crate) streams_max: u32,
    /// Streams that honest peers open in all.
    pub(crate) opens: usize,
    /// Bytes of one direction of one stream, at most.
    pub(crate) stream_bytes_max: u64,
    /// When the last open starts.
    pub(crate) workload_ns: u64,
    /// Largest receive window of a peer.
    pub(crate) window_max: u32,
    /// Bytes of one receive, at most.
    pub(crate) piece_max: usize,
    /// Receive memory of a shard; the kernel waits while it is out.
    pub(crate) ring_bytes_max: i64,
    /// Socket buffers, each direction.
    pub(crate) socket_bytes: usize,
    pub(crate) delay_min: u64,
    pub(crate) delay_max: u64,
    /// How long a shard sleeps before it looks at what came.
    pub(crate) turn_delay_max: u64,
    pub(crate) mail_delay_max: u64,
    pub(crate) compute_delay_max: u64,
    pub(crate) completion_delay_max: u64,
    pub(crate) actions_between: bool,
    pub(crate) faults: Faults,
    pub(crate) adversaries: usize,
    pub(crate) strangers: usize,
    pub(crate) limits: Limits,
}

/// Kinds of fault, in percent; 0: the kind is off in this run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// A connection is cut by RST at a random byte or time.
    pub(crate) reset: u64,
    /// A peer vanishes without a word.
    pub(crate) vanish: u64,
    /// A peer closes its direction of the connection in the middle.
    pub(crate) leave: u64,
    /// The relay ends a session by hand.
    pub(crate) kick: u64,
    /// A second session with the same key.
    pub(crate) replace: u64,
    /// Drain while streams are under way.
    pub(crate) drain: u64,
    /// Shutdown while streams are under way.
    pub(crate) shutdown: u64,
    /// A wake-up gets lost until something else wakes the shard.
    pub(crate) lost_wake: u64,
    /// A send is reported before all of it is taken.
    pub(crate) short_send: u64,
    /// A peer reads its socket slowly.
    pub(crate) slow_socket: u64,
    /// A peer reads its streams slowly.
    pub(crate) slow_stream: u64,
    /// A stream is reset by one side.
    pub(crate) stream_reset: u64,
    /// An open goes to nobody, nowhere, or to someone who refuses or never answers.
    pub(crate) odd_open: u64,
}

impl Options {
    /// Returns whether the network may need seconds for what the peers send in all: then an answer
    /// may rightly come too late.
    pub(crate) fn is_slow_network(&self) -> bool {
        let bytes = self.opens as u64 * (600 + 2 * self.stream_bytes_max);
        let reading = if self.faults.slow_socket > 0 {
            80 * MS
        } else {
            0
        };
        let round_trip = 2 * self.delay_max + reading;
        let answer_ns = crate::limits::nanos(self.limits.timeouts.open);
        bytes / self.socket_bytes as u64 * round_trip > answer_ns * 2 / 5
    }

    /// Draws the settings of the run of `seed`; `rng` is its generator.
    pub(crate) fn draw(seed: u64, rng: &mut Rng) -> Self {
        let mut options = Self::draw_workload(rng);
        options.limits = Limits::draw(seed, &mut options);
        options
    }

    fn draw_workload(rng: &mut Rng) -> Self {
        let faults = Faults::draw(rng);
        let is_tiny = rng.chance(15);
        let is_crowd = !is_tiny && rng.chance(1);
        let piece_max = if is_tiny {
            rng.size(1, 16)
        } else {
            rng.pick(&[100, 1_448, 4_096, 16_384, 65_536], 4_096)
        };
        let stream_bytes_max = match (is_tiny, is_crowd) {
            (true, _) => rng.skewed(1, 800),
            (_, true) => rng.skewed(1, 200),
            _ => rng.pick(&[100, 5_000, 60_000, 60_000, 300_000, 1_048_576], 5_000),
        };
        let opens = match (is_tiny, is_crowd) {
            (_, true) => rng.size(500, 1_500),
            (true, _) => rng.size(1, 6),
            _ if stream_bytes_max > 200_000 => rng.size(1, 8),
            _ => rng.size(1, 24),
        };
        let delay_max = rng.pick(&[10_000, MS, 20 * MS, 150 * MS], MS);
        let socket_bytes = if is_tiny {
            rng.size(64, 4_096)
        } else {
            rng.pick(&[3_000, 16_384, 65_536, 262_144], 65_536)
        };
        Self {
            shards: rng.size(1, 4),
            identities: rng.size(1, 5),
            sockets_max: if rng.chance(10) { 3 } else { 64 },
            handshakes_max: if rng.chance(10) { 2 } else { 32 },
            streams_max: if rng.chance(10) { 4 } else { 2_048 },
            opens,
            stream_bytes_max,
            workload_ns: rng.pick(&[0, 50 * MS, SECOND, 10 * SECOND, 120 * SECOND], SECOND),
            window_max: rng.pick(&[262_144, 262_144, 1_048_576, 16_777_216], 262_144),
            piece_max,
            socket_bytes,
            delay_min: rng.below(delay_max / 2 + 1),
            delay_max,
            turn_delay_max: rng.pick(&[0, 1_000, 100_000, 5 * MS], 1_000),
            mail_delay_max: rng.pick(&[0, 5_000, MS, 20 * MS], 5_000),
            compute_delay_max: rng.pick(&[0, MS, 100 * MS], MS),
            completion_delay_max: rng.pick(&[0, 10_000, MS, 10 * MS], 10_000),
            actions_between: rng.chance(30),
            ring_bytes_max: if rng.chance(20) { 40_000 } else { i64::MAX },
            adversaries: if rng.chance(50) { rng.size(1, 4) } else { 0 },
            strangers: if rng.chance(30) { rng.size(1, 4) } else { 0 },
            limits: Limits::plenty(),
            faults,
        }
    }
}

impl Faults {
    fn draw(rng: &mut Rng) -> Self {
        // A fifth of the runs has no fault at all: there everything has to complete.
        let is_calm = rng.chance(20);
        let mut kind = |percents: &[u64]| {
            let is_on = rng.chance(40);
            let percent = rng.pick(percents, 0);
            if is_on && !is_calm { percent } else { 0 }
        };
        Self {
            reset: kind(&[10, 30, 60]),
            vanish: kind(&[10, 30]),
            leave: kind(&[10, 30]),
            kick: kind(&[10, 40]),
            replace: kind(&[20, 60]),
            drain: kind(&[50]),
            shutdown: kind(&[20]),
            lost_wake: kind(&[5, 30]),
            short_send: kind(&[5, 50]),
            slow_socket: kind(&[30, 100]),
            slow_stream: kind(&[30, 100]),
            stream_reset: kind(&[10, 40]),
            odd_open: kind(&[10, 50]),
        }
    }
}
