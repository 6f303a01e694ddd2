//! Which dialect each honest peer of a run speaks.
//!
//! Here: the draw, who has which key, how a key of the other dialect is spelled, what an opener is told. Not
//! here: what peers do (`honest`), strangers and adversaries, who are native.
//!
//! Drawn from a generator of its own, and only when asked for: a run without is the run it was before.
//! Source: docs/dmsg.md "Refusals and codes" and "Peers".

use std::sync::Arc;

use ringway_proto::dialect::Dialect;
use ringway_proto::dialect::peer::Identity;
use ringway_proto::key::PublicKey;
use ringway_proto::reason::Reason;

use crate::checks::{Open, Target};
use crate::keys::{ADVERSARY_FIRST, Keys};
use crate::rng::{Rng, mix};
use crate::world::{Client, World};

/// The dialects of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialects([Dialect; ADVERSARY_FIRST]);

/// Mixed into the seed of a run: this generator must not follow the others.
const STREAM: u64 = 0x6469_616c_6563;

impl Dialects {
    /// Everybody speaks the native one, and the relay no other.
    pub(crate) const NATIVE: Self = Self([Dialect::Native; ADVERSARY_FIRST]);

    /// Draws who speaks the dmsg dialect: all, or as it comes.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(mix(seed ^ STREAM));
        let percent = rng.pick(&[100, 70, 50], 70);
        Self([(); ADVERSARY_FIRST].map(|()| match rng.chance(percent) {
            true => Dialect::Dmsg,
            false => Dialect::Native,
        }))
    }

    /// Returns whether the relay speaks the dmsg dialect.
    pub(crate) fn has_dmsg(&self) -> bool {
        self.0.contains(&Dialect::Dmsg)
    }

    /// Returns what an identity speaks.
    pub(crate) fn of(&self, identity: usize) -> Dialect {
        self.0.get(identity).copied().unwrap_or_default()
    }

    /// Returns what whoever an open asks for speaks; who is nobody speaks what the opener does.
    fn of_target(&self, open: &Open) -> Dialect {
        match open.target {
            Target::Adversary(identity) | Target::Peer(identity) => self.of(identity),
            Target::Nobody | Target::Relay => self.of(open.identity),
        }
    }

    /// Returns whether an open asks for somebody of the other dialect.
    pub(crate) fn is_across(&self, open: &Open) -> bool {
        self.of(open.identity) != self.of_target(open)
    }

    /// Returns what the opener sees when the relay refuses it for this reason.
    pub(crate) fn told(&self, open: &Open, reason: Reason) -> u16 {
        match self.of(open.identity) {
            // Only a destination can say why.
            Dialect::Dmsg => Reason::Unexplained.code(),
            _ => reason.code(),
        }
    }
}

impl World {
    /// Returns an honest peer's identity.
    pub(crate) fn identity(&self, identity: usize) -> Identity {
        match self.dialects.of(identity) {
            Dialect::Dmsg => Arc::clone(&self.keys.dmsg[identity]).into(),
            _ => Arc::clone(&self.keys.peers[identity].0).into(),
        }
    }

    /// Returns the relay's key in a dialect.
    pub(crate) fn relay_key(&self, dialect: Dialect) -> PublicKey {
        match dialect {
            Dialect::Dmsg => self.keys.relay_dmsg,
            _ => self.keys.relay_public,
        }
    }

    /// Returns the key that an open asks for, in its opener's dialect.
    pub(crate) fn destination(&self, open: &Open) -> PublicKey {
        let own = self.dialects.of(open.identity);
        let key = match open.target {
            Target::Adversary(identity) | Target::Peer(identity) => {
                self.keys.of(identity, self.dialects.of(identity))
            }
            Target::Nobody => self.keys.nobody(own),
            Target::Relay => self.relay_key(own),
        };
        spelled(own, key)
    }

    /// Returns what the listener of a connection speaks.
    pub(crate) fn dialect_of(&self, conn: usize) -> Dialect {
        match &self.clients[self.conns[conn].client] {
            Client::Honest(honest) => self.dialects.of(honest.identity),
            Client::Adversary(_) | Client::Stranger(_) | Client::Taken => Dialect::Native,
        }
    }
}

impl Keys {
    /// Returns the key of an identity in a dialect.
    pub(crate) fn of(&self, identity: usize, dialect: Dialect) -> PublicKey {
        match dialect {
            Dialect::Dmsg => self.dmsg[identity].public(),
            _ => self.peers[identity].1,
        }
    }

    /// Returns a key that nobody has.
    fn nobody(&self, dialect: Dialect) -> PublicKey {
        match dialect {
            Dialect::Dmsg => self.nobody_dmsg,
            _ => self.nobody,
        }
    }
}

/// Spells a key as one of another dialect: the x-coordinate of a dmsg key is as long as a native key.
fn spelled(dialect: Dialect, key: PublicKey) -> PublicKey {
    match (dialect, key.dialect(), key.as_bytes()) {
        (Dialect::Dmsg, Dialect::Native, x) => {
            let mut point = [2; 33];
            for (to, from) in point.iter_mut().skip(1).zip(x) {
                *to = *from;
            }
            PublicKey::dmsg(point)
        }
        (Dialect::Native, Dialect::Dmsg, [_, x @ ..]) => {
            <[u8; 32]>::try_from(x).map_or(key, PublicKey::native)
        }
        _ => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_have_peers_of_one_dialect_and_of_both() {
        let count = |seed| {
            let dialects = Dialects::draw(seed);
            let speaks = |identity| dialects.of(identity) == Dialect::Dmsg;
            (0..ADVERSARY_FIRST).filter(|it| speaks(*it)).count()
        };
        let counts: Vec<_> = (0..50).map(count).collect();
        assert!(counts.contains(&ADVERSARY_FIRST));
        assert!(
            counts
                .iter()
                .any(|count| (1..ADVERSARY_FIRST).contains(count))
        );
        assert!(!Dialects::NATIVE.has_dmsg());
    }

    #[test]
    fn key_in_the_other_spelling_is_a_key_of_the_other_dialect() {
        let keys = Keys::shared();
        let (native, dmsg) = (keys.of(0, Dialect::Native), keys.of(0, Dialect::Dmsg));
        assert_eq!(spelled(Dialect::Native, native), native);
        assert_eq!(spelled(Dialect::Dmsg, dmsg), dmsg);
        assert_eq!(spelled(Dialect::Dmsg, native).dialect(), Dialect::Dmsg);
        let other = spelled(Dialect::Native, dmsg);
        assert_eq!(other.as_bytes(), &dmsg.as_bytes()[1..]);
    }
}
