//! Responders that wait long for message 3, made small, as in the native dialect (`crate::handshake`).
//!
//! Here: folding and unfolding. Not here: when it pays (the shard core).
//!
//! Invariant: an unfolded responder is in the state in which it was folded, and has sent the same
//! message 2.
//! Bound: 64 bytes and message 1, which is 49 bytes long, or some 1,250 with a post-quantum key.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use super::{HandshakeError, Identity, Responder};

/// What a [`Responder`] behind message 2 can be made from again.
pub struct FoldedResponder {
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
        if !self.is_waiting_for_message_3() {
            return Err(self);
        }
        Ok(FoldedResponder {
            random: self.random,
            message_1: self.message_1,
        })
    }
}

impl FoldedResponder {
    /// Computes the responder again: two more scalar multiplications.
    ///
    /// # Errors
    ///
    /// As for [`Responder::message_1`]; never for the relay that it was folded at.
    pub fn unfold(&self, relay: &Identity) -> Result<Responder, HandshakeError> {
        let mut responder = Responder::new(relay, *self.random);
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
