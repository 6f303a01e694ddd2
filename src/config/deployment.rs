//! A deployment: the relays of one operator, and the fence around them.
//!
//! Here: its document, what it says of configuration keys, and which endpoints and keys it lets through.
//! Not here: which layer wins (`resolve`), and connecting.
//!
//! Invariant: a relay that `admits` refuses is neither contacted nor looked up.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use ringway_proto::key::PublicKey;
use ringway_shards::set::AllowedRelays;
use toml::Value;

use super::RegistryChoice;
use super::effective::without_password;
use super::file::{self, Document, Kind};
use super::origin::{Origin, Place};
use super::problems::{Problem, Problems};
use super::values::{allowed_relays, registry, relays};
use crate::failure::Failure;
use crate::relay_name::RelayName;

/// The environment variable that names a deployment, or holds it.
pub(crate) const VARIABLE: &str = "RINGWAY_DEPLOY";

/// What one operator runs: nothing outside of it is contacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deployment {
    /// Its name, for people.
    pub(crate) name: String,
    /// The file it was read from, or the variable that holds it.
    pub(crate) source: String,
    /// Its relays, at least one.
    pub(crate) relays: Vec<RelayName>,
    /// Which relays may make links with those of the deployment, besides these themselves; `None`
    /// when the deployment says nothing of it.
    pub(crate) allowed_relays: Option<AllowedRelays>,
    /// Where its relays keep which of them has which peer; `None` when the deployment says nothing of it.
    pub(crate) registry: Option<RegistryChoice>,
    relays_line: Option<usize>,
    allowed_line: Option<usize>,
    registry_line: Option<usize>,
}

impl Deployment {
    /// Reads the deployment that the flag names, else the one of the environment, if there is one.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`] when a file cannot be read, [`Failure::Usage`] when it is too large or the
    /// variable is empty, [`Failure::Configuration`] with every problem of the document.
    pub(crate) fn find(
        flag: Option<&Path>,
        variable: Option<OsString>,
    ) -> Result<Option<Self>, Failure> {
        match (flag, variable) {
            (Some(path), _) => Self::read(path).map(Some),
            (None, Some(value)) if value.is_empty() => Err(Failure::Usage(format!(
                "{VARIABLE} is empty: name a deployment file with it, or unset it to start without one"
            ))),
            (None, Some(value)) => match value.to_str() {
                Some(text) if text.starts_with('{') => {
                    let document = Document::of_json(text)
                        .map_err(|error| whole(VARIABLE, format!("no valid JSON: {error}")))?;
                    Ok(Some(Self::of(&document, VARIABLE)?))
                }
                _ => Self::read(Path::new(&value)).map(Some),
            },
            (None, None) => Ok(None),
        }
    }

    /// Refuses a relay that is not one of the deployment.
    ///
    /// # Errors
    ///
    /// A sentence that names the relay, the deployment and what to do.
    pub(crate) fn admits(&self, relay: &RelayName) -> Result<(), String> {
        let Self { name, source, .. } = self;
        let outside =
            format!("the deployment {name} ({source}), and nothing outside it is contacted");
        match self.relays.iter().find(|own| own.key == relay.key) {
            Some(own) if own.is_at_address_of(relay) => Ok(()),
            Some(own) => Err(format!(
                "{relay} is not where it is in {outside}; write {own}, or change its address in the \
                 deployment's relays"
            )),
            None => Err(format!(
                "{relay} is not in {outside}; leave it out, or add it to the deployment's relays"
            )),
        }
    }

    /// Refuses keys of relays that the deployment neither has nor allows.
    ///
    /// # Errors
    ///
    /// A sentence that names the first of them, the deployment and what to do.
    pub(super) fn admits_keys(&self, allowed: &AllowedRelays) -> Result<(), String> {
        let known: BTreeSet<PublicKey> = match &self.allowed_relays {
            Some(AllowedRelays::All) => return Ok(()),
            Some(AllowedRelays::Listed(keys)) => keys.clone(),
            None => BTreeSet::new(),
        };
        let is_outside =
            |key: &&PublicKey| !known.contains(key) && self.relays.iter().all(|r| r.key != **key);
        let stranger = match allowed {
            AllowedRelays::All => "\"all\"".to_owned(),
            AllowedRelays::Listed(keys) => match keys.iter().find(is_outside) {
                Some(key) => key.to_string(),
                None => return Ok(()),
            },
        };
        let Self { name, source, .. } = self;
        Err(format!(
            "{stranger} is more than the deployment {name} ({source}) allows; leave it out, or add it to \
             keys.allowed_relays of the deployment"
        ))
    }

    /// Refuses a registry that is not the deployment's. Who logs in there may differ: a password
    /// need not stand in a file that everybody has.
    ///
    /// # Errors
    ///
    /// A sentence that names the registry, without its password, the deployment and what to do.
    pub(super) fn admits_registry(&self, choice: &RegistryChoice) -> Result<(), String> {
        let RegistryChoice::Redis(url) = choice else {
            return Ok(());
        };
        let own = match &self.registry {
            Some(RegistryChoice::Redis(own)) => Some(own),
            _ => None,
        };
        if own.is_some_and(|own| place_of(own) == place_of(url)) {
            return Ok(());
        }
        let Self { name, source, .. } = self;
        let url = without_password(url);
        Err(format!(
            "{url} is not the registry of the deployment {name} ({source}), and nothing outside it is \
             contacted; leave it out, or name it as the deployment's registry"
        ))
    }

    /// Returns those of the allowed relays that the deployment has: the others may come, and are not
    /// contacted, whatever a registry says of them.
    pub(super) fn within(&self, allowed: &AllowedRelays) -> AllowedRelays {
        let own = self.relays.iter().map(|relay| relay.key);
        AllowedRelays::Listed(match allowed {
            AllowedRelays::All => own.collect(),
            AllowedRelays::Listed(keys) => own.filter(|key| keys.contains(key)).collect(),
        })
    }

    /// Returns what the deployment says of configuration keys.
    pub(super) fn values(&self) -> Vec<(&'static str, Value, Origin)> {
        let origin = |line| Origin::Deployment {
            name: self.name.clone(),
            place: Place::new(&self.source, line),
        };
        let names = self.relays.iter().map(RelayName::to_string);
        let relays = Value::Array(names.map(Value::String).collect());
        let mut values = vec![("mesh.relays", relays, origin(self.relays_line))];
        let allowed = self.allowed_relays.as_ref().map(|allowed| match allowed {
            AllowedRelays::All => Value::String("all".to_owned()),
            AllowedRelays::Listed(keys) => {
                let keys = keys.iter().map(PublicKey::to_string);
                Value::Array(keys.map(Value::String).collect())
            }
        });
        values.extend(allowed.map(|allowed| ("mesh.allowed", allowed, origin(self.allowed_line))));
        let registry = self.registry.as_ref().map(|registry| match registry {
            RegistryChoice::Embedded => "embedded".to_owned(),
            RegistryChoice::Off => "off".to_owned(),
            RegistryChoice::Redis(url) => url.clone(),
        });
        values.extend(registry.map(|registry| {
            let registry = Value::String(registry);
            ("mesh.registry", registry, origin(self.registry_line))
        }));
        values
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = file::read(path, FILE)?;
        let source = path.display().to_string();
        let document = Document::of_toml(&bytes)
            .map_err(|error| whole(&source, format!("no valid TOML: {error}")))?;
        Ok(Self::of(&document, &source)?)
    }

    /// Takes a document apart, and names everything that is wrong with it.
    fn of(document: &Document, source: &str) -> Result<Self, Problems> {
        let mut draft = Draft {
            document,
            source,
            problems: Vec::new(),
        };
        let (mut name, mut listed) = (None, None);
        let (mut allowed, mut kept) = (None, None);
        for (path, value) in &document.leaves {
            match path.as_str() {
                "name" => name = draft.take(path, name_of(value)),
                "relays" => listed = draft.relays(value),
                "registry" => kept = draft.take(path, registry(value)),
                "keys.allowed_relays" => allowed = draft.take(path, allowed_relays(value)),
                // A table of key sets that has none.
                "keys" if value.is_table() => {}
                _ => draft.problem(
                    path,
                    format!("is no key of a deployment; the keys are {KEYS}"),
                ),
            }
        }
        for (path, fix) in [("name", NAME_FIX), ("relays", RELAYS_FIX)] {
            if !document.leaves.iter().any(|(found, _)| found == path) {
                draft.problem(path, format!("is missing; {fix}"));
            }
        }
        let problems = draft.problems;
        match (name, listed) {
            (Some(name), Some(relays)) if problems.is_empty() => Ok(Self {
                name,
                source: Place::new(source, None).to_string(),
                relays,
                allowed_relays: allowed,
                registry: kept,
                relays_line: document.line("relays"),
                allowed_line: document.line("keys.allowed_relays"),
                registry_line: document.line("registry"),
            }),
            _ => Err(Problems::of_deployment(problems)),
        }
    }
}

/// A deployment that is being read.
struct Draft<'a> {
    document: &'a Document,
    source: &'a str,
    problems: Vec<Problem>,
}

impl Draft<'_> {
    fn relays(&mut self, value: &Value) -> Option<Vec<RelayName>> {
        let Value::Array(elements) = value else {
            self.problem("relays", format!("is no list; {RELAYS_FIX}"));
            return None;
        };
        let before = self.problems.len();
        for (position, element) in elements.iter().enumerate() {
            let one = Value::Array(vec![element.clone()]);
            self.take(&format!("relays[{position}]"), relays(&one));
        }
        if self.problems.len() > before {
            return None;
        }
        match relays(value) {
            Ok(found) if found.is_empty() => {
                self.problem("relays", format!("is empty; {RELAYS_FIX}"));
                None
            }
            found => self.take("relays", found),
        }
    }

    fn take<T>(&mut self, path: &str, found: Result<T, String>) -> Option<T> {
        found.map_err(|error| self.problem(path, error)).ok()
    }

    fn problem(&mut self, path: &str, text: String) {
        let place = Place::new(self.source, self.document.line(path));
        self.problems.push(Problem {
            origin: place.to_string(),
            key: path.to_owned(),
            text,
        });
    }
}

fn whole(source: &str, text: String) -> Problems {
    Problems::of_deployment(vec![Problem {
        origin: Place::new(source, None).to_string(),
        key: "file".to_owned(),
        text,
    }])
}

/// Returns a URL without who logs in there.
fn place_of(url: &str) -> (&str, &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    (
        scheme,
        rest.rsplit_once('@').map_or(rest, |(_, place)| place),
    )
}

fn name_of(value: &Value) -> Result<String, String> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match value.as_str() {
        Some(name) if (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(is_letter) => {
            Ok(name.to_owned())
        }
        _ => Err(format!("{value} is no name; {NAME_FIX}")),
    }
}

/// The file of a deployment, for the texts of its errors.
const FILE: Kind = Kind {
    name: "deployment",
    fix: "--deploy or RINGWAY_DEPLOY, or take both away to start without one",
};

/// Longest name: it stands in messages, in front of what they are about.
const NAME_MAX: usize = 64;

/// What may stand in a deployment.
const KEYS: &str = "name, relays, registry and keys.allowed_relays";

const NAME_FIX: &str =
    "write 1 to 64 letters, digits, dots, dashes and underscores, such as name = \"lab\"";

const RELAYS_FIX: &str = "name at least one relay as `ringway serve` prints it, such as relays = \
                          [\"KEY@relay.example:7100\"]";

#[cfg(test)]
mod tests;
