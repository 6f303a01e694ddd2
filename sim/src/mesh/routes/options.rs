//! What a run with routes is like.
//!
//! Here: the draw of sizes and kinds of fault. Not here: how they happen (`faults`).
//!
//! Units: nanoseconds, percent.

use std::time::Duration;

use ringway_shards::core::Timeouts;

use super::super::options::{Faults as MeshFaults, Options, RelayOptions};
use crate::options::{MS, SECOND};
use crate::rng::Rng;

/// Settings beside those of the network.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RouteOptions {
    /// Setups asked for under faults.
    pub(super) setups: usize,
    /// Setups that a shard works on at once.
    pub(super) slots: usize,
    /// Setups that wait there.
    pub(super) waiting_max: usize,
    /// Times that a hop's process dies.
    pub(super) deaths: usize,
    /// Times that a session breaks.
    pub(super) breaks: usize,
    /// Times that a peer vanishes without a word.
    pub(super) vanishes: usize,
    /// Times that nothing arrives at a peer for a while.
    pub(super) holds: usize,
    /// Times that a session of the services is lost.
    pub(super) losses: usize,
    /// Questions that hops refuse.
    pub(super) refuse: u64,
    /// Those that they do not answer.
    pub(super) silent: u64,
    /// Those that they answer with something else.
    pub(super) lie: u64,
    /// Those that they answer late.
    pub(super) late: u64,
    /// Streams that hops refuse.
    pub(super) stream_refusal: u64,
    /// Setups whose asker goes.
    pub(super) leave: u64,
    /// Setups that are not well formed.
    pub(super) wrong: u64,
}

impl RouteOptions {
    /// Draws the settings of a run.
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let is_calm = rng.chance(15);
        let mut draw = |values: &[u64]| {
            let is_on = rng.chance(50);
            let value = rng.pick(values, 0);
            if is_on && !is_calm { value } else { 0 }
        };
        let mut count = |most: &[u64]| usize::try_from(draw(most)).unwrap_or(0);
        let faults = Self {
            deaths: count(&[1, 3, 6]),
            breaks: count(&[1, 3, 6]),
            vanishes: count(&[1, 2]),
            holds: count(&[1, 3, 6]),
            losses: count(&[1, 2, 4]),
            refuse: draw(&[2, 10, 30]),
            silent: draw(&[2, 10, 30]),
            lie: draw(&[2, 10, 30]),
            late: draw(&[2, 10, 30]),
            stream_refusal: draw(&[5, 30]),
            leave: draw(&[10, 40]),
            wrong: draw(&[5, 20]),
            ..Self::default()
        };
        Self {
            setups: rng.size(2, 60),
            slots: rng.size(1, 5),
            waiting_max: rng.size(0, 6),
            ..faults
        }
    }
}

/// Draws the settings of the network and of the one relay.
pub(super) fn draw_network(rng: &mut Rng) -> Options {
    let delay_max = rng.pick(&[10_000, MS, 20 * MS, 50 * MS], MS);
    let relay = RelayOptions {
        shards: rng.size(1, 4),
        names: Vec::new(),
        allowed: None,
        announces_peers: true,
    };
    Options {
        relays: vec![relay],
        has_registry: false,
        identities: rng.size(2, 7),
        opens: 0,
        stream_bytes_max: 0,
        workload_ns: rng.pick(&[2 * SECOND, 20 * SECOND, 60 * SECOND], SECOND),
        piece_max: rng.pick(&[64, 1_448, 16_384, 65_536], 1_448),
        socket_bytes: rng.pick(&[3_000, 16_384, 65_536, 262_144], 65_536),
        delay_min: rng.below(delay_max / 2 + 1),
        delay_max,
        turn_delay_max: rng.pick(&[0, 1_000, 100_000, 5 * MS], 1_000),
        mail_delay_max: rng.pick(&[0, 5_000, MS, 20 * MS], 5_000),
        compute_delay_max: rng.pick(&[0, MS, 20 * MS], MS),
        completion_delay_max: rng.pick(&[0, 10_000, MS, 10 * MS], 10_000),
        timeouts: Timeouts {
            keepalive: Duration::from_secs(rng.pick(&[5, 15, 30], 30)),
            send_stall: Duration::from_secs(5),
            ..Timeouts::default()
        },
        faults: MeshFaults {
            short_send: if rng.chance(40) {
                rng.pick(&[5, 50], 5)
            } else {
                0
            },
            ..MeshFaults::default()
        },
    }
}
