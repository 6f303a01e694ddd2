//! Keys of a run.
//!
//! Here: identities that all runs of the process share, since making them costs more than many
//! events. Not here: ephemeral keys, which every run draws itself.

use std::sync::{Arc, OnceLock};

use ringway_proto::dialect::handshake::Identities;
use ringway_proto::dmsg::handshake::Identity;
use ringway_proto::dmsg::key::SecretKey as DmsgKey;
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
    /// The honest peers' identities in the dmsg dialect.
    pub(crate) dmsg: Vec<Arc<Identity>>,
    pub(crate) relay_dmsg: PublicKey,
    /// A key without a session.
    pub(crate) nobody: PublicKey,
    pub(crate) nobody_dmsg: PublicKey,
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
            let relay_dmsg = dmsg_identity(200);
            let native = RelayIdentity::new(&secret(200));
            let relay = Identities::new(native, Some(Arc::clone(&relay_dmsg)));
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
                dmsg: (1..=u8::MAX)
                    .map(dmsg_identity)
                    .filter(|identity| is_native_point(&identity.public()))
                    .take(ADVERSARY_FIRST)
                    .collect(),
                relay_dmsg: relay_dmsg.public(),
                nobody: secret(201).public(),
                nobody_dmsg: dmsg_identity(201).public(),
            })
        }))
    }

    /// Returns the secret key of a relay of a mesh, which its services have.
    pub(crate) fn relay_secret(relay: u8) -> SecretKey {
        SecretKey::from_seed([RELAY_FIRST.saturating_add(relay); 32])
    }

    /// Returns the identity that has this public key.
    pub(crate) fn find(&self, key: &PublicKey) -> Option<usize> {
        let native = self.peers.iter().position(|(_, public)| public == key);
        native.or_else(|| {
            self.dmsg
                .iter()
                .position(|identity| identity.public() == *key)
        })
    }
}

fn dmsg_identity(number: u8) -> Arc<Identity> {
    let secret = DmsgKey::from_bytes([number; 32]);
    Arc::new(Identity::new(
        secret.expect("small numbers are scalars of the curve"),
    ))
}

/// Returns whether the x-coordinate of a dmsg key can be a native key, so that native peers can ask for it.
fn is_native_point(key: &PublicKey) -> bool {
    let x = key.as_bytes().last_chunk::<32>();
    x.is_some_and(|x| PublicKey::native(*x).to_x25519().is_ok())
}
