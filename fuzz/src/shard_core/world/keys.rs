//! The keys of a run, in both dialects.
//!
//! Here: identities of parties, the relay's of the dmsg dialect, keys that are spelled as the other dialect
//! does. Not here: who has them (`world`).
//!
//! Bound: [`KEYS`] of each dialect: few, so that sessions of one key meet.

use std::sync::{Arc, OnceLock};

use ringway_proto::dialect::Dialect;
use ringway_proto::dialect::peer::Identity;
use ringway_proto::dmsg;
use ringway_proto::dmsg::key::SecretKey as DmsgKey;
use ringway_proto::key::{PublicKey, SecretKey};

/// Keys that parties of a dialect have.
const KEYS: u8 = 4;

/// Returns one of the identities.
pub(super) fn identity(dialect: Dialect, key: u8) -> Identity {
    let byte = 0x20 + key % KEYS;
    match dialect {
        Dialect::Dmsg => Identity::Dmsg(Arc::clone(&dmsg_identities()[usize::from(key % KEYS)])),
        _ => Identity::Native(Arc::new(SecretKey::from_seed([byte; 32]))),
    }
}

/// Returns the relay's identity in the dmsg dialect.
pub(super) fn relay_dmsg() -> Arc<dmsg::handshake::Identity> {
    Arc::clone(&dmsg_identities()[usize::from(KEYS)])
}

/// Returns a key of the other dialect than `own` as if it were one of `own`: the x-coordinate of a dmsg key
/// is as long as a native key.
pub(super) fn other_spelling(own: Dialect, key: u8) -> Option<PublicKey> {
    match own {
        Dialect::Dmsg => {
            let mut point = [2; 33];
            let native = identity(Dialect::Native, key).public();
            point[1..].copy_from_slice(native.as_bytes());
            Some(PublicKey::dmsg(point))
        }
        _ => {
            let dmsg = identity(Dialect::Dmsg, key).public();
            let x = dmsg.as_bytes().last_chunk::<32>()?;
            Some(PublicKey::native(*x))
        }
    }
}

/// Those of the parties and, behind them, the relay's. Making one costs more than most operations.
fn dmsg_identities() -> &'static [Arc<dmsg::handshake::Identity>] {
    static IDENTITIES: OnceLock<Vec<Arc<dmsg::handshake::Identity>>> = OnceLock::new();
    IDENTITIES.get_or_init(|| {
        let identities = (0..=KEYS).map(|key| {
            let secret = DmsgKey::from_bytes([0x20 + key; 32]);
            let secret = secret.expect("small numbers are scalars of the curve");
            Arc::new(dmsg::handshake::Identity::new(secret))
        });
        identities.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_each_dialect_can_be_asked_for_in_the_other_one() {
        let native = (0..KEYS).filter_map(|key| other_spelling(Dialect::Native, key));
        assert!(native.filter(|key| key.to_x25519().is_ok()).count() > 0);
        let dmsg = (0..KEYS).filter_map(|key| other_spelling(Dialect::Dmsg, key));
        assert!(dmsg.filter(|key| dmsg::key::check(key).is_ok()).count() > 0);
    }
}
