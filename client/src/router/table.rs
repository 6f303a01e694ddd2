//! The rules of one peer: what it does with packets of which id.
//!
//! Here: ids that are reserved, get rules, expire and are released. Not here: who may ask for that, the
//! packets.
//!
//! ```text
//!   free --reserve--> reserved --add--> rule --release, or no packet for its keep-alive time--> free
//!                        '-- no rule for ROUTE_RESERVE_TIME --> free
//!   free --own--> own (of a group that ends here) --release--> free
//! ```
//!
//! Bound: at most `entries_max` ids that are not free. Ids are random: nobody guesses those of others.

use std::collections::BTreeMap;
use std::time::Duration;

use ringway_proto::key::PublicKey;
use ringway_proto::limits::ROUTE_RESERVE_TIME;
use ringway_proto::reason::Reason;
use ringway_proto::route::{GroupName, Refusal, RouteId, Rule, RuleKind};
use ringway_proto::time::Now;

/// What one id stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The way back of a group that this peer has opened, from this neighbour.
    Own {
        group: GroupName,
        previous: PublicKey,
    },
    /// Nothing yet.
    Reserved { until: Now },
    /// What the rule says.
    Rule { rule: Rule, until: Now },
}

impl Entry {
    /// Returns the neighbour that packets come from.
    pub(crate) const fn previous(&self) -> Option<PublicKey> {
        match self {
            Self::Own { previous, .. } => Some(*previous),
            Self::Reserved { .. } => None,
            Self::Rule { rule, .. } => Some(rule.previous),
        }
    }

    /// Whether packets come from or go to this neighbour.
    pub(crate) fn touches(&self, neighbour: &PublicKey) -> bool {
        let goes_to = match self {
            Self::Own { .. } | Self::Reserved { .. } => false,
            Self::Rule { rule, .. } => rule.kind.next().0 == *neighbour,
        };
        goes_to || self.previous() == Some(*neighbour)
    }

    fn until(&self) -> Option<Now> {
        match self {
            Self::Own { .. } => None,
            Self::Reserved { until } | Self::Rule { until, .. } => Some(*until),
        }
    }
}

/// The table.
#[derive(Debug)]
pub(crate) struct Table {
    entries: BTreeMap<RouteId, Entry>,
    entries_max: usize,
}

impl Table {
    pub(crate) const fn new(entries_max: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            entries_max,
        }
    }

    /// Reserves `count` ids; `random` gives numbers that others cannot guess.
    pub(crate) fn reserve(
        &mut self,
        count: usize,
        now: Now,
        random: &mut dyn FnMut() -> u32,
    ) -> Result<Vec<RouteId>, Refusal> {
        self.check_room(count)?;
        let until = now + ROUTE_RESERVE_TIME;
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            let id = self.free_id(random);
            self.entries.insert(id, Entry::Reserved { until });
            ids.push(id);
        }
        Ok(ids)
    }

    /// Takes an id for the way back of a group of this peer.
    pub(crate) fn own(
        &mut self,
        group: GroupName,
        previous: PublicKey,
        random: &mut dyn FnMut() -> u32,
    ) -> Result<RouteId, Refusal> {
        self.check_room(1)?;
        let id = self.free_id(random);
        self.entries.insert(id, Entry::Own { group, previous });
        Ok(id)
    }

    /// Gives reserved ids their rules: all of them or none.
    pub(crate) fn add(&mut self, rules: Vec<Rule>, now: Now) -> Result<(), Refusal> {
        let is_reserved = |rule: &Rule| match self.entries.get(&rule.id) {
            Some(Entry::Reserved { until }) => now < *until,
            Some(Entry::Own { .. } | Entry::Rule { .. }) | None => false,
        };
        if let Some(rule) = rules.iter().find(|rule| !is_reserved(rule)) {
            let message = format!("id {} is not reserved (any more)", rule.id);
            return Err(Refusal::new(Reason::HopRefused, &message).with_field("id"));
        }
        for rule in rules {
            let until = now + keep_alive(&rule);
            self.entries.insert(rule.id, Entry::Rule { rule, until });
        }
        Ok(())
    }

    /// Forgets an id and returns what it stood for.
    pub(crate) fn release(&mut self, id: RouteId) -> Option<Entry> {
        self.entries.remove(&id)
    }

    /// Returns the rule for a packet that has come from `neighbour`, and keeps it for its time again.
    pub(crate) fn arrive(
        &mut self,
        id: RouteId,
        neighbour: &PublicKey,
        now: Now,
    ) -> Result<&Entry, Unknown> {
        let entry = self.entries.get_mut(&id).ok_or(Unknown::Id)?;
        if entry.previous() != Some(*neighbour) {
            return Err(Unknown::Neighbour);
        }
        if let Entry::Rule { rule, until } = entry {
            *until = now + keep_alive(rule);
        }
        Ok(entry)
    }

    /// Returns the ids of rules that send to `next_id` at `next`.
    pub(crate) fn sending_to(&self, next: &PublicKey, next_id: RouteId) -> Vec<RouteId> {
        self.ids(|entry| match entry {
            Entry::Rule { rule, .. } => rule.kind.next() == (*next, next_id),
            Entry::Own { .. } | Entry::Reserved { .. } => false,
        })
    }

    /// Whether packets of an id have arrived here.
    pub(crate) fn is_destination(&self, id: RouteId) -> bool {
        let rule = match self.entries.get(&id) {
            Some(Entry::Rule { rule, .. }) => rule,
            Some(Entry::Own { .. } | Entry::Reserved { .. }) | None => return false,
        };
        matches!(rule.kind, RuleKind::Destination { .. })
    }

    /// Returns the ids whose packets come from or go to a neighbour.
    pub(crate) fn touching(&self, neighbour: &PublicKey) -> Vec<RouteId> {
        self.ids(|entry| entry.touches(neighbour))
    }

    /// Returns the ids that end here for a group.
    pub(crate) fn of_group(&self, name: &GroupName) -> Vec<RouteId> {
        self.ids(|entry| match entry {
            Entry::Own { group, .. } => group == name,
            Entry::Rule { rule, .. } => match &rule.kind {
                RuleKind::Destination { group, .. } => group == name,
                RuleKind::Intermediary { .. } => false,
            },
            Entry::Reserved { .. } => false,
        })
    }

    /// Forgets and returns what has expired.
    pub(crate) fn expire(&mut self, now: Now) -> Vec<(RouteId, Entry)> {
        let is_over = |entry: &Entry| entry.until().is_some_and(|until| until <= now);
        let ids = self.ids(is_over);
        let taken = ids
            .into_iter()
            .map(|id| Some((id, self.entries.remove(&id)?)));
        taken.flatten().collect()
    }

    /// Returns when the next entry expires.
    pub(crate) fn deadline(&self) -> Option<Now> {
        self.entries.values().filter_map(Entry::until).min()
    }

    /// Returns every id with what it stands for.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (RouteId, &Entry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn ids(&self, is_meant: impl Fn(&Entry) -> bool) -> Vec<RouteId> {
        let meant = self.entries.iter().filter(|(_, entry)| is_meant(entry));
        meant.map(|(id, _)| *id).collect()
    }

    fn check_room(&self, count: usize) -> Result<(), Refusal> {
        let (have, max) = (self.len(), self.entries_max);
        if have + count <= max {
            return Ok(());
        }
        let message = format!("the table has {have} of {max} entries, {count} more were wanted");
        Err(Refusal::new(Reason::HopRefused, &message))
    }

    /// Bound: the table is far smaller than the numbers there are, so a free one is found soon; a random
    /// source that repeats itself ends in counting up.
    fn free_id(&self, random: &mut dyn FnMut() -> u32) -> RouteId {
        let mut id = RouteId(random());
        while id == RouteId::NONE || self.entries.contains_key(&id) {
            id = RouteId(id.0.wrapping_add(1));
        }
        id
    }
}

/// Why a packet has no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The id is free or has no rule yet.
    Id,
    /// The rule is for packets of another neighbour.
    Neighbour,
}

fn keep_alive(rule: &Rule) -> Duration {
    Duration::from_millis(rule.keep_alive_ms.into())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 12;

    fn key(byte: u8) -> PublicKey {
        PublicKey::native([byte; 32])
    }

    fn rule(id: RouteId, previous: u8, next: u8) -> Rule {
        Rule {
            id,
            keep_alive_ms: 30_000,
            previous: key(previous),
            kind: RuleKind::Intermediary {
                next: key(next),
                next_id: RouteId(u32::from(next)),
            },
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(usize),
        Arrive(usize, u8),
        Own,
        Release(usize),
        Reserve(usize),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            any::<usize>().prop_map(Step::Add),
            (any::<usize>(), 0_u8..3).prop_map(|(at, from)| Step::Arrive(at, from)),
            Just(Step::Own),
            any::<usize>().prop_map(Step::Release),
            (1_usize..5).prop_map(Step::Reserve),
            (0_u64..40).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// A model of three lists beside the table; ids of a poor random source.
        #[test]
        fn every_id_comes_back_and_the_table_keeps_its_bound(steps in vec(step(), 1..80)) {
            let mut table = Table::new(MAX);
            let mut model: BTreeMap<RouteId, Option<(u64, bool)>> = BTreeMap::new();
            let mut seconds = 0;
            let mut random = || 3;
            for step in steps {
                let now = Now::ZERO + Duration::from_secs(seconds);
                let pick = |at: usize| model.keys().nth(at % model.len().max(1)).copied();
                match step {
                    Step::Reserve(count) => {
                        let reserved = table.reserve(count, now, &mut random);
                        prop_assert_eq!(reserved.is_ok(), model.len() + count <= MAX);
                        for id in reserved.unwrap_or_default() {
                            prop_assert!(id != RouteId::NONE);
                            prop_assert!(model.insert(id, Some((seconds + 10, false))).is_none());
                        }
                    }
                    Step::Own => {
                        let own = table.own(GroupName([1; 16]), key(9), &mut random);
                        prop_assert_eq!(own.is_ok(), model.len() < MAX);
                        if let Ok(id) = own {
                            prop_assert!(model.insert(id, None).is_none());
                        }
                    }
                    Step::Add(at) => {
                        if let Some(id) = pick(at) {
                            let added = table.add(vec![rule(id, 1, 2)], now);
                            let is_reserved = matches!(model[&id], Some((_, false)));
                            prop_assert_eq!(added.is_ok(), is_reserved);
                            if is_reserved {
                                model.insert(id, Some((seconds + 30, true)));
                            }
                        }
                    }
                    Step::Arrive(at, from) => {
                        if let Some(id) = pick(at) {
                            let arrived = table.arrive(id, &key(from), now).is_ok();
                            let is_rule = matches!(model[&id], Some((_, true)));
                            prop_assert_eq!(arrived, is_rule && from == 1);
                            if arrived {
                                model.insert(id, Some((seconds + 30, true)));
                            }
                        }
                    }
                    Step::Release(at) => {
                        if let Some(id) = pick(at) {
                            prop_assert!(table.release(id).is_some());
                            prop_assert!(table.release(id).is_none());
                            model.remove(&id);
                        }
                    }
                    Step::Wait(more) => {
                        seconds += more;
                        let expired = table.expire(Now::ZERO + Duration::from_secs(seconds));
                        for (id, _) in expired {
                            let until = model.remove(&id);
                            let is_due = matches!(until, Some(Some((until, _))) if until <= seconds);
                            prop_assert!(is_due);
                        }
                        prop_assert!(model.values().flatten().all(|(until, _)| *until > seconds));
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert!(table.len() <= MAX);
                let next = model.values().flatten().map(|(until, _)| *until).min();
                let next = next.map(|until| Now::ZERO + Duration::from_secs(until));
                prop_assert_eq!(table.deadline(), next);
            }
        }
    }

    #[test]
    fn rules_are_added_all_or_none() {
        let mut table = Table::new(MAX);
        let ids = table.reserve(2, Now::ZERO, &mut || 5);
        let ids = ids.expect("there is room");
        let rules = vec![rule(ids[0], 1, 2), rule(RouteId(77), 1, 2)];
        assert!(table.add(rules, Now::ZERO).is_err());
        let entry = table.entries().next().map(|(_, entry)| entry.clone());
        assert!(matches!(entry, Some(Entry::Reserved { .. })));
        let late = Now::ZERO + ROUTE_RESERVE_TIME;
        assert!(table.add(vec![rule(ids[0], 1, 2)], late).is_err());
        assert!(
            table
                .add(vec![rule(ids[0], 1, 2), rule(ids[1], 1, 3)], Now::ZERO)
                .is_ok()
        );
        assert_eq!(table.sending_to(&key(3), RouteId(3)), [ids[1]]);
        assert_eq!(table.touching(&key(1)), ids);
        assert_eq!(table.touching(&key(2)), [ids[0]]);
        let other = table.arrive(ids[0], &key(2), Now::ZERO);
        assert_eq!(other.err(), Some(Unknown::Neighbour));
    }
}
