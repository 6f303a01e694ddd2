//! Where a value of the configuration comes from.
//!
//! Here: the layers, and how people and machines are told of them. Not here: which layer wins.

use std::fmt;

use serde_json::{Value as Json, json};

/// Where in a document a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file, or the variable that holds the document.
    pub(crate) document: String,
    /// Its line; `None` where the document has none worth naming.
    pub(crate) line: Option<usize>,
}

/// The layer that a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody has said anything.
    Default,
    /// The deployment.
    Deployment {
        /// Its name.
        name: String,
        /// Where it says so.
        place: Place,
    },
    /// An environment variable.
    Environment(String),
    /// The configuration file.
    File(Place),
    /// A flag, as the user wrote it.
    Flag(String),
}

impl Place {
    /// Returns a place; control characters in a file's name do not reach the terminal.
    pub(crate) fn new(document: impl fmt::Display, line: Option<usize>) -> Self {
        let document = document.to_string();
        let shown = |letter: char| match letter.is_control() {
            true => '?',
            false => letter,
        };
        Self {
            document: document.chars().map(shown).collect(),
            line,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.document),
            None => f.write_str(&self.document),
        }
    }
}

impl Origin {
    /// Returns the place alone, as problems name it.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::Deployment { place, .. } | Self::File(place) => place.to_string(),
            Self::Environment(name) | Self::Flag(name) => name.clone(),
        }
    }

    /// Returns the origin for machines.
    pub(crate) fn json(&self) -> Json {
        match self {
            Self::Default => json!({"layer": "default"}),
            Self::Deployment { name, place } => json!({
                "layer": "deployment", "name": name, "source": place.document, "line": place.line,
            }),
            Self::Environment(name) => json!({"layer": "environment", "variable": name}),
            Self::File(place) => json!({
                "layer": "file", "source": place.document, "line": place.line,
            }),
            Self::Flag(name) => json!({"layer": "flag", "flag": name}),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Deployment { name, place } => write!(f, "deployment {name} ({place})"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(place) => write!(f, "file {place}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_is_named_with_its_place() {
        let deployment = Origin::Deployment {
            name: "lab".into(),
            place: Place::new("lab.toml", Some(2)),
        };
        let file = Origin::File(Place::new("a\nb.toml", Some(7)));
        let flag = Origin::Flag("--set".into());
        for (origin, text, place, layer) in [
            (Origin::Default, "default", "default", "default"),
            (
                deployment,
                "deployment lab (lab.toml:2)",
                "lab.toml:2",
                "deployment",
            ),
            (file, "file a?b.toml:7", "a?b.toml:7", "file"),
            (flag, "flag --set", "--set", "flag"),
        ] {
            assert_eq!(origin.to_string(), text);
            assert_eq!(origin.place(), place);
            assert_eq!(origin.json()["layer"], layer);
        }
    }
}
