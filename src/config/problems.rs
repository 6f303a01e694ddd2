//! Everything that is wrong with a configuration or a deployment.
//!
//! Here: the list and its text. Not here: what is wrong.

use std::fmt;

use thiserror::Error;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Where the value stands.
    pub(super) origin: String,
    /// The key.
    pub(super) key: String,
    /// What is wrong, and what is accepted.
    pub(super) text: String,
}

/// Everything wrong with the configuration, or with the deployment; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Problems {
    of: &'static str,
    all: Vec<Problem>,
}

impl Problems {
    /// Returns the problems of a configuration.
    pub(super) const fn of_configuration(all: Vec<Problem>) -> Self {
        let of = "configuration";
        Self { of, all }
    }

    /// Returns the problems of a deployment.
    pub(super) const fn of_deployment(all: Vec<Problem>) -> Self {
        let of = "deployment";
        Self { of, all }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = match self.all.len() {
            1 => "problem",
            _ => "problems",
        };
        write!(f, "the {} has {} {noun}", self.of, self.all.len())?;
        for Problem { origin, key, text } in &self.all {
            write!(f, "\n  {key} ({origin}): {text}")?;
        }
        Ok(())
    }
}
