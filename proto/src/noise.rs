//! snow, set up for both handshakes of the native dialect.
//!
//! Here: handed-in randomness, X25519 that refuses shared secrets anyone could know, reading and
//! writing messages, the raw split. Not here: payloads, who the parties are, the curve of the other
//! dialect (`dmsg::noise`).
//!
//! Invariant: a handshake draws exactly 32 random bytes, the ones handed in; a second draw fails.
//! Source: Noise specification; RFC 7748 section 6.1 for the all-zero check, which snow leaves out.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;

use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use crate::agreement::Secret;
use crate::key::KEY_LEN_MAX;

/// What both handshakes mix in first, so that nothing of another protocol fits here.
pub(crate) const PROLOGUE: &[u8] = b"ringway/1";

/// Session handshake: the peer knows the relay's key, the relay learns the peer's.
pub(crate) const XK: &str = "Noise_XK_25519_ChaChaPoly_BLAKE2s";

/// Stream handshake: both know each other's key.
pub(crate) const KK: &str = "Noise_KK_25519_ChaChaPoly_BLAKE2s";

/// The keys after a handshake: initiator to responder, then responder to initiator.
pub(crate) type Split = Zeroizing<([u8; 32], [u8; 32])>;

/// Whose fault a failed step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoiseFault {
    /// The handshake was driven in the wrong order, or drew more randomness than it got.
    Bug,
    /// The other side's message is malformed, not authentic, or holds a key of small order.
    Peer,
}

impl From<snow::Error> for NoiseFault {
    fn from(error: snow::Error) -> Self {
        match error {
            snow::Error::Decrypt | snow::Error::Dh | snow::Error::Input => Self::Peer,
            _ => Self::Bug,
        }
    }
}

/// What one side brings to a handshake.
pub(crate) struct Setup<'a> {
    pub(crate) pattern: &'a str,
    pub(crate) prologue: &'a [u8],
    pub(crate) secret: &'a Arc<Secret>,
    pub(crate) remote: Option<&'a [u8; 32]>,
    pub(crate) random: [u8; 32],
}

impl Setup<'_> {
    pub(crate) fn build(self, side: Side) -> Result<HandshakeState, NoiseFault> {
        let params: NoiseParams = self.pattern.parse()?;
        let resolver = HandedIn {
            random: Cell::new(Some(Zeroizing::new(self.random))),
            secret: Arc::clone(self.secret),
        };
        let mut builder = Builder::with_resolver(params, Box::new(resolver))
            .prologue(self.prologue)?
            .local_private_key(self.secret.bytes())?;
        if let Some(remote) = self.remote {
            builder = builder.remote_public_key(remote)?;
        }
        let state = match side {
            Side::Initiator => builder.build_initiator(),
            Side::Responder => builder.build_responder(),
        };
        Ok(state?)
    }
}

/// Who sends the first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Initiator,
    Responder,
}

/// Reads a message and returns its payload.
pub(crate) fn read(state: &mut HandshakeState, message: &[u8]) -> Result<Vec<u8>, NoiseFault> {
    let mut payload = vec![0; message.len()];
    let len = state.read_message(message, &mut payload)?;
    payload.truncate(len);
    Ok(payload)
}

/// Appends the next message with `payload` to `out`.
pub(crate) fn write(
    state: &mut HandshakeState,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), NoiseFault> {
    let start = out.len();
    out.resize(start + payload.len() + ROOM, 0);
    let len = state.write_message(payload, &mut out[start..])?;
    out.truncate(start + len);
    Ok(())
}

/// Returns the keys of a finished handshake; the rest of its state is dropped.
pub(crate) fn split(mut state: HandshakeState) -> Result<Split, NoiseFault> {
    if !state.is_handshake_finished() {
        return Err(NoiseFault::Bug);
    }
    Ok(Zeroizing::new(state.dangerously_get_raw_split()))
}

/// Most bytes a message adds to its payload: a key, the key's tag, the payload's tag.
pub(crate) const MESSAGE_OVERHEAD_MAX: usize = 32 + 16 + 16;

/// The same with the longest key of any dialect.
const ROOM: usize = KEY_LEN_MAX + 16 + 16;

/// Serves the handed-in randomness and the checked X25519; the rest is snow's own.
struct HandedIn {
    random: Cell<Option<Zeroizing<[u8; 32]>>>,
    /// Ready already: snow knows secrets by their bytes.
    secret: Arc<Secret>,
}

impl CryptoResolver for HandedIn {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(OneDraw(self.random.take())))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        let DHChoice::Curve25519 = choice else {
            return None;
        };
        Some(Box::new(X25519::new(&self.secret)))
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// 32 random bytes, once.
pub(crate) struct OneDraw(pub(crate) Option<Zeroizing<[u8; 32]>>);

impl Random for OneDraw {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let random = self.0.take().ok_or(snow::Error::Rng)?;
        if dest.len() != random.len() {
            return Err(snow::Error::Rng);
        }
        dest.copy_from_slice(random.as_slice());
        Ok(())
    }
}

/// X25519 that refuses an all-zero result.
struct X25519 {
    /// The party's own secret, which `set` may ask for.
    known: Arc<Secret>,
    /// Absent until it is set or generated.
    secret: Option<Arc<Secret>>,
}

impl X25519 {
    fn new(known: &Arc<Secret>) -> Self {
        Self {
            known: Arc::clone(known),
            secret: None,
        }
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, secret: &[u8]) {
        // Making it ready is a multiplication: a relay does so once, not with each handshake.
        let is_known = secret == self.known.bytes();
        self.secret = match secret.first_chunk() {
            _ if is_known => Some(Arc::clone(&self.known)),
            Some(secret) => Some(Arc::new(Secret::new(secret))),
            None => None,
        };
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), snow::Error> {
        let mut secret = Zeroizing::new([0; 32]);
        random.try_fill_bytes(secret.as_mut_slice())?;
        self.secret = Some(Arc::new(Secret::new(&secret)));
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.secret.as_ref().map_or(&[0; 32], |it| it.public())
    }

    fn privkey(&self) -> &[u8] {
        self.secret.as_ref().map_or(&[0; 32], |it| it.bytes())
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        // snow hands in and takes back buffers as long as its longest key.
        let public = public.first_chunk::<32>().ok_or(snow::Error::Dh)?;
        let out = out.first_chunk_mut::<32>().ok_or(snow::Error::Dh)?;
        let secret = self.secret.as_ref().ok_or(snow::Error::Dh)?;
        *out = *secret.agree(public).ok_or(snow::Error::Dh)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
