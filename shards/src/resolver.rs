//! Who answers a shard's questions about peers of other relays.
//!
//! Here: what a shard expects of a registry. Not here: registries, which live off the data path.

use std::fmt::Debug;

use ringway_proto::key::PublicKey;

use crate::core::{Lookup, ShardId};

/// Takes questions of data threads and sees to their answers.
pub trait Resolver: Debug + Send + Sync {
    /// Takes a question of a shard; [`ShardHandle::answer`](crate::set::ShardHandle::answer) answers it
    /// later, exactly once. Returns false when it takes no more; then it must not answer.
    ///
    /// Called in a turn: it may neither block nor compute anything.
    fn look_up(&self, shard: ShardId, lookup: Lookup) -> bool;

    /// Hears that a peer is not with the relay that the last answer named: what is remembered of it should be
    /// asked for again.
    ///
    /// Called in a turn: it may neither block nor compute anything.
    fn doubt(&self, key: PublicKey) {
        // Registries that are told of changes have nothing to forget.
        let _unused = key;
    }
}
