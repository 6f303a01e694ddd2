//! Opening and ending streams.
//!
//! Here: the request, its answer, FIN both ways. Not here: what the objects are made of (`objects`),
//! messages.
//!
//! With opaque payload the streams of a pair share one signed request and one signed answer, renewed
//! every [`REQUEST_AGE_MAX_S`] seconds, and a random text stands where the Noise messages would be: the
//! relay sees well-formed, fresh objects of the true size, and the generator saves four point
//! multiplications and two signatures a stream. With sealed payload everything is done as peers do it.
//!
//! In the dmsg dialect each stream is acknowledged at once, as Go's clients demand, and a refusal is a reset
//! or the end of the stream.

use std::sync::atomic::Ordering;

use ringway_proto::dialect::RequestHash;
use ringway_proto::frame::{Flags, Header};
use ringway_proto::key::Address;
use ringway_proto::limits::WINDOW_INITIAL;
use ringway_proto::reason::Reason;
use ringway_proto::time::Now;

use super::objects::{finish, stand_in, verify_request};
use super::routes::{check_open, destination};
use super::session::{Asked, Pace, Part, Request, Session, Stage, Step, Stream};
use super::setup::is_older;
use super::slow::SLOW_WINDOW;
use super::{Worker, place};
use crate::plan::{KillPhase, OpensTo, Payload, Scenario};
use crate::records::Records;
use crate::shared::bump;

/// Port that the generator's acceptors answer on.
const PORT: u16 = 1_000;
/// Longest use of one request; destinations take them for 120 s.
const REQUEST_AGE_MAX_S: u64 = 30;
/// Answers that a session keeps: the dialers of a churn share few acceptors, each with a request of its
/// own.
const RESPONSES_MAX: usize = 64;

impl Worker {
    /// Opens streams, a few at a time: `limit` in all, or for ever.
    pub(super) fn open_more(&mut self, limit: Option<u64>) {
        let pairs = self.standing / 2;
        let mut tries = 0;
        while self.opening < self.plan.concurrency
            && limit.is_none_or(|limit| self.opened < limit)
            && tries < pairs
            && self.due.is_any()
        {
            let due = self.due.take();
            let turn = usize::try_from(self.opened).unwrap_or(usize::MAX) % pairs.max(1);
            self.opened += 1;
            let index = turn * 2 + 1;
            let is_usable = matches!(self.sessions[index].step, Step::Live);
            if !is_usable {
                tries += 1;
                self.fail("open: its session is gone");
                continue;
            }
            match self.open_stream(index) {
                Ok(stream) => self.streams[place(stream)].due_times.extend(due),
                Err(name) => {
                    tries += 1;
                    self.fail(name);
                }
            }
        }
    }

    pub(super) fn open_stream(&mut self, index: usize) -> Result<u32, &'static str> {
        let window = self.plan.traffic.window_bytes;
        let is_sealed = self.plan.traffic.payload == Payload::Sealed;
        let to = self.destination(index);
        let session = &mut self.sessions[index];
        let (kk, request) = if is_sealed {
            let (kk, message) = session.keys.kk(&to.key)?;
            let request = session.keys.request(session.key, to, &message)?;
            (Some(kk), request)
        } else {
            (None, shared_request(session, to, self.shared.now())?)
        };
        let hash = session.keys.dialect().request_hash(&request);
        // What the request cost to make is the generator's affair, and no time of the relay's.
        let now = self.shared.now();
        let id = session.next_id;
        session.next_id += 2;
        let Some(crypto) = &mut session.crypto else {
            return Err("open: no session");
        };
        let mut object = Vec::new();
        crypto
            .sealer
            .seal(&request, &mut object)
            .map_err(|_| "open: sealing")?;
        let len = u32::try_from(object.len()).unwrap_or(u32::MAX);
        let extra = window - WINDOW_INITIAL;
        let syn = Header::window_update(id, Flags::SYN, extra).encode();
        session.control.extend_from_slice(&syn);
        session
            .control
            .extend_from_slice(&Header::data(id, Flags::NONE, len).encode());
        let is_cut = session.part == Part::Churner && session.cycle.phase == KillPhase::MidOpen;
        let shown = if is_cut {
            object.len() / 2
        } else {
            object.len()
        };
        session.control.extend_from_slice(&object[..shown]);
        let is_slow = session.is_slow();
        let asked = Asked {
            object: Vec::new(),
            hash,
            kk,
            started: now,
        };
        let stage = Stage::Asked(Box::new(asked));
        let own = u32::try_from(index).unwrap_or(u32::MAX);
        let credit = WINDOW_INITIAL.saturating_sub(len);
        let mut stream = Stream::new(own, id, true, stage, credit);
        stream.pace = pace(is_slow);
        let stream = self.insert_stream(stream);
        self.sessions[index].dialed.insert(id, stream);
        self.opening += 1;
        self.mark_dirty(index);
        self.await_stream(stream, now);
        Ok(stream)
    }

    /// The other side opens a stream.
    pub(super) fn on_syn(
        &mut self,
        index: usize,
        id: u32,
        extra: u32,
    ) -> Result<u32, &'static str> {
        let own = u32::try_from(index).unwrap_or(u32::MAX);
        if self.sessions[index].part != Part::Acceptor || !id.is_multiple_of(2) {
            return Err("protocol: unexpected open");
        }
        let credit = WINDOW_INITIAL.saturating_add(extra);
        let stage = Stage::Asking(Vec::new());
        let mut stream = Stream::new(own, id, false, stage, credit);
        stream.pace = pace(self.sessions[index].is_slow());
        let stream = self.insert_stream(stream);
        let session = &mut self.sessions[index];
        let is_new = if self.is_dmsg {
            let ack = Header::window_update(id, Flags::ACK, 0).encode();
            session.control.extend_from_slice(&ack);
            session.accepted.insert_anywhere(id, stream)
        } else {
            session.accepted.insert(id, stream)
        };
        if is_new {
            self.mark_dirty(index);
            if self.is_standing(index) {
                self.on_standing_stream();
            }
            Ok(stream)
        } else {
            self.release_stream(stream);
            Err("protocol: stream id used twice")
        }
    }

    /// A request is complete: answer it.
    pub(super) fn on_request(
        &mut self,
        index: usize,
        stream: u32,
        mut object: Vec<u8>,
    ) -> Result<(), &'static str> {
        let is_sealed = self.plan.traffic.payload == Payload::Sealed;
        let session = &mut self.sessions[index];
        let is_slow = session.is_slow();
        let window = if is_slow && !self.is_dmsg {
            SLOW_WINDOW
        } else {
            self.plan.traffic.window_bytes
        };
        let dialect = session.keys.dialect();
        let Some(crypto) = &mut session.crypto else {
            return Err("open: no session");
        };
        let request = crypto.opener.open(&mut object[2..]);
        let request = request.map_err(|_| "protocol: request does not open")?;
        check_open(&self.plan, request)?;
        let hash = dialect.request_hash(request);
        let (response, keys) = if is_sealed {
            let (response, keys) = session.keys.answer(request, hash)?;
            (response, Some(keys))
        } else {
            (shared_response(session, request, hash)?, None)
        };
        let Some(crypto) = &mut session.crypto else {
            return Err("open: no session");
        };
        let mut sealed = Vec::new();
        crypto
            .sealer
            .seal(&response, &mut sealed)
            .map_err(|_| "open: sealing")?;
        let len = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
        let entry = &mut self.streams[place(stream)];
        let id = entry.id;
        entry.stage = Stage::Open;
        entry.credit = entry.credit.saturating_sub(len);
        entry.records = keys.map(|keys| Box::new(Records::new(dialect, &keys)));
        entry.route = (self.plan.scenario == Scenario::Setups).then(Box::default);
        if !self.is_dmsg {
            let extra = window - WINDOW_INITIAL;
            let ack = Header::window_update(id, Flags::ACK, extra).encode();
            session.control.extend_from_slice(&ack);
        }
        let head = Header::data(id, Flags::NONE, len).encode();
        session.control.extend_from_slice(&head);
        session.control.extend_from_slice(&sealed);
        self.mark_dirty(index);
        if is_slow {
            self.on_slow_granted(index);
        }
        Ok(())
    }

    /// The answer to a request of ours is complete.
    pub(super) fn on_response(
        &mut self,
        index: usize,
        stream: u32,
        mut asked: Asked,
    ) -> Result<(), &'static str> {
        let partner = self.destination(index).key;
        let session = &mut self.sessions[index];
        let dialect = session.keys.dialect();
        let Some(crypto) = &mut session.crypto else {
            return Err("open: no session");
        };
        let response = crypto.opener.open(&mut asked.object[2..]);
        let bytes = response.map_err(|_| "protocol: response does not open")?;
        let head = dialect.decode_response(bytes);
        let head = head.map_err(|_| "protocol: response")?;
        if head.request_hash != asked.hash {
            return Err("protocol: response to another request");
        }
        if !head.is_accepted() {
            let is_unknown = head.reason_code == Reason::UnknownDestination.code();
            self.on_refused(
                stream,
                asked.started,
                &refusal(head.reason_code),
                is_unknown,
            );
            return Ok(());
        }
        if let Some(kk) = asked.kk.take() {
            let keys = finish(kk, bytes, &partner)?;
            let records = Records::new(dialect, &keys);
            self.streams[place(stream)].records = Some(Box::new(records));
        }
        self.on_opened(index, stream, asked.started);
        Ok(())
    }

    /// An open that `name` says the end of was refused; with `says_nobody` because nobody has the key, as far
    /// as the dialect can tell.
    fn on_refused(&mut self, stream: u32, started: Now, name: &str, says_nobody: bool) {
        let entry = &mut self.streams[place(stream)];
        let (index, id, due) = (place(entry.session), entry.id, entry.due_times.pop_front());
        if self.sessions[index].part == Part::Churner {
            self.drop_session(index, name);
            return;
        }
        if says_nobody && self.is_for_nobody() {
            self.tally.timed(due, started, self.now);
            self.tally.rounds += 1;
            self.shared.rounds.fetch_add(1, Ordering::Relaxed);
        } else {
            self.fail(name);
        }
        self.opening = self.opening.saturating_sub(1);
        self.sessions[index].dialed.remove(id);
        self.release_stream(stream);
    }

    /// Returns where the streams of a session go.
    fn destination(&self, index: usize) -> Address {
        if self.is_for_nobody() {
            return Address::new(self.nobody, PORT);
        }
        let partner = &self.sessions[place(self.sessions[index].partner)];
        destination(&self.plan).unwrap_or_else(|| Address::new(partner.key, PORT))
    }

    fn is_for_nobody(&self) -> bool {
        self.plan.scenario == Scenario::Opens && self.plan.opens_to == OpensTo::Nobody
    }

    fn on_opened(&mut self, index: usize, stream: u32, started: Now) {
        let entry = &mut self.streams[place(stream)];
        entry.stage = Stage::Open;
        let (id, is_slow) = (entry.id, entry.is_slow());
        if is_slow || self.plan.scenario == Scenario::Churn {
            self.opening -= 1;
            if is_slow {
                self.on_slow_open(stream);
            } else {
                self.on_cycle_open(index, id);
            }
            return;
        }
        if self.plan.scenario == Scenario::Setups {
            self.on_asker_open(stream);
            return;
        }
        bump(&self.shared.streams_up);
        if self.plan.scenario == Scenario::Opens {
            let due = self.streams[place(stream)].due_times.pop_front();
            if self.is_for_nobody() {
                self.fail("open: accepted in the name of nobody");
            } else {
                self.tally.timed(due, started, self.now);
            }
            self.send_fin(stream);
        } else {
            self.opening -= 1;
            self.add_sender(stream);
        }
    }

    /// The other side has sent all it will send.
    pub(super) fn on_fin(&mut self, stream: u32) {
        if self.plan.scenario == Scenario::Churn {
            self.on_cycle_fin(stream);
            return;
        }
        let entry = &self.streams[place(stream)];
        let (index, id, is_dialer) = (place(entry.session), entry.id, entry.is_dialer);
        match entry.stage {
            Stage::Open => {
                if entry.route.is_some() && is_dialer {
                    self.fail("setup: the relay ended the stream");
                }
                self.send_fin(stream);
            }
            Stage::Ending => {}
            Stage::Asked(_) | Stage::Asking(_) => {
                // A server that ends the stream waits for the other end.
                let fin = self.is_dmsg.then(|| end_of(id).encode());
                let control = &mut self.sessions[index].control;
                control.extend_from_slice(fin.as_ref().map_or(&[], |fin| &fin[..]));
                self.mark_dirty(index);
                self.on_cut(stream, "closed");
                return;
            }
        }
        let session = &mut self.sessions[index];
        if is_dialer {
            session.dialed.remove(id);
            self.opening = self.opening.saturating_sub(1);
            if self.plan.scenario == Scenario::Opens && !self.is_for_nobody() {
                self.tally.rounds += 1;
                self.shared.rounds.fetch_add(1, Ordering::Relaxed);
            }
        } else {
            session.accepted.remove(id);
        }
        self.release_stream(stream);
    }

    /// A stream died.
    pub(super) fn on_reset(&mut self, stream: u32) {
        self.on_cut(stream, "reset");
    }

    /// A stream died, or ended before it was open.
    pub(super) fn on_cut(&mut self, stream: u32, how: &str) {
        let entry = &self.streams[place(stream)];
        if entry.is_slow() {
            self.on_slow_reset(stream);
            return;
        }
        if let Stage::Asked(asked) = &entry.stage
            && self.is_dmsg
        {
            let started = asked.started;
            self.on_refused(stream, started, &format!("open refused: {how}"), true);
            return;
        }
        if self.plan.scenario == Scenario::Churn {
            self.on_cycle_reset(stream);
            return;
        }
        let entry = &self.streams[place(stream)];
        let (index, id, is_dialer) = (place(entry.session), entry.id, entry.is_dialer);
        let is_opening = matches!(entry.stage, Stage::Asked(_) | Stage::Ending);
        if is_dialer && is_opening {
            self.opening = self.opening.saturating_sub(1);
        }
        let session = &mut self.sessions[index];
        if is_dialer {
            session.dialed.remove(id);
        } else {
            session.accepted.remove(id);
        }
        self.fail("stream: reset");
        self.release_stream(stream);
    }

    pub(super) fn send_fin(&mut self, stream: u32) {
        let entry = &mut self.streams[place(stream)];
        entry.stage = Stage::Ending;
        let (index, id) = (place(entry.session), entry.id);
        let fin = if self.is_dmsg {
            end_of(id)
        } else {
            Header::data(id, Flags::FIN, 0)
        };
        let fin = fin.encode();
        self.sessions[index].control.extend_from_slice(&fin);
        self.mark_dirty(index);
    }

    /// Makes a dialed stream one that messages are sent on.
    pub(super) fn add_sender(&mut self, stream: u32) {
        self.senders.push(stream);
    }

    pub(super) fn insert_stream(&mut self, stream: Stream) -> u32 {
        if let Some(index) = self.idle_streams.pop() {
            self.streams[place(index)] = stream;
            return index;
        }
        self.streams.push(stream);
        u32::try_from(self.streams.len() - 1).unwrap_or(u32::MAX)
    }

    /// Frees a stream's place, unless something may still name it.
    pub(super) fn release_stream(&mut self, index: u32) {
        self.forget_route(index);
        let stream = &mut self.streams[place(index)];
        let session = &mut self.sessions[place(stream.session)];
        if session.reader.stream == Some(index) {
            session.reader.stream = None;
        }
        if stream.is_ready {
            session.ready.retain(|other| *other != index);
            stream.is_ready = false;
        }
        stream.stage = Stage::Ending;
        stream.records = None;
        // A sender is named by its ordinal until the end of the run.
        if self.plan.scenario.recycles_streams() || stream.is_slow() {
            self.idle_streams.push(index);
        }
    }
}

const fn pace(is_slow: bool) -> Pace {
    if is_slow { Pace::Slow } else { Pace::Fast }
}

/// Returns the name of a refused open.
fn refusal(code: u16) -> String {
    match Reason::from_code(code) {
        Some(reason) => format!("open refused: {reason}"),
        None => format!("open refused: {code}"),
    }
}

/// Returns the frame by which Go ends its half of a stream.
const fn end_of(id: u32) -> Header {
    Header::window_update(id, Flags::FIN, 0)
}

/// Returns the request that the streams of a pair share.
fn shared_request(
    session: &mut Session,
    destination: Address,
    now: Now,
) -> Result<Vec<u8>, &'static str> {
    let kept = session.request.as_ref();
    if let Some(request) = kept.filter(|request| !is_older(request.made, now, REQUEST_AGE_MAX_S)) {
        return Ok(request.bytes.clone());
    }
    let noise = stand_in(session.keys.dialect())?;
    let bytes = session.keys.request(session.key, destination, &noise)?;
    session.request = Some(Request {
        bytes: bytes.clone(),
        made: now,
    });
    Ok(bytes)
}

/// Returns the answer to a request that many streams share.
fn shared_response(
    session: &mut Session,
    request: &[u8],
    hash: RequestHash,
) -> Result<Vec<u8>, &'static str> {
    let kept = session.responses.iter().find(|(known, _)| *known == hash);
    if let Some((_, bytes)) = kept {
        return Ok(bytes.clone());
    }
    let dialect = session.keys.dialect();
    verify_request(dialect, request)?;
    let bytes = session.keys.accept(hash, &stand_in(dialect)?)?;
    if session.responses.len() >= RESPONSES_MAX {
        session.responses.clear();
    }
    session.responses.push((hash, bytes.clone()));
    Ok(bytes)
}
