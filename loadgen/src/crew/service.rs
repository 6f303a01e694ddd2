//! A process of a run, from within.
//!
//! Here: the threads' phase from standard input, their numbers to standard output. Not here: the side
//! that started it (`member`).

use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::wire::{Order, Report, receive, send};
use super::{Crew, Wake};
use crate::plan::Plan;
use crate::shared::{Counters, Shared};
use crate::tally::Tally;

/// Why a process of a run ended without its numbers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// It was started by hand, or by another version.
    #[error(
        "this command is how 'ringway-loadgen' starts its own processes (--processes): it needs a plan on \
         standard input ({0})"
    )]
    Input(String),
    /// Who started it is gone.
    #[error("the process that conducts the run is gone")]
    Orphan,
}

/// Carries out part of a plan: orders from `input`, reports to `output`.
///
/// # Errors
/// [`ServiceError`] when nobody is there to report to. What goes wrong in the run is in the last report.
pub fn serve(
    mut input: impl BufRead + Send + 'static,
    mut output: impl Write,
) -> Result<(), ServiceError> {
    let (plan, number) = match receive(&mut input) {
        Ok(Some(Order::Begin { plan, number })) => (Arc::new(*plan), number),
        Ok(Some(Order::Go(_))) => return Err(ServiceError::Input("there is none".into())),
        Ok(None) => return Err(ServiceError::Input("it is closed".into())),
        Err(error) => return Err(ServiceError::Input(error.to_string())),
    };
    let ended = carry_out(&plan, number, input, &mut output)?;
    tell(&mut output, &Report::Ended(ended))
}

type Ended = Result<Box<Tally>, String>;

fn carry_out(
    plan: &Arc<Plan>,
    number: u32,
    input: impl BufRead + Send + 'static,
    output: &mut impl Write,
) -> Result<Ended, ServiceError> {
    let line = match plan.rate_line() {
        Ok(line) => line,
        Err(why) => return Ok(Err(why)),
    };
    let shared = Arc::new(Shared::new(line));
    let (sender, parts) = mpsc::channel();
    let mut crew = Crew::default();
    let each = plan.placement.threads / plan.placement.processes.max(1);
    let own = each * number..each * (number + 1);
    let started = crew.start_threads(plan, &shared, &sender, own);
    // The channel then closes with the last thread.
    drop(sender);
    if let Err(error) = started {
        return Ok(Err(error.to_string()));
    }
    let is_orphan = Arc::new(AtomicBool::new(false));
    let listener = {
        let (shared, wakes) = (Arc::clone(&shared), crew.wakes.clone());
        let is_orphan = Arc::clone(&is_orphan);
        move || listen(input, &shared, &wakes, &is_orphan)
    };
    let listener = thread::Builder::new().name("orders".into()).spawn(listener);
    if let Err(error) = listener {
        return Ok(Err(format!("no thread: {error}")));
    }
    tell(output, &Report::Started)?;
    let mut told = Counters::default();
    loop {
        let nap = if shared.phase().is_loaded() {
            LOADED_LOOK_TIME
        } else {
            LOOK_TIME
        };
        match parts.recv_timeout(nap) {
            Ok(part) => tell(output, &Report::Contribution(Box::new(part)))?,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        if is_orphan.load(Ordering::Acquire) {
            return Err(ServiceError::Orphan);
        }
        // One that ends before it is asked to ends the run: waiting for the others would be in vain.
        if crew.has_ended() && !shared.is_closing() {
            return Ok(Err(crew.error().to_string()));
        }
        told = tell_counters(output, &shared, told)?;
    }
    tell_counters(output, &shared, told)?;
    let tally = crew.stop().map_err(|error| error.to_string());
    Ok(tally.map(Box::new))
}

/// Follows the orders until there are no more.
fn listen(mut input: impl BufRead, shared: &Shared, wakes: &[Wake], is_orphan: &AtomicBool) {
    while let Ok(Some(Order::Go(instructions))) = receive(&mut input) {
        shared.follow(instructions);
        wakes.iter().for_each(Wake::wake);
    }
    is_orphan.store(true, Ordering::Release);
}

/// Tells what has changed since `told`; returns what is told now.
fn tell_counters(
    output: &mut impl Write,
    shared: &Shared,
    told: Counters,
) -> Result<Counters, ServiceError> {
    let counters = shared.counters();
    if counters != told {
        tell(output, &Report::Counters(counters))?;
    }
    Ok(counters)
}

fn tell(output: &mut impl Write, report: &Report) -> Result<(), ServiceError> {
    send(output, report).map_err(|_| ServiceError::Orphan)
}

/// Time between two looks at the counters while connections are made or closed.
const LOOK_TIME: Duration = Duration::from_millis(2);
/// The same under load, where looking is a load of its own.
const LOADED_LOOK_TIME: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_starts_it_by_hand_is_told_what_it_is_for() {
        for text in [
            "",
            "hello\n",
            "{\"Go\":{\"phase\":0,\"gate\":0,\"tick\":0}}\n",
        ] {
            let error = serve(std::io::Cursor::new(text), std::io::sink()).unwrap_err();
            assert!(matches!(error, ServiceError::Input(_)), "{error}");
            assert!(error.to_string().contains("--processes"), "{error}");
        }
    }
}
