//! What a run of several relays is like.
//!
//! Here: the draw of relays, who names whom, sizes and the kinds of fault of the run. Not here: how they
//! happen (`faults`).
//!
//! Units: nanoseconds, bytes.

use std::time::Duration;

use ringway_shards::core::Timeouts;

use crate::keys::RELAYS_MAX;
use crate::options::{MS, SECOND};
use crate::rng::Rng;

/// One relay of a run.
#[derive(Debug, Clone)]
pub(super) struct RelayOptions {
    pub(super) shards: usize,
    /// Relays that its configuration names.
    pub(super) names: Vec<usize>,
    /// Who else may make links; `None`: all.
    pub(super) allowed: Option<Vec<usize>>,
    pub(super) announces_peers: bool,
}

/// Settings of one run, drawn from its seed.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) relays: Vec<RelayOptions>,
    pub(super) has_registry: bool,
    /// Keys of peers.
    pub(super) identities: usize,
    /// Streams opened under faults.
    pub(super) opens: usize,
    pub(super) stream_bytes_max: u64,
    pub(super) workload_ns: u64,
    pub(super) piece_max: usize,
    pub(super) socket_bytes: usize,
    pub(super) delay_min: u64,
    pub(super) delay_max: u64,
    pub(super) turn_delay_max: u64,
    pub(super) mail_delay_max: u64,
    pub(super) compute_delay_max: u64,
    pub(super) completion_delay_max: u64,
    pub(super) timeouts: Timeouts,
    pub(super) faults: Faults,
}

/// How often each kind of fault comes in a run, or in percent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) cuts: usize,
    pub(super) resets: usize,
    pub(super) delays: usize,
    pub(super) kills: usize,
    pub(super) drains: usize,
    pub(super) wants: usize,
    pub(super) moves: usize,
    pub(super) vanishes: usize,
    pub(super) breaks: usize,
    /// Connects of links that fail or hang, in percent.
    pub(super) connect: u64,
    /// Answers of the registry that are wrong, late or none, in percent.
    pub(super) registry: u64,
    pub(super) short_send: u64,
    /// Opens that the destination refuses, in percent.
    pub(super) refusal: u64,
    /// Streams that are reset by the opener, in percent.
    pub(super) stream_reset: u64,
}

impl Options {
    /// Draws the settings; `relays` of them, or two to four.
    pub(super) fn draw(rng: &mut Rng, relays: Option<usize>) -> Self {
        let drawn = rng.size(2, RELAYS_MAX);
        let count = relays.map_or(drawn, |relays| relays.clamp(2, RELAYS_MAX));
        let mut relays: Vec<RelayOptions> = (0..count)
            .map(|own| RelayOptions {
                shards: rng.size(1, 3),
                names: some(rng, count, own, 55),
                allowed: rng.chance(25).then(|| some(rng, count, own, 50)),
                announces_peers: rng.chance(65),
            })
            .collect();
        // One pair at least that can be linked.
        if !relays[0].names.contains(&1) {
            relays[0].names.push(1);
        }
        if let Some(allowed) = &mut relays[1].allowed
            && !allowed.contains(&0)
        {
            allowed.push(0);
        }
        let delay_max = rng.pick(&[10_000, MS, 20 * MS, 100 * MS], MS);
        Self {
            relays,
            has_registry: rng.chance(60),
            identities: rng.size(2, 7),
            opens: rng.size(2, 30),
            stream_bytes_max: rng.pick(&[100, 5_000, 60_000, 300_000], 5_000),
            workload_ns: rng.pick(&[SECOND, 20 * SECOND, 60 * SECOND, 120 * SECOND], SECOND),
            piece_max: rng.pick(&[64, 1_448, 16_384, 65_536], 1_448),
            socket_bytes: rng.pick(&[3_000, 16_384, 65_536, 262_144], 65_536),
            delay_min: rng.below(delay_max / 2 + 1),
            delay_max,
            turn_delay_max: rng.pick(&[0, 1_000, 100_000, 5 * MS], 1_000),
            mail_delay_max: rng.pick(&[0, 5_000, MS, 20 * MS], 5_000),
            compute_delay_max: rng.pick(&[0, MS, 50 * MS], MS),
            completion_delay_max: rng.pick(&[0, 10_000, MS, 10 * MS], 10_000),
            timeouts: Timeouts {
                keepalive: Duration::from_secs(rng.pick(&[5, 15, 30], 30)),
                send_stall: Duration::from_secs(rng.pick(&[5, 15], 15)),
                ..Timeouts::default()
            },
            faults: Faults::draw(rng),
        }
    }

    /// Returns whether a relay's configuration lets another one in.
    pub(super) fn allows(&self, own: usize, other: usize) -> bool {
        let relay = &self.relays[own];
        let is_listed = relay
            .allowed
            .as_ref()
            .is_none_or(|list| list.contains(&other));
        is_listed || relay.names.contains(&other)
    }
}

impl Faults {
    fn draw(rng: &mut Rng) -> Self {
        let is_calm = rng.chance(15);
        let mut draw = |values: &[u64]| {
            let is_on = rng.chance(55);
            let value = rng.pick(values, 0);
            if is_on && !is_calm { value } else { 0 }
        };
        let mut count = |most: &[u64]| usize::try_from(draw(most)).unwrap_or(0);
        Self {
            cuts: count(&[1, 2, 4]),
            resets: count(&[1, 3, 6]),
            delays: count(&[1, 3, 6]),
            kills: count(&[1, 1, 3]),
            drains: count(&[1, 2]),
            wants: count(&[1, 3, 6]),
            moves: count(&[1, 4, 8]),
            vanishes: count(&[1, 2]),
            breaks: count(&[1, 3]),
            connect: draw(&[10, 50]),
            registry: draw(&[20, 50, 90]),
            short_send: draw(&[5, 50]),
            refusal: draw(&[10, 30]),
            stream_reset: draw(&[10, 30]),
        }
    }
}

/// Returns some of the relays but `own`, each with a chance of `percent`.
pub(super) fn some(rng: &mut Rng, count: usize, own: usize, percent: u64) -> Vec<usize> {
    (0..count)
        .filter(|other| rng.chance(percent) && *other != own)
        .collect()
}
