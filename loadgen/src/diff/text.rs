//! A comparison as text.
//!
//! Here: lines for people. Not here: what is in them (`diff`), JSON (which is the comparison itself).

use std::fmt;

use super::{ALPHA, Diff, FigureDiff, LAG, Row, TagDiff, Verdict};

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for tag in &self.tags {
            writeln!(f, "{tag}")?;
        }
        if !self.figures.is_empty() {
            writeln!(f, "{:<36} {:>16} {:>16} {:>8}", "", "A", "B", "B / A")?;
        }
        for figure in &self.figures {
            writeln!(f, "{figure}")?;
        }
        for reason in &self.unjudged {
            writeln!(f, "cannot be judged: {reason}")?;
        }
        let threshold = self.threshold_percent;
        match self.verdict {
            Verdict::Worse => {}
            Verdict::NotWorse => {
                write!(
                    f,
                    "nothing is significantly worse by more than {threshold} %"
                )?;
                let all = self.tags.iter().filter(|tag| tag.tag != LAG);
                let ends = all.flat_map(|tag| &tag.rows).filter_map(|row| row.interval);
                if ends.into_iter().any(|[_, high]| high > threshold) {
                    write!(
                        f,
                        ", but intervals reach beyond that: longer runs narrow them"
                    )?;
                }
                writeln!(f)?;
            }
            Verdict::CannotJudge => {
                writeln!(f, "no verdict: whether B is worse than A cannot be said")?;
            }
        }
        for worsening in &self.worsenings {
            writeln!(f, "WORSE: {worsening}")?;
        }
        Ok(())
    }
}

impl fmt::Display for TagDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = self.counts;
        let [x, y] = self.intervals;
        let share = (1.0 - ALPHA) * 100.0;
        write!(
            f,
            "{}: {a} values in {x} intervals and {b} in {y}",
            self.tag
        )?;
        let (change, interval) = ("change", format!("{share:.0} % interval"));
        write!(
            f,
            "\n  {:<8} {:>15} {:>15} {change:>10} {interval}",
            "", "A", "B"
        )?;
        for row in &self.rows {
            write!(f, "\n{row}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = self.nanos.map(|nanos| crate::report::float(nanos) / 1e3);
        let (name, percent) = (self.name, self.percent);
        write!(f, "  {name:<8} {a:>12.1} us {b:>12.1} us {percent:>+8.2} %")?;
        if let Some([low, high]) = self.interval {
            write!(f, " {low:+.2} to {high:+.2} %")?;
        }
        if let Some(why) = self.unjudged.filter(|_| self.name != "max") {
            write!(f, " ({why})")?;
        }
        if self.is_significant {
            write!(f, ", significant")?;
        }
        Ok(())
    }
}

impl fmt::Display for FigureDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = self.values;
        let ratio = self.ratio;
        let ratio = ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.3}"));
        write!(f, "{:<36} {a:>16.3} {b:>16.3} {ratio:>8}", self.name)
    }
}
