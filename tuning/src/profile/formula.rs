//! Values that depend on the target.
//!
//! Here: the small language of a profile's values. Not here: which settings have one.
//!
//! A value is words; a word may be `{TERM}`, `{TERM * N}`, `{TERM + N}`, `{TERM * N + N}` or
//! `{max(N, ...)}` of one of these. Sums stop at the greatest number instead of turning over; what the kernel
//! takes is asked afterwards.

use crate::check::{Congestion, Target, nofile_needed, sessions_of};

/// A value before the target is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Formula {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// As it stands.
    Text(String),
    /// The congestion control that the relay asks for; nothing where it asks for none.
    Congestion,
    /// A number of the target, at least `floor`.
    Number {
        term: Term,
        factor: u64,
        offset: u64,
        floor: u64,
    },
}

/// A number of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Term {
    Backlog,
    Files,
    ListenPort,
    Sessions,
    SessionsOfShard,
    Shards,
}

impl Formula {
    /// Reads a value of a profile.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (inner, after) = after
                .split_once('}')
                .ok_or_else(|| format!("\"{text}\": a {{ without its }}"))?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(part(inner)?);
            rest = after;
        }
        if rest.contains('}') {
            return Err(format!("\"{text}\": a }} without its {{"));
        }
        parts.push(Part::Text(rest.to_owned()));
        // Values stand between quotes in scripts and YAML.
        let is_plain = |letter: char| (' '..='~').contains(&letter) && !"'\"\\`$".contains(letter);
        match text.chars().all(is_plain) && !text.trim().is_empty() {
            true => Ok(Self { parts }),
            false => {
                Err("expected a value: letters, digits and signs of ASCII in one line, no quotes, \\ or $".to_owned())
            }
        }
    }

    /// Returns the value for a target: words with one space between two.
    pub(super) fn text(&self, target: &Target) -> String {
        let all: String = self.parts.iter().map(|part| part.text(target)).collect();
        all.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl Part {
    fn text(&self, target: &Target) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Congestion => match &target.congestion {
                Congestion::Automatic => "cubic".to_owned(),
                Congestion::Named(name) => name.clone(),
                Congestion::System => String::new(),
            },
            Self::Number {
                term,
                factor,
                offset,
                floor,
            } => {
                let product = term.number(target).saturating_mul(*factor);
                product.saturating_add(*offset).max(*floor).to_string()
            }
        }
    }
}

impl Term {
    fn number(self, target: &Target) -> u64 {
        match self {
            Self::Backlog => target.backlog.into(),
            Self::Files => nofile_needed(target),
            Self::ListenPort => target.listen_port.into(),
            Self::Sessions => sessions_of(target),
            Self::SessionsOfShard => target.sessions_max.into(),
            Self::Shards => target.shards.into(),
        }
    }
}

/// Reads what stands between the braces.
fn part(inner: &str) -> Result<Part, String> {
    let refuse = || {
        format!(
            "\"{{{inner}}}\" is no formula: expected {{TERM}}, {{TERM * N}}, {{TERM + N}}, {{TERM * N + N}} or \
             {{max(N, ...)}} of one of them, TERM one of {TERMS}, or {{congestion}}"
        )
    };
    let inner = inner.trim();
    if inner == "congestion" {
        return Ok(Part::Congestion);
    }
    let (floor, sum) = match inner.strip_prefix("max(") {
        None => ("0", inner),
        Some(rest) => rest
            .strip_suffix(')')
            .and_then(|rest| rest.split_once(','))
            .ok_or_else(refuse)?,
    };
    let (product, offset) = sum.split_once('+').unwrap_or((sum, "0"));
    let (term, factor) = product.split_once('*').unwrap_or((product, "1"));
    let number = |text: &str| text.trim().parse().map_err(|_| refuse());
    Ok(Part::Number {
        term: term_of(term.trim()).ok_or_else(refuse)?,
        factor: number(factor)?,
        offset: number(offset)?,
        floor: number(floor)?,
    })
}

fn term_of(name: &str) -> Option<Term> {
    Some(match name {
        "backlog" => Term::Backlog,
        "files" => Term::Files,
        "listen_port" => Term::ListenPort,
        "sessions" => Term::Sessions,
        "sessions_of_shard" => Term::SessionsOfShard,
        "shards" => Term::Shards,
        _ => return None,
    })
}

/// The terms, for messages.
const TERMS: &str = "backlog, files (open files of the relay), listen_port, sessions (of all shards), sessions_of_shard, \
                     shards";

#[cfg(test)]
mod tests {
    use super::*;

    fn text(formula: &str, congestion: Congestion) -> String {
        let target = Target {
            shards: 4,
            sessions_max: 250_000,
            backlog: 4_096,
            listen_port: 7_100,
            congestion,
        };
        Formula::parse(formula).unwrap().text(&target)
    }

    #[test]
    fn terms_are_numbers_of_the_target() {
        for (formula, expected) in [
            ("{sessions}", "1000000"),
            ("{sessions * 2}", "2000000"),
            ("{sessions*2+5}", "2000005"),
            ("{ backlog + 1 }", "4097"),
            ("{max(9, shards)}", "9"),
            ("{max(3, shards * 2)}", "8"),
            ("{files}", "250001"),
            ("{sessions_of_shard}", "250000"),
            ("1 {listen_port}  3", "1 7100 3"),
            ("{sessions * 18446744073709551615}", "18446744073709551615"),
        ] {
            assert_eq!(text(formula, Congestion::Automatic), expected);
        }
    }

    #[test]
    fn congestion_is_what_the_relay_asks_for() {
        let all = "reno {congestion} bbr";
        assert_eq!(text(all, Congestion::Automatic), "reno cubic bbr");
        assert_eq!(
            text(all, Congestion::Named("dctcp".into())),
            "reno dctcp bbr"
        );
        assert_eq!(text(all, Congestion::System), "reno bbr");
    }

    #[test]
    fn what_is_no_formula_says_what_one_is() {
        for formula in [
            "{}",
            "{session}",
            "{sessions * }",
            "{sessions * 1.1}",
            "{sessions - 1}",
            "{max(sessions)}",
            "{max(1, sessions}",
            "{sessions * 99999999999999999999}",
        ] {
            let problem = Formula::parse(formula).unwrap_err();
            assert!(problem.contains("expected {TERM}"), "{formula}: {problem}");
        }
        for (formula, problem) in [
            ("{sessions", "without its }"),
            ("sessions}", "without its {"),
            ("", "expected a value"),
            ("a\nb", "in one line"),
            ("a' \"$(b)", "no quotes"),
        ] {
            let text = Formula::parse(formula).unwrap_err();
            assert!(text.contains(problem), "{formula}: {text}");
        }
    }
}
