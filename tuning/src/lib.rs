//! Checks of the host that a relay runs on.
//!
//! Here: what a relay needs of kernel and limits, what the host has, and a verdict with the fix for
//! each difference. `host` and `machine` read the facts, `parse` understands the kernel's texts, `check`
//! judges, `tcp` lists the kernel's sockets for whoever counts them, `watch` says what the
//! kernel counted meanwhile, `prove` measures what the host's loopback does.
//! Not here: changing anything on the host.
//!
//! Invariant: `judge` reads no file; the same facts give the same findings.

#![forbid(unsafe_code)]

mod check;
mod finding;
mod host;
mod machine;
mod parse;
pub mod prove;
mod tcp;
pub mod watch;

pub use check::{Congestion, Target, is_congestion_usable, judge, judge_machine};
pub use finding::{Finding, Verdict};
pub use host::{Host, Limit};
pub use machine::Machine;
pub use tcp::TcpSocket;

/// Reads the host and judges it.
#[must_use]
pub fn preflight(target: &Target) -> Vec<Finding> {
    judge(&Host::read(), target)
}

/// Reads the host and judges all of it: what a relay cannot start without, and what decides how much it holds
/// and how evenly it runs.
#[must_use]
pub fn survey(target: &Target) -> Vec<Finding> {
    let mut findings = preflight(target);
    findings.extend(judge_machine(&Machine::read(), target));
    findings
}
