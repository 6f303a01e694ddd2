//! The file of a profile.
//!
//! Here: which keys there are, which line a setting stands in, what is wrong with one setting alone. Not
//! here: what its value comes to for a target.
//!
//! A key that is not known is an error: a mistyped one would otherwise be a setting that nobody makes.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::{Formula, Kind, Rule, Setting, Surface, When, bounds};
use crate::check::Target;

/// What stands in one file.
pub(super) struct Read {
    pub(super) summary: String,
    pub(super) trade: String,
    pub(super) base: Option<String>,
    pub(super) surface: Option<Surface>,
    pub(super) drafts: Vec<Draft>,
}

/// A setting whose value is a formula still.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    kind: Kind,
    pub(super) name: String,
    rule: Rule,
    pub(super) formula: Formula,
    pub(super) when: Option<When>,
    kernel_computes: bool,
    texts: Texts,
    /// File and line.
    pub(super) place: String,
}

/// What is said about a setting.
#[derive(Debug, Clone)]
struct Texts {
    unit: String,
    reason: String,
    source: String,
    since: String,
    absent: Option<String>,
}

impl Draft {
    /// Whether both set the same thing.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.kind == other.kind && self.name == other.name
    }

    /// Returns the setting for a target.
    pub(super) fn setting(&self, target: &Target) -> Setting {
        let Texts {
            unit,
            reason,
            source,
            since,
            absent,
        } = self.texts.clone();
        let is_comment_because = self.kernel_computes.then(|| {
            "The kernel computes its own from the memory of the host, and a line would lower it where that is more: \
             take the mark away where `sysctl` shows less. `ringway-tune apply` decides that by itself."
                .to_owned()
        });
        Setting {
            kind: self.kind,
            name: self.name.clone(),
            rule: self.rule,
            value: self.formula.text(target),
            unit,
            reason,
            source,
            since,
            is_comment_because,
            absent,
        }
    }

    /// Returns what keeps a container from this setting.
    pub(super) fn problem_in_container(&self) -> Option<String> {
        let Self { name, place, .. } = self;
        match self.kind {
            Kind::Limit => None,
            Kind::Sysctl if bounds::is_of_namespace(name) => None,
            Kind::Sysctl => Some(format!(
                "{place}: {name}: belongs to the whole host; expected one that each network namespace has of its own"
            )),
            Kind::Device | Kind::Unit => Some(format!(
                "{place}: {name}: a container has no devices and no unit; expected [[sysctl]] and [[limit]] alone"
            )),
        }
    }
}

/// Reads a file, and returns everything that is wrong with its settings, each alone.
pub(super) fn read(name: &str, text: &str) -> Result<Read, Vec<String>> {
    let raw: RawProfile = toml::from_str(text).map_err(|error| {
        let lines = error.to_string();
        vec![format!(
            "{name}: {}",
            lines.trim_end().replace('\n', "\n  ")
        )]
    })?;
    let (mut drafts, mut problems): (Vec<Draft>, Vec<String>) = (Vec::new(), Vec::new());
    for (kind, settings) in [
        (Kind::Sysctl, raw.sysctl),
        (Kind::Limit, raw.limit),
        (Kind::Unit, raw.unit),
        (Kind::Device, raw.device),
    ] {
        for setting in settings {
            let line = line_of(text, setting.name.span().start);
            let place = format!("{name}:{line}");
            let label = setting.name.get_ref().clone();
            match draft(kind, setting, &place) {
                Err(problem) => problems.push(format!("{place}: {label}: {problem}")),
                Ok(draft) => {
                    if let Some(first) = drafts.iter().find(|other| other.is_same(&draft)) {
                        let first = &first.place;
                        problems.push(format!("{place}: {label}: is set twice, first in {first}"));
                    }
                    drafts.push(draft);
                }
            }
        }
    }
    match problems.is_empty() {
        false => Err(problems),
        true => Ok(Read {
            summary: raw.summary,
            trade: raw.trade,
            base: raw.base,
            surface: raw.surface,
            drafts,
        }),
    }
}

fn draft(kind: Kind, raw: RawSetting, place: &str) -> Result<Draft, String> {
    let name = bounds::known_name(kind, raw.name.get_ref())?;
    let mut rules = [
        (Rule::Exactly, raw.value),
        (Rule::AtLeast, raw.at_least),
        (Rule::AtMost, raw.at_most),
        (Rule::With, raw.with),
    ]
    .into_iter()
    .filter_map(|(rule, value)| Some((rule, value?)));
    let expected = "expected one of value, at_least, at_most, with";
    let (rule, Value(value)) = rules
        .next()
        .ok_or_else(|| format!("no value: {expected}"))?;
    if rules.next().is_some() {
        return Err(format!("several values: {expected}"));
    }
    if kind != Kind::Sysctl && rule != Rule::Exactly {
        return Err("only a sysctl has at_least, at_most and with: expected value".to_owned());
    }
    if kind != Kind::Sysctl && (raw.when.is_some() || raw.kernel_computes || raw.absent.is_some()) {
        return Err("only a sysctl has when, kernel_computes and absent".to_owned());
    }
    let texts = [&raw.unit, &raw.reason, &raw.source, &raw.since];
    let is_text = |text: &&String| !text.trim().is_empty() && !text.contains(char::is_control);
    if !texts
        .into_iter()
        .chain(&raw.absent)
        .all(|text| is_text(&text))
    {
        return Err("unit, reason, source, since and absent are each one line of text".to_owned());
    }
    Ok(Draft {
        kind,
        name,
        rule,
        formula: Formula::parse(&value)?,
        when: raw.when,
        kernel_computes: raw.kernel_computes,
        texts: Texts {
            unit: raw.unit,
            reason: raw.reason,
            source: raw.source,
            since: raw.since,
            absent: raw.absent,
        },
        place: place.to_owned(),
    })
}

/// Returns the line, from 1, of a place in a text.
fn line_of(text: &str, at: usize) -> usize {
    let before = text.bytes().take(at);
    before.filter(|byte| *byte == b'\n').count() + 1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    summary: String,
    trade: String,
    base: Option<String>,
    surface: Option<Surface>,
    #[serde(default)]
    sysctl: Vec<RawSetting>,
    #[serde(default)]
    limit: Vec<RawSetting>,
    #[serde(default)]
    unit: Vec<RawSetting>,
    #[serde(default)]
    device: Vec<RawSetting>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSetting {
    name: Spanned<String>,
    value: Option<Value>,
    at_least: Option<Value>,
    at_most: Option<Value>,
    with: Option<Value>,
    unit: String,
    reason: String,
    source: String,
    since: String,
    #[serde(default)]
    kernel_computes: bool,
    when: Option<When>,
    absent: Option<String>,
}

/// A number, or a text that may be a formula.
struct Value(String);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl Visitor<'_> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number, or a text such as \"{sessions * 2}\"")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value(number.to_string()))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value(text.to_owned()))
    }
}
