//! Stream handshake of the dmsg dialect: Noise KK from client to client.
//!
//! Here: one message each way, inside the objects that open a stream, and the keys that come of it. Not
//! here: those objects (`open`), frames of the stream (`record`).
//!
//! Messages are 49 bytes: ephemeral key and the tag of an empty payload. A payload is ignored, as in the
//! session's handshake. The keys come out as Noise says: the opener seals with the first one.
//! Source: docs/dmsg.md "Handshake".

use alloc::vec::Vec;

use snow::HandshakeState;

use super::handshake::Identity;
use super::noise::{Pattern, Setup};
use crate::key::PublicKey;
use crate::noise::{self, Side};

pub use crate::kk::{KkError, RecordKeys};

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
    /// [`KkError::PeerKey`] when the remote's key is no point, or of another dialect.
    pub fn new(
        own: &Identity,
        remote: &PublicKey,
        random: [u8; 32],
    ) -> Result<(Self, Vec<u8>), KkError> {
        let mut state = setup(own, remote, random, Side::Initiator)?;
        let mut message = Vec::new();
        noise::write(&mut state, &[], &mut message)?;
        Ok((Self { state }, message))
    }

    /// Takes message 2 and returns the stream's keys.
    ///
    /// # Errors
    ///
    /// [`KkError::PeerNoise`]: reset the stream.
    pub fn finish(mut self, message: &[u8]) -> Result<RecordKeys, KkError> {
        let _payload = noise::read(&mut self.state, message)?;
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
    own: &Identity,
    remote: &PublicKey,
    message: &[u8],
    random: [u8; 32],
) -> Result<(Vec<u8>, RecordKeys), KkError> {
    let mut state = setup(own, remote, random, Side::Responder)?;
    let _payload = noise::read(&mut state, message)?;
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

fn setup(
    own: &Identity,
    remote: &PublicKey,
    random: [u8; 32],
    side: Side,
) -> Result<HandshakeState, KkError> {
    super::key::check(remote)?;
    let setup = Setup {
        pattern: Pattern::Kk,
        secret: own.ready(),
        remote: Some(remote),
        random,
    };
    Ok(setup.build(side)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dmsg::key::SecretKey;
    use crate::key::KeyError;

    fn identity(byte: u8) -> Identity {
        Identity::new(SecretKey::from_bytes([byte; 32]).unwrap())
    }

    fn opener() -> Identity {
        identity(1)
    }

    fn taker() -> Identity {
        identity(2)
    }

    fn other() -> Identity {
        identity(3)
    }

    #[test]
    fn both_sides_get_the_same_keys_the_other_way_round() {
        let (initiator, first) = KkInitiator::new(&opener(), &taker().public(), [5; 32]).unwrap();
        let (second, taken) = kk_respond(&taker(), &opener().public(), &first, [6; 32]).unwrap();
        let opened = initiator.finish(&second).unwrap();
        assert_eq!((opened.seal, opened.open), (taken.open, taken.seal));
        assert_ne!(opened.seal, opened.open);
        assert_eq!((first.len(), second.len()), (49, 49));
    }

    #[test]
    fn a_third_party_can_be_neither_side() {
        let (initiator, first) = KkInitiator::new(&opener(), &taker().public(), [5; 32]).unwrap();
        let as_taker = kk_respond(&other(), &opener().public(), &first, [6; 32]);
        assert_eq!(as_taker.unwrap_err(), KkError::PeerNoise);
        let as_opener = kk_respond(&taker(), &other().public(), &first, [6; 32]);
        assert_eq!(as_opener.unwrap_err(), KkError::PeerNoise);
        let (_, theirs) = KkInitiator::new(&other(), &taker().public(), [5; 32]).unwrap();
        let (answer, _) = kk_respond(&taker(), &other().public(), &theirs, [6; 32]).unwrap();
        assert_eq!(initiator.finish(&answer).unwrap_err(), KkError::PeerNoise);
    }

    #[test]
    fn changed_and_cut_messages_are_refused() {
        let (_, first) = KkInitiator::new(&opener(), &taker().public(), [5; 32]).unwrap();
        for position in 0..first.len() {
            let mut forged = first.clone();
            forged[position] ^= 1;
            for message in [&forged[..], &first[..position]] {
                let refused = kk_respond(&taker(), &opener().public(), message, [6; 32]);
                assert_eq!(refused.unwrap_err(), KkError::PeerNoise);
            }
        }
    }

    #[test]
    fn keys_that_are_no_points_are_refused() {
        let message = kk_respond(&taker(), &opener().public(), &[0; 49], [6; 32]);
        assert_eq!(message.unwrap_err(), KkError::PeerNoise);
        let null = KkInitiator::new(&opener(), &PublicKey::dmsg([0; 33]), [5; 32]);
        let not_a_point = KkError::PeerKey(KeyError::PeerNotAPoint);
        assert_eq!(null.unwrap_err(), not_a_point);
        let from_null = kk_respond(&taker(), &PublicKey::dmsg([0; 33]), &[2; 49], [6; 32]);
        assert_eq!(from_null.unwrap_err(), not_a_point);
        let native = KkInitiator::new(&opener(), &PublicKey::native([9; 32]), [5; 32]);
        let other_dialect = KkError::PeerKey(KeyError::LocalDialect);
        assert_eq!(native.unwrap_err(), other_dialect);
    }

    #[test]
    fn a_payload_is_ignored() {
        let (own, remote) = (opener(), taker().public());
        let mut state = setup(&own, &remote, [5; 32], Side::Initiator).unwrap();
        let mut message = Vec::new();
        noise::write(&mut state, &[7; 1_184], &mut message).unwrap();
        let (answer, taken) = kk_respond(&taker(), &own.public(), &message, [6; 32]).unwrap();
        assert_eq!(answer.len(), 49);
        let opened = KkInitiator { state }.finish(&answer).unwrap();
        assert_eq!((opened.seal, opened.open), (taken.open, taken.seal));
    }
}
