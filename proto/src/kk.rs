//! Stream handshake of the native dialect: Noise KK from peer to peer, through the relay.
//!
//! Here: one message each way, inside the open objects, and the keys that come of it. Not here: the
//! open objects, records.
//!
//! Messages are 48 bytes: ephemeral key and the tag of an empty payload.
//! Source: docs/protocol.md sections 4 and 5.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use snow::HandshakeState;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::agreement::Secret;
use crate::key::{KeyError, PublicKey, SecretKey};
use crate::noise::{self, KK, NoiseFault, PROLOGUE, Setup, Side};
use crate::reason::Reason;

/// The opener's side of a stream handshake, waiting for message 2.
#[derive(Debug)]
pub struct KkInitiator {
    state: HandshakeState,
}

impl KkInitiator {
    /// Begins a handshake with `remote` and returns message 1; `random` is the ephemeral secret.
    ///
    /// # Errors
    ///
    /// [`KkError::PeerKey`] when the remote's key is no usable point.
    pub fn new(
        secret: &SecretKey,
        remote: &PublicKey,
        random: [u8; 32],
    ) -> Result<(Self, Vec<u8>), KkError> {
        let mut state = setup(secret, remote, random, Side::Initiator)?;
        let mut message = Vec::new();
        noise::write(&mut state, &[], &mut message)?;
        Ok((Self { state }, message))
    }

    /// Takes message 2 and returns the stream's keys.
    ///
    /// # Errors
    ///
    /// [`KkError::PeerNoise`] and [`KkError::PeerPayload`]: reset the stream.
    pub fn finish(mut self, message: &[u8]) -> Result<RecordKeys, KkError> {
        read_empty(&mut self.state, message)?;
        let keys = noise::split(self.state)?;
        Ok(RecordKeys {
            seal: keys.0,
            open: keys.1,
        })
    }
}

/// Takes message 1 from `remote` and returns message 2 and the stream's keys; `random` is the
/// ephemeral secret.
///
/// # Errors
///
/// The `Peer*` variants: refuse the open.
pub fn kk_respond(
    secret: &SecretKey,
    remote: &PublicKey,
    message: &[u8],
    random: [u8; 32],
) -> Result<(Vec<u8>, RecordKeys), KkError> {
    let mut state = setup(secret, remote, random, Side::Responder)?;
    read_empty(&mut state, message)?;
    let mut answer = Vec::new();
    noise::write(&mut state, &[], &mut answer)?;
    let keys = noise::split(state)?;
    Ok((
        answer,
        RecordKeys {
            seal: keys.1,
            open: keys.0,
        },
    ))
}

/// The two keys of a stream's records, as one side uses them. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RecordKeys {
    /// Seals what this side sends.
    pub seal: [u8; 32],
    /// Opens what this side receives.
    pub open: [u8; 32],
}

impl fmt::Debug for RecordKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordKeys(..)")
    }
}

/// Why a stream handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KkError {
    /// The handshake was driven in the wrong order.
    #[error("stream handshake message out of order")]
    BugOutOfOrder,
    /// The remote's key is no usable point.
    #[error(transparent)]
    PeerKey(#[from] KeyError),
    /// A message is malformed, not authentic, or holds a key of small order.
    #[error("stream handshake message is not authentic")]
    PeerNoise,
    /// A message has a payload where none is due.
    #[error("stream handshake message with a payload of {have} bytes")]
    PeerPayload {
        /// Bytes of the payload.
        have: usize,
    },
}

impl KkError {
    /// Returns the reason the open is refused with.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::BugOutOfOrder | Self::PeerKey(_) | Self::PeerNoise | Self::PeerPayload { .. } => {
                Reason::BadHandshake
            }
        }
    }
}

impl From<NoiseFault> for KkError {
    fn from(fault: NoiseFault) -> Self {
        match fault {
            NoiseFault::Bug => Self::BugOutOfOrder,
            NoiseFault::Peer => Self::PeerNoise,
        }
    }
}

fn setup(
    secret: &SecretKey,
    remote: &PublicKey,
    random: [u8; 32],
    side: Side,
) -> Result<HandshakeState, KkError> {
    let setup = Setup {
        pattern: KK,
        prologue: PROLOGUE,
        secret: &Arc::new(Secret::new(&secret.x25519())),
        remote: Some(&remote.to_x25519()?),
        random,
    };
    Ok(setup.build(side)?)
}

fn read_empty(state: &mut HandshakeState, message: &[u8]) -> Result<(), KkError> {
    let payload = noise::read(state, message)?;
    if payload.is_empty() {
        Ok(())
    } else {
        Err(KkError::PeerPayload {
            have: payload.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENER: SecretKey = SecretKey::from_seed([1; 32]);
    const TAKER: SecretKey = SecretKey::from_seed([2; 32]);
    const OTHER: SecretKey = SecretKey::from_seed([3; 32]);

    #[test]
    fn both_sides_get_the_same_keys_the_other_way_round() {
        let (opener, first) = KkInitiator::new(&OPENER, &TAKER.public(), [5; 32]).unwrap();
        let (second, taken) = kk_respond(&TAKER, &OPENER.public(), &first, [6; 32]).unwrap();
        let opened = opener.finish(&second).unwrap();
        assert_eq!((opened.seal, opened.open), (taken.open, taken.seal));
        assert_ne!(opened.seal, opened.open);
        assert_eq!((first.len(), second.len()), (48, 48));
    }

    #[test]
    fn a_third_party_can_be_neither_side() {
        let (opener, first) = KkInitiator::new(&OPENER, &TAKER.public(), [5; 32]).unwrap();
        let as_taker = kk_respond(&OTHER, &OPENER.public(), &first, [6; 32]);
        assert_eq!(as_taker.unwrap_err(), KkError::PeerNoise);
        let as_opener = kk_respond(&TAKER, &OTHER.public(), &first, [6; 32]);
        assert_eq!(as_opener.unwrap_err(), KkError::PeerNoise);
        let (_, theirs) = KkInitiator::new(&OTHER, &TAKER.public(), [5; 32]).unwrap();
        let (answer, _) = kk_respond(&TAKER, &OTHER.public(), &theirs, [6; 32]).unwrap();
        assert_eq!(opener.finish(&answer).unwrap_err(), KkError::PeerNoise);
    }

    #[test]
    fn changed_and_cut_messages_are_refused() {
        let (_, first) = KkInitiator::new(&OPENER, &TAKER.public(), [5; 32]).unwrap();
        for position in 0..first.len() {
            let mut forged = first.clone();
            forged[position] ^= 1;
            for message in [&forged[..], &first[..position]] {
                let refused = kk_respond(&TAKER, &OPENER.public(), message, [6; 32]);
                assert_eq!(refused.unwrap_err(), KkError::PeerNoise);
            }
        }
    }

    #[test]
    fn an_ephemeral_key_of_small_order_is_refused() {
        let refused = kk_respond(&TAKER, &OPENER.public(), &[0; 48], [6; 32]);
        assert_eq!(refused.unwrap_err(), KkError::PeerNoise);
    }

    #[test]
    fn a_static_key_of_small_order_is_refused() {
        let refused = KkInitiator::new(&OPENER, &PublicKey::native([0; 32]), [5; 32]);
        assert_eq!(
            refused.unwrap_err(),
            KkError::PeerKey(KeyError::PeerSmallOrder)
        );
    }

    #[test]
    fn a_payload_is_refused() {
        let mut state = setup(&OPENER, &TAKER.public(), [5; 32], Side::Initiator).unwrap();
        let mut message = Vec::new();
        noise::write(&mut state, b"early", &mut message).unwrap();
        let refused = kk_respond(&TAKER, &OPENER.public(), &message, [6; 32]);
        assert_eq!(refused.unwrap_err(), KkError::PeerPayload { have: 5 });
    }
}
