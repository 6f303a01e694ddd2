//! Session handshake of the dmsg dialect: Noise XK over secp256k1.
//!
//! Here: both sides as values that take and give whole messages. Not here: sockets, timeouts, whether
//! the relay admits the peer; this dialect has no verdict, a peer that is not admitted is closed.
//!
//! ```text
//! peer (Initiator)              relay (Responder)
//!   new ------- message 1, 49 bytes -> message_1
//!   message_2 <- message 2, 49 bytes --'
//!        '------ message 3, 65 bytes -> message_3 = Established
//! ```
//!
//! Each message travels as `u16 length | message`; what is produced has the prefix, what is taken has
//! not. Randomness is handed in; a value must never be used twice.
//!
//! Payloads are empty and whatever comes in one is ignored: clients of 2026 offer a post-quantum key in
//! that of message 1, and take an empty answer for a side that knows none.
//! Invariant: the peer seals with the second key of the split and the relay with the first, the other way
//! round than Noise says. Go names the two by who reads the last message.
//! Source: docs/dmsg.md "Handshake"; Noise specification section 5.3.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use snow::HandshakeState;
use zeroize::Zeroizing;

use super::key::{KEY_LEN, SecretKey};
use super::noise::{Pattern, Secret, Setup};
use crate::key::PublicKey;
use crate::limits::{DMSG_HANDSHAKE_MESSAGE_MAX, DMSG_HANDSHAKE_MESSAGE_MIN};
use crate::noise::{self, Side};
use crate::sealed::{Opener, Sealer};

pub use self::folded::FoldedResponder;
pub use crate::handshake::HandshakeError;

mod folded;

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

/// A party's keys, as its handshakes and signatures need them. Compute it once, share it by reference.
#[derive(Clone)]
pub struct Identity {
    secret: Arc<Secret>,
}

impl Identity {
    /// Returns the identity of the party with this secret. Costs one scalar multiplication.
    #[must_use]
    pub fn new(secret: SecretKey) -> Self {
        Self {
            secret: Arc::new(Secret::new(secret)),
        }
    }

    /// Returns the public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.secret.public()
    }

    /// Returns the secret key, to sign with.
    #[must_use]
    pub fn secret(&self) -> &SecretKey {
        self.secret.key()
    }

    /// Returns the secret as handshakes take it.
    pub(super) const fn ready(&self) -> &Arc<Secret> {
        &self.secret
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.public()).finish()
    }
}

/// The relay's side of a handshake.
pub struct Responder {
    state: HandshakeState,
    /// The ephemeral secret, and below the message, from which a folded state is made again.
    random: Zeroizing<[u8; 32]>,
    /// Empty before it came.
    message_1: Box<[u8]>,
}

impl Responder {
    /// Begins a handshake; `random` is the ephemeral secret.
    ///
    /// # Panics
    ///
    /// When snow does not know the one pattern this module uses: never in a tested build.
    #[must_use]
    pub fn new(relay: &Identity, random: [u8; 32]) -> Self {
        let setup = Setup {
            pattern: Pattern::Xk,
            secret: relay.ready(),
            remote: None,
            random,
        };
        let state = setup
            .build(Side::Responder)
            .expect("the pattern and its prerequisites are constants");
        Self {
            state,
            random: Zeroizing::new(random),
            message_1: Box::default(),
        }
    }

    /// Takes message 1 and returns message 2.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants: close the connection. No answer is possible yet that the peer could trust.
    pub fn message_1(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        check_len(message.len())?;
        if self.is_waiting_for_message_3() {
            return Err(HandshakeError::BugOutOfOrder);
        }
        let _payload = noise::read(&mut self.state, message)?;
        let out = write(&mut self.state)?;
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
        if !self.is_waiting_for_message_3() {
            return Err(HandshakeError::BugOutOfOrder);
        }
        let _payload = noise::read(&mut self.state, message)?;
        let key = remote_static(&self.state)?;
        let keys = noise::split(self.state)?;
        Ok(Established {
            key,
            sealer: Sealer::dmsg(keys.0),
            opener: Opener::dmsg(keys.1),
        })
    }

    const fn is_waiting_for_message_3(&self) -> bool {
        !self.message_1.is_empty()
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// What a side knows after a handshake.
#[derive(Debug)]
pub struct Established {
    /// The other side's authenticated key, a point of the curve.
    pub key: PublicKey,
    /// Seals objects to the other side.
    pub sealer: Sealer,
    /// Opens objects from the other side.
    pub opener: Opener,
}

/// The peer's side of a handshake, or that of a relay which links to another one.
#[derive(Debug)]
pub struct Initiator {
    state: HandshakeState,
    relay: PublicKey,
}

impl Initiator {
    /// Begins a handshake with `relay` and returns message 1; `random` is the ephemeral secret.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::PeerKey`] when the relay's key is no point, or of another dialect.
    pub fn new(
        own: &Identity,
        relay: &PublicKey,
        random: [u8; 32],
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        super::key::check(relay)?;
        let setup = Setup {
            pattern: Pattern::Xk,
            secret: own.ready(),
            remote: Some(relay),
            random,
        };
        let mut state = setup.build(Side::Initiator)?;
        let message = write(&mut state)?;
        let relay = *relay;
        Ok((Self { state, relay }, message))
    }

    /// Takes message 2 and returns message 3 and the session's keys.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants: this is not the relay, or not this protocol; close the connection.
    pub fn message_2(mut self, message: &[u8]) -> Result<(Vec<u8>, Established), HandshakeError> {
        check_len(message.len())?;
        let _payload = noise::read(&mut self.state, message)?;
        let out = write(&mut self.state)?;
        let keys = noise::split(self.state)?;
        let established = Established {
            key: self.relay,
            sealer: Sealer::dmsg(keys.1),
            opener: Opener::dmsg(keys.0),
        };
        Ok((out, established))
    }
}

const fn check_len(have: usize) -> Result<(), HandshakeError> {
    if have < DMSG_HANDSHAKE_MESSAGE_MIN || have > DMSG_HANDSHAKE_MESSAGE_MAX {
        return Err(HandshakeError::PeerLength { have });
    }
    Ok(())
}

/// Returns the next message, which has no payload, with its length prefix.
fn write(state: &mut HandshakeState) -> Result<Vec<u8>, HandshakeError> {
    let mut out = Vec::from([0; PREFIX_LEN]);
    noise::write(state, &[], &mut out)?;
    let have = out.len() - PREFIX_LEN;
    let length = u16::try_from(have).map_err(|_| HandshakeError::PeerLength { have })?;
    out[..PREFIX_LEN].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}

/// Returns the static key that message 3 brought. That it is a point has been seen: a secret was shared
/// with it.
fn remote_static(state: &HandshakeState) -> Result<PublicKey, HandshakeError> {
    let key = state
        .get_remote_static()
        .and_then(|it| it.first_chunk::<KEY_LEN>());
    key.map(|it| PublicKey::dmsg(*it))
        .ok_or(HandshakeError::BugOutOfOrder)
}

const PREFIX_LEN: usize = 2;

#[cfg(test)]
mod tests;
