//! Keys and signatures of the dmsg dialect: secp256k1, recoverable ECDSA over SHA-256.
//!
//! Here: secrets, signatures and their text forms, reading and checking public keys. Not here: the public
//! key itself, which the directory compares (`crate::key`), shared secrets (`noise`).
//!
//! A signature says which key made it, so it is verified by recovering that key; what is accepted is
//! exactly what the Go implementation accepts, and so two verifiers never disagree about a signature.
//! All of it is Bitcoin Core's C library with the context that its crate keeps: one for each thread with the
//! feature `aws-lc`, else one for all of which each call takes a copy. It is blinded anew behind each use of
//! a secret, at the cost of one more multiplication of the generator, against whoever measures times.
//! Source: docs/dmsg.md "Keys and signatures"; SEC 1 sections 2.3.3 and 4.1.6; RFC 6979.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use secp256k1::Message;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use zeroize::ZeroizeOnDrop;

use crate::key::{KEY_LEN_MAX, KeyError, PublicKey, hex_digit};

/// Bytes of a public key: a compressed point.
pub const KEY_LEN: usize = KEY_LEN_MAX;

/// Bytes of a secret key.
pub const SECRET_LEN: usize = 32;

/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = 65;

/// Returns the hash that this dialect uses for everything: SHA-256, once.
#[must_use]
pub fn hash(message: &[u8]) -> [u8; 32] {
    Sha256::digest(message).into()
}

/// Reads a public key: 66 lower-case hex digits, as Skywire prints it.
///
/// Go would read upper-case digits as well; here a key has one text, as in the native dialect.
///
/// # Errors
///
/// The `Text*` variants, and [`KeyError::PeerNotAPoint`], the null key among them.
pub fn parse(text: &str) -> Result<PublicKey, KeyError> {
    let bytes = hex_array(text, KeyError::TextLengthDmsg)?;
    let key = PublicKey::dmsg(bytes);
    check(&key)?;
    Ok(key)
}

/// Says whether a key is a point of the curve. Costs one square root.
///
/// # Errors
///
/// [`KeyError::PeerNotAPoint`], for the null key as well, and [`KeyError::LocalDialect`].
pub fn check(key: &PublicKey) -> Result<(), KeyError> {
    point(key).map(drop)
}

/// Verifies a signature by recovering the key that made it. Costs a double scalar multiplication.
///
/// # Errors
///
/// [`KeyError::PeerNotAPoint`] when the key is none, [`KeyError::PeerSignature`] when the signature is
/// not this key's over this message, and [`KeyError::LocalDialect`].
pub fn verify(key: &PublicKey, message: &[u8], signature: &Signature) -> Result<(), KeyError> {
    let key = point(key)?;
    let recovered = signature.recover(message)?;
    if recovered == key {
        Ok(())
    } else {
        Err(KeyError::PeerSignature)
    }
}

/// The secret of a party. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct SecretKey {
    secret: secp256k1::SecretKey,
}

impl SecretKey {
    /// Returns the secret key with these bytes, which must be uniformly random.
    ///
    /// # Errors
    ///
    /// [`KeyError::LocalSecret`] for 0 and for what is not below the order of the curve: one in 2^128.
    pub fn from_bytes(bytes: [u8; SECRET_LEN]) -> Result<Self, KeyError> {
        let secret =
            secp256k1::SecretKey::from_secret_bytes(bytes).map_err(|_| KeyError::LocalSecret)?;
        Ok(Self { secret })
    }

    /// Returns the bytes, to be stored.
    #[must_use]
    pub fn bytes(&self) -> &[u8; SECRET_LEN] {
        self.secret.as_secret_bytes()
    }

    /// Returns the public key. Costs one scalar multiplication.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey::dmsg(self.public_bytes())
    }

    /// Signs `message`; the same message gives the same signature, with the lower of the two `s`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        let message = Message::from_digest(hash(message));
        let signature = RecoverableSignature::sign_ecdsa_recoverable(message, &self.secret);
        let (recovery, scalars) = signature.serialize_compact();
        let mut bytes = [recovery.to_u8(); SIGNATURE_LEN];
        bytes[..RECOVERY_AT].copy_from_slice(&scalars);
        Signature(bytes)
    }

    /// Returns the public key's bytes.
    pub(super) fn public_bytes(&self) -> [u8; KEY_LEN] {
        self.secret.public_key().serialize()
    }

    /// Returns the secret as the library takes it.
    pub(super) const fn inner(&self) -> &secp256k1::SecretKey {
        &self.secret
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.secret.non_secure_erase();
    }
}

impl ZeroizeOnDrop for SecretKey {}

/// A signature: `r`, `s`, and which of up to four keys made it. It may be any 65 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; SIGNATURE_LEN]);

impl Signature {
    /// Returns the signature with these bytes; whether it is one, [`verify`] says.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; SIGNATURE_LEN]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SIGNATURE_LEN] {
        &self.0
    }

    /// Returns the key that made this signature over `message`, whoever that is.
    fn recover(&self, message: &[u8]) -> Result<secp256k1::PublicKey, KeyError> {
        let (scalars, [recovery]) = self
            .0
            .split_last_chunk::<1>()
            .ok_or(KeyError::PeerSignature)?;
        // Of the two `s` the lower one, as far as its top bit says: between half the order and 2^255 Go
        // accepts both.
        let is_high = scalars[S_AT] >> 7 != 0;
        if is_high {
            return Err(KeyError::PeerSignature);
        }
        RecoveryId::try_from(i32::from(*recovery))
            .and_then(|recovery| RecoverableSignature::from_compact(scalars, recovery))
            .and_then(|signature| signature.recover(Message::from_digest(hash(message))))
            .map_err(|_| KeyError::PeerSignature)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Signature {
    type Err = KeyError;

    /// Reads 130 lower-case hex digits.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        hex_array(text, KeyError::TextLengthSignature).map(Self)
    }
}

impl Serialize for Signature {
    /// Writes text: signatures are serialized into JSON only.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Returns a key as the library takes it.
pub(super) fn point(key: &PublicKey) -> Result<secp256k1::PublicKey, KeyError> {
    let bytes = key
        .as_bytes()
        .try_into()
        .map_err(|_| KeyError::LocalDialect)?;
    secp256k1::PublicKey::from_byte_array_compressed(bytes).map_err(|_| KeyError::PeerNotAPoint)
}

/// Reads bytes from twice as many hex digits.
fn hex_array<const N: usize>(text: &str, wrong_length: KeyError) -> Result<[u8; N], KeyError> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return Err(wrong_length);
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (hex_digit(*high)? << 4) | hex_digit(*low)?;
    }
    Ok(bytes)
}

/// Where `s` begins in a signature.
const S_AT: usize = 32;

/// Where the number of the key stands in a signature.
const RECOVERY_AT: usize = 64;

#[cfg(test)]
mod tests;
