//! Who answers a shard's questions about peers of other relays.
//!
//! Here: what a shard expects of a registry. Not here: registries, which live off the data path.

use std::fmt::Debug;

use crate::core::{Lookup, ShardId};

/// Takes questions of data threads and sees to their answers.
pub trait Resolver: Debug + Send + Sync {
    /// Takes a question of a shard; [`ShardHandle::answer`](crate::set::ShardHandle::answer) answers it
    /// later, exactly once. Returns false when it takes no more; then it must not answer.
    ///
    /// Called in a turn: it may neither block nor compute anything.
    fn look_up(&self, shard: ShardId, lookup: Lookup) -> bool;
}
