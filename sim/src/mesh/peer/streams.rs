//! What peers of a mesh do with their streams.
//!
//! Here: writing, finishing, resetting, reading. Not here: opens and sessions (`peer`), what is right
//! (`book`).

use ringway_proto::peer::StreamId;

use super::super::book::{End, Side};
use super::super::world::Mesh;
use super::Client;
use crate::checks::State;
use crate::content::fill;

impl Mesh {
    /// An end of an open comes to another state.
    pub(super) fn end_stream(&mut self, number: usize, side: Side, state: State) {
        if let Some(end) = self.opens[number].end_mut(side) {
            end.state = state;
        }
    }
}

impl Client {
    fn end_of<'a>(&self, mesh: &'a mut Mesh, stream: u32) -> Option<&'a mut End> {
        let app = self.apps.get(&stream)?;
        mesh.opens[app.open].end_mut(app.side)
    }

    /// Writes what goes, finishes, resets as planned.
    pub(super) fn work(&mut self, mesh: &mut Mesh, stream: u32) {
        let Some(app) = self.apps.get(&stream).copied() else {
            return;
        };
        let id = StreamId::new(stream);
        let (total, reset_after) = {
            let open = &mesh.opens[app.open];
            (open.bytes[app.side.index()], open.reset_after)
        };
        loop {
            let Some(end) = self.end_of(mesh, stream).copied() else {
                return;
            };
            if end.state != State::Open || end.has_finished {
                return;
            }
            let has_enough = reset_after.is_some_and(|after| end.written + end.received >= after);
            if app.side == Side::Near && has_enough {
                mesh.counts.stream_resets += 1;
                self.apps.remove(&stream);
                mesh.end_stream(app.open, app.side, State::ResetHere);
                let _may_be_gone = self.session.reset(id);
                return;
            }
            let left = usize::try_from(total - end.written).unwrap_or(usize::MAX);
            if left == 0 {
                break;
            }
            let count = mesh.rng.size(1, 32_768).min(left);
            let mut bytes = vec![0; count];
            fill(app.open, app.side.index(), end.written, &mut bytes);
            let Ok(taken) = self.session.write(id, &bytes) else {
                return;
            };
            if let Some(end) = self.end_of(mesh, stream) {
                end.written += taken as u64;
            }
            if taken < count {
                return;
            }
        }
        if self.session.finish(id).is_ok() {
            if let Some(end) = self.end_of(mesh, stream) {
                end.has_finished = true;
            }
            self.done(mesh, stream);
        }
    }

    pub(super) fn read_stream(&mut self, mesh: &mut Mesh, stream: u32) {
        let Some(app) = self.apps.get(&stream).copied() else {
            return;
        };
        loop {
            let mut bytes = vec![0; mesh.rng.size(1, 65_536)];
            match self.session.read(StreamId::new(stream), &mut bytes) {
                Ok(count) if count > 0 => mesh.check_bytes(app.open, app.side, &bytes[..count]),
                _ => break,
            }
        }
        if !self.is_over(mesh) {
            self.work(mesh, stream);
        }
    }

    pub(super) fn saw_fin(&mut self, mesh: &mut Mesh, stream: u32) {
        if let Some(app) = self.apps.get(&stream).copied() {
            mesh.check_fin(app.open, app.side);
            self.done(mesh, stream);
        }
    }

    /// Both directions have ended in order?
    fn done(&mut self, mesh: &mut Mesh, stream: u32) {
        let is_done = self
            .end_of(mesh, stream)
            .is_some_and(|end| end.has_finished && end.has_seen_fin);
        if is_done && let Some(app) = self.apps.remove(&stream) {
            mesh.counts.streams_completed += 1;
            mesh.end_stream(app.open, app.side, State::Done);
        }
    }

    pub(super) fn was_reset(&mut self, mesh: &mut Mesh, stream: u32) {
        self.offers.remove(&stream);
        if let Some(app) = self.apps.remove(&stream) {
            mesh.check_reset(app.open);
            mesh.end_stream(app.open, app.side, State::Reset);
        }
    }
}
