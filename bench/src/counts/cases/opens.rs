//! Opens of streams.
//!
//! Here: accepted and refused ones, with everything the relay does for them: frames, sealed objects, the
//! directory, the tables, the sends. Not here: what the peers compute; that is theirs.

use ringway_proto::peer::{PeerEvent, StreamId};

use super::super::relay::Relay;
use super::{Meter, Prepared, Work};

struct Accepted {
    relay: Relay,
    from: usize,
    to: usize,
}

/// Opens that the destination accepts. With two shards it is on the second.
pub(super) fn accepted(shards: u16) -> Prepared {
    let mut relay = Relay::new(shards);
    let from = relay.connect(0)?;
    let to = relay.connect(usize::from(shards) - 1)?;
    Ok(Box::new(Accepted { relay, from, to }))
}

impl Work for Accepted {
    fn round(&mut self, meter: Meter) -> Result<u64, String> {
        let Self { relay, from, to } = self;
        ask(relay, *from, *to)?;
        relay.settle(meter)?;
        for _ in 0..OPENS {
            relay.accept(*to)?;
        }
        relay.settle(meter)?;
        let events = relay.take_events(*from);
        let opened: Vec<StreamId> = events.iter().filter_map(opened).collect();
        for stream in &opened {
            relay.reset(*from, *stream)?;
        }
        relay.settle(Meter::Off)?;
        relay.take_events(*to).clear();
        let streams: u64 = (0..relay.shards.len())
            .map(|shard| relay.shards[shard].core.audit().streams)
            .sum();
        if opened.len() as u64 == OPENS && streams == 0 {
            Ok(OPENS)
        } else {
            Err(format!(
                "{} of {OPENS} opened, {streams} legs left",
                opened.len()
            ))
        }
    }
}

fn opened(event: &PeerEvent) -> Option<StreamId> {
    match event {
        PeerEvent::Opened { stream, .. } => Some(*stream),
        _ => None,
    }
}

struct Refused {
    relay: Relay,
    from: usize,
}

/// Opens to a key that nobody has a session for.
pub(super) fn refused() -> Prepared {
    let mut relay = Relay::new(1);
    let from = relay.connect(0)?;
    Ok(Box::new(Refused { relay, from }))
}

impl Work for Refused {
    fn round(&mut self, meter: Meter) -> Result<u64, String> {
        let Self { relay, from } = self;
        ask(relay, *from, NOBODY)?;
        relay.settle(meter)?;
        let events = relay.take_events(*from);
        let is_refused = |event: &&PeerEvent| matches!(event, PeerEvent::OpenRefused { .. });
        let count = events.iter().filter(is_refused).count() as u64;
        if count == OPENS {
            Ok(OPENS)
        } else {
            Err(format!("{count} of {OPENS} were refused"))
        }
    }
}

fn ask(relay: &mut Relay, from: usize, to: usize) -> Result<(), String> {
    for _ in 0..OPENS {
        relay.open(from, to)?;
    }
    Ok(())
}

/// Opens at once.
const OPENS: u64 = 8;

/// A peer that never connects.
const NOBODY: usize = 1_000;
