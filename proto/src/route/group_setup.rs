//! Setting a route group up, as a value: which hop is asked when, and what is taken back.
//!
//! Here: the order, for both dialects. Not here: what a hop is asked for (`plan`, `crate::dmsg::rpc`).
//!
//! ```text
//!             all reserved            all between have theirs          the destination has its
//!   Reserving ------------> Ruling ---------------------------> Ending ----------------------> Stands
//!       |                     |                                    |                              |
//!       | one fails, or the   '------------ one fails, deadline ---+                              | undo
//!       | deadline                                                 v                              |
//!       '----------> Hearing ------ all heard, or UNDO_TIME ---> Undoing <-----------------------'
//!                                                                  | all released, or UNDO_TIME
//!                                                                  v
//!                                                                Refused
//! ```
//!
//! The driver carries out what [`GroupSetup::poll_ask`] gives, hands answers to [`GroupSetup::answered`],
//! calls [`GroupSetup::handle_timeout`] when [`GroupSetup::next_deadline`] has come, and stops at
//! [`GroupSetup::is_over`].
//!
//! Invariant: when a setup is refused, no hop that answers in time holds an id of it; what a hop reserves
//! too late to be known of it forgets by itself (`ROUTE_RESERVE_TIME`).
//! Bound: at most two questions to a hop without an answer.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::plan::Plan;
use super::{HopReply, HopRequest, Refusal, RouteId, SetUp, SetupReply};
use crate::key::PublicKey;
use crate::reason::Reason;
use crate::time::Now;

/// What a group asks of its hops, in the words of a dialect.
pub trait GroupPlan {
    /// A question to a hop.
    type Request: fmt::Debug;
    /// What who asked for the group is told when it stands.
    type Answer: fmt::Debug;

    /// Returns the hops that are asked, with the ids that each is to reserve.
    fn counts(&self) -> BTreeMap<PublicKey, u8>;

    /// Returns where the forward route ends.
    fn destination(&self) -> PublicKey;

    /// Returns the question for so many ids.
    fn reserve(&self, count: u8) -> Self::Request;

    /// Returns the order to forget ids and their rules.
    fn release(&self, ids: Vec<RouteId>) -> Self::Request;

    /// Returns the rules, when every hop has reserved what it was asked for.
    fn rules(
        &self,
        reserved: &BTreeMap<PublicKey, Vec<RouteId>>,
    ) -> Option<GroupRules<Self::Request, Self::Answer>>;
}

/// The rules of a group, as they are told.
#[derive(Debug, PartialEq, Eq)]
pub struct GroupRules<R, A> {
    /// To the hops between the ends, in any order.
    pub between: Vec<(PublicKey, R)>,
    /// To the destination, after those.
    pub destination: R,
    /// To who asked, after that.
    pub answer: A,
}

/// A question to a hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask<R = HopRequest> {
    /// Names it when it is answered.
    pub number: u32,
    /// Whom.
    pub hop: PublicKey,
    /// What.
    pub request: R,
}

/// How far a setup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupPhase {
    /// Every hop reserves ids.
    Reserving,
    /// One has failed; the others are heard, so that what they have reserved can be taken back.
    Hearing,
    /// The hops between the ends get their rules.
    Ruling,
    /// The destination gets its rule.
    Ending,
    /// The routes stand.
    Stands,
    /// What was reserved is taken back.
    Undoing,
    /// Nothing is left.
    Refused,
}

/// The setup of one route group.
#[derive(Debug)]
pub struct GroupSetup<P: GroupPlan = Plan> {
    plan: P,
    /// Ids that each hop is to reserve.
    counts: BTreeMap<PublicKey, u8>,
    phase: SetupPhase,
    /// When it is given up.
    deadline: Now,
    /// When hearing or undoing is given up.
    until: Now,
    reserved: BTreeMap<PublicKey, Vec<RouteId>>,
    /// What the destination will be told.
    last: Option<P::Request>,
    answer: Option<P::Answer>,
    /// Hops whose answers are awaited, by number of the question.
    waiting: BTreeMap<u32, PublicKey>,
    /// The same, of questions for ids that nobody waits for any more.
    late: BTreeMap<u32, PublicKey>,
    asks: VecDeque<Ask<P::Request>>,
    next_number: u32,
    failure: Option<Refusal>,
}

impl GroupSetup {
    /// Begins a setup that [`SetUp::check`] has passed.
    #[must_use]
    pub fn new(source: PublicKey, set_up: SetUp, deadline: Now) -> Self {
        Self::of_plan(Plan::new(source, set_up), deadline)
    }

    /// Returns what to answer who asked, once it is over.
    #[must_use]
    pub fn reply(&self) -> SetupReply {
        match self.outcome() {
            Some(Ok(answer)) => answer.clone(),
            Some(Err(refusal)) => SetupReply::Refused(refusal.clone()),
            None => SetupReply::Refused(Refusal::new(Reason::RouteBusy, "is under way")),
        }
    }
}

impl<P: GroupPlan> GroupSetup<P> {
    /// Begins a setup of a plan that is right.
    #[must_use]
    pub fn of_plan(plan: P, deadline: Now) -> Self {
        let counts = plan.counts();
        let mut setup = Self {
            plan,
            counts: counts.clone(),
            phase: SetupPhase::Reserving,
            deadline,
            until: deadline,
            reserved: BTreeMap::new(),
            last: None,
            answer: None,
            waiting: BTreeMap::new(),
            late: BTreeMap::new(),
            asks: VecDeque::new(),
            next_number: 0,
            failure: None,
        };
        for (hop, count) in counts {
            let request = setup.plan.reserve(count);
            setup.ask(hop, request);
        }
        setup
    }

    /// Returns the next question to carry out.
    pub fn poll_ask(&mut self) -> Option<Ask<P::Request>> {
        self.asks.pop_front()
    }

    /// A hop has answered the question of this number, or could not be asked.
    pub fn answered(&mut self, number: u32, answer: Result<HopReply, Refusal>, now: Now) {
        let waiting = self.waiting.remove(&number);
        let Some(hop) = waiting.or_else(|| self.late.remove(&number)) else {
            return;
        };
        match answer {
            Ok(HopReply::Reserved { ids }) => self.reserved(hop, ids, now),
            Ok(HopReply::Done) if self.phase == SetupPhase::Reserving => {
                self.fail(wrong(hop, "answers something else than it was asked"), now);
            }
            Ok(HopReply::Done) => {}
            Ok(HopReply::Refused(refusal)) => {
                let refusal = Refusal::new(Reason::HopRefused, &alloc::format!("{refusal}"));
                self.fail(refusal.with_hop(hop), now);
            }
            Err(refusal) => self.fail(refusal.with_hop(hop), now),
        }
        self.go_on(now);
    }

    /// Gives up what takes too long.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.next_deadline().is_none_or(|due| now < due) {
            return;
        }
        match self.phase {
            SetupPhase::Reserving | SetupPhase::Ruling | SetupPhase::Ending => {
                let refusal = Refusal::new(Reason::RouteTimeout, "does not answer in time");
                let late = self.waiting.values().next().copied();
                self.fail(late.into_iter().fold(refusal, Refusal::with_hop), now);
                if self.phase == SetupPhase::Hearing {
                    // It has had its time.
                    self.undo(now);
                }
            }
            SetupPhase::Hearing => self.undo(now),
            SetupPhase::Undoing => {
                self.late.append(&mut self.waiting);
                self.phase = SetupPhase::Refused;
            }
            SetupPhase::Stands | SetupPhase::Refused => {}
        }
        self.go_on(now);
    }

    /// Takes back what stands or is under way: nobody will use it.
    pub fn give_up(&mut self, refusal: Refusal, now: Now) {
        if self.phase == SetupPhase::Stands {
            self.failure = Some(refusal);
            self.undo(now);
        } else {
            self.fail(refusal, now);
        }
        self.go_on(now);
    }

    /// Returns when [`GroupSetup::handle_timeout`] has something to do.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Now> {
        match self.phase {
            SetupPhase::Reserving | SetupPhase::Ruling | SetupPhase::Ending => Some(self.deadline),
            SetupPhase::Hearing | SetupPhase::Undoing => Some(self.until),
            SetupPhase::Stands | SetupPhase::Refused => None,
        }
    }

    /// Returns how far it is.
    #[must_use]
    pub const fn phase(&self) -> SetupPhase {
        self.phase
    }

    /// Returns whether it stands or is refused: there is nothing more to do.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, SetupPhase::Stands | SetupPhase::Refused)
    }

    /// Returns what to tell who asked: what the plan has for it once the group stands, or why it does not.
    #[must_use]
    pub const fn outcome(&self) -> Option<Result<&P::Answer, &Refusal>> {
        match (&self.failure, &self.answer) {
            (Some(refusal), _) => Some(Err(refusal)),
            (None, Some(answer)) if matches!(self.phase, SetupPhase::Stands) => Some(Ok(answer)),
            (None, _) => None,
        }
    }

    /// Returns how many questions were left without an answer: whom they went to may hold ids for a while.
    #[must_use]
    pub fn left_blindly(&self) -> usize {
        self.late.len()
    }

    fn ask(&mut self, hop: PublicKey, request: P::Request) {
        let number = self.next_number;
        self.next_number += 1;
        self.waiting.insert(number, hop);
        self.asks.push_back(Ask {
            number,
            hop,
            request,
        });
    }

    fn reserved(&mut self, hop: PublicKey, ids: Vec<RouteId>, now: Now) {
        match self.phase {
            SetupPhase::Reserving | SetupPhase::Hearing => {
                let want = self.counts.get(&hop).copied().unwrap_or(0);
                let is_right = ids.len() == usize::from(want) && !ids.contains(&RouteId::NONE);
                self.reserved.insert(hop, ids);
                if !is_right {
                    self.fail(wrong(hop, "has not reserved what it was asked for"), now);
                }
            }
            // Too late to be of use, in time to be taken back.
            SetupPhase::Undoing => self.release(hop, ids),
            SetupPhase::Ruling | SetupPhase::Ending | SetupPhase::Stands | SetupPhase::Refused => {
                self.fail(wrong(hop, "answers something else than it was asked"), now);
            }
        }
    }

    /// Notes the first failure and begins to take back.
    fn fail(&mut self, refusal: Refusal, now: Now) {
        self.failure.get_or_insert(refusal);
        match self.phase {
            SetupPhase::Reserving => {
                self.phase = SetupPhase::Hearing;
                // Questions that were not asked yet reserve nothing.
                for ask in self.asks.drain(..) {
                    self.waiting.remove(&ask.number);
                }
                self.until = self.deadline.min(now + UNDO_TIME);
            }
            SetupPhase::Ruling | SetupPhase::Ending => self.undo(now),
            SetupPhase::Hearing
            | SetupPhase::Stands
            | SetupPhase::Undoing
            | SetupPhase::Refused => {}
        }
    }

    fn undo(&mut self, now: Now) {
        if self.phase == SetupPhase::Hearing {
            self.late.append(&mut self.waiting);
        }
        // Of rules it does not matter whether they were answered: a hop carries out in order what it is
        // asked.
        self.waiting.clear();
        self.asks.clear();
        self.phase = SetupPhase::Undoing;
        self.until = now + UNDO_TIME;
        for (hop, ids) in core::mem::take(&mut self.reserved) {
            self.release(hop, ids);
        }
    }

    fn release(&mut self, hop: PublicKey, ids: Vec<RouteId>) {
        if !ids.is_empty() {
            let request = self.plan.release(ids);
            self.ask(hop, request);
        }
    }

    /// Goes to the next phase when everything of this one is answered.
    fn go_on(&mut self, now: Now) {
        while self.waiting.is_empty() && !self.is_over() {
            match self.phase {
                SetupPhase::Reserving => match self.plan.rules(&self.reserved) {
                    Some(rules) => {
                        self.phase = SetupPhase::Ruling;
                        self.last = Some(rules.destination);
                        self.answer = Some(rules.answer);
                        for (hop, request) in rules.between {
                            self.ask(hop, request);
                        }
                    }
                    None => {
                        let what = "the hops have not reserved enough ids";
                        self.fail(Refusal::new(Reason::HopRefused, what), now);
                    }
                },
                SetupPhase::Hearing => self.undo(now),
                SetupPhase::Ruling => {
                    self.phase = SetupPhase::Ending;
                    if let Some(request) = self.last.take() {
                        self.ask(self.plan.destination(), request);
                    }
                }
                SetupPhase::Ending => self.phase = SetupPhase::Stands,
                SetupPhase::Undoing => self.phase = SetupPhase::Refused,
                SetupPhase::Stands | SetupPhase::Refused => {}
            }
        }
    }
}

fn wrong(hop: PublicKey, message: &str) -> Refusal {
    Refusal::new(Reason::HopRefused, message).with_hop(hop)
}

/// Longest time that a setup which has failed spends on hearing what hops have reserved, and again on
/// having them forget it.
pub const UNDO_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
