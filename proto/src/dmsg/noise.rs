//! snow with the Diffie-Hellman of dmsg.
//!
//! Here: secp256k1 with 33-byte keys and 33-byte results, the names of both handshakes. Not here: handed-in
//! randomness, reading, writing and splitting, which are as in the native dialect (`crate::noise`).
//!
//! What two sides share is the SHA-256 of their compressed common point and a zero byte, so that it is as
//! long as a key: Noise has one length for both. A key that is no point of the curve ends the handshake.
//! Invariant: as in `crate::noise`, a handshake draws exactly the 32 random bytes that are handed in.
//! Source: docs/dmsg.md "Handshake"; Noise specification sections 4.1 and 5.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cell::Cell;
use core::fmt;

use secp256k1::ecdh::SharedSecret;
use snow::params::{BaseChoice, CipherChoice, DHChoice, HandshakeChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use super::key::{KEY_LEN, SECRET_LEN, SecretKey, hash, point};
use crate::key::PublicKey;
use crate::noise::{NoiseFault, OneDraw, Side};

/// Which handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// Of streams: both sides know each other's key.
    Kk,
    /// Of sessions: the peer knows the relay's key, the relay learns the peer's.
    Xk,
}

impl Pattern {
    /// Returns the name that both sides hash first, and the pattern's own within it.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Kk => ("Noise_KK_Secp256k1_ChaChaPoly_SHA256", "KK"),
            Self::Xk => ("Noise_XK_Secp256k1_ChaChaPoly_SHA256", "XK"),
        }
    }

    fn params(self) -> Result<NoiseParams, NoiseFault> {
        let (name, pattern) = self.names();
        let handshake: HandshakeChoice = pattern.parse()?;
        // snow does not know the curve by name; the choice only goes to the resolver below.
        Ok(NoiseParams::new(
            name.to_owned(),
            BaseChoice::Noise,
            handshake,
            DHChoice::Curve25519,
            CipherChoice::ChaChaPoly,
            HashChoice::SHA256,
        ))
    }
}

/// What one side brings to a handshake. The prologue is empty.
pub(super) struct Setup<'a> {
    pub(super) pattern: Pattern,
    pub(super) secret: &'a Arc<Secret>,
    pub(super) remote: Option<&'a PublicKey>,
    pub(super) random: [u8; SECRET_LEN],
}

impl Setup<'_> {
    pub(super) fn build(self, side: Side) -> Result<HandshakeState, NoiseFault> {
        let resolver = HandedIn {
            random: Cell::new(Some(Zeroizing::new(self.random))),
            secret: Arc::clone(self.secret),
        };
        let mut builder = Builder::with_resolver(self.pattern.params()?, Box::new(resolver))
            .local_private_key(self.secret.key.bytes())?;
        if let Some(remote) = self.remote {
            builder = builder.remote_public_key(remote.as_bytes())?;
        }
        let state = match side {
            Side::Initiator => builder.build_initiator(),
            Side::Responder => builder.build_responder(),
        };
        Ok(state?)
    }
}

/// A secret that is ready for use: its public key is computed once.
pub(super) struct Secret {
    key: SecretKey,
    public: [u8; KEY_LEN],
}

impl Secret {
    /// Makes a secret ready. Costs one scalar multiplication.
    pub(super) fn new(key: SecretKey) -> Self {
        let public = key.public_bytes();
        Self { key, public }
    }

    /// Makes the ephemeral secret of a handshake of random bytes.
    ///
    /// One in 2^128 is no secret of the curve, and is hashed until it is one.
    fn ephemeral(random: &[u8; SECRET_LEN]) -> Self {
        let mut bytes = Zeroizing::new(*random);
        // Bound: each step goes on with a probability of 2^-128.
        let key = loop {
            match SecretKey::from_bytes(*bytes) {
                Ok(key) => break key,
                Err(_) => *bytes = hash(bytes.as_slice()),
            }
        };
        Self::new(key)
    }

    /// Returns the secret key.
    pub(super) const fn key(&self) -> &SecretKey {
        &self.key
    }

    /// Returns the public key.
    pub(super) const fn public(&self) -> PublicKey {
        PublicKey::dmsg(self.public)
    }

    /// Returns what this secret and the owner of `public` share; nothing when that is no point.
    fn agree(&self, public: [u8; KEY_LEN]) -> Option<Zeroizing<[u8; KEY_LEN]>> {
        let point = point(&PublicKey::dmsg(public)).ok()?;
        let mut shared = SharedSecret::new(&point, self.key.inner());
        let mut out = Zeroizing::new([0; KEY_LEN]);
        out[..SHARED_LEN].copy_from_slice(shared.as_secret_bytes());
        shared.non_secure_erase();
        Some(out)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

/// Serves the handed-in randomness and the curve; the rest is snow's own.
struct HandedIn {
    random: Cell<Option<Zeroizing<[u8; SECRET_LEN]>>>,
    /// Ready already: snow knows secrets by their bytes.
    secret: Arc<Secret>,
}

impl CryptoResolver for HandedIn {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(OneDraw(self.random.take())))
    }

    fn resolve_dh(&self, _choice: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(Secp256k1 {
            known: Arc::clone(&self.secret),
            secret: None,
        }))
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// The curve as dmsg uses it.
struct Secp256k1 {
    /// The party's own secret, which `set` may ask for.
    known: Arc<Secret>,
    /// Absent until it is set or generated.
    secret: Option<Arc<Secret>>,
}

impl Dh for Secp256k1 {
    fn name(&self) -> &'static str {
        "Secp256k1"
    }

    fn pub_len(&self) -> usize {
        KEY_LEN
    }

    fn priv_len(&self) -> usize {
        SECRET_LEN
    }

    fn set(&mut self, secret: &[u8]) {
        // Making it ready is a multiplication: a relay does so once, not with each handshake. snow sets no
        // secret but the one that the builder above was given.
        let is_known = secret == self.known.key.bytes();
        self.secret = is_known.then(|| Arc::clone(&self.known));
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), snow::Error> {
        let mut secret = Zeroizing::new([0; SECRET_LEN]);
        random.try_fill_bytes(secret.as_mut_slice())?;
        self.secret = Some(Arc::new(Secret::ephemeral(&secret)));
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.secret.as_ref().map_or(&[0; KEY_LEN], |it| &it.public)
    }

    fn privkey(&self) -> &[u8] {
        self.secret
            .as_ref()
            .map_or(&[0; SECRET_LEN], |it| it.key.bytes())
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        // snow hands in and takes back buffers as long as its longest key.
        let public = public.first_chunk::<KEY_LEN>().ok_or(snow::Error::Dh)?;
        let out = out.first_chunk_mut::<KEY_LEN>().ok_or(snow::Error::Dh)?;
        let secret = self.secret.as_ref().ok_or(snow::Error::Dh)?;
        *out = *secret.agree(*public).ok_or(snow::Error::Dh)?;
        Ok(())
    }
}

/// Bytes of a shared secret before the zero byte.
const SHARED_LEN: usize = 32;

#[cfg(test)]
mod tests;
