//! What is in force, and where it came from.
//!
//! Here: one value of each key with its origin, as TOML, as JSON, and without passwords. Not here: how
//! it is laid out for people.

use ringway_proto::key::PublicKey;
use serde_json::{Value as Json, json};
use toml::Value;

use super::deployment::Deployment;
use super::keys::Key;
use super::origin::Origin;
use super::{Config, RelayName};

/// A configuration, and how it came to be.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The settings.
    pub(crate) config: Config,
    /// One value for each key, in the order of the keys.
    pub(crate) values: Vec<Effective>,
    /// The deployment that is in force.
    pub(crate) deployment: Option<Deployment>,
}

/// The value of one key.
#[derive(Debug)]
pub(crate) struct Effective {
    /// The key.
    pub(crate) key: &'static Key,
    /// The value as a file would have it; `None` where there is none.
    pub(crate) value: Option<Value>,
    /// Where it comes from.
    pub(crate) origin: Origin,
    /// What has been done to it since.
    pub(crate) note: Option<&'static str>,
}

impl Resolved {
    /// Takes the relay itself out of the relays it keeps links with: all relays of a deployment can
    /// have the same file. Without a deployment its own key in the list is a mistake, and stays.
    pub(crate) fn leave_out(&mut self, own: PublicKey) {
        let count = self.config.relays.len();
        if self.deployment.is_some() {
            self.config.relays.retain(|relay| relay.key != own);
        }
        if self.config.relays.len() < count {
            let names = self.config.relays.iter().map(RelayName::to_string);
            let names = Value::Array(names.map(Value::String).collect());
            self.replace("mesh.relays", names, "without this relay itself");
        }
    }

    /// Returns the settings for what finds relays by itself, a registry: within a deployment only
    /// the deployment's are dialed.
    pub(crate) fn config_of_registry(&self) -> Config {
        let mut config = self.config.clone();
        if let Some(deployment) = &self.deployment {
            config.allowed_relays = deployment.within(&config.allowed_relays);
        }
        config
    }

    /// Returns where a key is set; `None` when nobody has said anything.
    pub(crate) fn place_of(&self, path: &str) -> Option<String> {
        let one = self.values.iter().find(|one| one.key.path == path)?;
        (one.origin != Origin::Default).then(|| one.origin.place())
    }

    /// Puts in what became of a value.
    pub(super) fn replace(&mut self, path: &str, value: Value, note: &'static str) {
        if let Some(one) = self.values.iter_mut().find(|one| one.key.path == path) {
            one.value = Some(value);
            one.note = Some(note);
        }
    }
}

impl Effective {
    /// Returns the value as it stands in a file, without passwords; `None` where there is none.
    pub(crate) fn text(&self) -> Option<String> {
        self.value.as_ref().map(|value| toml_text(&shown(value)))
    }

    /// Returns whether the value holds something that is not shown.
    pub(crate) fn is_secret(&self) -> bool {
        self.value
            .as_ref()
            .is_some_and(|value| shown(value) != *value)
    }

    /// Returns where the value comes from, and what has been done to it.
    pub(crate) fn from(&self) -> String {
        match self.note {
            Some(note) => format!("{}, {note}", self.origin),
            None => self.origin.to_string(),
        }
    }

    /// Returns the value and its origin for machines.
    pub(crate) fn json(&self) -> Json {
        json!({
            "key": self.key.path,
            "value": self.value.as_ref().map(|value| json_of(&shown(value))),
            "from": self.origin.json(),
            "note": self.note,
        })
    }
}

/// Returns a value in one line of TOML.
fn toml_text(value: &Value) -> String {
    match value {
        Value::Array(elements) => {
            let texts: Vec<String> = elements.iter().map(toml_text).collect();
            format!("[{}]", texts.join(", "))
        }
        Value::String(text) => {
            let mut quoted = "\"".to_owned();
            for letter in text.chars() {
                match letter {
                    '"' | '\\' => quoted.extend(['\\', letter]),
                    control if control.is_control() => {
                        quoted.push_str(&format!("\\u{:04X}", u32::from(control)));
                    }
                    other => quoted.push(other),
                }
            }
            quoted.push('"');
            quoted
        }
        other => other.to_string(),
    }
}

fn json_of(value: &Value) -> Json {
    match value {
        Value::Array(elements) => elements.iter().map(json_of).collect(),
        Value::Boolean(is_set) => json!(is_set),
        Value::Integer(number) => json!(number),
        Value::String(text) => json!(text),
        other => json!(other.to_string()),
    }
}

fn shown(value: &Value) -> Value {
    match value {
        Value::Array(elements) => Value::Array(elements.iter().map(shown).collect()),
        Value::String(text) => Value::String(without_password(text)),
        other => other.clone(),
    }
}

/// Hides who logs in at a URL and how. In doubt too much: a password may have any letter in it.
pub(super) fn without_password(text: &str) -> String {
    let hidden = text.split_once("://").and_then(|(scheme, rest)| {
        let (_, host) = rest.rsplit_once('@')?;
        Some(format!("{scheme}://***@{host}"))
    });
    hidden.unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_urls_are_hidden() {
        for (text, expected) in [
            ("redis://user:pass@host:6379/0", "redis://***@host:6379/0"),
            ("redis://:p@ss/w:rd@host", "redis://***@host"),
            ("redis://host:6379", "redis://host:6379"),
            ("KEY@relay.example:7100", "KEY@relay.example:7100"),
            ("://@", "://***@"),
            ("", ""),
        ] {
            assert_eq!(without_password(text), expected);
        }
        let value = Value::Array(vec![Value::String("redis://a:b@c".into())]);
        assert_eq!(toml_text(&shown(&value)), "[\"redis://***@c\"]");
    }

    #[test]
    fn text_of_a_value_is_one_line_that_reads_back() {
        for value in [
            Value::Integer(-7),
            Value::String("a \"quoted\" \\ line\nand\ttab\u{7f}\u{85} \u{20ac}".into()),
            Value::Array(vec![Value::String(String::new()), Value::Integer(1)]),
            Value::Array(Vec::new()),
        ] {
            let text = format!("x = {}", toml_text(&value));
            assert_eq!(text.lines().count(), 1, "{text}");
            let table: toml::Table = text.parse().unwrap();
            assert_eq!(table["x"], value);
        }
    }
}
