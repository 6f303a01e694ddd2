//! Who may do something: sets of public keys.
//!
//! Here: the sets. Not here: where they are written (`config`), what they protect (`services`).

use std::collections::BTreeSet;

use ringway_proto::key::PublicKey;

/// Keys that may use a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeySet {
    /// Whoever has a session.
    All,
    /// These.
    Listed(BTreeSet<PublicKey>),
}

impl KeySet {
    /// Returns the set of nobody.
    pub(crate) const fn none() -> Self {
        Self::Listed(BTreeSet::new())
    }

    /// Returns whether `key` is one of them.
    pub(crate) fn has(&self, key: &PublicKey) -> bool {
        match self {
            Self::All => true,
            Self::Listed(keys) => keys.contains(key),
        }
    }

    /// Returns whether nobody is in it.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Listed(keys) if keys.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_keys_are_in_and_no_others() {
        let key = |byte| PublicKey::native([byte; 32]);
        let some = KeySet::Listed([key(1), key(2)].into());
        assert!(some.has(&key(2)) && !some.has(&key(3)) && !some.is_empty());
        assert!(KeySet::All.has(&key(3)) && !KeySet::All.is_empty());
        assert!(!KeySet::none().has(&key(1)) && KeySet::none().is_empty());
    }
}
