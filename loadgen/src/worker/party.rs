//! The keys of a peer, and its handshakes, in either dialect.
//!
//! Here: what a peer computes until its session stands. Not here: when it does so (`setup`), the objects that
//! open a stream (`objects`).
//!
//! Keys are made once and kept over all connections of a session, so that a run costs the generator what it
//! costs peers that come back: ephemeral keys alone.

use ringway_proto::dialect::Dialect;
use ringway_proto::dmsg;
use ringway_proto::dmsg::handshake::Identity;
use ringway_proto::entry::PeerEntry;
use ringway_proto::handshake::{Initiator, Role};
use ringway_proto::key::{PublicKey, SecretKey};
use ringway_proto::sealed::{Opener, Sealer};

use super::setup::{random, unix_time_ns};

/// The secret of a peer.
#[derive(Debug, Clone)]
pub(super) enum Party {
    Native(SecretKey),
    Dmsg(Identity),
}

impl Party {
    /// Returns a peer with a key of its own.
    pub(super) fn new(dialect: Dialect) -> Result<Self, &'static str> {
        let seed = random()?;
        match dialect {
            Dialect::Dmsg => dmsg::key::SecretKey::from_bytes(seed)
                .map(|secret| Self::Dmsg(Identity::new(secret)))
                // One seed in 2^128.
                .map_err(|_| "no key: the random bytes are none"),
            _ => Ok(Self::Native(SecretKey::from_seed(seed))),
        }
    }

    /// Returns what stands for a peer that never shows a key.
    pub(super) const fn nobody() -> Self {
        Self::Native(SecretKey::from_seed([0; 32]))
    }

    /// Returns the public key. Costs a point multiplication in the native dialect.
    pub(super) fn public(&self) -> PublicKey {
        match self {
            Self::Native(secret) => secret.public(),
            Self::Dmsg(identity) => identity.public(),
        }
    }

    /// Returns the dialect that the peer speaks.
    pub(super) const fn dialect(&self) -> Dialect {
        match self {
            Self::Native(_) => Dialect::Native,
            Self::Dmsg(_) => Dialect::Dmsg,
        }
    }

    /// Begins a handshake with a relay: returns it with message 1.
    pub(super) fn shake(&self, relay: &PublicKey) -> Result<(Shake, Vec<u8>), &'static str> {
        let random = random()?;
        match self {
            Self::Native(secret) => {
                // As a client does: a relay with a registry has something to write.
                let entry = PeerEntry::sign(secret, relay, unix_time_ns());
                let entry = [entry.map_err(|_| UNUSABLE)?.into()];
                let begun = Initiator::new(secret, relay, Role::Peer, &entry, random);
                let (initiator, message) = begun.map_err(|_| UNUSABLE)?;
                Ok((Shake::Native(initiator), message))
            }
            Self::Dmsg(identity) => {
                let begun = dmsg::handshake::Initiator::new(identity, relay, random);
                let (initiator, message) = begun.map_err(|_| UNUSABLE)?;
                Ok((Shake::Dmsg(initiator), message))
            }
        }
    }
}

/// A handshake that waits for message 2.
#[derive(Debug)]
pub(super) enum Shake {
    Native(Initiator),
    Dmsg(dmsg::handshake::Initiator),
}

impl Shake {
    /// Takes message 2; returns message 3 and the session's keys.
    pub(super) fn message_2(self, message: &[u8]) -> Result<(Vec<u8>, Crypto), &'static str> {
        match self {
            Self::Native(initiator) => {
                let (message, keys) = initiator.message_2(message).map_err(|_| OTHER_RELAY)?;
                let (sealer, opener) = (keys.sealer, keys.opener);
                Ok((message, Crypto { sealer, opener }))
            }
            Self::Dmsg(initiator) => {
                let (message, keys) = initiator.message_2(message).map_err(|_| OTHER_RELAY)?;
                let (sealer, opener) = (keys.sealer, keys.opener);
                Ok((message, Crypto { sealer, opener }))
            }
        }
    }
}

/// The session keys.
#[derive(Debug)]
pub(super) struct Crypto {
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
}

const UNUSABLE: &str = "handshake: the relay's key is unusable";
const OTHER_RELAY: &str = "handshake: not that relay";
