//! Responders that wait long for message 3, made small.
//!
//! A Noise state takes some 2 KiB. It follows from message 1 and the ephemeral secret, so a relay that
//! waits for very many peers keeps those and computes the state again for the few that go on: two more
//! Diffie-Hellman operations for them, a tenth of the memory for all.
//!
//! Here: folding and unfolding. Not here: when it pays (the shard core).
//!
//! Invariant: an unfolded responder is in the state in which it was folded, and has sent the same
//! message 2.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use super::{HandshakeError, Offer, RelayIdentity, Responder};

/// What a [`Responder`] behind message 2 can be made from again.
pub struct FoldedResponder {
    offer: Offer,
    /// The ephemeral secret.
    random: Zeroizing<[u8; 32]>,
    message_1: Box<[u8]>,
}

impl Responder {
    /// Makes a responder small that waits for message 3.
    ///
    /// # Errors
    ///
    /// The responder itself when it has not taken message 1.
    pub fn fold(self: Box<Self>) -> Result<FoldedResponder, Box<Self>> {
        if self.hash.is_none() {
            return Err(self);
        }
        Ok(FoldedResponder {
            offer: self.offer,
            random: self.random,
            message_1: self.message_1,
        })
    }
}

impl FoldedResponder {
    /// Computes the responder again.
    ///
    /// # Errors
    ///
    /// As for [`Responder::message_1`]; never for the relay that it was folded at.
    pub fn unfold(&self, relay: &RelayIdentity) -> Result<Responder, HandshakeError> {
        let mut responder = Responder::new(relay, self.offer, *self.random);
        // The peer has message 2 already.
        let _message_2: Vec<u8> = responder.message_1(&self.message_1)?;
        Ok(responder)
    }
}

impl fmt::Debug for FoldedResponder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoldedResponder").finish_non_exhaustive()
    }
}
