//! One setup, from its permit to its answer.
//!
//! Here: driving a [`GroupSetup`] with the shard's streams to hops and its clock. Not here: what is asked
//! when and taken back (`ringway_proto::route::group_setup`), the streams (`hops`), who may begin (`gate`).

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ringway_client::Reason;
use ringway_proto::route::group_setup::{GroupPlan, SetupPhase};
use ringway_proto::route::{GroupSetup, Refusal};
use ringway_proto::time::Now;
use tokio::time::{Instant, sleep_until};

use super::conversation::Conversation;
use super::hops::{HopError, Hops};
use super::numbers::{Numbers, Phase};

/// A setup with its clock.
#[derive(Debug)]
pub(super) struct Run<P: GroupPlan> {
    setup: GroupSetup<P>,
    epoch: Instant,
}

impl<P: GroupPlan<Answer: Clone>> Run<P> {
    /// Begins a setup that is given up at `deadline`.
    pub(super) fn new(plan: P, deadline: Instant) -> Self {
        let epoch = Instant::now();
        let left = deadline.saturating_duration_since(epoch);
        Self {
            setup: GroupSetup::of_plan(plan, Now::ZERO + left),
            epoch,
        }
    }

    /// Carries it on until the routes stand or nothing of it is left; returns what to tell who asked.
    pub(super) async fn drive<C: Conversation<Request = P::Request>>(
        &mut self,
        hops: &Hops<C>,
        numbers: &Numbers,
    ) -> Result<P::Answer, Refusal> {
        let mut under_way = FuturesUnordered::new();
        let mut phase = self.setup.phase();
        let mut since = Instant::now();
        while !self.setup.is_over() {
            while let Some(ask) = self.setup.poll_ask() {
                let (number, hop, request) = (ask.number, ask.hop, ask.request);
                under_way.push(async move { (number, hops.ask(hop, request).await) });
            }
            let due = self.setup.next_deadline().unwrap_or(Now::ZERO);
            let due = self.epoch + due.saturating_since(Now::ZERO);
            tokio::select! {
                Some((number, answer)) = under_way.next(), if !under_way.is_empty() => {
                    let answer = answer.map_err(|error| unreachable(&error));
                    self.setup.answered(number, answer, self.now());
                }
                () = sleep_until(due) => self.setup.handle_timeout(self.now()),
            }
            let present = self.setup.phase();
            if timed(present) != timed(phase) {
                if let Some(phase) = timed(phase) {
                    numbers.record(phase, since.elapsed());
                }
                since = Instant::now();
            }
            phase = present;
        }
        match self.setup.outcome() {
            Some(outcome) => outcome.cloned().map_err(Clone::clone),
            None => Err(Refusal::new(Reason::RouteBusy, "is under way")),
        }
    }

    /// Takes back what stands: nobody waits for it.
    pub(super) async fn give_up<C: Conversation<Request = P::Request>>(
        &mut self,
        hops: &Hops<C>,
        numbers: &Numbers,
    ) {
        let refusal = Refusal::new(Reason::RouteTimeout, "who asked has gone");
        self.setup.give_up(refusal, self.now());
        drop(self.drive(hops, numbers).await);
    }

    /// Returns how many hops may hold ids for a while because they have not answered.
    pub(super) fn left_blindly(&self) -> usize {
        self.setup.left_blindly()
    }

    fn now(&self) -> Now {
        Now::ZERO + self.epoch.elapsed()
    }
}

/// Returns the phase under which the time of this one is recorded.
const fn timed(phase: SetupPhase) -> Option<Phase> {
    match phase {
        SetupPhase::Reserving => Some(Phase::Reserve),
        SetupPhase::Ruling | SetupPhase::Ending => Some(Phase::Rules),
        SetupPhase::Hearing | SetupPhase::Undoing => Some(Phase::Undo),
        SetupPhase::Stands | SetupPhase::Refused => None,
    }
}

fn unreachable(error: &HopError) -> Refusal {
    Refusal::new(Reason::HopUnreachable, &error.to_string())
}
