//! What a shard says about itself: numbers, and the audit of everything it owns.
//!
//! Here: plain values. Not here: who counts (`core::stats`, `ring`, `data`) and who shows them.
//!
//! Invariant: every field of [`ShardAudit`] is zero after a drain.

use crate::core::Audit;
use crate::core::CoreStats;
use crate::core::Recorder;
use crate::core::ShardId;
use crate::ring::RingNumbers;

/// Everything a shard says about itself.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ShardSnapshot {
    /// The shard.
    pub shard: ShardId,
    /// What the core owns.
    pub audit: Audit,
    /// What the shard owns: core, ring and queues together.
    pub shard_audit: ShardAudit,
    /// The core's counters.
    pub stats: CoreStats,
    /// The core's latency histograms.
    pub recorder: Recorder,
    /// The ring's numbers.
    pub ring: RingNumbers,
    /// The data thread's numbers.
    pub data: DataNumbers,
    /// The last turns that took too long, oldest first.
    pub stalls: Vec<StalledTurn>,
    /// A drain has reached its end.
    pub is_drained: bool,
}

/// Counters and gauges of a data thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DataNumbers {
    /// Turns.
    pub turns: u64,
    /// Turns that slept.
    pub sleeps: u64,
    /// Times polling found something before its end.
    pub spins_hit: u64,
    /// Times polling found nothing.
    pub spins_missed: u64,
    /// Handshake jobs that the data thread computed itself, since the executor got no processor for them.
    pub jobs_stalled: u64,
    /// Times the shard gave memory back after its load had fallen.
    pub trims: u64,
    /// Turns that took too long; see [`StalledTurn`].
    pub turns_stalled: u64,
    /// The longest of them, microseconds.
    pub turn_longest_us: u64,
    /// Messages sent to other shards.
    pub messages_sent: u64,
    /// Wake-ups sent to other shards.
    pub wakes_sent: u64,
    /// Messages of other shards that wait in this shard's mailboxes.
    pub mailbox_current: u64,
    /// Messages that wait because another shard's mailbox is full.
    pub outbox_current: u64,
    /// Jobs with the service executor whose result was not taken yet.
    pub jobs_current: u64,
    /// Of these, jobs that wait because the executor's queue is full.
    pub jobs_waiting_current: u64,
    /// Connections that the shards count for this one when they choose, those on their way to it included.
    pub connections_current: u64,
}

/// A turn of a data thread that took more than 10 ms: all sessions of the shard waited for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StalledTurn {
    /// When it began, milliseconds since the shards were started.
    pub began_ms: u64,
    /// How long it took, microseconds.
    pub took_us: u64,
    /// Completions of the ring that it handled.
    pub completions: u32,
    /// Messages of other shards that it handled.
    pub messages: u32,
    /// Results of the service executor that it took, or computed itself.
    pub results: u32,
    /// Whether timers were due in it.
    pub had_timers: bool,
    /// Whether it gave memory back.
    pub has_trimmed: bool,
}

/// Everything a shard owns at this moment. After a drain every field is zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardAudit {
    /// What the core owns.
    pub core: Audit,
    /// Slots of the ring's file table that hold a socket.
    pub descriptors: u64,
    /// Sends in flight.
    pub sends_in_flight: u64,
    /// Outbound connections being made.
    pub connects_in_flight: u64,
    /// Connections on their way to another shard.
    pub hand_overs_in_flight: u64,
    /// Receives that wait for a block.
    pub receives_starved: u64,
    /// Receive blocks of which somebody still holds bytes, on whichever shard.
    pub blocks_leased: u64,
    /// Jobs with the service executor.
    pub jobs: u64,
    /// Messages of other shards that were not taken yet.
    pub mailbox_messages: u64,
    /// Messages that other shards had no room for.
    pub outbox_messages: u64,
    /// Connections that the shards count for this one.
    pub connections: u64,
}

impl ShardAudit {
    /// Adds up what core, ring and data thread say.
    #[must_use]
    pub const fn new(core: Audit, ring: &RingNumbers, data: &DataNumbers) -> Self {
        Self {
            core,
            descriptors: ring.sockets_current,
            sends_in_flight: ring.sends_current,
            connects_in_flight: ring.connects_current,
            hand_overs_in_flight: ring.hand_overs_current,
            receives_starved: ring.starved_current,
            blocks_leased: ring.buffers.leased,
            jobs: data.jobs_current,
            mailbox_messages: data.mailbox_current,
            outbox_messages: data.outbox_current,
            connections: data.connections_current,
        }
    }

    /// Returns whether nothing is owned.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_a_shard_owns_keeps_its_audit_from_zero() {
        let clean = || {
            (
                Audit::default(),
                RingNumbers::default(),
                DataNumbers::default(),
            )
        };
        type Owned = (Audit, RingNumbers, DataNumbers);
        let things: [fn(&mut Owned); 11] = [
            |owned| owned.0.queued_bytes = 1,
            |owned| owned.1.sockets_current = 1,
            |owned| owned.1.sends_current = 1,
            |owned| owned.1.connects_current = 1,
            |owned| owned.1.hand_overs_current = 1,
            |owned| owned.1.starved_current = 1,
            |owned| owned.1.buffers.leased = 1,
            |owned| owned.2.jobs_current = 1,
            |owned| owned.2.mailbox_current = 1,
            |owned| owned.2.outbox_current = 1,
            |owned| owned.2.connections_current = 1,
        ];
        let audit = |(core, ring, data): &Owned| ShardAudit::new(*core, ring, data);
        assert!(audit(&clean()).is_zero());
        for (number, own) in things.iter().enumerate() {
            let mut owned = clean();
            own(&mut owned);
            assert!(!audit(&owned).is_zero(), "thing {number} is not counted");
        }
    }
}
