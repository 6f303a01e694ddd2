//! What honest peers do with their streams, and what they tell the checkers of it.
//!
//! Here: writing at a pace, finishing, resetting and reading as planned, the ends of streams and of the
//! session. Not here: opens and answers (`honest`), what is right (`checks`).
//!
//! Invariant: every end of a stream is told to the book of opens once.

use ringway_proto::peer::{PeerEvent, StreamId};

use super::Honest;
use crate::checks::{Finish, State, Target};
use crate::event::{Act, Event};
use crate::slow::TALK_BYTES_MAX;
use crate::world::World;

impl Honest {
    /// Writes what goes, finishes and resets as planned.
    pub(super) fn work(&mut self, world: &mut World, stream: u32) {
        let id = StreamId::new(stream);
        if let Some(number) = self.apps.get(&stream).and_then(|app| app.open)
            && matches!(
                world.opens[number].ends[self.apps[&stream].side].state,
                State::Opening
            )
        {
            return;
        }
        if !self.write(world, stream) {
            return;
        }
        let Some(app) = self.apps.get_mut(&stream) else {
            return;
        };
        if let Some(number) = app.open
            && let Some((side, after)) = world.opens[number].plan.reset
            && side == app.side
            && app.written + app.received >= after
        {
            world.counts.stream_resets += 1;
            world.opens[number].ends[side].state = State::ResetHere;
            self.apps.remove(&stream);
            let _may_be_gone = self.session.reset(id);
            return;
        }
        if app.written < app.total || app.has_finished || app.is_finish_planned {
            return;
        }
        let plan = app.open.map_or(Finish::AtOnce, |number| {
            world.opens[number].plan.finish[app.side]
        });
        match plan {
            Finish::AfterOther if !app.has_seen_fin => {}
            Finish::Never => {}
            Finish::AfterOther | Finish::AtOnce => self.finish(world, stream),
            Finish::Later(delay) => {
                app.is_finish_planned = true;
                let client = self.number;
                world.at(
                    delay,
                    Event::Act {
                        client,
                        stream,
                        act: Act::Finish,
                    },
                );
            }
        }
    }

    /// Writes what the window and the pace allow; returns whether the stream can be written.
    fn write(&mut self, world: &mut World, stream: u32) -> bool {
        let Some(app) = self.apps.get_mut(&stream) else {
            return false;
        };
        let pace = app
            .open
            .map_or(0, |number| world.opens[number].plan.pace[app.side]);
        while app.written < app.total {
            if pace > 0 && world.now < app.talk_at {
                return true;
            }
            let left = usize::try_from(app.total - app.written).unwrap_or(usize::MAX);
            let most = if pace > 0 { TALK_BYTES_MAX } else { 32_768 };
            let count = world.rng.size(1, most).min(left);
            let mut bytes = vec![0; count];
            crate::content::fill(app.open.unwrap_or(0), app.side, app.written, &mut bytes);
            let Ok(taken) = self.session.write(StreamId::new(stream), &bytes) else {
                return false;
            };
            app.written += taken as u64;
            if let Some(number) = app.open.filter(|_| taken > 0) {
                world.opens[number].ends[app.side].written = app.written;
                let now = world.now;
                world.opens[number].touch(now);
            }
            if pace > 0 {
                app.talk_at = world.now + pace;
                let (client, act) = (self.number, Act::Talk);
                world.at(
                    pace,
                    Event::Act {
                        client,
                        stream,
                        act,
                    },
                );
            }
            if taken < count {
                break;
            }
        }
        true
    }

    pub(super) fn finish(&mut self, world: &mut World, stream: u32) {
        let Some(app) = self.apps.get_mut(&stream).filter(|app| !app.has_finished) else {
            return;
        };
        let id = StreamId::new(stream);
        if let Err(error) = self.session.finish(id) {
            if self.session.stream_state(id).is_none() || self.session.error().is_some() {
                // The event that says so is on its way.
                return;
            }
            let own = self.number;
            return world.fail(format!(
                "client {own}: stream {stream} cannot be finished: {error}"
            ));
        }
        app.has_finished = true;
        if let Some(number) = app.open {
            world.opens[number].ends[app.side].has_finished = true;
            let now = world.now;
            world.opens[number].touch(now);
        }
        self.done(world, stream);
    }

    pub(super) fn cancel(&mut self, world: &mut World, stream: u32) {
        let Some(number) = self.apps.get(&stream).and_then(|app| app.open) else {
            return;
        };
        if world.opens[number].ends[0].state == State::Opening {
            world.opens[number].ends[0].state = State::ResetHere;
            self.apps.remove(&stream);
            let _may_be_gone = self.session.reset(StreamId::new(stream));
        }
    }

    pub(super) fn read_stream(&mut self, world: &mut World, stream: u32, is_due: bool) {
        let Some(app) = self.apps.get_mut(&stream) else {
            return;
        };
        if !app.is_readable || app.is_read_planned {
            return;
        }
        let is_slow = self.stream_delay > 0;
        while !is_slow || is_due || self.is_over {
            let mut bytes = vec![0; world.rng.size(1, 65_536)];
            let Ok(count) = self.session.read(StreamId::new(stream), &mut bytes) else {
                return;
            };
            if count == 0 {
                app.is_readable = false;
                break;
            }
            app.received += count as u64;
            if let Some(number) = app.open {
                world.check_bytes(number, app.side, &bytes[..count]);
            }
            if is_slow && !self.is_over {
                break;
            }
        }
        if app.is_readable {
            app.is_read_planned = true;
            let (client, delay) = (self.number, self.stream_delay);
            world.at(
                delay,
                Event::Act {
                    client,
                    stream,
                    act: Act::Read,
                },
            );
        }
        if !self.is_over {
            self.work(world, stream);
        }
    }

    pub(super) fn saw_fin(&mut self, world: &mut World, stream: u32) {
        let Some(app) = self.apps.get_mut(&stream) else {
            return;
        };
        app.has_seen_fin = true;
        if let Some(number) = app.open {
            let side = app.side;
            world.check_fin(number, side);
        }
        if !self.is_over {
            self.work(world, stream);
        }
        self.done(world, stream);
    }

    /// Both directions have ended in order?
    pub(super) fn done(&mut self, world: &mut World, stream: u32) {
        let Some(app) = self
            .apps
            .get(&stream)
            .filter(|app| app.has_finished && app.has_seen_fin)
        else {
            return;
        };
        if let Some(number) = app.open {
            world.counts.streams_completed += 1;
            world.opens[number].ends[app.side].state = State::Done;
        }
        self.apps.remove(&stream);
        self.start_opens(world);
    }

    pub(super) fn was_reset(&mut self, world: &mut World, stream: u32) {
        let offer = self
            .offers
            .remove(&stream)
            .and_then(|(_, open)| Some((open?, 1)));
        let app = self
            .apps
            .remove(&stream)
            .and_then(|app| Some((app.open?, app.side)));
        if let Some((number, side)) = offer.or(app) {
            world.check_reset(number, side);
            world.opens[number].ends[side].state = State::Reset;
        }
        self.start_opens(world);
    }

    /// The session has ended: what was received is read, the rest is told.
    pub(super) fn session_over(&mut self, world: &mut World, how: &str) {
        if self.is_over {
            return;
        }
        self.is_over = true;
        let own = self.number;
        world.trace(|| format!("client {own}: session {how}"));
        let is_behind = self.slow.is_some() && world.is_behind_pings(self.conn);
        let has_excuse = self.hurt.is_some() || world.was_shard_full() || is_behind;
        let is_clean = !has_excuse && !world.conns[self.conn].has_waited;
        if is_clean && !world.is_draining {
            world.fail(format!(
                "session of client {own}, which no fault has touched, {how}"
            ));
        }
        let streams: Vec<u32> = self.apps.keys().copied().collect();
        for stream in streams {
            if let Some(app) = self.apps.get_mut(&stream) {
                app.is_readable = true;
                app.is_read_planned = false;
            }
            self.read_stream(world, stream, true);
        }
        while let Some(event) = self.session.poll_event() {
            if let PeerEvent::Finished { stream } = event {
                self.saw_fin(world, stream.as_u32());
            }
        }
        let is_graceful = is_clean && world.is_draining && !world.is_shut_down;
        for (stream, app) in std::mem::take(&mut self.apps) {
            let Some(number) = app.open else { continue };
            let open = &mut world.opens[number];
            let was_open = open.ends[app.side].state == State::Open;
            let is_lost = is_graceful
                && was_open
                && open.hurt.is_none()
                && open.plan.reset.is_none()
                && matches!(open.target, Target::Peer(_));
            open.ends[app.side].state = State::SessionOver;
            let ends = open.ends;
            if is_lost {
                world.fail(format!(
                    "client {own}: stream {stream}, open {number}, was cut by a drain: {ends:?}"
                ));
            }
        }
        for (_, (_, open)) in std::mem::take(&mut self.offers) {
            if let Some(number) = open {
                world.opens[number].ends[1].state = State::SessionOver;
            }
        }
        for number in std::mem::take(&mut self.waiting) {
            world.opens[number].is_void = true;
        }
        self.transmit(world);
        world.peer_close(self.conn, false);
        // Whoever talks to it loses the other end.
        world.hurt(own, "session over");
        world.hurt_opens_to(self.identity, "session over");
    }
}
