//! The session handshake of a relay, whichever dialect its peer speaks.
//!
//! Here: one value for the responders of both dialects, and what both come to. Not here: the handshakes
//! (`handshake`, `dmsg::handshake`).
//!
//! Both are Noise XK in messages with a length of two bytes in front. The native one carries payloads and
//! is answered with a verdict; the dmsg one carries nothing, and its session stands behind message 3.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::Dialect;
use super::place::{Locator, Place};
use crate::dmsg;
use crate::handshake::{self, Extension, HandshakeError, Offer, RelayIdentity, Role};
use crate::key::PublicKey;
use crate::sealed::{Opener, Sealer};

/// The keys of a relay in the dialects that it speaks.
#[derive(Clone, Debug)]
pub struct Identities {
    native: RelayIdentity,
    dmsg: Option<Arc<dmsg::handshake::Identity>>,
    locator: Option<Arc<dyn Locator>>,
}

impl Identities {
    /// Returns the identities of a relay that speaks the native dialect and, with `dmsg`, that one too.
    #[must_use]
    pub const fn new(native: RelayIdentity, dmsg: Option<Arc<dmsg::handshake::Identity>>) -> Self {
        Self {
            native,
            dmsg,
            locator: None,
        }
    }

    /// Lets peers ask where they are, in dialects that know the question.
    #[must_use]
    pub fn with_locator(self, locator: Option<Arc<dyn Locator>>) -> Self {
        Self { locator, ..self }
    }

    /// Returns where an address is, as far as is known.
    #[must_use]
    pub fn locate(&self, address: IpAddr) -> Option<Place> {
        self.locator.as_ref()?.locate(address)
    }

    /// Returns the identity in the native dialect.
    #[must_use]
    pub const fn native(&self) -> &RelayIdentity {
        &self.native
    }

    /// Returns the relay's native key.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.native.public()
    }

    /// Returns the identity in the dmsg dialect, if the relay speaks it.
    #[must_use]
    pub fn dmsg(&self) -> Option<&dmsg::handshake::Identity> {
        self.dmsg.as_deref()
    }
}

impl From<RelayIdentity> for Identities {
    fn from(native: RelayIdentity) -> Self {
        Self::new(native, None)
    }
}

impl Dialect {
    /// Returns the length of the handshake message that starts with `prefix`, its length prefix included,
    /// once the prefix is there.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::PeerLength`], before a byte is buffered for it.
    pub fn message_len(self, prefix: &[u8]) -> Result<Option<usize>, HandshakeError> {
        match self {
            Self::Native => handshake::message_len(prefix),
            Self::Dmsg => dmsg::handshake::message_len(prefix),
        }
    }

    /// Returns whether the relay answers message 3 with a [verdict](crate::verdict).
    #[inline]
    #[must_use]
    pub const fn has_verdict(self) -> bool {
        match self {
            Self::Native => true,
            Self::Dmsg => false,
        }
    }
}

/// The relay's side of a handshake, behind message 2.
#[derive(Debug)]
pub enum Responder {
    /// Native dialect.
    Native(handshake::Responder),
    /// dmsg dialect.
    Dmsg(dmsg::handshake::Responder),
}

impl Responder {
    /// Takes message 1 and returns the responder with message 2. `random` is the ephemeral secret, fresh for
    /// each handshake; the offer is for dialects that carry one.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants of [`HandshakeError`]: close the connection. [`HandshakeError::BugOutOfOrder`]
    /// when the relay does not speak the dialect.
    pub fn begin(
        dialect: Dialect,
        relay: &Identities,
        offer: Offer,
        random: [u8; 32],
        message_1: &[u8],
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        match dialect {
            Dialect::Native => {
                let mut responder = handshake::Responder::new(&relay.native, offer, random);
                let message_2 = responder.message_1(message_1)?;
                Ok((Self::Native(responder), message_2))
            }
            Dialect::Dmsg => {
                let identity = relay.dmsg().ok_or(HandshakeError::BugOutOfOrder)?;
                let mut responder = dmsg::handshake::Responder::new(identity, random);
                let message_2 = responder.message_1(message_1)?;
                Ok((Self::Dmsg(responder), message_2))
            }
        }
    }

    /// Takes message 3 and returns who the peer is and the session's keys.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants of [`HandshakeError`]: close the connection.
    pub fn message_3(self, message: &[u8]) -> Result<Established, HandshakeError> {
        match self {
            Self::Native(responder) => {
                let established = responder.message_3(message)?;
                Ok(Established {
                    key: established.key,
                    role: established.role,
                    extensions: established.extensions,
                    sealer: established.sealer,
                    opener: established.opener,
                })
            }
            Self::Dmsg(responder) => {
                let established = responder.message_3(message)?;
                Ok(Established {
                    key: established.key,
                    role: Role::Peer,
                    extensions: Vec::new(),
                    sealer: established.sealer,
                    opener: established.opener,
                })
            }
        }
    }

    /// Makes a responder small that waits for message 3.
    ///
    /// # Errors
    ///
    /// The responder itself when it has not taken message 1.
    pub fn fold(self: Box<Self>) -> Result<FoldedResponder, Box<Self>> {
        match *self {
            Self::Native(responder) => Box::new(responder)
                .fold()
                .map(FoldedResponder::Native)
                .map_err(|responder| Box::new(Self::Native(*responder))),
            Self::Dmsg(responder) => Box::new(responder)
                .fold()
                .map(FoldedResponder::Dmsg)
                .map_err(|responder| Box::new(Self::Dmsg(*responder))),
        }
    }
}

/// What a [`Responder`] can be made from again.
#[derive(Debug)]
pub enum FoldedResponder {
    /// Native dialect.
    Native(handshake::FoldedResponder),
    /// dmsg dialect.
    Dmsg(dmsg::handshake::FoldedResponder),
}

impl FoldedResponder {
    /// Computes the responder again.
    ///
    /// # Errors
    ///
    /// As for [`Responder::begin`]; never for the relay that it was folded at.
    pub fn unfold(&self, relay: &Identities) -> Result<Responder, HandshakeError> {
        match self {
            Self::Native(folded) => folded.unfold(&relay.native).map(Responder::Native),
            Self::Dmsg(folded) => {
                let identity = relay.dmsg().ok_or(HandshakeError::BugOutOfOrder)?;
                folded.unfold(identity).map(Responder::Dmsg)
            }
        }
    }
}

/// The side that begins a handshake with a relay, behind message 1.
#[derive(Debug)]
pub enum Initiator {
    /// Native dialect.
    Native(handshake::Initiator),
    /// dmsg dialect.
    Dmsg(dmsg::handshake::Initiator),
}

impl Initiator {
    /// Begins a handshake with another relay, in the dialect of its key; returns message 1 with it. What this
    /// relay says of itself is for dialects that carry it.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::PeerKey`] when the key is no point of its curve; [`HandshakeError::BugOutOfOrder`]
    /// when this relay does not speak its dialect.
    pub fn begin(
        own: &Identities,
        relay: &PublicKey,
        extensions: &[Extension],
        random: [u8; 32],
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        match relay.dialect() {
            Dialect::Native => {
                let begun = handshake::Initiator::of_relay(&own.native, relay, extensions, random);
                begun.map(|(initiator, message)| (Self::Native(initiator), message))
            }
            Dialect::Dmsg => {
                let identity = own.dmsg().ok_or(HandshakeError::BugOutOfOrder)?;
                let begun = dmsg::handshake::Initiator::new(identity, relay, random);
                begun.map(|(initiator, message)| (Self::Dmsg(initiator), message))
            }
        }
    }

    /// Takes message 2 and returns message 3 and what the handshake comes to.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants of [`HandshakeError`]: this is not the relay, or not this protocol.
    pub fn message_2(self, message: &[u8]) -> Result<(Vec<u8>, Greeted), HandshakeError> {
        match self {
            Self::Native(initiator) => {
                let (message, established) = initiator.message_2(message)?;
                let greeted = Greeted {
                    offer: Some(established.offer),
                    sealer: established.sealer,
                    opener: established.opener,
                };
                Ok((message, greeted))
            }
            Self::Dmsg(initiator) => {
                let (message, established) = initiator.message_2(message)?;
                let greeted = Greeted {
                    offer: None,
                    sealer: established.sealer,
                    opener: established.opener,
                };
                Ok((message, greeted))
            }
        }
    }
}

/// What the side that began a handshake knows after it.
#[derive(Debug)]
pub struct Greeted {
    /// What the relay offers, in the dialect that says so.
    pub offer: Option<Offer>,
    /// Seals objects to the relay.
    pub sealer: Sealer,
    /// Opens objects from the relay.
    pub opener: Opener,
}

/// What a relay knows after a handshake.
#[derive(Debug)]
pub struct Established {
    /// The peer's authenticated key.
    pub key: PublicKey,
    /// What the peer wants to be; always a peer in dialects that do not say.
    pub role: Role,
    /// The extensions this version knows, in the order sent.
    pub extensions: Vec<Extension>,
    /// Seals objects to the peer.
    pub sealer: Sealer,
    /// Opens objects from the peer.
    pub opener: Opener,
}
