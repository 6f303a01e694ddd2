//! Route setup: port 36 of the relay's keys.
//!
//! Here: what becomes of a setup from when it is asked for to its answer, in either dialect. Not here: the
//! streams of those who ask (`native`, `dmsg`), who may run and who waits (`gate`), what a group asks of its
//! hops (`ringway_proto::route::group_setup`), how they are asked (`hops`, `run`), paths (`paths`).
//!
//! Permit before work: a setup is checked, then takes a slot; only with one is a task started and a hop
//! reached. Without a free slot it lies in a bounded queue, and when that is full the answer is 501 at
//! once. The time of a setup counts from its arrival, its wait included.
//!
//! Bound: the gate's, of both dialects together.
//! Source: docs/routes.md.

mod conversation;
mod dmsg;
mod gate;
mod hops;
mod native;
pub(crate) mod numbers;
pub(crate) mod paths;
mod run;

use std::sync::Arc;
use std::time::Duration;

use ringway_client::{Client, Reason};
use ringway_proto::dmsg::rpc::RoutePlan;
use ringway_proto::route::Refusal;
use ringway_proto::route::group_setup::GroupPlan;
use ringway_proto::route::plan::Plan;
use tokio::time::Instant;

use self::conversation::{Calls, Conversation, Messages};
use self::gate::{Entry, Gate, Permit};
use self::hops::Hops;
use self::numbers::{Numbers, Phase};
use self::run::Run;

pub(super) use self::dmsg::DmsgSetup;
pub(super) use self::gate::slots_of;
pub(super) use self::native::NativeSetup;

/// The setups of one shard, which all streams of both dialects share.
#[derive(Clone)]
pub(super) struct Setups {
    gate: Arc<Gate<Work>>,
    numbers: Arc<Numbers>,
    timeout: Duration,
}

/// Bounds of route setup on one shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Setups at once.
    pub(super) slots: usize,
    /// Setups that wait.
    pub(super) waiting_max: usize,
    /// Longest time of one, its wait included.
    pub(super) timeout: Duration,
}

/// A setup on its way to a slot.
struct Work {
    job: Job,
    received: Instant,
}

/// What there is to do, in the words of a dialect.
enum Job {
    Dmsg(Task<RoutePlan, Calls, dmsg::Answer>),
    Native(Task<Plan, Messages, native::Answer>),
}

/// A group, over which streams it is set up, and who is told.
struct Task<P, C: Conversation, A> {
    plan: P,
    hops: Hops<C>,
    answer: A,
}

/// Who has asked for a setup.
trait Asker<T> {
    /// Returns whether nobody waits for the answer any more.
    fn is_gone(&self) -> bool;

    /// Hands the answer over; returns whether somebody takes it.
    fn give(self, outcome: Result<T, Refusal>) -> bool;
}

impl Setups {
    /// Returns those of one shard, of which there are none yet.
    pub(super) fn new(bounds: Bounds, numbers: Arc<Numbers>) -> Self {
        Self {
            gate: Gate::new(bounds.slots, bounds.waiting_max),
            numbers,
            timeout: bounds.timeout,
        }
    }

    /// Returns the streams to hops of one client.
    fn hops<C: Conversation>(&self, client: Client) -> Hops<C> {
        Hops::new(client, Arc::clone(&self.numbers))
    }

    /// Starts a setup if there is a slot for it.
    fn enter(&self, job: Job) {
        let received = Instant::now();
        match self.gate.enter(Work { job, received }) {
            Entry::Go(permit, work) => {
                self.numbers.current.count();
                tokio::spawn(self.clone().run(permit, work));
            }
            Entry::Waits => self.numbers.waiting.count(),
            Entry::Full(work) => {
                let what = "as many setups wait as may: ask again a little later";
                let refusal = Refusal::new(Reason::RouteBusy, what);
                self.numbers.refuse(&refusal);
                // Whether anybody hears it makes no difference.
                match work.job {
                    Job::Dmsg(task) => task.answer.give(Err(refusal)),
                    Job::Native(task) => task.answer.give(Err(refusal)),
                };
            }
        }
    }

    /// Runs a setup, and then those that wait for its slot.
    async fn run(self, permit: Permit<Work>, work: Work) {
        let mut next = Some((permit, work));
        while let Some((permit, Work { job, received })) = next {
            match job {
                Job::Dmsg(task) => self.run_one(task, received).await,
                Job::Native(task) => self.run_one(task, received).await,
            }
            self.numbers.current.sub();
            next = permit.leave();
            if next.is_some() {
                self.numbers.waiting.sub();
                self.numbers.current.count();
            }
        }
    }

    async fn run_one<P, C, A>(&self, task: Task<P, C, A>, received: Instant)
    where
        P: GroupPlan<Request = C::Request, Answer: Clone>,
        C: Conversation,
        A: Asker<P::Answer>,
    {
        let Task { plan, hops, answer } = task;
        let numbers = &self.numbers;
        let deadline = received + self.timeout;
        numbers.record(Phase::Wait, received.elapsed());
        if answer.is_gone() {
            let refusal = Refusal::new(Reason::RouteTimeout, "who asked has gone");
            return numbers.refuse(&refusal);
        }
        if deadline <= Instant::now() {
            let what = "its turn did not come in time";
            let refusal = Refusal::new(Reason::RouteTimeout, what);
            numbers.refuse(&refusal);
            answer.give(Err(refusal));
            return;
        }
        let mut run = Run::new(plan, deadline);
        let outcome = run.drive(&hops, numbers).await;
        match &outcome {
            Err(refusal) => numbers.refuse(refusal),
            Ok(_) => numbers.done.count(),
        }
        numbers.record(Phase::Whole, received.elapsed());
        if !answer.give(outcome) {
            run.give_up(&hops, numbers).await;
        }
        numbers.left(run.left_blindly());
    }
}

/// Streams that one shard serves at once; more wait, and past the backlog are refused (305).
const STREAMS_MAX: usize = 1_024;
