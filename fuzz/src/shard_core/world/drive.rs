//! The driver: carries out what the cores ask for, and hands them what happens.
//!
//! Here: the rounds until nothing moves, and the end. Not here: what an operation does (`world`).
//!
//! Bound: [`ROUNDS_MAX`] rounds; a core that never comes to rest fails the run.

use std::time::Duration;

use ringway_proto::peer::{PeerEvent, PeerSession, SessionError};
use ringway_proto::reason::Reason;
use ringway_shards::core::{Action, LookedUp, ShardId};

use super::socket::Party;
use super::{ROUNDS_MAX, SHARDS, SLOTS, SOCKETS, World, slot_of, usize_of};
use crate::shard_core::book::End;

impl World {
    /// Moves bytes, messages and results until nothing moves any more.
    pub(in crate::shard_core) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut is_moving = false;
            for index in 0..SOCKETS {
                is_moving |= self.transmit(index);
            }
            for shard in 0..SHARDS {
                is_moving |= self.turn(shard);
            }
            for index in 0..SOCKETS {
                is_moving |= self.complete_send(index);
            }
            if !is_moving {
                return;
            }
        }
        panic_still_moving();
    }

    /// One turn of a data thread.
    fn turn(&mut self, shard: usize) -> bool {
        let mut is_moving = false;
        let now = self.now;
        while !self.late[shard].holds_mail
            && let Some((source, message)) = self.late[shard].mail.pop_front()
        {
            self.cores[shard].message(source, message, now);
            is_moving = true;
        }
        while !self.late[shard].holds_jobs
            && let Some(job) = self.late[shard].jobs.pop()
        {
            let random = self.random();
            let result = job.run(&self.identity, random);
            self.cores[shard].computed(result, now);
            is_moving = true;
        }
        while !self.late[shard].holds_closes
            && let Some(index) = self.late[shard].closes.pop()
        {
            self.close(index);
            is_moving = true;
        }
        while !self.late[shard].holds_closes && self.end_cancelled(shard) {
            is_moving = true;
        }
        self.cores[shard].collect_ports(now);
        self.cores[shard].flush();
        while let Some(action) = self.cores[shard].poll_action() {
            self.act(shard, action);
            is_moving = true;
        }
        is_moving
    }

    fn act(&mut self, shard: usize, action: Action<crate::memory::HeapLease>) {
        match action {
            Action::CancelConnect { dial } => self.dials.cancel(shard, dial),
            Action::CancelSend { slot } => {
                let index = shard * SLOTS + slot.0 as usize;
                // A send that is held has not begun; another one completes with what it has taken.
                if !self.complete_send(index)
                    && let Some(socket) = &mut self.sockets[index]
                    && let Some(batch) = socket.sending.take()
                {
                    self.cores[shard].sent(slot, batch, Err(125), self.now);
                }
            }
            Action::Close { slot } => {
                let index = shard * SLOTS + slot.0 as usize;
                let socket = self.sockets[index]
                    .as_mut()
                    .expect("a close of an open socket");
                assert!(!socket.is_closing, "a socket is closed twice");
                socket.is_closing = true;
                socket.party = Party::Nobody;
                self.late[shard].closes.push(index);
            }
            Action::Connect { dial, source, .. } => {
                self.dials.connect(shard, dial, source.port(), self.now);
            }
            Action::Compute(job) => self.late[shard].jobs.push(job),
            // There is no registry, so that nobody is asked.
            // Nobody here remembers answers.
            Action::Doubt { .. } => {}
            Action::LookUp(lookup) => {
                self.cores[shard].looked_up(lookup, LookedUp::Unavailable, self.now);
            }
            Action::Dialed { dial, outcome } => {
                self.dials.answer(shard, dial);
                if let Ok(dialed) = outcome {
                    self.dialed(shard, &dialed);
                }
            }
            Action::Message { target, message } => {
                let source = ShardId(super::number(shard));
                let target = usize::from(target.0);
                assert_ne!(target, shard, "a message of a shard to itself");
                self.late[target].mail.push_back((source, message));
            }
            Action::PauseAccept | Action::ResumeAccept => {}
            Action::Send { slot, batch } => {
                let index = shard * SLOTS + slot.0 as usize;
                let socket = self.sockets[index]
                    .as_mut()
                    .expect("a send on an open socket");
                assert!(!socket.is_closing, "a send on a socket that closes");
                assert!(socket.sending.is_none(), "two sends on one socket");
                socket.sending = Some(batch);
            }
        }
    }

    /// Completes a close, the operations of the socket first.
    fn close(&mut self, index: usize) {
        let Some(socket) = self.sockets[index].take() else {
            return;
        };
        let core = &mut self.cores[index / SLOTS];
        if let Some(batch) = socket.sending {
            core.sent(slot_of(index), batch, Err(125), self.now);
        }
        core.closed(slot_of(index));
        if let Some(port) = socket.port {
            self.rest_port(port);
        }
    }

    /// Hands the relay what the party at a socket has to say.
    fn transmit(&mut self, index: usize) -> bool {
        let Some(mut socket) = self.sockets[index].take() else {
            return false;
        };
        let mut out = Vec::new();
        match &mut socket.party {
            Party::Honest(peer) => {
                self.listen(peer, &mut socket.ends, socket.connection);
                peer.transmit(&mut out, self.piece);
            }
            Party::Hostile(hostile) => out = hostile.transmit(self.piece),
            Party::Nobody => {}
        }
        let is_receiving = socket.is_receiving;
        self.sockets[index] = Some(socket);
        if out.is_empty() || !is_receiving {
            return false;
        }
        let lease = self.memory.lease(&out);
        self.cores[index / SLOTS].received(slot_of(index), lease, self.now);
        true
    }

    /// Answers the events of an honest peer, as an application would.
    fn listen(&mut self, peer: &mut PeerSession, ends: &mut Vec<End>, connection: u64) {
        let replaced = u32::from(Reason::Replaced.code());
        while let Some(event) = peer.poll_event() {
            match event {
                PeerEvent::Closed {
                    error:
                        SessionError::PeerRefused {
                            reason: Reason::Replaced,
                            ..
                        },
                } => self.check_replaced(connection),
                PeerEvent::GoAway { code } if code == replaced => self.check_replaced(connection),
                PeerEvent::Incoming {
                    stream,
                    port,
                    request,
                    ..
                } if port % 4 == 0 => _ = peer.refuse(stream, request, Reason::NoListener),
                PeerEvent::Incoming {
                    stream,
                    source,
                    request,
                    ..
                } => {
                    let random = self.random();
                    if peer.accept(stream, request, random).is_ok() {
                        let entry = self.book.accepted(source.port, connection);
                        let side = 1;
                        ends.push(End {
                            stream,
                            entry,
                            side,
                        });
                    }
                }
                PeerEvent::Opened { stream, .. } => {
                    if let Some(end) = ends.iter().find(|end| end.stream == stream) {
                        self.book.answered(*end);
                    }
                }
                PeerEvent::OpenRefused {
                    stream,
                    reason_code,
                } => {
                    if let Some(end) = ends.iter().find(|end| end.stream == stream) {
                        self.book.refused(*end, reason_code);
                    }
                }
                // One stream in four is never read: a slow consumer.
                PeerEvent::Readable { stream } if stream.as_u32() % 8 < 6 => {
                    if let Some(end) = ends.iter().find(|end| end.stream == stream) {
                        self.read(peer, *end);
                    }
                }
                _ => {}
            }
        }
    }

    /// A peer was told 202: its key must have a connection that was accepted after it, or with it.
    fn check_replaced(&mut self, number: u64) {
        let own = *self.connection(number);
        let others = self.connections.iter().zip(0_u64..);
        let mut newer = others.filter(|(other, at)| {
            *at != number && other.key == own.key && other.accepted_at >= own.accepted_at
        });
        assert!(newer.next().is_some(), "replaced by an older connection");
    }

    /// Reads all that has come on a stream, and checks it.
    fn read(&mut self, peer: &mut PeerSession, end: End) {
        let mut bytes = [0; 16_384];
        let is_honest = |connection: u64| self.connections[usize_of(connection)].is_honest;
        while let Ok(count) = peer.read(end.stream, &mut bytes)
            && count > 0
        {
            self.book.read(end, &bytes[..count], is_honest);
        }
    }

    /// Completes the send in flight of a socket, unless it is held.
    fn complete_send(&mut self, index: usize) -> bool {
        let Some(socket) = &mut self.sockets[index] else {
            return false;
        };
        if socket.is_held {
            return false;
        }
        let Some(batch) = socket.sending.take() else {
            return false;
        };
        let mut bytes = Vec::new();
        batch.for_each_slice(|slice| bytes.extend_from_slice(slice));
        assert_eq!(bytes.len(), batch.len());
        assert!(!bytes.is_empty(), "an empty send");
        bytes.truncate(socket.send_bytes_max);
        let is_over = match &mut socket.party {
            // An honest peer may refuse what a dishonest one has brought about; it then hangs up.
            Party::Honest(peer) => peer.receive(&bytes, self.now).is_err(),
            Party::Hostile(hostile) => {
                hostile.receive(&bytes);
                false
            }
            Party::Nobody => false,
        };
        if is_over {
            socket.party = Party::Nobody;
        }
        let count = u32::try_from(bytes.len()).expect("a batch is bounded");
        self.cores[index / SLOTS].sent(slot_of(index), batch, Ok(count), self.now);
        true
    }

    /// Closes everything.
    pub(in crate::shard_core) fn end(&mut self) {
        for socket in self.sockets.iter_mut().flatten() {
            socket.is_held = false;
        }
        for late in &mut self.late {
            (late.holds_mail, late.holds_jobs, late.holds_closes) = (false, false, false);
        }
        for core in &mut self.cores {
            core.shutdown(self.now);
        }
        self.settle();
        // What lingers has a second to leave.
        self.advance(self.now + Duration::from_secs(2));
        self.settle();
    }
}

#[expect(clippy::panic, reason = "the failure that libFuzzer looks for")]
fn panic_still_moving() -> ! {
    panic!("still moving after {ROUNDS_MAX} rounds")
}
