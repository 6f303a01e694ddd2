//! What one check came to.

use std::fmt;

use serde::Serialize;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// The host has what is needed.
    Pass,
    /// The relay works, and something costs more or holds less than it could.
    Warn,
    /// The relay does not start, or does not reach the target.
    Fail,
}

impl Verdict {
    /// Returns the word that tables and logs show.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// One check of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name of the check.
    pub check: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What the host has.
    pub measured: String,
    /// What the target needs.
    pub needed: String,
    /// What it is needed for, and what the shortfall costs.
    pub why: String,
    /// What to do; empty when nothing is.
    pub fix: String,
}

impl Finding {
    /// Returns the finding in one line, for a log or a terminal.
    #[must_use]
    pub fn line(&self) -> String {
        let Self {
            check,
            verdict,
            measured,
            needed,
            why,
            fix,
        } = self;
        let fix = if fix.is_empty() {
            String::new()
        } else {
            format!("; {fix}")
        };
        format!("{verdict} {check}: {measured}, needs {needed}: {why}{fix}")
    }
}
