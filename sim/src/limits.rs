//! Tight limits and slow peers of a run.
//!
//! Here: the draw of what is bounded (admission, queues, times, receive memory) and of the peers that
//! make the bounds act. Not here: sizes of the workload and faults of connections
//! (`options`).
//!
//! Drawn from a generator of its own, so that a run without them is the run it was before they existed.
//! Units: nanoseconds, bytes, percent.

use std::time::Duration;

use ringway_proto::limits as defaults;
use ringway_shards::core::{AdmissionLimits, QueueLimits, Timeouts};

use crate::options::{Options, SECOND};
use crate::rng::{Rng, mix};

/// Limits and slow peers of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) handshakes_source_max: u32,
    pub(crate) accepts_per_s_max: u32,
    /// Sessions a shard may hold; `None`: as many as sockets.
    pub(crate) sessions_max: Option<u32>,
    pub(crate) pipelined_bytes_max: u64,
    pub(crate) queue: QueueLimits,
    pub(crate) timeouts: Timeouts,
    /// Addresses that clients share; 0: each has its own.
    pub(crate) sources: u32,
    /// Strangers that connect and never finish.
    pub(crate) flood: usize,
    /// Time over which they come.
    pub(crate) flood_ns: u64,
    /// Peers that read a few bytes every some seconds, for minutes.
    pub(crate) trickle: u64,
    /// Peers that read nothing any more.
    pub(crate) stall: u64,
    /// Streams of which one direction ends and the other falls silent or talks slowly.
    pub(crate) half_closed: u64,
    /// Sends that complete in full although they were cancelled.
    pub(crate) crossing: u64,
}

/// Mixed into the seed of a run: the second generator must not follow the first.
const STREAM: u64 = 0x6c69_6d69_7473;

impl Limits {
    /// Draws the limits of a run and fits the options to them.
    pub(crate) fn draw(seed: u64, options: &mut Options) -> Self {
        let mut rng = Rng::new(mix(seed ^ STREAM));
        let mut limits = Self::plenty();
        if rng.chance(25) {
            return limits;
        }
        limits.draw_admission(&mut rng, options);
        limits.draw_slowness(&mut rng);
        // Slow peers are worth most where what waits for them is short.
        let is_slow = limits.trickle + limits.stall > 0;
        let percent = if is_slow { 60 } else { 20 };
        if is_slow && options.piece_max >= 100 && rng.chance(70) {
            options.stream_bytes_max = options.stream_bytes_max.max(60_000);
            options.opens = options.opens.min(24);
        }
        if rng.chance(percent) {
            let session_bytes_max = rng.pick(&[65_536, 262_144, 1_048_576], 65_536);
            let shard_bytes_max = rng.pick(&[131_072, 524_288, 4_194_304], 131_072);
            limits.queue = QueueLimits {
                session_bytes_max,
                shard_bytes_max: shard_bytes_max.max(u64::from(session_bytes_max)),
            };
        }
        if rng.chance(30) {
            limits.timeouts = draw_timeouts(&mut rng);
        }
        if rng.chance(percent) {
            options.ring_bytes_max = rng.pick(&[20_000, 40_000, 200_000], 40_000);
        }
        limits
    }

    fn draw_slowness(&mut self, rng: &mut Rng) {
        let mut kind = |percent: u64, percents: &[u64]| {
            let is_on = rng.chance(percent);
            let percent = rng.pick(percents, 0);
            if is_on { percent } else { 0 }
        };
        self.trickle = kind(20, &[20, 60]);
        self.stall = kind(20, &[20, 60]);
        self.half_closed = kind(20, &[20, 60]);
        self.crossing = kind(30, &[30, 100]);
    }

    /// Returns the default limits and no slow peer.
    pub(crate) fn plenty() -> Self {
        let AdmissionLimits {
            handshakes_source_max,
            accepts_per_s_max,
            pipelined_bytes_max,
            ..
        } = AdmissionLimits::for_sockets(1);
        Self {
            handshakes_source_max,
            accepts_per_s_max,
            sessions_max: None,
            pipelined_bytes_max,
            queue: QueueLimits::default(),
            timeouts: Timeouts::default(),
            sources: 0,
            flood: 0,
            flood_ns: 0,
            trickle: 0,
            stall: 0,
            half_closed: 0,
            crossing: 0,
        }
    }

    fn draw_admission(&mut self, rng: &mut Rng, options: &mut Options) {
        if rng.chance(10) {
            self.flood = rng.size(50, 400);
            self.flood_ns = rng.pick(&[0, SECOND, 10 * SECOND], 0);
            if rng.chance(70) {
                options.sockets_max = 1_000;
            }
            options.handshakes_max = rng.pick(&[4, 16, 64], 16);
        } else if rng.chance(10) {
            options.handshakes_max = rng.pick(&[1, 2, 4], 2);
        }
        if rng.chance(15) {
            self.sources = rng.pick(&[1, 2, 3], 1);
            self.handshakes_source_max = rng.pick(&[1, 2, 8], 2);
        }
        if rng.chance(15) {
            self.accepts_per_s_max = rng.pick(&[1, 3, 20, 100], 20);
        }
        if rng.chance(10) {
            self.sessions_max = Some(rng.pick(&[1, 2, 3], 2));
        }
        if rng.chance(10) {
            self.pipelined_bytes_max = rng.pick(&[100, 2_000, 20_000], 2_000);
        }
    }

    /// Returns what the cores are configured with.
    pub(crate) fn admission(&self, options: &Options) -> AdmissionLimits {
        AdmissionLimits {
            sockets_max: options.sockets_max,
            sessions_max: self.sessions_max.unwrap_or(options.sockets_max),
            handshakes_max: options.handshakes_max,
            handshakes_source_max: self.handshakes_source_max,
            accepts_per_s_max: self.accepts_per_s_max,
            pipelined_bytes_max: self.pipelined_bytes_max,
            ..AdmissionLimits::for_sockets(options.sockets_max)
        }
    }

    /// Returns whether less may wait than honest streams may send ahead.
    pub(crate) const fn has_tight_queue(&self) -> bool {
        self.queue.session_bytes_max < defaults::SESSION_QUEUE_MAX
    }

    /// Returns the silence after which a bridge is reset.
    pub(crate) fn silence_ns(&self, is_half_closed: bool) -> u64 {
        let Timeouts {
            half_closed,
            bridge_idle,
            ..
        } = self.timeouts;
        let limit = if is_half_closed {
            half_closed.min(bridge_idle)
        } else {
            bridge_idle
        };
        nanos(limit)
    }

    /// Returns the longest time that a socket may take nothing of what waits for it: until the session's
    /// next look, then the time-out twice, since the first look may find bytes taken before.
    pub(crate) fn stuck_ns_max(&self) -> u64 {
        let Timeouts {
            handshake,
            keepalive,
            send_stall,
            ..
        } = self.timeouts;
        nanos(handshake.max(keepalive + 2 * send_stall)) + 2 * SECOND
    }

    /// Returns the longest silence of a peer that keeps its session: its pings, and what it took late.
    pub(crate) fn silent_ns_max(&self) -> u64 {
        let Timeouts {
            handshake,
            keepalive,
            send_stall,
            ..
        } = self.timeouts;
        let missed = defaults::KEEPALIVE_MISSED_MAX + 2;
        nanos(handshake + missed * (keepalive + send_stall)) + 5 * SECOND
    }
}

fn draw_timeouts(rng: &mut Rng) -> Timeouts {
    let mut seconds = |values: &[u64], otherwise| Duration::from_secs(rng.pick(values, otherwise));
    let keepalive = seconds(&[2, 5, 30], 30);
    Timeouts {
        handshake: seconds(&[1, 2, 5], 5),
        open: seconds(&[1, 3, 5], 5),
        keepalive,
        half_closed: seconds(&[3, 10, 60], 60),
        bridge_idle: seconds(&[4, 20, 300], 300),
        // A time-out beyond the keep-alive's is no use: the pings find out before.
        send_stall: seconds(&[1, 4, 30], 30).min(keepalive),
    }
}

/// Returns a time-out in nanoseconds.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
