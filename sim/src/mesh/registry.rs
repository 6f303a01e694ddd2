//! The registry of a mesh, which is asked where peers are.
//!
//! Here: what it says, when, and how often that is wrong. Not here: what a relay does with it.
//!
//! Once faults have stopped it says the truth, soon.

use ringway_proto::key::PublicKey;
use ringway_shards::core::{Directory, LookedUp, Lookup};

use super::driver::Input;
use super::event::{Answer, Event};
use super::world::Mesh;
use crate::options::{MS, SECOND};

impl Mesh {
    /// A shard asks.
    pub(super) fn look_up(&mut self, shard: usize, lookup: Lookup) {
        if !self.options.has_registry {
            return self.fail(format!("shard {shard} asks a registry that there is not"));
        }
        self.counts.lookups += 1;
        self.shards[shard].questions += 1;
        let relay = self.shards[shard].relay;
        let soon = self.rng.skewed(0, 20 * MS);
        let is_wrong = !self.is_calm && self.rng.chance(self.options.faults.registry);
        self.counts.lookups_wrong += u64::from(is_wrong);
        let (delay, answer) = match (is_wrong, self.rng.below(5)) {
            (false, _) => (soon, Answer::Truth),
            // It knows what was true before.
            (true, 0) => {
                let old = self.truth(relay, &lookup.key);
                (self.rng.skewed(0, 20 * SECOND), Answer::Fixed(old))
            }
            (true, 1) => (self.rng.skewed(0, 20 * SECOND), Answer::Truth),
            (true, 2) => (soon, Answer::Fixed(LookedUp::Nowhere)),
            (true, 3) => (soon, Answer::Fixed(LookedUp::Unavailable)),
            // One without the peer, without a link, or the one that asks.
            (true, _) => {
                let liar = self.rng.index(self.relays.len());
                let key = self.keys.relays[liar].public();
                (soon, Answer::Fixed(LookedUp::At(key)))
            }
        };
        self.trace(|| format!("shard {shard} asks for {}, answer {answer:?}", lookup.key));
        self.at(
            delay,
            Event::Answered {
                shard,
                lookup,
                answer,
            },
        );
    }

    /// The answer comes.
    pub(super) fn answered(&mut self, shard: usize, lookup: Lookup, answer: Answer) {
        let answer = match answer {
            Answer::Fixed(answer) => answer,
            Answer::Truth => self.truth(self.shards[shard].relay, &lookup.key),
        };
        self.push(shard, Input::LookedUp(lookup, answer));
    }

    /// Returns where a peer has a session, beside the relay that asks.
    fn truth(&self, own: usize, key: &PublicKey) -> LookedUp {
        let there = (0..self.relays.len()).find(|relay| {
            *relay != own
                && self.relays[*relay].is_up
                && self.relays[*relay].directory.lookup(key).is_some()
        });
        there.map_or(LookedUp::Nowhere, |relay| {
            LookedUp::At(self.keys.relays[relay].public())
        })
    }
}
