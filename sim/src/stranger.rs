//! Strangers: connections that never become sessions.
//!
//! Here: garbage, torn and endless handshakes. Not here: abuse of a session (`raw`).

use ringway_proto::handshake::{Initiator, Role, message_len};

use crate::network::Way;
use crate::world::{Client, World};

/// Kinds that say nothing, half a message, a whole message and nothing more.
const IDLE_KINDS: [u64; 3] = [0, 2, 9];

/// A connection whose handshake fails.
#[derive(Debug)]
pub(crate) struct Stranger {
    conn: usize,
    kind: u64,
    initiator: Option<Initiator>,
    input: Vec<u8>,
}

impl World {
    /// Adds a stranger that connects now.
    pub(crate) fn add_stranger(&mut self) {
        let kind = self.rng.below(9);
        self.add_stranger_of(kind);
    }

    /// Adds one that never finishes its handshake and keeps its connection.
    pub(crate) fn add_idler(&mut self) {
        let kind = self.rng.pick(&IDLE_KINDS, 0);
        self.add_stranger_of(kind);
    }

    fn add_stranger_of(&mut self, kind: u64) {
        let number = self.clients.len();
        self.clients.push(Client::Taken);
        let conn = self.connect(number);
        let random = self.rng.bytes_32();
        let (secret, _) = &self.keys.peers[crate::keys::ADVERSARY_FIRST];
        let role = if kind == 8 { Role::Relay } else { Role::Peer };
        let begun = Initiator::new(secret, &self.keys.relay_public, role, &[], random);
        let Ok((initiator, message_1)) = begun else {
            return self.fail("no handshake can be begun".into());
        };
        self.counts.strangers += 1;
        self.trace(|| format!("stranger {number} of kind {kind} connects as connection {conn}"));
        let stranger = Box::new(Stranger {
            conn,
            kind,
            initiator: Some(initiator),
            input: Vec::new(),
        });
        self.clients[number] = Client::Stranger(stranger);
        let part = self.rng.size(1, message_1.len() - 1);
        match kind {
            0 => {}
            1 => {
                self.write(conn, Way::Up, &[0xff; 40]);
            }
            2 => {
                self.write(conn, Way::Up, &message_1[..part]);
            }
            3 => {
                self.write(conn, Way::Up, &message_1[..part]);
                let with_reset = self.rng.chance(50);
                self.peer_close(conn, with_reset);
            }
            4 => {
                self.write(conn, Way::Up, &message_1);
                self.write(conn, Way::Up, b"more");
            }
            5 => {
                let mut message = message_1;
                message[part.max(2)] ^= 4;
                self.write(conn, Way::Up, &message);
            }
            _ => {
                self.write(conn, Way::Up, &message_1);
            }
        }
    }
}

impl Stranger {
    /// Returns whether it never does anything more.
    pub(crate) fn is_idle(&self) -> bool {
        IDLE_KINDS.contains(&self.kind)
    }

    pub(crate) fn read(&mut self, world: &mut World) {
        let conn = &mut world.conns[self.conn];
        if (conn.is_reset_at_peer || conn.down.has_fin) && conn.down.arrived() == 0 {
            world.peer_close(self.conn, false);
            return;
        }
        let bytes = conn.down.read(usize::MAX);
        self.input.extend_from_slice(&bytes);
        world.progress_send(self.conn);
        let is_whole = message_len(&self.input)
            .is_ok_and(|total| total.is_some_and(|total| total <= self.input.len()));
        if !is_whole {
            return;
        }
        let Some(initiator) = self.initiator.take() else {
            return;
        };
        let Ok((mut message_3, _)) = initiator.message_2(&self.input[2..]) else {
            return;
        };
        match self.kind {
            6 => {
                let at = world.rng.size(2, message_3.len() - 1);
                message_3[at] ^= 1;
                world.write(self.conn, Way::Up, &message_3);
            }
            7 => {
                // More behind message 3 than the relay keeps.
                world.write(self.conn, Way::Up, &message_3);
                world.write(self.conn, Way::Up, &vec![0; 100_000]);
            }
            8 => {
                world.write(self.conn, Way::Up, &message_3);
            }
            _ => {}
        }
    }
}
