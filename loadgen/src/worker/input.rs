//! Bytes that arrive.
//!
//! Here: frames in any pieces, windows granted, messages checked. Not here: what opens mean (`open`).
//!
//! Invariant: every byte of a session is part of exactly one header, payload or handshake message.

use std::sync::atomic::Ordering;

use ringway_proto::dialect::Dialect;
use ringway_proto::frame::{Flags, FrameKind, HEADER_LEN, Header};
use ringway_shards::lease::Lease;
use ringway_shards::ring::{RingLease, Slot};

use super::session::{Part, Stage, Step};
use super::{Worker, place};
use crate::payload::{Head, Mismatch};
use crate::plan::{Mode, Scenario};

/// Of small messages at full speed, one in this many is timed: two looks at a histogram would cost as
/// much as the message.
const SAMPLE: u64 = 16;
/// Messages of this size or more are all timed.
const SAMPLE_BYTES: usize = 4_096;

impl Worker {
    pub(super) fn on_received(&mut self, slot: Slot, lease: &RingLease) {
        let Some(index) = self.session_of(slot) else {
            return;
        };
        let result = match self.sessions[index].step {
            Step::Live if self.sessions[index].is_plain() => self.on_plain(index, lease.bytes()),
            // Message 2: what a loiterer will never answer.
            Step::Live if self.sessions[index].part == Part::Loiterer => Ok(()),
            Step::Live => self.on_frames(index, lease.bytes()),
            // There is no verdict to wait for.
            Step::Judged if self.is_dmsg => self.on_frames(index, lease.bytes()),
            Step::Shaking(_) | Step::Judged => self.on_shaking(index, lease.bytes()),
            Step::Connecting | Step::Closing | Step::Gone | Step::Idle => Ok(()),
        };
        if let Err(name) = result {
            self.drop_session(index, name);
        }
    }

    fn on_shaking(&mut self, index: usize, bytes: &[u8]) -> Result<(), &'static str> {
        let mut rest = Vec::new();
        if self.on_early(index, bytes, &mut rest)? {
            return self.on_frames(index, &rest);
        }
        Ok(())
    }

    fn on_plain(&mut self, index: usize, bytes: &[u8]) -> Result<(), &'static str> {
        match self.sessions[index].reader.stream {
            Some(stream) => self.on_messages(stream, bytes),
            None => Ok(()),
        }
    }

    fn on_frames(&mut self, index: usize, mut bytes: &[u8]) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            let reader = &mut self.sessions[index].reader;
            if reader.left > 0 {
                let count = bytes.len().min(place(reader.left));
                let (now, later) = bytes.split_at(count);
                bytes = later;
                reader.left -= u32::try_from(count).unwrap_or(reader.left);
                let stream = reader.stream;
                let is_end = reader.left == 0 && reader.is_fin;
                if let Some(stream) = stream {
                    self.on_payload(index, stream, now)?;
                    if is_end && self.sessions[index].reader.stream == Some(stream) {
                        self.on_fin(stream);
                    }
                }
                continue;
            }
            let header = match bytes.split_first_chunk::<HEADER_LEN>() {
                Some((header, later)) if reader.have == 0 => {
                    bytes = later;
                    *header
                }
                _ => {
                    let count = bytes.len().min(HEADER_LEN - reader.have);
                    let (now, later) = bytes.split_at(count);
                    reader.header[reader.have..reader.have + count].copy_from_slice(now);
                    reader.have += count;
                    bytes = later;
                    if reader.have < HEADER_LEN {
                        return Ok(());
                    }
                    reader.have = 0;
                    reader.header
                }
            };
            let header = Header::decode(&header).map_err(|_| "protocol: frame header")?;
            self.on_header(index, header)?;
        }
        Ok(())
    }

    #[inline]
    fn on_header(&mut self, index: usize, header: Header) -> Result<(), &'static str> {
        match header.kind {
            FrameKind::Data => {
                let stream = self.stream_of(index, header)?;
                let reader = &mut self.sessions[index].reader;
                reader.left = header.length;
                reader.stream = stream;
                reader.is_fin = header.flags.contains(Flags::FIN);
                if let Some(stream) = stream {
                    self.on_data_flags(stream, header);
                }
            }
            FrameKind::WindowUpdate => self.on_window(index, header)?,
            FrameKind::Ping => {
                if header.flags.contains(Flags::SYN) && !self.plan.is_mute {
                    let answer = Header::ping(Flags::ACK, header.length).encode();
                    self.sessions[index].control.extend_from_slice(&answer);
                    self.mark_dirty(index);
                } else if header.flags.contains(Flags::ACK) && self.is_sign(index, header.length) {
                    self.on_established(index);
                }
            }
            FrameKind::GoAway => {
                let code = u16::try_from(header.length).unwrap_or(u16::MAX);
                if matches!(self.sessions[index].step, Step::Judged) {
                    self.on_session_refused(index, code);
                } else if self.plan.scenario == Scenario::Evict {
                    self.on_evicted(index, code);
                } else if self.sessions[index].is_slow() {
                    let side = self.slow_side(index);
                    let name = format!("go away to the {side}");
                    self.tally.slow_ends.count_reason(&name, code);
                } else {
                    self.tally.failures.count_reason("go away", code);
                    self.note_failure();
                }
            }
        }
        Ok(())
    }

    fn on_data_flags(&mut self, stream: u32, header: Header) {
        if header.flags.contains(Flags::RST) {
            self.on_reset(stream);
        } else if header.length == 0 && header.flags.contains(Flags::FIN) {
            self.on_fin(stream);
        }
    }

    fn on_window(&mut self, index: usize, header: Header) -> Result<(), &'static str> {
        if header.flags.contains(Flags::SYN) {
            self.on_syn(index, header.stream_id, header.length)?;
            return Ok(());
        }
        let Some(stream) = self.stream_of(index, header)? else {
            return Ok(());
        };
        if header.flags.contains(Flags::RST) {
            self.on_reset(stream);
            return Ok(());
        }
        let entry = &mut self.streams[place(stream)];
        entry.credit = entry.credit.saturating_add(header.length);
        if header.flags.contains(Flags::FIN) {
            self.on_fin(stream);
        } else if self.plan.scenario == Scenario::Setups {
            self.send_route(stream);
        } else {
            self.wake_stream(stream);
        }
        Ok(())
    }

    /// Returns the stream of a frame, made by it if it opens one; `None` when it is over.
    #[inline]
    fn stream_of(&mut self, index: usize, header: Header) -> Result<Option<u32>, &'static str> {
        let id = header.stream_id;
        let session = &self.sessions[index];
        if id % 2 == 1 {
            return Ok(session.dialed.find(id));
        }
        if header.flags.contains(Flags::SYN) {
            return self.on_syn(index, id, 0).map(Some);
        }
        Ok(session.accepted.find(id))
    }

    #[inline]
    fn on_payload(&mut self, index: usize, stream: u32, bytes: &[u8]) -> Result<(), &'static str> {
        let entry = &mut self.streams[place(stream)];
        if entry.is_slow() && matches!(entry.stage, Stage::Open) {
            // Read, counted nowhere, and never granted again.
            return Ok(());
        }
        self.grant(index, stream, bytes.len());
        let entry = &mut self.streams[place(stream)];
        let object = match &mut entry.stage {
            Stage::Open => return self.on_stream_bytes(index, stream, bytes),
            Stage::Ending => return Ok(()),
            Stage::Asked(asked) => &mut asked.object,
            Stage::Asking(object) => object,
        };
        let dialect = self.sessions[index].keys.dialect();
        let Some(rest) = collect(dialect, object, bytes)? else {
            return Ok(());
        };
        match std::mem::replace(&mut entry.stage, Stage::Ending) {
            Stage::Asked(asked) => self.on_response(index, stream, *asked)?,
            Stage::Asking(object) => self.on_request(index, stream, object)?,
            Stage::Open | Stage::Ending => {}
        }
        let is_open = matches!(self.streams[place(stream)].stage, Stage::Open);
        if is_open && !rest.is_empty() {
            return self.on_stream_bytes(index, stream, rest);
        }
        Ok(())
    }

    #[inline]
    fn on_stream_bytes(
        &mut self,
        index: usize,
        stream: u32,
        bytes: &[u8],
    ) -> Result<(), &'static str> {
        match self.plan.scenario {
            Scenario::Churn => {
                self.on_cycle_bytes(index, stream, bytes);
                Ok(())
            }
            Scenario::Setups => self.on_route_bytes(index, stream, bytes),
            _ => self.on_messages(stream, bytes),
        }
    }

    /// Gives back to the sender what was received, when half a window of it has come together.
    #[inline]
    fn grant(&mut self, index: usize, stream: u32, count: usize) {
        let entry = &mut self.streams[place(stream)];
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        entry.ungranted = entry.ungranted.saturating_add(count);
        if entry.ungranted < self.plan.traffic.window_bytes / 2 {
            return;
        }
        let grant = Header::window_update(entry.id, Flags::NONE, entry.ungranted);
        entry.ungranted = 0;
        self.sessions[index]
            .control
            .extend_from_slice(&grant.encode());
        self.mark_dirty(index);
    }

    /// Takes stream bytes: counts them, puts messages together, checks them.
    #[inline]
    fn on_messages(&mut self, stream: u32, bytes: &[u8]) -> Result<(), &'static str> {
        let verify = self.plan.traffic.verify;
        let has_rate = self.plan.pace.is_some();
        let mode = self.plan.traffic.mode;
        let entry = &mut self.streams[place(stream)];
        let tally = &mut self.tally;
        let now = self.now;
        let is_timed_always = has_rate || self.filling.message_bytes() >= SAMPLE_BYTES;
        let before = entry.assembler.messages();
        let is_dialer = entry.is_dialer;
        let echoes = &mut entry.echoes;
        let mut visit = |head: Head| match (mode, is_dialer) {
            (Mode::Bulk, _) => {
                if is_timed_always || head.sequence.is_multiple_of(SAMPLE) {
                    tally.done(head, now, has_rate);
                }
            }
            (Mode::PingPong, true) => {
                tally.rounds += 1;
                tally.done(head, now, has_rate);
            }
            (Mode::PingPong, false) => echoes.push_back(head),
        };
        let assembler = &mut entry.assembler;
        let filling = &self.filling;
        let mut result = Ok(());
        match &mut entry.records {
            None => result = assembler.push(bytes, filling, verify, &mut visit),
            Some(records) => records
                .open(bytes, |plain| {
                    if result.is_ok() {
                        result = assembler.push(plain, filling, verify, &mut visit);
                    }
                })
                .map_err(|_| "stream: a record does not open")?,
        }
        result.map_err(|mismatch| match mismatch {
            Mismatch::Sequence => "stream: message lost, repeated or out of order",
            Mismatch::Filling => "stream: message changed on the way",
        })?;
        let arrived = entry.assembler.messages() - before;
        self.tally.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if arrived == 0 {
            return Ok(());
        }
        self.tally.messages += arrived;
        self.tally.messages_received += arrived;
        if mode == Mode::PingPong {
            let entry = &mut self.streams[place(stream)];
            if entry.is_dialer {
                let answered = u32::try_from(arrived).unwrap_or(u32::MAX);
                entry.waiting = entry.waiting.saturating_sub(answered);
                entry.due += if has_rate { 0 } else { arrived };
            } else {
                // Count as sent from now on: a run with an echo that still waits for its socket is not over.
                self.tally.messages_sent += arrived;
            }
            self.wake_stream(stream);
        }
        Ok(())
    }

    /// Tells the other threads what happened here: what a plain run waits for in the end.
    pub(super) fn publish(&mut self) {
        let shared = &self.shared;
        let [sent, received, bytes] = &mut self.published;
        let news = self.tally.messages_sent - *sent;
        *sent += news;
        shared.messages_sent.fetch_add(news, Ordering::AcqRel);
        let news = self.tally.messages_received - *received;
        *received += news;
        shared.messages_received.fetch_add(news, Ordering::AcqRel);
        let news = self.tally.bytes.saturating_sub(*bytes);
        *bytes = self.tally.bytes;
        shared.bytes_received.fetch_add(news, Ordering::Relaxed);
    }
}

/// Adds to a sealed object; returns the bytes behind it once it is whole.
fn collect<'a>(
    dialect: Dialect,
    object: &mut Vec<u8>,
    mut bytes: &'a [u8],
) -> Result<Option<&'a [u8]>, &'static str> {
    loop {
        let len = dialect.object_len(object);
        let len = len.map_err(|_| "protocol: sealed object")?;
        let want = len.unwrap_or(2) - object.len();
        if want == 0 {
            return Ok(Some(bytes));
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let (now, later) = bytes.split_at(want.min(bytes.len()));
        object.extend_from_slice(now);
        bytes = later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_objects_are_collected_from_pieces() {
        // Length 24: the shortest there is.
        let wire: Vec<u8> = [0, 24].into_iter().chain(0..24).chain([99, 98]).collect();
        for dialect in Dialect::ALL {
            for step in 1..=wire.len() {
                let mut object = Vec::new();
                let mut rest = None;
                for piece in wire.chunks(step) {
                    rest = collect(dialect, &mut object, piece).unwrap();
                    if rest.is_some() {
                        break;
                    }
                }
                assert!(rest.is_some());
                assert_eq!(object.len(), 26);
            }
            assert!(collect(dialect, &mut Vec::new(), &[0, 1, 2]).is_err());
        }
    }
}
