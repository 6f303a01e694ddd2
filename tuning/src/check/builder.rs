//! A check on its way to a finding.
//!
//! Here: what every check says the same way. Not here: when it passes (the checks).

use crate::finding::{Finding, Verdict};

/// A check before its verdict.
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) measured: String,
    pub(super) needed: String,
    /// What it is needed for, and what the shortfall costs.
    pub(super) why: &'static str,
}

impl Check {
    pub(super) fn pass(self) -> Finding {
        self.end(Verdict::Pass, String::new())
    }

    pub(super) fn warn(self, fix: impl Into<String>) -> Finding {
        self.end(Verdict::Warn, fix.into())
    }

    pub(super) fn fail(self, fix: impl Into<String>) -> Finding {
        self.end(Verdict::Fail, fix.into())
    }

    /// The fact could not be read: nothing is known, and that is said.
    pub(super) fn unknown(self, path: &str) -> Finding {
        let fix = format!("see {path}: it could not be read here");
        self.end(Verdict::Warn, fix)
    }

    pub(super) fn end(self, verdict: Verdict, fix: String) -> Finding {
        Finding {
            check: self.name,
            verdict,
            measured: self.measured,
            needed: self.needed,
            why: self.why.to_owned(),
            fix,
        }
    }
}
