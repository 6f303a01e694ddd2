//! Connections that come in: from the listener, or from another ring.
//!
//! Here: accepting, where a connection goes, what a hand-over is made of. Not here: when accepting is armed
//! (`accept`), who decides where a connection goes (the data thread), outbound connections (`connects`).
//!
//! ```text
//!             accept            keep              address known
//!   kernel ----------> Arrived -------> (asked) ----------------> Accepted
//!                       ^    \                     ^
//!       HandOverFailed /      \ hand_over          |  in the other ring
//!                     +--------+-----> HandedOver; HandedIn
//! ```
//!
//! A hand-over is one message of the kernel from ring to ring (`IORING_MSG_SEND_FD`): it puts the socket into
//! a free slot of the other table and tells the other ring, in the context of that ring's thread, and
//! reports back. Then the slot here is closed. That ends nothing: the connection ends with the last reference
//! to its socket, and so does the reset of `SO_LINGER`. When either thread ends in between, the kernel
//! answers with an error or drops its reference, and the socket stays with whoever has it.
//!
//! Invariant: a socket on its way keeps its slot here until the answer is in, so it is counted by one ring at
//! least at any time. No operation is in flight on it: nothing is received before `Accepted`.
//! Source: `io_uring_enter(2)`, `IORING_OP_MSG_RING`; Linux 6.0.

use rustix::io::Errno;

use super::Ring;
use super::accept::Via;
use super::completion::Completion;
use super::completion::Slot;
use super::error_of;
use super::files::Origin;
use super::files::Phase;
use super::files::Standing;
use super::files::Successor;
use super::is_current;
use super::op::Kind;
use super::op::Plain;
use super::op::Tag;
use super::setup::Cqe;
use super::socket::Listener;
use super::wake::RingHandle;

impl Ring {
    /// Accepts connections of `listener` from the next turn on. The first listener of a ring has the number
    /// 0, the next one 1.
    pub fn listen(&mut self, listener: Listener) {
        self.accepts.listen(listener, false);
    }

    /// As [`Ring::listen`], but each connection is reported as `Arrived` first and waits for [`Ring::keep`]
    /// or [`Ring::hand_over`].
    pub fn listen_with_choice(&mut self, listener: Listener) {
        self.accepts.listen(listener, true);
    }

    /// Keeps a connection that has arrived; `Accepted` follows.
    pub fn keep(&mut self, slot: Slot) {
        if self.is_undecided(slot) {
            self.ask(slot.0);
        }
    }

    /// Gives a connection that has arrived to another ring, which reports `HandedIn`; `HandedOver` or
    /// `HandOverFailed` follows here.
    pub fn hand_over(&mut self, slot: Slot, target: &RingHandle) {
        if !self.is_undecided(slot) {
            return;
        }
        let Some(state) = self.slots.of_mut(slot.0) else {
            return;
        };
        state.standing = Standing::Handing;
        self.handing += 1;
        self.numbers.hand_overs_started += 1;
        self.kernel.push(Plain::HandOver {
            ring: target.fd(),
            slot: slot.0,
            generation: state.generation,
            user_data: Tag::new(Kind::HandIn, 0, state.via.encode()).encode(),
        });
    }

    pub(super) fn on_accept(&mut self, tag: Tag, cqe: Cqe, completions: &mut Vec<Completion>) {
        let has_sockets = self.slots.used() > 0;
        let Some(accepting) = self.accepts.of_mut(tag.index) else {
            return;
        };
        if !io_uring::cqueue::more(cqe.flags) {
            accepting.ended(tag);
        }
        if let Ok(slot) = u32::try_from(cqe.result) {
            let via = Via {
                listener: u8::try_from(tag.index).unwrap_or(u8::MAX),
                is_ipv6: accepting.is_ipv6(),
            };
            self.move_in(slot, Successor::Accepted(via), completions);
            return;
        }
        let Some(error) = error_of(cqe.result) else {
            return;
        };
        if accepting.failed(error, has_sockets) {
            self.numbers.accepts_failed += 1;
            completions.push(Completion::AcceptFailed {
                errno: error.raw_os_error(),
            });
        }
    }

    /// Another ring has put a socket into the table.
    pub(super) fn on_hand_in(&mut self, tag: Tag, cqe: Cqe, completions: &mut Vec<Completion>) {
        let Ok(slot) = u32::try_from(cqe.result) else {
            self.numbers.completions_stale += 1;
            return;
        };
        self.numbers.hand_ins += 1;
        let via = Via::decode(tag.index);
        self.move_in(slot, Successor::HandedIn(via), completions);
    }

    /// A hand-over of this ring has ended.
    pub(super) fn on_hand_over(&mut self, tag: Tag, cqe: Cqe, completions: &mut Vec<Completion>) {
        let slot = tag.index;
        let Some(state) = self.slots.of_mut(slot) else {
            return;
        };
        if state.standing != Standing::Handing || !is_current(state.generation, tag) {
            self.numbers.completions_stale += 1;
            return;
        }
        self.handing -= 1;
        let Some(error) = error_of(cqe.result) else {
            state.standing = Standing::Hidden;
            self.numbers.hand_overs += 1;
            completions.push(Completion::HandedOver { slot: Slot(slot) });
            self.close(Slot(slot));
            return self.settle(slot, completions);
        };
        self.numbers.hand_overs_failed += 1;
        state.standing = Standing::Undecided;
        let is_open = state.phase == Phase::Open;
        if error == Errno::OVERFLOW {
            // The other table has the socket, but there was no memory to say so there. Nobody will ever
            // close it, so the connection is ended as such; `Closed` is the last word.
            self.kernel.push(Plain::Shutdown { slot });
            self.close(Slot(slot));
        } else if is_open {
            completions.push(Completion::HandOverFailed {
                slot: Slot(slot),
                errno: error.raw_os_error(),
            });
        }
        self.settle(slot, completions);
    }

    /// The peer's address is known, or never will be: now the user learns of the socket.
    pub(super) fn on_name(&mut self, tag: Tag, cqe: Cqe, completions: &mut Vec<Completion>) {
        let Some((slot, address)) = self.names.answered(tag.index, cqe.result) else {
            return;
        };
        let Some(state) = self.slots.of_mut(slot) else {
            return;
        };
        state.standing = Standing::Known;
        completions.push(Completion::Accepted {
            slot: Slot(slot),
            address,
            listener: state.via.listener,
        });
        self.settle(slot, completions);
    }

    /// Moves a socket into the slot the kernel chose for it, now or when its predecessor is quiet.
    pub(super) fn move_in(&mut self, slot: u32, who: Successor, completions: &mut Vec<Completion>) {
        assert!(
            self.slots.reach(slot),
            "the kernel filled a slot beyond the table"
        );
        let Some(state) = self.slots.of_mut(slot) else {
            return;
        };
        if state.phase != Phase::Free {
            assert!(
                state.phase == Phase::Closing,
                "the kernel filled a slot that is in use"
            );
            assert!(state.successor.is_none(), "the kernel filled a slot twice");
            state.successor = Some(who);
            return;
        }
        self.slots.occupy(slot);
        match who {
            Successor::Accepted(via) => {
                self.set_via(slot, via);
                if self.accepts.has_choice(via) {
                    completions.push(Completion::Arrived { slot: Slot(slot) });
                } else {
                    self.ask(slot);
                }
            }
            Successor::HandedIn(via) => {
                self.set_via(slot, via);
                completions.push(Completion::HandedIn { slot: Slot(slot) });
                self.ask(slot);
            }
            Successor::Installed(index) => self.move_in_outbound(slot, index, completions),
        }
    }

    /// Notes how the connection in `slot` came in; where it goes is open.
    fn set_via(&mut self, slot: u32, via: Via) {
        if let Some(state) = self.slots.of_mut(slot) {
            state.via = via;
            state.standing = Standing::Undecided;
        }
    }

    /// Asks where the connection in `slot` comes from.
    fn ask(&mut self, slot: u32) {
        let Some(state) = self.slots.of_mut(slot) else {
            return;
        };
        state.standing = Standing::Asked;
        let (generation, is_ipv6) = (state.generation, state.via.is_ipv6);
        self.names.ask(&mut self.kernel, slot, generation, is_ipv6);
    }

    fn move_in_outbound(&mut self, slot: u32, index: u32, completions: &mut Vec<Completion>) {
        let Some(state) = self.slots.of_mut(slot) else {
            return;
        };
        if self.connects.is_adopted(index) {
            state.standing = Standing::Known;
            state.origin = Origin::Pair;
            if let Some(op) = self.connects.finish(index) {
                completions.push(Completion::Connected {
                    slot: Slot(slot),
                    token: op.token,
                });
            }
            return;
        }
        state.connect = Some(index);
        let generation = state.generation;
        if self.connects.is_cancelled(index) {
            self.fail_connect(index, slot, Errno::CANCELED);
        } else {
            state.is_connecting = true;
            self.connects.start(&mut self.kernel, index, generation);
        }
    }

    fn is_undecided(&self, slot: Slot) -> bool {
        self.slots.of(slot.0).is_some_and(|state| {
            state.phase == Phase::Open && state.standing == Standing::Undecided
        })
    }
}
