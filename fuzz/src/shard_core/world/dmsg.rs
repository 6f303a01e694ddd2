//! What happens for the dmsg dialect's sake.
//!
//! Here: connections by the listener of that dialect, and what its hostile peers alone can say. Not here:
//! what peers of both dialects do (`world`).

use ringway_proto::dialect::Dialect;
use ringway_proto::key::Address;

use super::keys::identity;
use super::socket::Party;
use super::{SLOTS, SOCKETS, UNIX_NS, World, slot_of};
use crate::hostile::Damage;
use crate::shard_core::operation::DmsgOperation;

impl World {
    /// Does one operation of the dmsg dialect.
    pub(super) fn step_of_dmsg(&mut self, operation: &DmsgOperation) {
        match operation {
            DmsgOperation::Accept { socket, key } => {
                self.accept_honest(*socket, &identity(Dialect::Dmsg, *key));
            }
            DmsgOperation::AcceptHostile { socket, key } => {
                self.accept_hostile(*socket, identity(Dialect::Dmsg, *key));
            }
            DmsgOperation::AcceptProxied { socket, key, place } => {
                self.accept_proxied(*socket, *key, *place);
            }
            DmsgOperation::AcceptStranger { socket } => {
                self.accept(*socket, Party::Nobody, Dialect::Dmsg, None);
            }
            DmsgOperation::OpenAcross { socket, key, port } => {
                self.open(*socket, *key, *port, true);
            }
            _ => self.step_of_liar(operation),
        }
    }

    /// What a hostile peer says.
    fn step_of_liar(&mut self, operation: &DmsgOperation) {
        let relay = self.relay_key(Dialect::Dmsg);
        let (DmsgOperation::Announce { socket, .. }
        | DmsgOperation::AskAddress { socket, .. }
        | DmsgOperation::Object { socket, .. }
        | DmsgOperation::Replay { socket, .. }
        | DmsgOperation::RequestDamaged { socket, .. }) = operation
        else {
            return;
        };
        let Some(hostile) = self.hostile(*socket) else {
            return;
        };
        match operation {
            DmsgOperation::Announce { stream, .. } => {
                hostile.announce(u32::from(*stream), UNIX_NS);
            }
            DmsgOperation::AskAddress {
                stream,
                is_of_relay,
                wants_place,
                ..
            } => {
                let of = match is_of_relay {
                    true => relay,
                    false => identity(Dialect::Dmsg, 0).public(),
                };
                hostile.ask_address(u32::from(*stream), of, UNIX_NS, *wants_place);
            }
            DmsgOperation::Object { stream, plain, .. } => {
                hostile.open(u32::from(*stream), plain);
            }
            DmsgOperation::Replay { stream, .. } => hostile.replay(u32::from(*stream)),
            DmsgOperation::RequestDamaged {
                key,
                stream,
                at,
                xor,
                is_signed,
                ..
            } => {
                let to = Address::new(identity(hostile.dialect(), *key).public(), 7);
                let damage = Damage {
                    at: *at,
                    xor: *xor,
                    is_signed: *is_signed,
                };
                hostile.request_damaged(u32::from(*stream), to, UNIX_NS, damage);
            }
            _ => {}
        }
    }

    /// A proxy connects for a peer, and says so first.
    fn accept_proxied(&mut self, socket: u8, key: u8, place: u8) {
        let index = usize::from(socket) % SOCKETS;
        if self.sockets[index].is_some() {
            return;
        }
        self.accept_honest(socket, &identity(Dialect::Dmsg, key));
        let header = format!("PROXY TCP4 127.0.0.{} 127.0.0.1 40000 8081\r\n", place % 3);
        for piece in header.as_bytes().chunks(self.piece) {
            let lease = self.memory.lease(piece);
            self.cores[index / SLOTS].received(slot_of(index), lease, self.now);
        }
    }
}
