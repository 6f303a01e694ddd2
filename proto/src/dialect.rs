//! What differs between dialects, behind one value.
//!
//! Here: a dialect's key length and its open objects as the shards see them. Not here: the layouts
//! themselves (`open`), frames and bridging (the same for all dialects).
//!
//! Source: PROTOCOL.md, first table.

/// A family of keys, handshake and open objects that travels over the same frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// ed25519 keys, Noise over X25519, the fixed layouts of PROTOCOL.md.
    #[default]
    Native,
}

impl Dialect {
    /// Returns the length of a public key in bytes.
    #[inline]
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Native => 32,
        }
    }
}
