//! Lanes under simulation: what the data thread and its ring do with long frames.
//!
//! Here: headers and payload that come in pieces of any size, pipes that take no more, lanes that are refused,
//! targets that take a frame slowly, deaths in between. Not here: which frame goes by a lane (the core).
//!
//! Invariant: a frame leaves only once all of it is there; a pipe is with its lane or with one send.

use ringway_proto::frame::HEADER_LEN;
use ringway_proto::time::Now;
use ringway_shards::core::{LaneLimits, LaneStep, LaneVerdict, RecvEnd, Slot};

use crate::driver::Input;
use crate::event::Event;
use crate::options::MS;
use crate::rng::{Rng, mix};
use crate::world::World;

/// How lanes are in a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lanes {
    pub(crate) limits: Option<LaneLimits>,
    /// Lanes that are refused, in percent.
    refused: u64,
    /// Steps at which a pipe takes no more, in percent.
    full: u64,
}

/// Mixed into the seed: the draw must not follow those of other generators.
const STREAM: u64 = 0x6c61_6e65;

impl Lanes {
    /// Draws how they are in the run of `seed`.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(mix(seed ^ STREAM));
        let is_on = rng.chance(60);
        let frame_bytes_min = rng.pick(&[1, 64, 1_024, 16_384], 64);
        let limits = LaneLimits {
            frame_bytes_min,
            look_bytes: rng.pick(&[1, 1_000, 20_000], 1_000),
            pause_s: rng.pick(&[0, 1, 5], 0),
        };
        Self {
            limits: is_on.then_some(limits),
            refused: rng.pick(&[0, 30], 0),
            full: rng.pick(&[0, 5], 0),
        }
    }
}

/// What a lane waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// So many bytes, received as ever.
    Bytes(u32),
    /// So many bytes of payload in all.
    Collect {
        length: u32,
    },
    /// Its target.
    Complete,
    /// The shard, which has received all that came before.
    Entered,
    /// The end of the multishot receive.
    Entering,
    Header,
    /// The end of a send, since then.
    Out(u64),
}

/// The lane of a connection.
#[derive(Debug)]
pub(crate) struct Lane {
    stage: Stage,
    header: Vec<u8>,
    /// Header and payload.
    pub(crate) pipe: Vec<u8>,
}

impl World {
    /// The core wants a lane for a socket.
    pub(crate) fn enter_lane(&mut self, shard: usize, slot: Slot) {
        let Some(conn) = self.conn_of(shard, slot) else {
            return self.fail(format!(
                "shard {shard}: a lane for slot {} without a socket",
                slot.0
            ));
        };
        if self.conns[conn].lane.is_some() || self.conns[conn].is_closing {
            return self.fail(format!("shard {shard}: a second lane for slot {}", slot.0));
        }
        self.conns[conn].lane = Some(Lane {
            stage: Stage::Entering,
            header: Vec::new(),
            pipe: Vec::new(),
        });
        let delay = self.completion_delay();
        self.at(delay, Event::Lane { conn });
    }

    /// Something may have happened to a lane.
    pub(crate) fn lane_event(&mut self, conn: usize) {
        let shard = self.conns[conn].shard;
        let Some(slot) = self.conns[conn].slot else {
            return;
        };
        if let Some(lane) = &mut self.conns[conn].lane {
            if lane.stage == Stage::Entering {
                lane.stage = Stage::Entered;
            }
            self.push(shard, Input::Lane(slot, conn));
        }
    }

    /// Returns whether the lane of a connection keeps its bytes from the multishot receive; the lane is told of
    /// them.
    pub(crate) fn lane_takes(&mut self, conn: usize) -> bool {
        let Some(lane) = &self.conns[conn].lane else {
            return false;
        };
        if lane.stage == Stage::Entering {
            return false;
        }
        self.at(0, Event::Lane { conn });
        true
    }

    /// The lane of a connection goes on, in a turn of its shard.
    pub(crate) fn lane_input(&mut self, shard: usize, conn: usize, now: Now) {
        let before = self.shards[shard].core.stats().bytes_received;
        for _ in 0..8 {
            if !self.lane_step(shard, conn, now) {
                break;
            }
        }
        let after = self.shards[shard].core.stats().bytes_received;
        self.shards[shard].received_bytes += after - before;
        let client = self.conns[conn].client;
        self.pump_later(client);
        if self.lane_may_go_on(conn) {
            self.at(MS, Event::Lane { conn });
        }
    }

    fn lane_may_go_on(&self, conn: usize) -> bool {
        let entry = &self.conns[conn];
        entry.lane.as_ref().is_some_and(|lane| {
            let has_bytes = entry.up.arrived() > 0;
            let waits = matches!(lane.stage, Stage::Complete | Stage::Out(_));
            waits || (has_bytes && lane.stage != Stage::Entering)
        })
    }

    fn lane_step(&mut self, shard: usize, conn: usize, now: Now) -> bool {
        let Some(slot) = self.conns[conn]
            .slot
            .filter(|_| !self.conns[conn].is_closing)
        else {
            return false;
        };
        let Some(stage) = self.conns[conn].lane.as_ref().map(|lane| lane.stage) else {
            return false;
        };
        let step = match stage {
            Stage::Entering => return false,
            Stage::Entered => {
                if self.rng.chance(self.lanes.refused) {
                    self.counts.lanes_refused += 1;
                    self.conns[conn].lane = None;
                    self.shards[shard].core.lane_left(slot, true, now);
                    self.relay_read(conn);
                    return false;
                }
                self.counts.lanes += 1;
                self.shards[shard].core.lane_next(slot, now)
            }
            Stage::Bytes(count) => return self.lane_bytes(shard, conn, slot, count, now),
            Stage::Header => match self.lane_read_header(shard, conn, slot, now) {
                Some(step) => step,
                None => return false,
            },
            Stage::Collect { length } => match self.lane_collect(shard, conn, slot, length, now) {
                Some(step) => step,
                None => return self.lane_is_complete(conn),
            },
            Stage::Complete => match self.shards[shard].core.lane_collected(slot, now) {
                LaneVerdict::Discard => {
                    self.lane(conn).pipe.clear();
                    self.shards[shard].core.lane_next(slot, now)
                }
                LaneVerdict::Read => self.lane_read_out(shard, conn, slot, now),
                LaneVerdict::Sent => {
                    self.counts.lane_frames += 1;
                    self.lane(conn).stage = Stage::Out(now.as_nanos());
                    return false;
                }
                LaneVerdict::Wait => return false,
            },
            Stage::Out(since) if now.as_nanos() - since < OUT_MAX => return false,
            Stage::Out(_) => {
                self.shards[shard].core.lane_left(slot, false, now);
                LaneStep::Leave
            }
        };
        self.lane_apply(conn, step)
    }

    fn lane_apply(&mut self, conn: usize, step: LaneStep) -> bool {
        let stage = match step {
            LaneStep::Bytes(count) => Stage::Bytes(count),
            LaneStep::Collect { header, length, .. } => {
                self.lane(conn).pipe = header.to_vec();
                Stage::Collect { length }
            }
            LaneStep::Header => Stage::Header,
            LaneStep::Leave => {
                self.conns[conn].lane = None;
                self.relay_read(conn);
                return false;
            }
        };
        self.lane(conn).stage = stage;
        true
    }

    /// Bytes that are received as ever, but no more than were asked for.
    fn lane_bytes(&mut self, shard: usize, conn: usize, slot: Slot, count: u32, now: Now) -> bool {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let most = self.rng.size(1, self.options.piece_max).min(count);
        let bytes = self.lane_take(conn, most);
        if bytes.is_empty() {
            return self.lane_ended(shard, conn, slot, now);
        }
        let account = &self.shards[shard].account;
        let lease = crate::lease::SimLease::new(bytes, self.now, account);
        self.shards[shard].core.received(slot, lease, now);
        let step = self.shards[shard].core.lane_next(slot, now);
        self.lane_apply(conn, step)
    }

    fn lane_read_header(
        &mut self,
        shard: usize,
        conn: usize,
        slot: Slot,
        now: Now,
    ) -> Option<LaneStep> {
        let missing = HEADER_LEN - self.lane(conn).header.len();
        let bytes = self.lane_take(conn, missing);
        if bytes.is_empty() {
            self.lane_ended(shard, conn, slot, now);
            return None;
        }
        self.shards[shard].core.lane_heard(slot, now);
        let header = &mut self.lane(conn).header;
        header.extend_from_slice(&bytes);
        let whole = <[u8; HEADER_LEN]>::try_from(header.as_slice()).ok()?;
        header.clear();
        Some(self.shards[shard].core.lane_header(slot, whole, now))
    }

    /// Moves payload into the pipe; returns a step only when that is over before the payload is complete.
    fn lane_collect(
        &mut self,
        shard: usize,
        conn: usize,
        slot: Slot,
        length: u32,
        now: Now,
    ) -> Option<LaneStep> {
        if self.rng.chance(self.lanes.full) {
            self.counts.lanes_full += 1;
            return Some(self.lane_read_out(shard, conn, slot, now));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let missing = length + HEADER_LEN - self.lane(conn).pipe.len();
        let most = if self.rng.chance(30) {
            self.rng.size(1, missing)
        } else {
            missing
        };
        let bytes = self.lane_take(conn, most);
        if bytes.is_empty() {
            self.lane_ended(shard, conn, slot, now);
            return None;
        }
        self.shards[shard].core.lane_heard(slot, now);
        let lane = self.lane(conn);
        lane.pipe.extend_from_slice(&bytes);
        if bytes.len() == missing {
            lane.stage = Stage::Complete;
        }
        None
    }

    fn lane_is_complete(&self, conn: usize) -> bool {
        let lane = self.conns[conn].lane.as_ref();
        lane.is_some_and(|lane| lane.stage == Stage::Complete)
    }

    /// What was collected comes to user space after all.
    fn lane_read_out(&mut self, shard: usize, conn: usize, slot: Slot, now: Now) -> LaneStep {
        let mut payload = std::mem::take(&mut self.lane(conn).pipe);
        payload.drain(..HEADER_LEN.min(payload.len()));
        self.shards[shard].core.lane_read(slot, payload, now);
        self.shards[shard].core.lane_next(slot, now)
    }

    /// Takes bytes from the socket.
    fn lane_take(&mut self, conn: usize, most: usize) -> Vec<u8> {
        let bytes = self.conns[conn].up.read(most);
        if !bytes.is_empty() {
            self.note_heard(conn);
        }
        bytes
    }

    /// Nothing is there: the connection may have ended.
    fn lane_ended(&mut self, shard: usize, conn: usize, slot: Slot, now: Now) -> bool {
        let entry = &self.conns[conn];
        let end = if entry.is_reset_at_relay {
            RecvEnd::Error(104)
        } else if entry.up.has_fin {
            RecvEnd::Eof
        } else {
            return false;
        };
        self.conns[conn].is_recv_over = true;
        self.conns[conn].lane = None;
        self.shards[shard].core.receive_ended(slot, end, now);
        false
    }

    /// A send that a lane's frame went with is over, or its socket is closed: the lane has its pipe again.
    pub(crate) fn lane_landed(&mut self, source: usize) {
        if let Some(lane) = &mut self.conns[source].lane
            && matches!(lane.stage, Stage::Out(_))
        {
            lane.stage = Stage::Header;
            self.at(0, Event::Lane { conn: source });
        }
    }

    fn lane(&mut self, conn: usize) -> &mut Lane {
        self.conns[conn].lane.get_or_insert_with(|| Lane {
            stage: Stage::Header,
            header: Vec::new(),
            pipe: Vec::new(),
        })
    }
}

/// How long a frame may take to leave before its source goes back to ordinary receives, ns.
const OUT_MAX: u64 = 5 * MS;
