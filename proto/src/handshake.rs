//! Session handshake of the native dialect: Noise XK between a peer and a relay.
//!
//! Here: both sides as values that take and give whole messages. Not here: sockets, timeouts, whether
//! the relay admits the peer (the verdict says that).
//!
//! ```text
//! peer (Initiator)                          relay (Responder)
//!   new ------- message 1: version, capabilities ------> message_1
//!   message_2 <---- message 2: version, Offer -----------'
//!        '--------- message 3: role, key, extensions --> message_3 = Established
//! ```
//!
//! Each message travels as `u16 length | message`; what is produced has the prefix, what is taken has
//! not. Randomness is handed in; a value must never be used twice.
//! Source: docs/protocol.md sections 1 and 2.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use blake2::{Blake2s256, Digest};
use snow::HandshakeState;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::agreement::Secret;
use crate::key::{KeyError, PublicKey, SecretKey};
use crate::limits::HANDSHAKE_MESSAGE_MAX;
use crate::noise::{self, NoiseFault, PROLOGUE, Setup, Side, XK};
use crate::reason::Reason;
use crate::sealed::{Opener, Sealer};

pub use self::folded::FoldedResponder;
pub use self::payload::{Extension, ExtensionKind, Offer, Role};

mod folded;
mod payload;

/// The version both sides speak.
pub const VERSION: u8 = 1;

/// Capability bits of this version: none is defined.
pub const CAPABILITIES: u32 = 0;

/// Returns the length of the message that starts with `prefix`, its length prefix included, once the
/// prefix is there.
///
/// # Errors
///
/// [`HandshakeError::PeerLength`], before a byte is buffered for it.
pub fn message_len(prefix: &[u8]) -> Result<Option<usize>, HandshakeError> {
    let Some(length) = prefix.first_chunk::<PREFIX_LEN>() else {
        return Ok(None);
    };
    let have = usize::from(u16::from_be_bytes(*length));
    check_len(have)?;
    Ok(Some(PREFIX_LEN + have))
}

/// A relay's keys, as its handshakes need them. Compute it once, share it by reference.
#[derive(Clone)]
pub struct RelayIdentity {
    secret: Arc<Secret>,
    public: PublicKey,
}

impl RelayIdentity {
    /// Returns the identity of the relay with this secret.
    #[must_use]
    pub fn new(secret: &SecretKey) -> Self {
        Self {
            secret: Arc::new(Secret::new(&secret.x25519())),
            public: secret.public(),
        }
    }

    /// Returns the relay's public key.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }
}

impl fmt::Debug for RelayIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RelayIdentity").field(&self.public).finish()
    }
}

/// The relay's side of a handshake.
pub struct Responder {
    state: HandshakeState,
    offer: Offer,
    /// The ephemeral secret, and below the message, from which a folded state is made again.
    random: Zeroizing<[u8; 32]>,
    message_1: Box<[u8]>,
    /// The handshake hash after message 2, what a passphrase token is bound to; `None` before it.
    hash: Option<[u8; 32]>,
}

impl Responder {
    /// Begins a handshake; `random` is the ephemeral secret.
    ///
    /// # Panics
    ///
    /// When snow does not know the one pattern this crate uses: never in a tested build.
    #[must_use]
    pub fn new(relay: &RelayIdentity, offer: Offer, random: [u8; 32]) -> Self {
        let setup = Setup {
            pattern: XK,
            prologue: PROLOGUE,
            secret: &relay.secret,
            remote: None,
            random,
        };
        let state = setup
            .build(Side::Responder)
            .expect("the pattern and its prerequisites are constants");
        Self {
            state,
            offer,
            random: Zeroizing::new(random),
            message_1: Box::default(),
            hash: None,
        }
    }

    /// Takes message 1 and returns message 2.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants: close the connection. No answer is possible yet that the peer could trust.
    pub fn message_1(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        check_len(message.len())?;
        if self.hash.is_some() {
            return Err(HandshakeError::BugOutOfOrder);
        }
        let payload = noise::read(&mut self.state, message)?;
        payload::decode_hello(&payload)?;
        let out = write(&mut self.state, &self.offer.encode())?;
        self.hash = Some(handshake_hash(&self.state));
        self.message_1 = message.into();
        Ok(out)
    }

    /// Takes message 3 and returns who the peer is and the session's keys.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants: close the connection.
    pub fn message_3(mut self, message: &[u8]) -> Result<Established, HandshakeError> {
        check_len(message.len())?;
        let handshake_hash = self.hash.ok_or(HandshakeError::BugOutOfOrder)?;
        let payload = noise::read(&mut self.state, message)?;
        let (role, key, extensions) = payload::decode_introduction(&payload)?;
        let key = PublicKey::native(key);
        // The map forgets the sign, so a key and its negation are one Noise key; the holder of the
        // secret holds both.
        let is_same = self.state.get_remote_static() == Some(key.to_x25519()?.as_slice());
        if !is_same {
            return Err(HandshakeError::PeerKeyMismatch);
        }
        let keys = noise::split(self.state)?;
        Ok(Established {
            key,
            role,
            extensions,
            handshake_hash,
            sealer: Sealer::new(keys.1),
            opener: Opener::new(keys.0),
        })
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("state", &self.state)
            .field("offer", &self.offer)
            .finish_non_exhaustive()
    }
}

/// What a relay knows after a handshake.
#[derive(Debug)]
pub struct Established {
    /// The peer's authenticated key.
    pub key: PublicKey,
    /// What the peer wants to be.
    pub role: Role,
    /// The extensions this version knows, in the order sent.
    pub extensions: Vec<Extension>,
    /// The handshake hash after message 2, what a passphrase token is bound to.
    pub handshake_hash: [u8; 32],
    /// Seals objects to the peer.
    pub sealer: Sealer,
    /// Opens objects from the peer.
    pub opener: Opener,
}

impl Established {
    /// Returns whether the peer proved that it knows `passphrase`.
    #[must_use]
    pub fn knows_passphrase(&self, passphrase: &[u8]) -> bool {
        let expected = passphrase_token(passphrase, &self.handshake_hash);
        self.extensions.iter().any(|extension| {
            extension.kind == ExtensionKind::Passphrase && is_equal(&extension.value, &expected)
        })
    }
}

/// The peer's side of a handshake.
#[derive(Debug)]
pub struct Initiator {
    state: HandshakeState,
    introduction: Vec<u8>,
    passphrase: Option<Zeroizing<Vec<u8>>>,
}

impl Initiator {
    /// Begins a handshake with `relay` and returns message 1; `random` is the ephemeral secret.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::PeerKey`] when the relay's key is no usable point,
    /// [`HandshakeError::LocalExtensions`] when they do not fit in message 3.
    pub fn new(
        secret: &SecretKey,
        relay: &PublicKey,
        role: Role,
        extensions: &[Extension],
        random: [u8; 32],
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let own = RelayIdentity::new(secret);
        Self::of(&own, relay, role, extensions, random)
    }

    /// Begins the handshake of a link: `own` relay with another `relay`. As [`Initiator::new`], without
    /// computing what a relay knows of its own keys already.
    ///
    /// # Errors
    ///
    /// As for [`Initiator::new`].
    pub fn of_relay(
        own: &RelayIdentity,
        relay: &PublicKey,
        extensions: &[Extension],
        random: [u8; 32],
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        Self::of(own, relay, Role::Relay, extensions, random)
    }

    fn of(
        own: &RelayIdentity,
        relay: &PublicKey,
        role: Role,
        extensions: &[Extension],
        random: [u8; 32],
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let introduction = payload::encode_introduction(role, &own.public, extensions)?;
        let setup = Setup {
            pattern: XK,
            prologue: PROLOGUE,
            secret: &own.secret,
            remote: Some(&relay.to_x25519()?),
            random,
        };
        let mut state = setup.build(Side::Initiator)?;
        let message = write(&mut state, &payload::encode_hello())?;
        Ok((
            Self {
                state,
                introduction,
                passphrase: None,
            },
            message,
        ))
    }

    /// Makes message 3 prove that this side knows `passphrase`, for private relays.
    #[must_use]
    pub fn with_passphrase(mut self, passphrase: &[u8]) -> Self {
        self.passphrase = Some(Zeroizing::new(passphrase.to_vec()));
        self
    }

    /// Takes message 2 and returns message 3 and the session's keys.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants: this is not the relay, or not this protocol; close the connection.
    pub fn message_2(
        mut self,
        message: &[u8],
    ) -> Result<(Vec<u8>, InitiatorEstablished), HandshakeError> {
        check_len(message.len())?;
        let payload = noise::read(&mut self.state, message)?;
        let offer = Offer::decode(&payload)?;
        if let Some(passphrase) = &self.passphrase {
            let token = passphrase_token(passphrase, &handshake_hash(&self.state));
            payload::append_passphrase(&mut self.introduction, &token)?;
        }
        let out = write(&mut self.state, &self.introduction)?;
        let keys = noise::split(self.state)?;
        let established = InitiatorEstablished {
            offer,
            sealer: Sealer::new(keys.0),
            opener: Opener::new(keys.1),
        };
        Ok((out, established))
    }
}

/// What a peer knows after a handshake. Whether the relay takes it, the verdict says.
#[derive(Debug)]
pub struct InitiatorEstablished {
    /// What the relay offers.
    pub offer: Offer,
    /// Seals objects to the relay.
    pub sealer: Sealer,
    /// Opens objects from the relay.
    pub opener: Opener,
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// A message was given to a handshake that does not wait for it.
    #[error("handshake message out of order")]
    BugOutOfOrder,
    /// The extensions do not fit in message 3.
    #[error("extensions of {have} bytes do not fit in a handshake message")]
    LocalExtensions {
        /// Their encoded bytes.
        have: usize,
    },
    /// A key is no usable point.
    #[error(transparent)]
    PeerKey(#[from] KeyError),
    /// The ed25519 key does not map to the Noise key that was authenticated.
    #[error("public key is not the one the handshake authenticated")]
    PeerKeyMismatch,
    /// A message is shorter or longer than its dialect allows.
    #[error("handshake message of {have} bytes")]
    PeerLength {
        /// Its bytes, length prefix not counted.
        have: usize,
    },
    /// A message is malformed, not authentic, or holds a key of small order or none of the curve.
    #[error("handshake message is not authentic")]
    PeerNoise,
    /// A payload does not have the fields it should.
    #[error("handshake payload is malformed")]
    PeerPayload,
    /// The role is not defined.
    #[error("role {0} is not defined")]
    PeerRole(u8),
    /// The other side speaks another version.
    #[error("protocol version {0} is not {VERSION}")]
    PeerVersion(u8),
}

impl HandshakeError {
    /// Returns the reason the connection is closed with.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::PeerVersion(_) => Reason::Version,
            Self::BugOutOfOrder
            | Self::LocalExtensions { .. }
            | Self::PeerKey(_)
            | Self::PeerKeyMismatch
            | Self::PeerLength { .. }
            | Self::PeerNoise
            | Self::PeerPayload
            | Self::PeerRole(_) => Reason::BadHandshake,
        }
    }
}

impl From<NoiseFault> for HandshakeError {
    fn from(fault: NoiseFault) -> Self {
        match fault {
            NoiseFault::Bug => Self::BugOutOfOrder,
            NoiseFault::Peer => Self::PeerNoise,
        }
    }
}

const fn check_len(have: usize) -> Result<(), HandshakeError> {
    if have == 0 || have > HANDSHAKE_MESSAGE_MAX {
        return Err(HandshakeError::PeerLength { have });
    }
    Ok(())
}

/// Returns the next message with its length prefix.
fn write(state: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>, HandshakeError> {
    let mut out = Vec::with_capacity(PREFIX_LEN + payload.len() + noise::MESSAGE_OVERHEAD_MAX);
    out.extend_from_slice(&[0; PREFIX_LEN]);
    noise::write(state, payload, &mut out)?;
    let have = out.len() - PREFIX_LEN;
    check_len(have)?;
    let length = u16::try_from(have).map_err(|_| HandshakeError::PeerLength { have })?;
    out[..PREFIX_LEN].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}

fn handshake_hash(state: &HandshakeState) -> [u8; 32] {
    // BLAKE2s gives 32 bytes; snow returns them as a slice.
    state
        .get_handshake_hash()
        .first_chunk()
        .copied()
        .unwrap_or_default()
}

/// Returns what proves knowledge of a passphrase in this handshake and no other.
fn passphrase_token(passphrase: &[u8], handshake_hash: &[u8; 32]) -> [u8; 32] {
    Blake2s256::new_with_prefix(passphrase)
        .chain_update(handshake_hash)
        .finalize()
        .into()
}

/// Compares without telling by time where the difference is.
fn is_equal(a: &[u8], b: &[u8; 32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |seen, (x, y)| seen | (x ^ y)) == 0
}

const PREFIX_LEN: usize = 2;

#[cfg(test)]
mod tests;
