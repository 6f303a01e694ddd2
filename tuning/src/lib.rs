//! The host that a relay runs on: what it has, what it needs, how it is brought there.
//!
//! Here: checks of what the host has (`host` and `machine` read the facts, `parse` understands the kernel's
//! texts, `check` judges), settings as files (`profile`, `render`) and on the host with a way back
//! (`apply`), plans of what a load takes (`plan`) with the measurements they rest on (`calibrate`), the
//! kernel's sockets for whoever counts them (`tcp`), what it counted meanwhile (`watch`), what its loopback
//! does (`prove`), what a process costs (`process`). Not here: the relay.
//!
//! Invariant: only `apply` changes the host, and only after what was there is on disk. `judge` and plans
//! read no file: the same facts give the same findings.

#![forbid(unsafe_code)]

mod apply;
pub mod calibrate;
mod check;
mod finding;
mod host;
mod machine;
mod parse;
pub mod plan;
mod process;
mod profile;
pub mod prove;
mod render;
mod tcp;
pub mod watch;

pub use apply::{
    ApplyError, Changes, FileChange, Restored, Rollback, RollbackError, Root, Step, ValueChange,
};
pub use check::{Congestion, Target, is_congestion_usable, judge, judge_machine};
pub use finding::{Finding, Verdict};
pub use host::{Host, Limit};
pub use machine::Machine;
pub use process::ProcessSample;
pub use profile::{Kind, PROFILES, Profile, ProfileError, Rule, Setting, Surface, Tuning};
pub use render::{RenderedFile, render};
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
