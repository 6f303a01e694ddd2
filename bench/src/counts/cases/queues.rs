//! What waits: behind a session that does not keep up, and in a mailbox.
//!
//! Here: backlog by stream, messages between shards. Not here: sessions that keep up (`payload`).

use ringway_shards::batch::Batch;
use ringway_shards::core::{Action, Message, Slot};
use ringway_shards::ring::RingLease;

use super::super::relay::{Relay, Shard, end_turn};
use super::payload::{bridged, frames};
use super::{Meter, Prepared, Work};

/// The half of a backlog that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Frames join it.
    In,
    /// Frames leave it.
    Out,
}

struct Backlog {
    relay: Relay,
    from: usize,
    /// As much as goes to a batch before streams have to queue.
    bulk: Vec<u8>,
    /// What then queues.
    rest: Vec<u8>,
    part: Part,
}

/// Frames of 16 streams to a session whose send is in flight and whose next batch is full.
pub(super) fn backlog(part: Part) -> Prepared {
    let (relay, from, streams) = bridged(1, 1, 16)?;
    Ok(Box::new(Backlog {
        relay,
        from,
        bulk: frames(&streams, 16_384, 4),
        rest: frames(&streams, 1_024, FRAMES),
        part,
    }))
}

impl Work for Backlog {
    fn round(&mut self, meter: Meter) -> Result<u64, String> {
        let Self {
            relay,
            from,
            bulk,
            rest,
            part,
        } = self;
        relay.receive(Meter::Off, *from, bulk)?;
        let in_flight = next_send(relay, Meter::Off)?;
        let (slot, batch) = in_flight.ok_or("nothing is in flight")?;
        relay.receive(Meter::Off, *from, bulk)?;
        relay.receive(meter.only_if(*part == Part::In), *from, rest)?;
        relay.send(Meter::Off, 0, slot, batch)?;
        let meter = meter.only_if(*part == Part::Out);
        let mut sends = 0;
        while let Some((slot, batch)) = next_send(relay, meter)? {
            relay.send(meter, 0, slot, batch)?;
            sends += 1;
        }
        let left = relay.shards[0].core.audit().queued_bytes;
        if sends > 0 && left == 0 {
            Ok(FRAMES)
        } else {
            Err(format!("{left} bytes left after {sends} sends"))
        }
    }
}

/// Ends a turn of the only shard; returns the send that it has led to.
fn next_send(relay: &mut Relay, meter: Meter) -> Result<Option<(Slot, Batch<RingLease>)>, String> {
    let now = relay.now;
    let core = &mut relay.shards[0].core;
    let action = meter.run(|| {
        end_turn(core, now);
        core.poll_action()
    });
    match action {
        None => Ok(None),
        Some(Action::Send { slot, batch }) => Ok(Some((slot, batch))),
        Some(other) => Err(format!("not a send: {other:?}")),
    }
}

struct Mail {
    relay: Relay,
    from: usize,
    bytes: Vec<u8>,
    messages: Vec<Message<RingLease>>,
}

/// Frames on their way from shard to shard.
pub(super) fn mailbox() -> Prepared {
    let (relay, from, streams) = bridged(2, 1, 16)?;
    Ok(Box::new(Mail {
        relay,
        from,
        bytes: frames(&streams, 64, FRAMES),
        messages: Vec::new(),
    }))
}

impl Work for Mail {
    fn round(&mut self, meter: Meter) -> Result<u64, String> {
        let Self {
            relay,
            from,
            bytes,
            messages,
        } = self;
        relay.receive(Meter::Off, *from, bytes)?;
        let [
            Shard {
                core,
                mailboxes: out,
                ..
            },
            Shard {
                mailboxes: inbound, ..
            },
        ] = relay.shards.as_mut_slice()
        else {
            return Err("not two shards".to_owned());
        };
        while let Some(action) = core.poll_action() {
            if let Action::Message { message, .. } = action {
                messages.push(message);
            }
        }
        let mut count = 0;
        let mut taken = Vec::with_capacity(messages.len());
        meter.run(|| {
            for message in messages.drain(..) {
                out.send(1, message);
            }
            out.flush(|_| {});
        });
        meter.run(|| {
            inbound.receive(u32::MAX, |_, message| {
                count += 1;
                taken.push(message);
            });
        });
        if count == FRAMES {
            Ok(count)
        } else {
            Err(format!("{count} messages of {FRAMES}"))
        }
    }
}

/// Frames of a round: as many as a batch has segments.
const FRAMES: u64 = 64;
