//! A run from start to end.
//!
//! Here: the threads, the phases, the looks at the relay's process. Not here: what a thread does
//! (`worker`), how a result is shown (`report`).
//!
//! Invariant: every thread is joined before [`run`] returns, whatever happened.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::books::Books;
use crate::crew::{Crew, CrewError};
use crate::failures::Failures;
use crate::findings::{Findings, Round, Window};
use crate::inside::{Inside, Look};
use crate::intervals::{Collector, Interval};
use crate::ledger::{Held, LedgerRow};
use crate::plan::{Plan, Scenario};
use crate::process::ProcessSample;
use crate::shared::{Phase, Shared};
use crate::sockets::Queues;
use crate::tally::Tally;

use self::stage::Phases;
pub use self::stage::{Rendezvous, Stage};

mod intervals;
mod loiters;
mod outcome;
mod rounds;
mod stage;
mod windows;

/// What a run found.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// All threads' numbers.
    pub tally: Tally,
    /// What the relay's process cost, if its id was given.
    pub relay: Option<RelayCost>,
    /// Whether the run went to its planned end.
    pub is_complete: bool,
    /// Whether the generator kept its own schedule.
    pub is_on_time: bool,
    /// Time from the first connection to the last session, then to the last stream.
    pub setup: [Duration; 2],
    /// What only this scenario finds.
    pub findings: Findings,
    /// What went wrong as the plan expects it; not among the failures of the tally.
    pub expected: Failures,
    /// What was seen of the server itself.
    pub inside: Inside,
    /// Local ports: who held them towards whom.
    pub ledger: Vec<LedgerRow>,
}

/// News of a run while it goes on.
#[derive(Debug)]
pub enum News<'a> {
    /// Where it is, about once a second.
    Progress(Progress),
    /// An interval of the time that counts has ended.
    Interval(&'a Interval),
    /// A round of a churn has ended.
    Round(&'a Round),
    /// A window of slow readers has ended; its number, from 1.
    Window(u32, &'a Window),
}

/// What the relay's process cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayCost {
    /// Before the first connection.
    pub before: ProcessSample,
    /// When it began to count.
    pub start: ProcessSample,
    /// When it ended to count.
    pub end: ProcessSample,
}

/// Where a run is, for a line on the terminal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Sessions that stand.
    pub sessions: u32,
    /// Streams that are open.
    pub streams: u32,
    /// Messages received.
    pub messages: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Handshakes or opens done.
    pub rounds: u64,
    /// Things that went wrong.
    pub failures: u64,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The plan cannot be carried out; [`Plan::check`] finds this before.
    #[error("{0}")]
    Plan(String),
    /// A thread could not start or go on.
    #[error("{0}")]
    Worker(String),
    /// The relay's process cannot be looked at.
    #[error("cannot look at process {pid} (--relay-pid): {source}")]
    RelayProcess {
        /// Its id.
        pid: u32,
        /// Why.
        source: io::Error,
    },
    /// The relay's books cannot be read.
    #[error("{0}")]
    Books(String),
    /// Sessions or streams could not be made; nothing was measured.
    #[error("{what}")]
    Setup {
        /// How far it came.
        what: String,
        /// The reasons.
        failures: Failures,
    },
}

/// Carries out `plan`, calls `report` about once a second and at other news, and ends early when
/// `interrupt` becomes true.
///
/// # Errors
/// [`RunError`] when there is nothing to report. Failures within a run are part of the outcome.
pub fn run(
    plan: &Plan,
    interrupt: &AtomicBool,
    report: &mut dyn FnMut(News<'_>),
) -> Result<Outcome, RunError> {
    run_in(plan, None, interrupt, report)
}

/// Carries out `plan` as [`run`] does, as one of several runs with a common clock.
///
/// # Errors
/// See [`run`].
pub fn run_in(
    plan: &Plan,
    stage: Option<Stage<'_>>,
    interrupt: &AtomicBool,
    report: &mut dyn FnMut(News<'_>),
) -> Result<Outcome, RunError> {
    let plan = Arc::new(plan.clone());
    let line = plan.rate_line().map_err(RunError::Plan)?;
    let mut run = Run {
        shared: Arc::new(Shared::new(line)),
        crew: Crew::default(),
        collector: Collector::new(usize::try_from(plan.placement.threads).unwrap_or(0)),
        clock: None,
        sockets_again: None,
        queues: None,
        stage,
        phases: Phases::default(),
        before: None,
        books: None,
        interrupt,
        report,
        plan,
    };
    run.before = run.look()?;
    if run.plan.compares_books() {
        run.books = Some(Books::at_rest(&run.plan).map_err(RunError::Books)?);
    }
    if let Err(error) = run.start() {
        // The first error is the one to tell.
        drop(run.stop());
        return Err(error);
    }
    let result = run.conduct();
    let tally = run.stop();
    run.tell_the_rest();
    let tally = tally.map_err(|error| RunError::Worker(error.to_string()))?;
    let middle = match result {
        Ok(middle) => middle,
        Err(RunError::Setup { what, .. }) => {
            let failures = tally.failures;
            return Err(RunError::Setup { what, failures });
        }
        Err(error) => return Err(error),
    };
    Ok(run.outcome(tally, middle))
}

struct Run<'a> {
    plan: Arc<Plan>,
    shared: Arc<Shared>,
    crew: Crew,
    collector: Collector,
    /// When counting began, and when the present interval did.
    clock: Option<(Instant, Instant)>,
    /// When the kernel's list of sockets is read again: a long one not each second.
    sockets_again: Option<Instant>,
    /// The most that was seen waiting for the server in the kernel.
    queues: Option<Queues>,
    /// Its place among several runs.
    stage: Option<Stage<'a>>,
    phases: Phases,
    before: Option<ProcessSample>,
    /// Before the first connection.
    books: Option<Books>,
    interrupt: &'a AtomicBool,
    report: &'a mut dyn FnMut(News<'_>),
}

/// What was seen between start and end.
struct Middle {
    inside: Inside,
    held: Option<Held>,
    start: Option<ProcessSample>,
    end: Option<ProcessSample>,
    setup: [Duration; 2],
    special: Special,
}

/// What came of the part that counts.
#[derive(Default)]
struct Special {
    findings: Findings,
    is_complete: bool,
    /// What went wrong, in words.
    problems: Vec<String>,
    /// Time that counted, where the threads do not know it.
    measured: Option<Duration>,
}

impl Special {
    fn complete() -> Self {
        Self {
            is_complete: true,
            ..Self::default()
        }
    }
}

impl Run<'_> {
    fn start(&mut self) -> Result<(), RunError> {
        let parts = self.collector.sender();
        let started = self.crew.start(&self.plan, &self.shared, &parts);
        started.map_err(|error| RunError::Worker(error.to_string()))
    }

    fn conduct(&mut self) -> Result<Middle, RunError> {
        let plan = Arc::clone(&self.plan);
        let begun = Instant::now();
        self.set_up("sessions", plan.sessions_standing(), |progress| {
            progress.sessions
        })?;
        let sessions_took = begun.elapsed();
        self.enter(Phase::Open);
        self.set_up("streams", plan.streams_total(), |progress| progress.streams)?;
        let setup = [sessions_took, begun.elapsed()];
        let warmup = self.wait_for_others();
        self.enter(Phase::Warmup);
        let is_warm = self.pass(warmup.unwrap_or(plan.warmup));
        self.enter(Phase::Measure);
        let start = self.look()?;
        let first_look = Look::take(plan.admin);
        let counted = Instant::now();
        // Looking around each second is a load of its own.
        self.clock = plan
            .tells_intervals
            .then(|| (Instant::now(), Instant::now()));
        let mut special = match plan.scenario {
            Scenario::Churn => self.conduct_rounds()?,
            Scenario::Slowloris => self.conduct_loiters()?,
            Scenario::SlowReader => self.conduct_windows()?,
            Scenario::Evict
            | Scenario::Handshakes
            | Scenario::Idle
            | Scenario::Opens
            | Scenario::Plain
            | Scenario::Setups
            | Scenario::Steady
            | Scenario::Storm => Special {
                is_complete: self.pass(self.time_that_counts()),
                ..Special::default()
            },
        };
        special.is_complete &= is_warm;
        // A relay that is gone by now ends the run, not its result.
        let end = self.look().unwrap_or_else(|error| {
            special.problems.push(error.to_string());
            None
        });
        self.end_interval();
        let seconds = counted.elapsed().as_secs_f64();
        let last_look = Look::take(plan.admin);
        let mut inside = last_look.since(&first_look, &plan, start.zip(end), seconds);
        self.enter(Phase::Drain);
        // All connections still stand, and a long list of them does not lengthen the time that counts. One
        // that cannot be read leaves the counts of the kernel out.
        let held = Held::take(&plan).ok();
        self.note_queues(held.as_ref().map(|held| &held.sockets));
        inside.queues = self.queues;
        self.drain();
        Ok(Middle {
            inside,
            held,
            start,
            end,
            setup,
            special,
        })
    }

    /// Waits for the other runs of a scenario; returns the time until it counts, unless the plan says it.
    fn wait_for_others(&mut self) -> Option<Duration> {
        let stage = self.stage.as_ref()?;
        let zero = if stage.is_first {
            stage.rendezvous.arrive(self.interrupt)
        } else {
            stage.rendezvous.zero(self.interrupt)
        }?;
        self.phases = Phases::new(stage, zero);
        Some(zero.saturating_duration_since(Instant::now()))
    }

    /// Returns the time that counts, from now on.
    fn time_that_counts(&self) -> Duration {
        let left = self.phases.left_in_all(Instant::now());
        left.unwrap_or(self.plan.duration)
    }

    /// Waits until `want` of something are there.
    fn set_up(
        &mut self,
        what: &str,
        want: u32,
        have: impl Fn(&Progress) -> u32,
    ) -> Result<(), RunError> {
        let (mut last, mut moved) = (u32::MAX, Instant::now());
        let mut told = Instant::now();
        loop {
            let progress = self.progress();
            let count = have(&progress);
            let failed = if self.plan.expects.is_empty() {
                0
            } else {
                progress.failures
            };
            if u64::from(count) + failed >= u64::from(want) {
                return Ok(());
            }
            if count != last {
                (last, moved) = (count, Instant::now());
            }
            let why = if self.is_interrupted() {
                "interrupted"
            } else if progress.failures > failed {
                "some failed"
            } else if moved.elapsed() > STALL_TIME {
                "no progress for 10 s"
            } else if self.crew.has_ended() {
                return Err(RunError::Worker(self.crew.error().to_string()));
            } else {
                if told.elapsed() >= REPORT_TIME {
                    told = Instant::now();
                    (self.report)(News::Progress(progress));
                }
                thread::sleep(POLL_TIME);
                continue;
            };
            return Err(RunError::Setup {
                what: format!("{count} of {want} {what}: {why}"),
                failures: Failures::default(),
            });
        }
    }

    /// Lets time pass; false when it was cut short.
    fn pass(&mut self, time: Duration) -> bool {
        let begun = Instant::now();
        let mut told = Instant::now();
        loop {
            let left = time.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return true;
            }
            if self.is_interrupted() || self.crew.has_ended() {
                return false;
            }
            if told.elapsed() >= REPORT_TIME {
                told = Instant::now();
                let progress = self.progress();
                (self.report)(News::Progress(progress));
            }
            self.look_at_clock();
            // Long sleeps: on few cores a conductor that looks often disturbs what it measures.
            let nap = left.min(PASS_TIME);
            let phase = self.phases.left(Instant::now());
            // A phase that is over is the last one.
            let phase = phase.filter(|left| !left.is_zero());
            thread::sleep(phase.map_or(nap, |phase| nap.min(phase)));
        }
    }

    /// Waits for what is on its way.
    fn drain(&self) {
        let threads = self.plan.placement.threads;
        let mut last = (0, Instant::now());
        while self.shared.workers_drained.load(Ordering::Acquire) < threads {
            let received = self.progress().messages + self.progress().rounds;
            if received != last.0 {
                last = (received, Instant::now());
            }
            if last.1.elapsed() > DRAIN_TIME || self.crew.has_ended() {
                return;
            }
            thread::sleep(POLL_TIME);
        }
    }

    /// Ends all threads; returns the sum of their numbers, or the first error.
    fn stop(&mut self) -> Result<Tally, CrewError> {
        self.enter(Phase::Close);
        self.crew.stop()
    }

    fn enter(&self, phase: Phase) {
        self.shared.enter(phase);
        self.wake_all();
    }

    /// Opens the next round or window, or closes the present one.
    fn set_gate(&self, gate: u32) {
        self.shared.set_gate(gate);
        self.wake_all();
    }

    fn wake_all(&self) {
        self.crew.wake_all();
    }

    fn look(&self) -> Result<Option<ProcessSample>, RunError> {
        let Some(pid) = self.plan.relay_pid else {
            return Ok(None);
        };
        ProcessSample::take(pid)
            .map(Some)
            .map_err(|source| RunError::RelayProcess { pid, source })
    }

    fn is_interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Acquire)
    }

    fn progress(&self) -> Progress {
        let shared = &self.shared;
        Progress {
            sessions: shared.sessions_up.load(Ordering::Acquire),
            streams: shared.streams_up.load(Ordering::Acquire),
            messages: shared.messages_received.load(Ordering::Acquire),
            bytes: shared.bytes_received.load(Ordering::Relaxed),
            rounds: shared.rounds.load(Ordering::Relaxed),
            failures: shared.failures.load(Ordering::Acquire),
        }
    }
}

/// Time without a new session or stream after which a run is given up.
const STALL_TIME: Duration = Duration::from_secs(10);
/// Time without a message after which what is missing is called lost.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// Time between two looks while sessions and streams are made.
const POLL_TIME: Duration = Duration::from_millis(2);
/// Longest time to notice an interrupt.
const PASS_TIME: Duration = Duration::from_millis(100);
/// Time between two reports.
const REPORT_TIME: Duration = Duration::from_secs(1);
