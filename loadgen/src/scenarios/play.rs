//! Carrying a scenario out.
//!
//! Here: a thread for each group, one clock for all, what is done to the server between phases. Not here:
//! what a group does (`run`), what its numbers mean (`scenarios::judge`).
//!
//! Invariant: every group's thread is joined before [`play`] returns, whatever happened.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::file::{Action, ScenarioFile};
use super::group::Targets;
use super::played::{GroupPlayed, PhaseSum, Played};
use crate::books::Books;
use crate::intervals::Interval;
use crate::machine::Machine;
use crate::plan::{Host, Plan};
use crate::recording::{Recording, RecordingError};
use crate::report;
use crate::run::{self, News, Outcome, Progress, Rendezvous, Stage};

/// Why a scenario was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlayError {
    /// It cannot work; a sentence for each reason. Nothing was connected.
    #[error("{}", .0.join("\n"))]
    Plan(Vec<String>),
    /// The relay's books cannot be read.
    #[error("{0}")]
    Books(String),
    /// Its files cannot be written.
    #[error("--out: {0}")]
    Recording(#[from] RecordingError),
}

/// News while it goes on.
#[derive(Debug)]
pub enum Told<'a> {
    /// A phase begins.
    Phase(&'a str),
    /// Where a group is, about once a second.
    Progress(&'a str, Progress),
    /// A sentence on a group.
    Line(&'a str, String),
}

/// What a group's thread says.
enum Said {
    Interval(Box<Interval>),
    Progress(Progress),
    Line(String),
    Ended(Box<Result<Outcome, String>>),
}

/// One group on its way.
struct Playing<'a> {
    name: &'a str,
    plan: Plan,
    /// Number of its first phase, and one behind the last.
    span: (usize, usize),
    recording: Option<Recording>,
    phases: BTreeMap<usize, PhaseSum>,
    failures: u64,
    result: Option<Result<Outcome, String>>,
}

/// Carries `scenario` out; calls `tell` with what happens, and ends early when `interrupt` becomes true.
///
/// With `out`, each group writes its files to a directory of its name there.
///
/// # Errors
/// [`PlayError`] when nothing was done. What fails on the way is part of what was played.
pub fn play(
    scenario: &ScenarioFile,
    targets: &Targets,
    out: Option<&Path>,
    interrupt: &AtomicBool,
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<Played, PlayError> {
    let mut groups = plans(scenario, targets)?;
    for group in &mut groups {
        if let Some(out) = out {
            let title = format!("ringway-loadgen {}: {}", scenario.name, group.name);
            group.recording = Some(Recording::create(&out.join(group.name), &title)?);
        }
    }
    let audit = Audit::begin(scenario, targets, &groups).map_err(PlayError::Books)?;
    let first = groups.iter().filter(|group| group.span.0 == 0).count();
    let rendezvous = Rendezvous::new(first, scenario.warmup);
    let stop = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for (number, group) in groups.iter().enumerate() {
            let (sender, plan) = (sender.clone(), group.plan.clone());
            let stage = stage(scenario, &rendezvous, group.span);
            let begins = begin_of(scenario, group.span.0);
            let stop = &stop;
            scope.spawn(move || {
                let result = one(&plan, stage, begins, stop, &|said| {
                    // Whoever conducts waits for the end.
                    drop(sender.send((number, said)));
                });
                drop(sender.send((number, Said::Ended(Box::new(result)))));
            });
        }
        drop(sender);
        let mut conductor = Conductor {
            scenario,
            targets,
            rendezvous: &rendezvous,
            stop: &stop,
            groups: &mut groups,
            tell,
            phase: None,
        };
        conductor.conduct(&receiver, interrupt);
    });
    let mut played = finish(scenario, groups, interrupt.load(Ordering::Acquire));
    if let Some(audit) = audit
        && !played.is_interrupted
    {
        played.leftovers = audit.end();
    }
    Ok(played)
}

/// The books of the first relay, before and after.
struct Audit {
    plan: Plan,
    before: Books,
}

impl Audit {
    /// Looks at the relay, if there is one that stays.
    fn begin(
        scenario: &ScenarioFile,
        targets: &Targets,
        groups: &[Playing<'_>],
    ) -> Result<Option<Self>, String> {
        let ends = scenario.phases.iter().any(|phase| phase.action.is_some());
        let mut plans = groups.iter().map(|group| &group.plan);
        let plan = plans.find(|plan| !ends && targets.is_first(&plan.target));
        let Some(plan) = plan else { return Ok(None) };
        let mut plan = plan.clone();
        plan.admin = targets.admin;
        let before = Books::at_rest(&plan)?;
        Ok(Some(Self { plan, before }))
    }

    /// Waits until it owns what it owned before; returns what is left over.
    fn end(&self) -> Vec<String> {
        match Books::settle(&self.plan, &self.before) {
            Ok(settled) => settled.leftovers,
            Err(why) => vec![why],
        }
    }
}

/// Carries out the plan of one group; on its own thread.
fn one(
    plan: &Plan,
    stage: Stage<'_>,
    begins: Duration,
    stop: &AtomicBool,
    say: &dyn Fn(Said),
) -> Result<Outcome, String> {
    let is_first = stage.is_first;
    let rendezvous = stage.rendezvous;
    if !is_first {
        let Some(zero) = rendezvous.zero(stop) else {
            return Err("not begun".into());
        };
        while Instant::now() < zero + begins {
            if stop.load(Ordering::Acquire) {
                return Err("not begun".into());
            }
            let left = (zero + begins).saturating_duration_since(Instant::now());
            thread::sleep(left.min(LOOK_TIME));
        }
    }
    let mut report = |news: News<'_>| match news {
        News::Interval(interval) => say(Said::Interval(Box::new(interval.clone()))),
        News::Progress(progress) => say(Said::Progress(progress)),
        News::Round(round) => say(Said::Line(report::round_line(round))),
        News::Window(number, window) => say(Said::Line(report::window_line(number, window))),
    };
    let result = run::run_in(plan, Some(stage), stop, &mut report);
    if result.is_err() && is_first {
        // The others need not wait for it.
        rendezvous.leave();
    }
    result.map_err(|error| {
        let mut text = error.to_string();
        if let run::RunError::Setup { failures, .. } = &error {
            for (name, count) in failures.iter() {
                text.push_str(&format!("; {count} x {name}"));
            }
        }
        text
    })
}

/// Returns the groups with their plans.
fn plans<'a>(scenario: &'a ScenarioFile, targets: &Targets) -> Result<Vec<Playing<'a>>, PlayError> {
    let host = Host::look();
    let (mut groups, mut wrong) = (Vec::new(), Vec::new());
    let needs_pid = scenario.phases.iter().any(|phase| phase.action.is_some());
    if needs_pid && targets.pid.is_none() {
        wrong.push("a phase asks the server to end: name its process with --relay-pid".to_owned());
    }
    for (number, group) in (0..).zip(&scenario.groups) {
        let span = scenario.span(group);
        let begins = begin_of(scenario, span.0);
        let time = begin_of(scenario, span.1) - begins;
        let warmup = if span.0 == 0 {
            scenario.warmup
        } else {
            Duration::ZERO
        };
        let seed = scenario.seed.wrapping_add(number);
        match group.plan(targets, seed, warmup, time) {
            Err(why) => wrong.push(why),
            Ok(mut plan) => {
                plan.lag_percent_max = scenario.lag_percent_max;
                if let Err(error) = plan.check(&host) {
                    let problems = error.problems.into_iter();
                    wrong.extend(problems.map(|why| format!("group '{}': {why}", group.name)));
                }
                groups.push(Playing {
                    name: &group.name,
                    plan,
                    span,
                    recording: None,
                    phases: BTreeMap::new(),
                    failures: 0,
                    result: None,
                });
            }
        }
    }
    if wrong.is_empty() {
        Ok(groups)
    } else {
        Err(PlayError::Plan(wrong))
    }
}

/// Returns when a phase begins, from time zero.
fn begin_of(scenario: &ScenarioFile, phase: usize) -> Duration {
    scenario
        .phases
        .iter()
        .take(phase)
        .map(|phase| phase.time)
        .sum()
}

fn stage<'a>(
    scenario: &ScenarioFile,
    rendezvous: &'a Rendezvous,
    (first, last): (usize, usize),
) -> Stage<'a> {
    Stage {
        rendezvous,
        is_first: first == 0,
        phase: u32::try_from(first).unwrap_or(u32::MAX),
        ends: (first..last)
            .map(|phase| begin_of(scenario, phase + 1))
            .collect(),
    }
}

/// Whoever listens to the groups and looks at the clock.
struct Conductor<'a, 'b> {
    scenario: &'a ScenarioFile,
    targets: &'a Targets,
    rendezvous: &'a Rendezvous,
    stop: &'a AtomicBool,
    groups: &'a mut [Playing<'b>],
    tell: &'a mut dyn FnMut(Told<'_>),
    /// Number of the present phase.
    phase: Option<usize>,
}

impl Conductor<'_, '_> {
    /// Listens until every group has ended.
    fn conduct(&mut self, receiver: &mpsc::Receiver<(usize, Said)>, interrupt: &AtomicBool) {
        loop {
            if interrupt.load(Ordering::Acquire) {
                self.stop.store(true, Ordering::Release);
            }
            self.look_at_clock();
            match receiver.recv_timeout(LOOK_TIME) {
                Ok((number, said)) => self.hear(number, said),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look_at_clock(&mut self) {
        // Asked without waiting: an interrupt that has come already ends the wait at once.
        let Some(zero) = self.rendezvous.zero(&AtomicBool::new(true)) else {
            return;
        };
        let next = self.phase.map_or(0, |phase| phase + 1);
        let Some(phase) = self.scenario.phases.get(next) else {
            return;
        };
        if Instant::now() < zero + begin_of(self.scenario, next)
            || self.stop.load(Ordering::Acquire)
        {
            return;
        }
        self.phase = Some(next);
        (self.tell)(Told::Phase(&phase.name));
        if let Some(Action::Drain) = phase.action {
            let pid = self.targets.pid.and_then(|pid| i32::try_from(pid).ok());
            let pid = pid.and_then(Pid::from_raw);
            let sent = pid.map(|pid| kill_process(pid, Signal::TERM));
            if let Some(Err(error)) = sent {
                let line = format!("cannot ask the server to end: {error}");
                (self.tell)(Told::Line(&phase.name, line));
            }
        }
    }

    fn hear(&mut self, number: usize, said: Said) {
        let Some(group) = self.groups.get_mut(number) else {
            return;
        };
        match said {
            Said::Progress(progress) => (self.tell)(Told::Progress(group.name, progress)),
            Said::Line(line) => (self.tell)(Told::Line(group.name, line)),
            Said::Interval(interval) => {
                if let Some(why) = group.take(&interval) {
                    (self.tell)(Told::Line(group.name, why));
                }
            }
            Said::Ended(result) => {
                if let Err(why) = result.as_ref() {
                    (self.tell)(Told::Line(group.name, why.clone()));
                    // Without one of its groups a scenario answers nothing.
                    self.stop.store(true, Ordering::Release);
                }
                group.result = Some(*result);
            }
        }
    }
}

impl Playing<'_> {
    /// Counts an interval where it belongs; returns why it cannot be written.
    fn take(&mut self, interval: &Interval) -> Option<String> {
        let phase = usize::try_from(interval.seen.phase).unwrap_or(0);
        let failures = interval.seen.failures.saturating_sub(self.failures);
        self.failures = interval.seen.failures;
        self.phases
            .entry(phase)
            .or_default()
            .add(interval, failures);
        let written = self.recording.as_mut()?.interval(interval);
        let error = written.err()?;
        self.recording = None;
        Some(format!("--out: {error}; it goes on without its files"))
    }

    fn played(self) -> GroupPlayed {
        let mut result = self.result.unwrap_or_else(|| Err("not begun".into()));
        if let (Some(recording), Ok(outcome)) = (self.recording, &mut result) {
            let document = report::document(&self.plan, outcome, &Machine::look());
            if let Err(error) = recording.finish(&document, &outcome.tally.latencies) {
                outcome.tally.failures.count(&format!("--out: {error}"));
            }
        }
        GroupPlayed {
            name: self.name.to_owned(),
            plan: self.plan,
            result,
            phases: self.phases,
        }
    }
}

fn finish(scenario: &ScenarioFile, groups: Vec<Playing<'_>>, is_interrupted: bool) -> Played {
    let groups: Vec<GroupPlayed> = groups.into_iter().map(Playing::played).collect();
    let is_whole = !is_interrupted && groups.iter().all(|group| group.result.is_ok());
    let asserts = if is_whole {
        let asserts = scenario.asserts.iter();
        asserts
            .map(|assert| assert.check(scenario, &groups))
            .collect()
    } else {
        Vec::new()
    };
    Played {
        groups,
        asserts,
        leftovers: Vec::new(),
        is_interrupted,
    }
}

/// Longest time to notice an interrupt, or the beginning of a phase.
const LOOK_TIME: Duration = Duration::from_millis(20);
