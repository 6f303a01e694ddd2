//! Counts held against a baseline.
//!
//! Here: the comparison, and how it reads. Not here: where counts come from (`callgrind`).
//!
//! | a case | verdict | the program |
//! |---|---|---|
//! | needs more instructions than its baseline and the tolerance | worse | fails |
//! | needs fewer than its baseline less the tolerance | better | passes, and asks for a new baseline |
//! | has no baseline | new | fails: nothing would hold it |
//! | has a baseline and is gone | gone | fails: the file would lie |
//!
//! Units: instructions an operation, per cent of the baseline.

use std::fmt;

use super::baseline::Baseline;
use super::callgrind::Tools;

/// One case beside its baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The case.
    pub name: &'static str,
    /// One operation of it.
    pub operation: &'static str,
    /// What the baseline says.
    pub before: Option<f64>,
    /// What it needs now.
    pub now: f64,
}

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It needs fewer instructions.
    Better,
    /// It has no baseline.
    New,
    /// It is within the tolerance.
    Same,
    /// It needs more instructions.
    Worse,
}

impl Row {
    /// Returns the verdict; exactly `tolerance` per cent more or less are still within it.
    #[must_use]
    pub fn verdict(&self, tolerance: f64) -> Verdict {
        let Some(before) = self.before else {
            return Verdict::New;
        };
        // Multiplied out, so that the bound itself is not lost to rounding.
        if self.now * 100.0 > before * (100.0 + tolerance) {
            Verdict::Worse
        } else if self.now * 100.0 < before * (100.0 - tolerance) {
            Verdict::Better
        } else {
            Verdict::Same
        }
    }

    fn change(&self) -> Option<f64> {
        let before = self.before?;
        Some((self.now - before) / before * 100.0)
    }
}

/// All cases of a run beside their baselines.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    rows: Vec<Row>,
    /// Baselines without a case.
    gone: Vec<String>,
    tolerance: f64,
}

impl Comparison {
    /// Compares. `are_all` says that `counted` has every case there is, so that what else the baseline has is
    /// gone.
    #[must_use]
    pub fn new(
        baseline: Option<&Baseline>,
        counted: &[(&'static str, &'static str, f64)],
        are_all: bool,
        tolerance: f64,
    ) -> Self {
        let rows: Vec<Row> = counted
            .iter()
            .map(|(name, operation, now)| Row {
                name,
                operation,
                before: baseline.and_then(|known| known.instructions.get(*name).copied()),
                now: *now,
            })
            .collect();
        let known = baseline
            .into_iter()
            .flat_map(|known| known.instructions.keys());
        let gone = known
            .filter(|name| are_all && rows.iter().all(|row| row.name != name.as_str()))
            .cloned()
            .collect();
        Self {
            rows,
            gone,
            tolerance,
        }
    }

    /// Returns whether every case holds its baseline, and every baseline has its case.
    #[must_use]
    pub fn has_passed(&self) -> bool {
        self.gone.is_empty()
            && self.named(Verdict::New).is_empty()
            && self.named(Verdict::Worse).is_empty()
    }

    /// Returns what there is to do about it, a sentence a line; nothing when all is as it was.
    #[must_use]
    pub fn advice(&self) -> Vec<String> {
        let percent = self.tolerance;
        let worse = self.named(Verdict::Worse);
        let better = self.named(Verdict::Better);
        let new = self.named(Verdict::New);
        let mut lines = Vec::new();
        if !worse.is_empty() {
            lines.push(format!(
                "worse by more than {percent} %: {}; find out why, or say why in the commit that blesses it",
                worse.join(", ")
            ));
        }
        if !new.is_empty() {
            lines.push(format!(
                "without a baseline: {}; --bless adds it",
                new.join(", ")
            ));
        }
        if !self.gone.is_empty() {
            let gone = self.gone.join(", ");
            lines.push(format!(
                "in the baseline and no case: {gone}; --bless takes it out"
            ));
        }
        if !better.is_empty() {
            lines.push(format!(
                "better by more than {percent} %: {}; --bless it with this change, or what is won here can be \
                 lost again unseen",
                better.join(", ")
            ));
        }
        lines
    }

    fn named(&self, verdict: Verdict) -> Vec<&'static str> {
        let rows = self.rows.iter();
        rows.filter(|row| row.verdict(self.tolerance) == verdict)
            .map(|row| row.name)
            .collect()
    }
}

impl fmt::Display for Comparison {
    /// Writes a table in Markdown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "| case | operation | baseline | now | change | |\n|---|---|---|---|---|---|\n",
        )?;
        for row in &self.rows {
            let before = row.before.map_or_else(|| "-".to_owned(), number);
            let change = row
                .change()
                .map_or_else(|| "-".to_owned(), |change| format!("{change:+.2} %"));
            let verdict = match row.verdict(self.tolerance) {
                Verdict::Better => "better",
                Verdict::New => "new",
                Verdict::Same => "",
                Verdict::Worse => "**worse**",
            };
            let Row {
                name, operation, ..
            } = row;
            let now = number(row.now);
            writeln!(
                f,
                "| `{name}` | {operation} | {before} | {now} | {change} | {verdict} |"
            )?;
        }
        Ok(())
    }
}

/// Returns a sentence on the tools that are not those of the baseline.
#[must_use]
pub fn other_tools(before: &Tools, now: &Tools) -> Option<String> {
    let pairs = [
        (&before.rustc, &now.rustc),
        (&before.valgrind, &now.valgrind),
        (&before.libc, &now.libc),
        (&before.processor, &now.processor),
    ];
    let others: Vec<String> = pairs
        .into_iter()
        .filter(|(before, now)| before != now)
        .map(|(before, now)| format!("'{now}' for '{before}'"))
        .collect();
    (!others.is_empty()).then(|| {
        let others = others.join(", ");
        format!("other tools than the baseline's, which may be the whole difference: {others}")
    })
}

fn number(count: f64) -> String {
    if count < 1_000.0 {
        format!("{count:.2}")
    } else {
        format!("{count:.0}")
    }
}

#[cfg(test)]
mod tests;
