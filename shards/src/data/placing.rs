//! Which shard each new connection of a data thread goes to, and the permits of those it has.
//!
//! Here: the choice at the arrival, and what becomes of the permit. Not here: how shards compare (`load`),
//! what a hand-over is made of (`ring::arrivals`).
//!
//! Invariant: a slot has a permit from `arrived`, `came_in` or `connected` to `left` or `went`.

use crate::load::LoadPermit;
use crate::load::Loads;
use crate::load::Placement;
use crate::ring::Slot;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Placing {
    loads: Loads,
    own: u16,
    is_balanced: bool,
    /// By slot. A connection on its way to another shard has that shard's permit.
    permits: Vec<Option<LoadPermit>>,
}

impl Placing {
    pub(crate) const fn new(loads: Loads, own: u16, placement: Placement) -> Self {
        Self {
            loads,
            own,
            is_balanced: matches!(placement, Placement::Balanced),
            permits: Vec::new(),
        }
    }

    /// The listener has brought a connection; returns the shard to hand it over to, if it is not to stay.
    pub(crate) fn arrived(&mut self, slot: Slot, may_leave: bool) -> Option<u16> {
        let chosen = if self.is_balanced && may_leave {
            self.loads.choose(self.own)
        } else {
            None
        };
        let target = chosen.as_ref().map(LoadPermit::shard);
        let permit = chosen.unwrap_or_else(|| self.loads.enter(self.own));
        self.set(slot, Some(permit));
        target
    }

    /// A connection of another shard is here; that shard has counted it.
    pub(crate) fn came_in(&mut self, slot: Slot) {
        let permit = self.loads.adopt(self.own);
        self.set(slot, Some(permit));
    }

    /// A dialed connection stands.
    pub(crate) fn connected(&mut self, slot: Slot) {
        let permit = self.permit();
        self.set(slot, Some(permit));
    }

    /// A connection is with the shard that it was handed over to.
    pub(crate) fn went(&mut self, slot: Slot) {
        if let Some(permit) = self.take(slot) {
            permit.pass_on();
        }
    }

    /// A connection was not taken and stays; returns the shard that was chosen.
    pub(crate) fn stays(&mut self, slot: Slot) -> Option<u16> {
        let refused_by = self.take(slot).map(|permit| permit.shard());
        self.connected(slot);
        refused_by
    }

    /// A connection is closed.
    pub(crate) fn left(&mut self, slot: Slot) {
        drop(self.take(slot));
    }

    /// Gives back the memory of places behind the last connection.
    pub(crate) fn trim(&mut self) {
        while self.permits.pop_if(|permit| permit.is_none()).is_some() {}
        self.permits.shrink_to_fit();
    }

    /// Counts a connection that has no slot yet.
    pub(crate) fn permit(&self) -> LoadPermit {
        self.loads.enter(self.own)
    }

    /// Says whether other shards may hand connections over.
    pub(crate) fn set_shut(&self, is_shut: bool) {
        self.loads.set_shut(self.own, is_shut);
    }

    /// Returns whether there is room for no other connection, those on their way here included.
    pub(crate) fn is_full(&self) -> bool {
        self.loads.is_full(self.own)
    }

    /// Returns the connections of the shard, those on their way here included.
    pub(crate) fn count(&self) -> u32 {
        self.loads.count(self.own)
    }

    fn set(&mut self, slot: Slot, permit: Option<LoadPermit>) {
        let Ok(place) = usize::try_from(slot.0) else {
            return;
        };
        if self.permits.len() <= place {
            self.permits.resize_with(place + 1, || None);
        }
        self.permits[place] = permit;
    }

    fn take(&mut self, slot: Slot) -> Option<LoadPermit> {
        self.permits.get_mut(usize::try_from(slot.0).ok()?)?.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two shards of which the first has three connections.
    fn pair() -> (Placing, Placing, Loads) {
        let loads = Loads::new(2, 100);
        let mut first = Placing::new(loads.clone(), 0, Placement::Balanced);
        for slot in 0..3 {
            assert_eq!(first.arrived(Slot(slot), false), None);
        }
        let second = Placing::new(loads.clone(), 1, Placement::Balanced);
        (first, second, loads)
    }

    #[test]
    fn permit_follows_the_connection() {
        let (mut first, mut second, loads) = pair();
        assert_eq!(first.arrived(Slot(7), true), Some(1));
        assert_eq!((loads.count(0), loads.count(1)), (3, 1));
        first.went(Slot(7));
        second.came_in(Slot(0));
        assert_eq!((loads.count(0), loads.count(1)), (3, 1));
        first.left(Slot(7));
        assert_eq!(loads.count(0), 3, "the slot has no permit any more");
        second.left(Slot(0));
        assert_eq!((first.count(), second.count()), (3, 0));
        drop(first);
        assert_eq!(loads.count(0), 0);
    }

    #[test]
    fn connection_that_nobody_takes_stays() {
        let (mut first, _, loads) = pair();
        assert_eq!(first.arrived(Slot(7), true), Some(1));
        assert_eq!(first.stays(Slot(7)), Some(1));
        assert_eq!((loads.count(0), loads.count(1)), (4, 0));
        first.left(Slot(7));
        assert_eq!(loads.count(0), 3);
    }

    #[test]
    fn shard_without_balance_keeps_all() {
        let (first, _, loads) = pair();
        let mut other = Placing::new(loads, 0, Placement::Reuseport);
        assert_eq!(other.arrived(Slot(9), true), None);
        drop((first, other));
    }
}
