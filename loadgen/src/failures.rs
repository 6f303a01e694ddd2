//! What went wrong, counted by reason.
//!
//! Here: the names and the counters. Not here: what a run does about it.

use std::collections::BTreeMap;

use ringway_proto::reason::Reason;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Most distinct names: a run that fails in more ways than this says "other".
const NAMES_MAX: usize = 64;

/// Failures of a run, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    counts: BTreeMap<String, u64>,
}

impl Failures {
    /// Counts a failure.
    pub fn count(&mut self, name: &str) {
        self.add(name, 1);
    }

    /// Counts a refusal by its protocol reason.
    pub fn count_reason(&mut self, what: &str, code: u16) {
        match Reason::from_code(code) {
            Some(reason) => self.count(&format!("{what}: {reason}")),
            None => self.count(&format!("{what}: {code}")),
        }
    }

    /// Counts a failed system call by its error.
    pub fn count_errno(&mut self, what: &str, errno: i32) {
        let error = Errno::from_raw_os_error(errno);
        self.count(&format!("{what}: {error}"));
    }

    /// Adds what another thread counted.
    pub fn merge(&mut self, other: &Self) {
        for (name, count) in &other.counts {
            self.add(name, *count);
        }
    }

    /// Takes out what is expected: whose names contain one of `parts`.
    #[must_use]
    pub fn take_expected(&mut self, parts: &[String]) -> Self {
        let is_expected = |name: &String| parts.iter().any(|part| name.contains(part.as_str()));
        let counts = std::mem::take(&mut self.counts);
        let (expected, left) = counts.into_iter().partition(|(name, _)| is_expected(name));
        self.counts = left;
        Self { counts: expected }
    }

    /// Returns the sum.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Returns the names and their counts, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts
            .iter()
            .map(|(name, count)| (name.as_str(), *count))
    }

    fn add(&mut self, name: &str, count: u64) {
        if let Some(entry) = self.counts.get_mut(name) {
            *entry += count;
            return;
        }
        let name = if self.counts.len() < NAMES_MAX {
            name
        } else {
            "other"
        };
        *self.counts.entry(name.to_owned()).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_is_taken_out() {
        let mut failures = Failures::default();
        failures.count_errno("connect", 99);
        failures.count("session: closed by the other side");
        let expected = failures.take_expected(&["assign requested".to_owned()]);
        assert_eq!((expected.total(), failures.total()), (1, 1));
        assert_eq!(failures.take_expected(&[]).total(), 0);
        assert_eq!(failures.total(), 1);
    }

    #[test]
    fn failures_add_up_by_name() {
        let mut failures = Failures::default();
        failures.count_reason("open", 301);
        failures.count_reason("open", 301);
        failures.count_reason("open", 9_999);
        let mut other = Failures::default();
        other.count_reason("open", 301);
        other.count_errno("connect", Errno::CONNREFUSED.raw_os_error());
        failures.merge(&other);
        assert_eq!(failures.total(), 5);
        let names: Vec<_> = failures.iter().collect();
        assert_eq!(names[1], ("open: 301 no_listener", 3));
        assert_eq!(names[2], ("open: 9999", 1));
        assert!(names[0].0.starts_with("connect: "));
    }

    #[test]
    fn the_number_of_names_is_bounded() {
        let mut failures = Failures::default();
        for number in 0..1_000 {
            failures.count(&format!("failure {number}"));
        }
        assert_eq!(failures.total(), 1_000);
        assert!(failures.iter().count() <= NAMES_MAX + 1);
    }
}
