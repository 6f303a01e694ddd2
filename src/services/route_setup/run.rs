//! One setup, from its permit to its answer.
//!
//! Here: driving a [`GroupSetup`] with the shard's streams to hops and its clock. Not here: what is asked
//! when and taken back (`ringway_proto::route::group_setup`), the streams (`hops`), who may begin (`gate`).

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ringway_client::{PublicKey, Reason};
use ringway_proto::route::group_setup::SetupPhase;
use ringway_proto::route::{GroupSetup, Refusal, SetUp};
use ringway_proto::time::Now;
use tokio::time::{Instant, sleep_until};

use super::hops::{HopError, Hops};
use super::numbers::{Numbers, Phase};

/// A setup with its clock.
#[derive(Debug)]
pub(super) struct Run {
    setup: GroupSetup,
    epoch: Instant,
}

impl Run {
    /// Begins a setup of `source` that is given up at `deadline`.
    pub(super) fn new(source: PublicKey, request: SetUp, deadline: Instant) -> Self {
        let epoch = Instant::now();
        let left = deadline.saturating_duration_since(epoch);
        Self {
            setup: GroupSetup::new(source, request, Now::ZERO + left),
            epoch,
        }
    }

    /// Carries it on until the routes stand or nothing of it is left.
    pub(super) async fn drive(&mut self, hops: &Hops, numbers: &Numbers) {
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
    }

    /// Takes back what stands: nobody waits for it.
    pub(super) async fn give_up(&mut self, hops: &Hops, numbers: &Numbers) {
        let refusal = Refusal::new(Reason::RouteTimeout, "who asked has gone");
        self.setup.give_up(refusal, self.now());
        self.drive(hops, numbers).await;
    }

    /// Returns the setup.
    pub(super) const fn setup(&self) -> &GroupSetup {
        &self.setup
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
