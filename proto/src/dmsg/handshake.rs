//! Session handshake of the dmsg dialect: Noise XK over secp256k1.
#![allow(missing_docs)]
use crate::handshake::HandshakeError;
use crate::key::PublicKey;
use crate::sealed::{Opener, Sealer};
use alloc::boxed::Box;
use alloc::vec::Vec;
#[derive(Debug)]
pub struct Identity;
impl Identity {
    pub fn public(&self) -> PublicKey {
        PublicKey::dmsg([0; 33])
    }
}
#[derive(Debug)]
pub struct Responder;
impl Responder {
    pub fn new(_: &Identity, _: [u8; 32]) -> Self {
        Self
    }
    pub fn message_1(&mut self, _: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        Err(HandshakeError::BugOutOfOrder)
    }
    pub fn message_3(self, _: &[u8]) -> Result<Established, HandshakeError> {
        Err(HandshakeError::BugOutOfOrder)
    }
    pub fn fold(self: Box<Self>) -> Result<FoldedResponder, Box<Self>> {
        Err(self)
    }
}
#[derive(Debug)]
pub struct FoldedResponder;
impl FoldedResponder {
    pub fn unfold(&self, _: &Identity) -> Result<Responder, HandshakeError> {
        Err(HandshakeError::BugOutOfOrder)
    }
}
#[derive(Debug)]
pub struct Established {
    pub key: PublicKey,
    pub sealer: Sealer,
    pub opener: Opener,
}
pub fn message_len(_: &[u8]) -> Result<Option<usize>, HandshakeError> {
    Ok(None)
}
