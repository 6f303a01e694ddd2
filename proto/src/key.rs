//! Keys and addresses of parties.
//!
//! Here: ed25519 keys, their X25519 images, signatures, text forms. Not here: sessions, directories.
//!
//! A public key is the address of a party. Keys of different dialects never compare equal.
//! Source: docs/protocol.md section 1; RFC 7748 section 4.1 for the map between the curves.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::scalar::clamp_integer;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::dialect::Dialect;
use crate::reason::Reason;

/// Bytes of a native public key.
pub const NATIVE_KEY_LEN: usize = 32;

/// Bytes of the longest public key of any dialect (a compressed secp256k1 point).
pub const KEY_LEN_MAX: usize = 33;

/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = 64;

/// The public key of a party, which is its address.
///
/// It may hold bytes that are no point of the curve: a directory compares keys, it does not compute
/// with them. [`PublicKey::to_x25519`] and [`verify`] refuse such keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey {
    dialect: Dialect,
    /// The key, then zeros.
    bytes: [u8; KEY_LEN_MAX],
}

impl PublicKey {
    /// Returns the native key with these bytes.
    #[inline]
    #[must_use]
    pub const fn native(key: [u8; NATIVE_KEY_LEN]) -> Self {
        let mut bytes = [0; KEY_LEN_MAX];
        let (head, _) = bytes.split_at_mut(NATIVE_KEY_LEN);
        head.copy_from_slice(&key);
        Self {
            dialect: Dialect::Native,
            bytes,
        }
    }

    /// Returns the key of the dmsg dialect with these bytes, a compressed secp256k1 point.
    #[inline]
    #[must_use]
    pub const fn dmsg(bytes: [u8; KEY_LEN_MAX]) -> Self {
        Self {
            dialect: Dialect::Dmsg,
            bytes,
        }
    }

    /// Reads the text of a key of either dialect, told apart by its length: 64 digits are a native key, 66
    /// one of the dmsg dialect.
    ///
    /// # Errors
    ///
    /// The `Text*` variants of [`KeyError`]; for the dmsg dialect [`KeyError::PeerNotAPoint`] as well.
    pub fn parse_any(text: &str) -> Result<Self, KeyError> {
        match text.len() {
            NATIVE_TEXT_LEN => text.parse(),
            DMSG_TEXT_LEN => crate::dmsg::key::parse(text),
            _ => Err(KeyError::TextLengthAny),
        }
    }

    /// Returns the key's bytes, as long as its dialect says.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.dialect.key_len()]
    }

    /// Returns the dialect the key belongs to.
    #[inline]
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Returns the Noise static key of a native key (Edwards to Montgomery).
    ///
    /// # Errors
    ///
    /// [`KeyError::PeerNotAPoint`] and [`KeyError::PeerSmallOrder`]: refuse the party.
    pub fn to_x25519(&self) -> Result<[u8; 32], KeyError> {
        let point = CompressedEdwardsY(self.native_bytes()?)
            .decompress()
            .ok_or(KeyError::PeerNotAPoint)?;
        if point.is_small_order() {
            return Err(KeyError::PeerSmallOrder);
        }
        Ok(point.to_montgomery().to_bytes())
    }

    /// Returns the 32 bytes of a native key.
    pub(crate) fn native_bytes(&self) -> Result<[u8; NATIVE_KEY_LEN], KeyError> {
        self.as_bytes()
            .try_into()
            .map_err(|_| KeyError::LocalDialect)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for PublicKey {
    /// Writes text where people read it, else the bytes; only native keys can be written.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        let bytes = self.native_bytes().map_err(serde::ser::Error::custom)?;
        bytes.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return text.parse().map_err(serde::de::Error::custom);
        }
        <[u8; NATIVE_KEY_LEN]>::deserialize(deserializer).map(Self::native)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Reads 64 lower-case hex digits: a native key. [`PublicKey::parse_any`] reads those of others too.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.len() == DMSG_TEXT_LEN {
            return Err(KeyError::TextDialect);
        }
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != NATIVE_KEY_LEN || !rest.is_empty() {
            return Err(KeyError::TextLength);
        }
        let mut key = [0; NATIVE_KEY_LEN];
        for (byte, [high, low]) in key.iter_mut().zip(pairs) {
            *byte = (hex_digit(*high)? << 4) | hex_digit(*low)?;
        }
        Ok(Self::native(key))
    }
}

/// The secret of a party: an ed25519 seed. Wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey {
    seed: [u8; 32],
}

impl SecretKey {
    /// Returns the secret key with this seed; the seed must be uniformly random.
    #[must_use]
    pub const fn from_seed(seed: [u8; 32]) -> Self {
        Self { seed }
    }

    /// Returns the seed, to be stored.
    #[must_use]
    pub const fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// Returns the public key. Costs one scalar multiplication.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey::native(
            SigningKey::from_bytes(&self.seed)
                .verifying_key()
                .to_bytes(),
        )
    }

    /// Returns the Noise static secret: the clamped scalar that ed25519 derives from the seed.
    #[must_use]
    pub fn x25519(&self) -> Zeroizing<[u8; 32]> {
        let scalar = Zeroizing::new(SigningKey::from_bytes(&self.seed).to_scalar_bytes());
        Zeroizing::new(clamp_integer(*scalar))
    }

    /// Signs `message`. Costs two scalar multiplications, one of them for the public key.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        SigningKey::from_bytes(&self.seed).sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// Verifies a signature strictly: no small-order key, no small-order or non-canonical signature.
///
/// # Errors
///
/// [`KeyError::PeerNotAPoint`] when the key is none, [`KeyError::PeerSignature`] when the signature is
/// not this key's over this message.
pub fn verify(
    key: &PublicKey,
    message: &[u8],
    signature: &[u8; SIGNATURE_LEN],
) -> Result<(), KeyError> {
    let key =
        VerifyingKey::from_bytes(&key.native_bytes()?).map_err(|_| KeyError::PeerNotAPoint)?;
    key.verify_strict(message, &Signature::from_bytes(signature))
        .map_err(|_| KeyError::PeerSignature)
}

/// Where a stream starts or ends: a party and a port of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The party.
    pub key: PublicKey,
    /// Its port; below [`crate::limits::EPHEMERAL_PORT_MIN`] for services.
    pub port: u16,
}

impl Address {
    /// Returns the address of `port` at `key`.
    #[inline]
    #[must_use]
    pub const fn new(key: PublicKey, port: u16) -> Self {
        Self { key, port }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key, self.port)
    }
}

impl FromStr for Address {
    type Err = KeyError;

    /// Reads `<key>:<port>`, the key of either dialect, the port in decimal without sign or leading zeros.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (key, port) = text.split_once(':').ok_or(KeyError::TextPort)?;
        let is_canonical =
            port == "0" || (!port.starts_with('0') && port.bytes().all(|b| b.is_ascii_digit()));
        if !is_canonical {
            return Err(KeyError::TextPort);
        }
        let port = port.parse().map_err(|_| KeyError::TextPort)?;
        Ok(Self {
            key: PublicKey::parse_any(key)?,
            port,
        })
    }
}

/// Why a key, an address or a signature is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key belongs to a dialect that this computation is not for.
    #[error("key of another dialect")]
    LocalDialect,
    /// A secret key of the dmsg dialect is 0, or not below the order of its curve.
    #[error("secret key is zero or not below the order of the curve")]
    LocalSecret,
    /// The bytes are no point of the curve.
    #[error("public key is no point of the curve")]
    PeerNotAPoint,
    /// The signature does not verify.
    #[error("signature does not verify")]
    PeerSignature,
    /// The point has small order: a secret shared with it would be known to all.
    #[error("public key has small order")]
    PeerSmallOrder,
    /// A native key was expected, and this is as long as a key of the dmsg dialect.
    #[error("66 characters are a public key of the dmsg dialect (Skywire); a native one has 64")]
    TextDialect,
    /// A character is no lower-case hex digit.
    #[error("public key text has a character that is no lower-case hex digit")]
    TextDigit,
    /// The text is not 64 characters long.
    #[error("public key text is not 64 characters long")]
    TextLength,
    /// The text is as long as a key of no dialect.
    #[error("public key text is neither 64 (native) nor 66 characters (dmsg) long")]
    TextLengthAny,
    /// The text of a key of the dmsg dialect is not 66 characters long.
    #[error("public key text of the dmsg dialect is not 66 characters long")]
    TextLengthDmsg,
    /// The text of a signature of the dmsg dialect is not 130 characters long.
    #[error("signature text is not 130 characters long")]
    TextLengthSignature,
    /// The address has no port between 0 and 65535 behind a colon.
    #[error("address does not end in a colon and a port")]
    TextPort,
}

impl KeyError {
    /// Returns the reason a party with such a key is refused with.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::PeerSignature => Reason::BadSignature,
            Self::LocalDialect
            | Self::LocalSecret
            | Self::PeerNotAPoint
            | Self::PeerSmallOrder
            | Self::TextDialect
            | Self::TextDigit
            | Self::TextLength
            | Self::TextLengthAny
            | Self::TextLengthDmsg
            | Self::TextLengthSignature
            | Self::TextPort => Reason::BadHandshake,
        }
    }
}

pub(crate) const fn hex_digit(digit: u8) -> Result<u8, KeyError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(KeyError::TextDigit),
    }
}

/// Characters of a native key's text.
const NATIVE_TEXT_LEN: usize = 2 * NATIVE_KEY_LEN;

/// Characters of the text of a key of the dmsg dialect.
const DMSG_TEXT_LEN: usize = 2 * KEY_LEN_MAX;

const _: () = assert!(size_of::<PublicKey>() <= 34);

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::ToString;

    use super::*;

    /// RFC 8032 section 7.1, test 1.
    const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    fn secret() -> SecretKey {
        // The text form of a key is plain hex, so it reads a seed as well.
        SecretKey::from_seed(SEED.parse::<PublicKey>().unwrap().native_bytes().unwrap())
    }

    #[test]
    fn key_pair_and_signature_are_those_of_rfc_8032() {
        let secret = secret();
        assert_eq!(secret.public().to_string(), PUBLIC);
        let signature = secret.sign(b"");
        assert_eq!(signature[..4], [0xe5, 0x56, 0x43, 0x00]);
        assert_eq!(verify(&secret.public(), b"", &signature), Ok(()));
        assert_eq!(
            verify(&secret.public(), b"x", &signature),
            Err(KeyError::PeerSignature)
        );
    }

    #[test]
    fn both_halves_map_to_one_x25519_pair() {
        for seed in 0..16 {
            let secret = SecretKey::from_seed([seed; 32]);
            let scalar = secret.x25519();
            assert_eq!(clamp_integer(*scalar), *scalar);
            let image = *crate::agreement::Secret::new(&scalar).public();
            assert_eq!(secret.public().to_x25519(), Ok(image));
        }
    }

    #[test]
    fn keys_of_small_order_and_non_points_are_refused() {
        // Orders 1, 2 and 4.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut order_2 = [0xff; 32];
        order_2[0] = 0xec;
        order_2[31] = 0x7f;
        for key in [identity, order_2, [0; 32]] {
            let key = PublicKey::native(key);
            assert_eq!(key.to_x25519(), Err(KeyError::PeerSmallOrder));
            assert!(verify(&key, b"", &[0; SIGNATURE_LEN]).is_err());
        }
        let mut no_point = [0; 32];
        no_point[0] = 2;
        let no_point = PublicKey::native(no_point);
        assert_eq!(no_point.to_x25519(), Err(KeyError::PeerNotAPoint));
        assert_eq!(
            verify(&no_point, b"", &[0; SIGNATURE_LEN]),
            Err(KeyError::PeerNotAPoint)
        );
    }

    #[test]
    fn a_key_has_one_text() {
        assert_eq!(PUBLIC.parse::<PublicKey>().unwrap().to_string(), PUBLIC);
        assert_eq!(
            PUBLIC.to_uppercase().parse::<PublicKey>(),
            Err(KeyError::TextDigit)
        );
        assert_eq!(PUBLIC[1..].parse::<PublicKey>(), Err(KeyError::TextLength));
        assert_eq!(PUBLIC[2..].parse::<PublicKey>(), Err(KeyError::TextLength));
        assert_eq!(
            format!("{PUBLIC}0000").parse::<PublicKey>(),
            Err(KeyError::TextLength)
        );
        assert_eq!("".parse::<PublicKey>(), Err(KeyError::TextLength));
        assert_eq!(
            PUBLIC.replace('d', "g").parse::<PublicKey>(),
            Err(KeyError::TextDigit)
        );
    }

    #[test]
    fn a_key_of_the_other_dialect_is_named_and_read_where_both_are() {
        let dmsg = "02f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9";
        let error = dmsg.parse::<PublicKey>().unwrap_err();
        assert_eq!(error, KeyError::TextDialect);
        let sentence = error.to_string();
        assert!(
            sentence.contains("dmsg") && sentence.contains("64"),
            "{sentence}"
        );
        for text in [PUBLIC, dmsg] {
            assert_eq!(PublicKey::parse_any(text).unwrap().to_string(), text);
        }
        let dialects = [PUBLIC, dmsg].map(|text| PublicKey::parse_any(text).unwrap().dialect());
        assert_eq!(dialects, [Dialect::Native, Dialect::Dmsg]);
        for length in [0, 63, 65] {
            let refused = PublicKey::parse_any(&dmsg[..length]);
            assert_eq!(refused, Err(KeyError::TextLengthAny));
        }
    }

    #[test]
    fn an_address_has_one_text() {
        for port in ["0", "7", "65535"] {
            let text = format!("{PUBLIC}:{port}");
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for port in ["", "00", "07", "+7", "-1", "65536", " 7", "7 ", "7:7"] {
            let text = format!("{PUBLIC}:{port}");
            assert_eq!(text.parse::<Address>(), Err(KeyError::TextPort), "{text}");
        }
        assert_eq!(PUBLIC.parse::<Address>(), Err(KeyError::TextPort));
        assert_eq!("ab:7".parse::<Address>(), Err(KeyError::TextLengthAny));
        let dmsg = "02f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9:80";
        assert_eq!(dmsg.parse::<Address>().unwrap().to_string(), dmsg);
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", secret()), "SecretKey(..)");
    }
}
