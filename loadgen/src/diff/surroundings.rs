//! What makes two results hard to compare, in words.
//!
//! Here: machines, settings, plans and verdicts of two documents. Not here: their figures (`diff`).
//!
//! A field that only one document has is none: older versions of this program wrote fewer. A setting of
//! the kernel is different: there it is the kernel that lacks it.

use std::collections::BTreeSet;

use serde_json::Value;

/// Returns a sentence for each difference, and for each of the two runs that was not a good one.
pub(super) fn warnings(a: &Value, b: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, document) in [("A", a), ("B", b)] {
        let verdict = document.get("verdict").and_then(Value::as_str);
        warnings.extend(
            verdict
                .and_then(problem)
                .map(|what| format!("{name} {what}")),
        );
    }
    for at in ["schema", "scenario", "machine", "plan"] {
        differences(at, a.get(at), b.get(at), &mut warnings);
    }
    warnings
}

fn problem(verdict: &str) -> Option<&'static str> {
    match verdict {
        "failed" => Some("had failures: times of what failed are not among its times"),
        "interrupted" => Some("was interrupted: it is only a part of what was planned"),
        "untrustworthy" => Some(
            "is untrustworthy: its generator could not keep its schedule, so its times are not only the \
             server's",
        ),
        _ => None,
    }
}

/// Appends a sentence for each value that differs, however deep it lies.
fn differences(at: &str, a: Option<&Value>, b: Option<&Value>, warnings: &mut Vec<String>) {
    if let (Some(Value::Object(x)), Some(Value::Object(y))) = (a, b) {
        let names: BTreeSet<&String> = x.keys().chain(y.keys()).collect();
        for name in names {
            differences(&format!("{at}/{name}"), x.get(name), y.get(name), warnings);
        }
        return;
    }
    let is_setting = at.starts_with(SETTINGS);
    if a == b || ((a.is_none() || b.is_none()) && !is_setting) {
        return;
    }
    let [a, b] = [a, b].map(|value| value.map_or_else(|| "none".to_owned(), text));
    warnings.push(format!("different {}: A {a}, B {b}", words(at)));
}

/// The name of a place for people.
fn words(at: &str) -> String {
    if let Some((_, known)) = KNOWN.iter().find(|(place, _)| *place == at) {
        return (*known).to_owned();
    }
    if let Some(setting) = at.strip_prefix(SETTINGS) {
        return format!("kernel setting {setting} (sysctl)");
    }
    match at.split_once('/') {
        Some((part, field)) => format!("{part}, {}", field.replace('/', ".")),
        None => at.to_owned(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "none".into(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

const SETTINGS: &str = "machine/settings/";

/// Places whose names alone say too little.
const KNOWN: [(&str, &str); 8] = [
    ("schema", "version of the document"),
    ("machine/kernel", "kernel"),
    ("machine/cpu", "processor (CPU)"),
    (
        "machine/cores",
        "number of processors that the generator may use",
    ),
    ("machine/congestion", "congestion control by default"),
    ("machine/governor", "governor of the processor's frequency"),
    ("machine/files_max", "limit on open files"),
    ("machine/version", "version of the generator"),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_documents_need_no_warning() {
        let one = json!({"scenario": "churn", "verdict": "good", "plan": {"churn": {"rounds": 1}}});
        assert!(warnings(&one, &one).is_empty());
    }

    #[test]
    fn machines_settings_and_nested_plans_are_told_in_words() {
        let a = json!({
            "scenario": "churn",
            "machine": {
                "kernel": "6.1", "cpu": "X", "governor": null,
                "settings": {"net.core.somaxconn": "128", "net.ipv4.tcp_tw_reuse": "2"},
            },
            "plan": {"churn": {"rounds": 1, "phases": ["idle"]}, "cpus": []},
        });
        let b = json!({
            "scenario": "churn",
            "machine": {
                "kernel": "6.2", "cpu": "Y", "governor": "powersave", "new": 1,
                "settings": {"net.core.somaxconn": "4096"},
            },
            "plan": {"churn": {"rounds": 2, "phases": ["idle", "mid-frame"]}, "cpus": [1, 2]},
        });
        assert_eq!(
            warnings(&a, &b),
            [
                "different processor (CPU): A X, B Y",
                "different governor of the processor's frequency: A none, B powersave",
                "different kernel: A 6.1, B 6.2",
                "different kernel setting net.core.somaxconn (sysctl): A 128, B 4096",
                "different kernel setting net.ipv4.tcp_tw_reuse (sysctl): A 2, B none",
                "different plan, churn.phases: A idle, B idle mid-frame",
                "different plan, churn.rounds: A 1, B 2",
                "different plan, cpus: A none, B 1 2",
            ]
        );
    }

    #[test]
    fn runs_that_were_not_good_are_named() {
        let told = warnings(
            &json!({"verdict": "untrustworthy"}),
            &json!({"verdict": "failed"}),
        );
        assert_eq!(told.len(), 2);
        assert!(told[0].starts_with("A is untrustworthy"));
        assert!(told[1].starts_with("B had failures"));
    }
}
