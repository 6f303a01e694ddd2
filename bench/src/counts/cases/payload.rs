//! Data frames of bridged streams.
//!
//! Here: frames received, queued and sent, on one shard and across two. Not here: sessions that do not keep
//! up (`queues`).

use ringway_proto::frame::{Flags, HEADER_LEN, Header};

use super::super::relay::Relay;
use super::{Meter, Prepared, Work};

/// Frames of one peer to others, again and again.
struct Payload {
    relay: Relay,
    from: usize,
    /// The shard of those who get them.
    target: usize,
    traffic: Traffic,
    counts: Parts,
    /// Operations of a round.
    operations: u64,
}

/// What is received in one round.
struct Traffic {
    receives: Vec<Vec<u8>>,
    /// Payload of all.
    bytes: u64,
}

/// What of a round is counted.
#[derive(Debug, Clone, Copy)]
struct Parts {
    /// From received bytes to a queue.
    receive: bool,
    /// From the queue of this shard to whoever is next, and back.
    turn: bool,
}

impl Work for Payload {
    fn round(&mut self, meter: Meter) -> Result<u64, String> {
        let before = self.relay.stats(0).payload_bytes_forwarded;
        for bytes in &self.traffic.receives {
            let meter = meter.only_if(self.counts.receive);
            self.relay.receive(meter, self.from, bytes)?;
        }
        let meter = meter.only_if(self.counts.turn);
        self.relay.turn(meter, 0)?;
        if self.target != 0 {
            self.relay.take_mail(meter, self.target);
            self.relay.turn(Meter::Off, self.target)?;
        }
        let forwarded = self.relay.stats(0).payload_bytes_forwarded - before;
        let left = self.relay.shards[self.target].core.audit().queued_bytes;
        if forwarded == self.traffic.bytes && left == 0 {
            Ok(self.operations)
        } else {
            let bytes = self.traffic.bytes;
            Err(format!("{forwarded} of {bytes} bytes, {left} left"))
        }
    }
}

impl Traffic {
    /// Returns one receive of `count` frames on these streams in turn.
    fn new(streams: &[u32], payload: u32, count: u64) -> Self {
        Self {
            receives: vec![frames(streams, payload, count)],
            bytes: count * u64::from(payload),
        }
    }

    /// Returns the same in four receives.
    fn in_parts(self) -> Self {
        let parts = self.receives.iter().flat_map(|bytes| {
            let parts = bytes.chunks(bytes.len().div_ceil(4));
            parts.map(<[u8]>::to_vec)
        });
        Self {
            receives: parts.collect(),
            ..self
        }
    }

    /// Returns the same several times.
    fn repeated(self, times: u32) -> Self {
        let all = (0..times).flat_map(|_| self.receives.iter().cloned());
        Self {
            receives: all.collect(),
            bytes: self.bytes * u64::from(times),
        }
    }
}

/// Frames of 16 streams to one session, in turn.
pub(super) fn to_one_session(payload: u32) -> Prepared {
    received(bridged(1, 1, STREAMS)?, payload)
}

/// Frames to 16 sessions, in turn.
pub(super) fn to_many_sessions(payload: u32) -> Prepared {
    received(bridged(1, SESSIONS, 1)?, payload)
}

/// The receive of frames that these streams have in turn.
fn received((relay, from, streams): Bridged, payload: u32) -> Prepared {
    let operations = frames_of(payload);
    Ok(Box::new(Payload {
        relay,
        from,
        target: 0,
        traffic: Traffic::new(&streams, payload, operations),
        counts: RECEIVE,
        operations,
    }))
}

/// Sends to 16 sessions of what `times` receives have for them.
pub(super) fn gathered(payload: u32, times: u32) -> Prepared {
    let (relay, from, streams) = bridged(1, SESSIONS, 1)?;
    Ok(Box::new(Payload {
        relay,
        from,
        target: 0,
        traffic: Traffic::new(&streams, payload, frames_of(payload)).repeated(times),
        counts: TURN,
        operations: streams.len() as u64,
    }))
}

/// One frame of 16 KiB in four receives.
pub(super) fn in_parts() -> Prepared {
    let (relay, from, streams) = bridged(1, 1, 1)?;
    Ok(Box::new(Payload {
        relay,
        from,
        target: 0,
        traffic: Traffic::new(&streams, 16_384, 1).in_parts(),
        counts: RECEIVE,
        operations: 1,
    }))
}

/// One frame and nothing else: a keystroke, a ping-pong.
pub(super) fn alone() -> Prepared {
    let (relay, from, streams) = bridged(1, 1, 1)?;
    Ok(Box::new(Payload {
        relay,
        from,
        target: 0,
        traffic: Traffic::new(&streams, 64, 1),
        counts: RECEIVE_AND_TURN,
        operations: 1,
    }))
}

/// Frames of 16 streams to a session of another shard, in turn.
pub(super) fn across(payload: u32) -> Prepared {
    let (relay, from, streams) = bridged(2, 1, STREAMS)?;
    let operations = 64;
    Ok(Box::new(Payload {
        relay,
        from,
        target: 1,
        traffic: Traffic::new(&streams, payload, operations),
        counts: RECEIVE_AND_TURN,
        operations,
    }))
}

/// A relay, the peer that sends, the ids of its streams.
type Bridged = (Relay, usize, Vec<u32>);

/// Returns a relay with one peer bridged to `peers` others, by `streams` streams each, that take everything;
/// the peer; the ids of its streams. With two shards the others are on the second.
pub(super) fn bridged(shards: u16, peers: usize, streams: usize) -> Result<Bridged, String> {
    let mut relay = Relay::new(shards);
    let from = relay.connect(0)?;
    let mut ids = Vec::new();
    let mut legs = Vec::new();
    for _ in 0..peers {
        let to = relay.connect(usize::from(shards) - 1)?;
        for _ in 0..streams {
            let (near, far) = relay.bridge(from, to)?;
            ids.push(near);
            legs.push((to, far));
        }
    }
    relay.silence(from);
    for (to, far) in legs {
        relay.take_all(to, far)?;
    }
    Ok((relay, from, ids))
}

/// Returns `count` frames on these streams in turn.
pub(super) fn frames(streams: &[u32], payload: u32, count: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (_, stream) in (0..count).zip(streams.iter().cycle()) {
        bytes.extend_from_slice(&Header::data(*stream, Flags::NONE, payload).encode());
        bytes.resize(bytes.len() + payload as usize, 0x5a);
    }
    bytes
}

/// Returns how many frames a receive has: as many as come to 64 KiB, four at least.
fn frames_of(payload: u32) -> u64 {
    let frame = HEADER_LEN as u64 + u64::from(payload);
    (RECEIVE_BYTES / frame).max(4)
}

const RECEIVE: Parts = Parts {
    receive: true,
    turn: false,
};

const TURN: Parts = Parts {
    receive: false,
    turn: true,
};

const RECEIVE_AND_TURN: Parts = Parts {
    receive: true,
    turn: true,
};

/// What a busy connection has for one receive.
const RECEIVE_BYTES: u64 = 65_536;

const SESSIONS: usize = 16;

const STREAMS: usize = 16;
