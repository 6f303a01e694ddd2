//! A hop of routes: a peer whose port 36 the relay asks for rules.
//!
//! Here: what it answers, and what it checks of each question. Not here: its streams (`routes`), packets; no
//! route of a run carries any.
//!
//! Invariant: ids count up, so that none is reserved twice.
//! Bound: one number, and one bit for each of the last [`IDS_KEPT`] ids; of older ones it is not known any
//! more whether they have their rule.

use ringway_proto::key::PublicKey;
use ringway_proto::reason::Reason;
use ringway_proto::route::{HopReply, HopRequest, Refusal, RouteId, Rule};

use crate::tally::HopTally;

/// Ids of which is known whether they have their rule: a relay has by far fewer setups in progress.
const IDS_KEPT: u32 = 4_096;
const WORDS: usize = 64;

const _: () = assert!(IDS_KEPT as usize == WORDS * 64);

/// What a hop knows of its ids.
#[derive(Debug)]
pub(super) struct Hop {
    /// The id that was reserved last.
    last: u32,
    /// One bit an id: it is reserved and has no rule yet.
    waiting: Box<[u64; WORDS]>,
}

/// An answer, and what is wrong with the question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) reply: HopReply,
    /// Name of the failure, if the relay has asked what it must not.
    pub(super) fault: Option<&'static str>,
}

impl Hop {
    pub(super) fn new() -> Self {
        Self {
            last: 0,
            waiting: Box::new([0; WORDS]),
        }
    }

    /// Carries out what a relay asks the hop with key `own`, all of it or nothing.
    pub(super) fn answer(
        &mut self,
        own: &PublicKey,
        request: &HopRequest,
        tally: &mut HopTally,
    ) -> Answer {
        if let Err(refusal) = request.check(own) {
            return fault("hop: a question that is not allowed", refusal);
        }
        let reply = match request {
            HopRequest::Reserve { count } => self.reserve(u32::from(*count), tally),
            HopRequest::AddRules { rules } => {
                let is_wrong = |rule: &&Rule| !self.may_get_rule(rule.id);
                if let Some(rule) = rules.iter().find(is_wrong) {
                    let message = format!("{} is not reserved", rule.id);
                    let refusal = Refusal::new(Reason::BadRoute, &message).with_field("id");
                    return fault("hop: a rule for an id that is not reserved", refusal);
                }
                for rule in rules {
                    self.set_waiting(rule.id.0, false);
                }
                tally.rules_added += count(rules.len());
                HopReply::Done
            }
            HopRequest::Release { ids } => {
                // An unknown one is no error.
                for id in ids {
                    self.set_waiting(id.0, false);
                }
                tally.ids_released += count(ids.len());
                HopReply::Done
            }
        };
        Answer { reply, fault: None }
    }

    /// Returns whether an id may be that of a rule.
    pub(super) fn has_rule(&self, id: RouteId) -> bool {
        self.is_known(id) && !(self.is_kept(id.0) && self.is_waiting(id.0))
    }

    fn reserve(&mut self, wanted: u32, tally: &mut HopTally) -> HopReply {
        let Some(last) = self.last.checked_add(wanted) else {
            let refusal = Refusal::new(Reason::RelayCapacity, "no ids are left");
            return HopReply::Refused(refusal);
        };
        let first = self.last + 1;
        self.last = last;
        for id in first..=last {
            self.set_waiting(id, true);
        }
        tally.ids_reserved += u64::from(wanted);
        HopReply::Reserved {
            ids: (first..=last).map(RouteId).collect(),
        }
    }

    fn may_get_rule(&self, id: RouteId) -> bool {
        self.is_known(id) && (!self.is_kept(id.0) || self.is_waiting(id.0))
    }

    fn is_known(&self, id: RouteId) -> bool {
        id != RouteId::NONE && id.0 <= self.last
    }

    /// Returns whether the bit of an id is its own still.
    const fn is_kept(&self, id: u32) -> bool {
        id <= self.last && self.last - id < IDS_KEPT
    }

    fn is_waiting(&self, id: u32) -> bool {
        let (word, bit) = place_of(id);
        self.waiting[word] & bit != 0
    }

    fn set_waiting(&mut self, id: u32, is_waiting: bool) {
        if !self.is_kept(id) {
            return;
        }
        let (word, bit) = place_of(id);
        if is_waiting {
            self.waiting[word] |= bit;
        } else {
            self.waiting[word] &= !bit;
        }
    }
}

fn fault(name: &'static str, refusal: Refusal) -> Answer {
    Answer {
        reply: HopReply::Refused(refusal),
        fault: Some(name),
    }
}

/// Returns the word of an id, and its bit there.
fn place_of(id: u32) -> (usize, u64) {
    let at = id % IDS_KEPT;
    (super::place(at / 64), 1 << (at % 64))
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use ringway_proto::route::RuleKind;

    use super::*;

    const OWN: PublicKey = PublicKey::native([1; 32]);

    fn rule(id: u32) -> Rule {
        Rule {
            id: RouteId(id),
            keep_alive_ms: 30_000,
            previous: PublicKey::native([2; 32]),
            kind: RuleKind::Intermediary {
                next: PublicKey::native([3; 32]),
                next_id: RouteId(9),
            },
        }
    }

    fn add(ids: &[u32]) -> HopRequest {
        HopRequest::AddRules {
            rules: ids.iter().map(|id| rule(*id)).collect(),
        }
    }

    fn ids(ids: &[u32]) -> Vec<RouteId> {
        ids.iter().copied().map(RouteId).collect()
    }

    #[test]
    fn ids_are_reserved_get_rules_and_are_released() {
        let mut hop = Hop::new();
        let mut tally = HopTally::default();
        let answer = hop.answer(&OWN, &HopRequest::Reserve { count: 2 }, &mut tally);
        assert_eq!(answer.reply, HopReply::Reserved { ids: ids(&[1, 2]) });
        assert!(!hop.has_rule(RouteId(1)));
        for request in [add(&[2, 1]), HopRequest::Release { ids: ids(&[1, 77]) }] {
            let answer = hop.answer(&OWN, &request, &mut tally);
            assert_eq!((answer.reply, answer.fault), (HopReply::Done, None));
            assert!(hop.has_rule(RouteId(2)));
        }
        assert!(!hop.has_rule(RouteId(3)) && !hop.has_rule(RouteId::NONE));
        let expected = HopTally {
            ids_reserved: 2,
            rules_added: 2,
            ids_released: 2,
        };
        assert_eq!(tally, expected);
    }

    #[test]
    fn rules_that_must_not_be_are_faults_and_change_nothing() {
        let mut hop = Hop::new();
        let mut tally = HopTally::default();
        hop.answer(&OWN, &HopRequest::Reserve { count: 3 }, &mut tally);
        hop.answer(&OWN, &add(&[1]), &mut tally);
        hop.answer(&OWN, &HopRequest::Release { ids: ids(&[2]) }, &mut tally);
        let before = tally;
        // It has one, it was released, it was never reserved, and one of two is wrong.
        for wrong in [&[1][..], &[2], &[4], &[3, 4]] {
            let answer = hop.answer(&OWN, &add(wrong), &mut tally);
            let name = "hop: a rule for an id that is not reserved";
            assert_eq!(answer.fault, Some(name), "{wrong:?}");
            assert!(matches!(answer.reply, HopReply::Refused(_)));
        }
        for request in [HopRequest::Reserve { count: 0 }, add(&[]), add(&[3, 3])] {
            let answer = hop.answer(&OWN, &request, &mut tally);
            let name = "hop: a question that is not allowed";
            assert_eq!(answer.fault, Some(name), "{request:?}");
        }
        assert_eq!(tally, before);
        assert_eq!(hop.answer(&OWN, &add(&[3]), &mut tally).fault, None);
    }

    #[test]
    fn of_old_ids_nothing_is_known_and_nothing_is_kept() {
        let mut hop = Hop::new();
        let mut tally = HopTally::default();
        hop.answer(&OWN, &HopRequest::Reserve { count: 16 }, &mut tally);
        hop.answer(&OWN, &add(&[1]), &mut tally);
        for _ in 0..IDS_KEPT / 16 {
            hop.answer(&OWN, &HopRequest::Reserve { count: 16 }, &mut tally);
        }
        // Its bit is another id's by now, which goes on to have it.
        assert_eq!(hop.answer(&OWN, &add(&[1]), &mut tally).fault, None);
        assert_eq!(
            hop.answer(&OWN, &add(&[1 + IDS_KEPT]), &mut tally).fault,
            None
        );
        assert!(
            hop.answer(&OWN, &add(&[1 + IDS_KEPT]), &mut tally)
                .fault
                .is_some()
        );
    }

    #[test]
    fn hop_without_ids_says_so() {
        let mut hop = Hop::new();
        hop.last = u32::MAX - 1;
        let mut tally = HopTally::default();
        let answer = hop.answer(&OWN, &HopRequest::Reserve { count: 2 }, &mut tally);
        let HopReply::Refused(refusal) = answer.reply else {
            panic!("{answer:?}");
        };
        assert_eq!(refusal.reason(), Some(Reason::RelayCapacity));
        assert_eq!((answer.fault, tally.ids_reserved), (None, 0));
    }
}
