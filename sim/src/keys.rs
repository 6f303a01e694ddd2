//! Keys of a run.
//!
//! Here: identities that all runs of the process share, since making them costs more than many
//! events. Not here: ephemeral keys, which every run draws itself.

use std::sync::{Arc, OnceLock};

use ringway_proto::dialect::handshake::Identities;
use ringway_proto::handshake::RelayIdentity;
use ringway_proto::key::{PublicKey, SecretKey};

/// Identities that exist. The first are the honest peers' of a run, the last the adversaries'.
pub(crate) const IDENTITIES: usize = 16;

/// First identity of an adversary.
pub(crate) const ADVERSARY_FIRST: usize = 8;

/// Most relays of a mesh.
pub(crate) const RELAYS_MAX: usize = 4;

/// Number that the key of the first relay of a mesh is made from.
const RELAY_FIRST: u8 = 210;

/// The relay's identity and those of the peers.
pub(crate) struct Keys {
    pub(crate) relay: Identities,
    pub(crate) relay_public: PublicKey,
    /// Those of the relays of a mesh.
    pub(crate) relays: Vec<Identities>,
    pub(crate) peers: Vec<(Arc<SecretKey>, PublicKey)>,
    /// A key without a session.
    pub(crate) nobody: PublicKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("relay", &self.relay_public)
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Returns the keys, made on first use.
    pub(crate) fn shared() -> Arc<Self> {
        static KEYS: OnceLock<Arc<Keys>> = OnceLock::new();
        Arc::clone(KEYS.get_or_init(|| {
            let secret = |number: u8| SecretKey::from_seed([number; 32]);
            let relay = Identities::from(RelayIdentity::new(&secret(200)));
            let peers = (1..=u8::try_from(IDENTITIES).unwrap_or(u8::MAX))
                .map(|number| {
                    let secret = Arc::new(secret(number));
                    let public = secret.public();
                    (secret, public)
                })
                .collect();
            let relays = RELAY_FIRST..RELAY_FIRST + u8::try_from(RELAYS_MAX).unwrap_or(0);
            Arc::new(Self {
                relays: relays
                    .map(|number| Identities::from(RelayIdentity::new(&secret(number))))
                    .collect(),
                relay_public: relay.public(),
                relay,
                peers,
                nobody: secret(201).public(),
            })
        }))
    }

    /// Returns the secret key of a relay of a mesh, which its services have.
    pub(crate) fn relay_secret(relay: u8) -> SecretKey {
        SecretKey::from_seed([RELAY_FIRST.saturating_add(relay); 32])
    }

    /// Returns the identity that has this public key.
    pub(crate) fn find(&self, key: &PublicKey) -> Option<usize> {
        self.peers.iter().position(|(_, public)| public == key)
    }
}
