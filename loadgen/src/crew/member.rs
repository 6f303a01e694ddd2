//! A process of a run, as seen by the one that conducts.
//!
//! Here: starting it, telling it where the run is, adding what it reports. Not here: its own side
//! (`service`).
//!
//! It is in a process group of its own: an interrupt on the terminal is for the conductor alone, which then
//! ends the run for all. It ends when its standard input closes, so that a conductor that is killed leaves
//! none behind.

use std::io::{self, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use super::CrewError;
use super::wire::{Order, Report, receive, send};
use crate::intervals::Contribution;
use crate::plan::Plan;
use crate::shared::{Counters, Shared};
use crate::tally::Tally;

/// This executable, even where its file was replaced meanwhile (proc(5)).
const PROGRAM: &str = "/proc/self/exe";
/// The subcommand that [`super::serve`] is behind.
const COMMAND: &str = "member";

/// The way to a process.
#[derive(Debug)]
pub(super) struct Orders {
    shared: Arc<Shared>,
    pipe: Mutex<ChildStdin>,
}

impl Orders {
    /// Tells the process where the run is.
    pub(super) fn send(&self) {
        let order = Order::Go(self.shared.instructions());
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is gone is missed where its reports are read.
        drop(send(&mut *pipe, &order));
    }
}

/// A process that was started.
#[derive(Debug)]
pub(super) struct Member {
    number: u32,
    processes: u32,
    child: Child,
    output: BufReader<ChildStdout>,
    shared: Arc<Shared>,
    /// What of its counters is in `shared`.
    counted: Counters,
}

/// Starts process `number` of a plan.
///
/// # Errors
/// [`CrewError::Member`] when it cannot start.
pub(super) fn start(
    plan: &Plan,
    shared: &Arc<Shared>,
    number: u32,
) -> Result<(Member, Arc<Orders>), CrewError> {
    let processes = plan.placement.processes;
    let failed = |error: io::Error| CrewError::Member {
        number: number + 1,
        processes,
        why: format!("cannot start: {error}"),
    };
    let mut child = Command::new(PROGRAM)
        .arg(COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(failed(io::ErrorKind::BrokenPipe.into()));
    };
    let order = Order::Begin {
        plan: Box::new(plan.clone()),
        number,
    };
    if let Err(error) = send(&mut input, &order) {
        drop(child.wait());
        return Err(failed(error));
    }
    let member = Member {
        number,
        processes,
        child,
        output: BufReader::new(output),
        shared: Arc::clone(shared),
        counted: Counters::default(),
    };
    let orders = Orders {
        shared: Arc::clone(shared),
        pipe: Mutex::new(input),
    };
    Ok((member, Arc::new(orders)))
}

impl Member {
    /// Adds what the process reports until it ends; says on `started` when its threads run.
    pub(super) fn attend(
        mut self,
        parts: &mpsc::Sender<Contribution>,
        started: &mpsc::SyncSender<()>,
    ) -> Result<Tally, CrewError> {
        let ended = loop {
            match receive(&mut self.output) {
                Ok(Some(Report::Started)) => drop(started.try_send(())),
                Ok(Some(Report::Counters(counters))) => {
                    self.shared.add(&self.counted, &counters);
                    self.counted = counters;
                }
                // The conductor may have given up.
                Ok(Some(Report::Contribution(part))) => drop(parts.send(*part)),
                Ok(Some(Report::Ended(ended))) => break ended,
                Ok(None) => break Err(self.death()),
                Err(error) => break Err(format!("it cannot be understood: {error}")),
            }
        };
        let (number, processes) = (self.number + 1, self.processes);
        ended.map(|tally| *tally).map_err(|why| CrewError::Member {
            number,
            processes,
            why,
        })
    }

    /// Returns how the process died that had more to say.
    fn death(&mut self) -> String {
        match self.child.wait() {
            Ok(status) => format!("it ended in the middle of the run ({status})"),
            Err(error) => format!("it is gone: {error}"),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It has said its last word, or none that can be understood.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
