//! Instructions that the hot paths of the relay need, counted by callgrind and held against a baseline.
//!
//! Here: what the program `counts` is made of: the cases, the count of one, the baseline, the verdict. Not
//! here: flags (the program), time (`compare`).
//!
//! A count is the same on every run of a build, whatever else the machine does, so a gate can be narrow
//! where one on time would have to be wide. It says nothing of caches, of system calls or of waiting.

pub mod baseline;
pub mod callgrind;
pub mod cases;
pub mod verdict;

mod relay;

/// Most that a case may need beyond its baseline, in per cent.
///
/// Counts of one build repeat exactly, so this leaves room for what an unrelated change does to inlining and
/// nothing more.
pub const TOLERANCE_PERCENT: f64 = 3.0;
