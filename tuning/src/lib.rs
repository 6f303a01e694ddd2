//! Checks of the host that a relay runs on.
//!
//! Here: what a relay needs of kernel and limits, what the host has, and a verdict with the fix for
//! each difference. `host` reads the facts, `parse` understands the kernel's texts, `check` judges, `tcp`
//! lists the kernel's sockets for whoever counts them.
//! Not here: changing anything on the host.
//!
//! Invariant: `judge` reads no file; the same facts give the same findings.

#![forbid(unsafe_code)]

mod check;
mod finding;
mod host;
mod parse;
mod tcp;

pub use check::{Congestion, Target, is_congestion_usable, judge};
pub use finding::{Finding, Verdict};
pub use host::{Host, Limit};
pub use tcp::TcpSocket;

/// Reads the host and judges it.
#[must_use]
pub fn preflight(target: &Target) -> Vec<Finding> {
    judge(&Host::read(), target)
}
