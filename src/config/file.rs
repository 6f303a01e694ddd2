//! The TOML file as a flat list of keys and values.
//!
//! Here: reading, and flattening tables to paths with dots, with the line of each value. Not here: what
//! the keys mean; an unknown one passes through and is refused together with everything else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use crate::failure::Failure;

/// What a file is to the user, for the texts of its errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// Its name in a sentence.
    pub(super) name: &'static str,
    /// What names the file, and how to do without one.
    pub(super) fix: &'static str,
}

/// The values of a document, sorted by their paths.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// Each value with its path, tables separated by dots.
    pub(super) leaves: Vec<(String, Value)>,
    lines: BTreeMap<String, usize>,
}

impl Document {
    /// Reads a TOML document.
    ///
    /// # Errors
    ///
    /// The position and the reason, when the bytes are no TOML.
    pub(super) fn of_toml(bytes: &[u8]) -> Result<Self, String> {
        let text = str::from_utf8(bytes).map_err(|error| {
            let at = error.valid_up_to();
            let byte = bytes.get(at).copied().unwrap_or_default();
            format!(
                "line {}: the byte 0x{byte:02x} is no UTF-8; save the file as UTF-8",
                line_of(bytes, at)
            )
        })?;
        let table: Table = toml::from_str(text).map_err(|error| {
            let line = line_of(bytes, error.span().map_or(0, |span| span.start));
            format!("line {line}: {}", error.message().replace('\n', ", "))
        })?;
        Ok(Self {
            leaves: leaves(table),
            lines: lines(text),
        })
    }

    /// Reads the same document as JSON; its values have no lines.
    ///
    /// # Errors
    ///
    /// The position and the reason, when the text is no JSON or has a null.
    pub(super) fn of_json(text: &str) -> Result<Self, String> {
        let table: Table = serde_json::from_str(text).map_err(|error| error.to_string())?;
        Ok(Self {
            leaves: leaves(table),
            lines: BTreeMap::new(),
        })
    }

    /// Returns the line of a value, or of an element of a list: `relays[2]`.
    pub(super) fn line(&self, path: &str) -> Option<usize> {
        self.lines.get(path).copied()
    }
}

/// Reads a file.
///
/// # Errors
///
/// [`Failure::Host`] when it cannot be read, [`Failure::Usage`] when it is too large.
pub(super) fn read(path: &Path, kind: Kind) -> Result<Vec<u8>, Failure> {
    let Kind { name, fix } = kind;
    let mut bytes = Vec::new();
    // Not by the size that the file system reports: a device has none, and no end.
    let read = File::open(path)
        .and_then(|file| file.take(SIZE_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            let fix = match error.kind() {
                io::ErrorKind::NotFound => format!("; name an existing file with {fix}"),
                io::ErrorKind::PermissionDenied => "; make it readable for this user".to_owned(),
                _ => String::new(),
            };
            let what = format!("cannot read the {name} {}{fix}", path.display());
            Failure::host(what, error)
        })?;
    if read as u64 > SIZE_MAX {
        let what = format!(
            "{} is larger than {SIZE_MAX} bytes, the most that a {name} file may have; name the right \
             file with {fix}",
            path.display()
        );
        return Err(Failure::Usage(what));
    }
    Ok(bytes)
}

fn leaves(table: Table) -> Vec<(String, Value)> {
    // Bound: the TOML parser bounds the depth of nesting; the list is as long as the file at most.
    let mut open: Vec<(String, Value)> = prefixed("", table).collect();
    let mut found = Vec::new();
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Table(table) if !table.is_empty() => open.extend(prefixed(&path, table)),
            leaf => found.push((path, leaf)),
        }
    }
    found.sort_by(|(left, _), (right, _)| left.cmp(right));
    found
}

/// Returns the lines of all values, and of the elements of lists, of a text that is valid TOML.
fn lines(text: &str) -> BTreeMap<String, usize> {
    let Ok(root) = DeTable::parse(text) else {
        return BTreeMap::new();
    };
    let bytes = text.bytes().enumerate();
    let ends: Vec<usize> = bytes
        .filter_map(|(at, byte)| (byte == b'\n').then_some(at))
        .collect();
    let line = |value: &Spanned<DeValue<'_>>| {
        let start = value.span().start;
        ends.partition_point(|end| *end < start) + 1
    };
    let mut found = BTreeMap::new();
    let mut open = vec![(String::new(), root.get_ref())];
    while let Some((prefix, table)) = open.pop() {
        for (key, value) in table.iter() {
            let path = joined(&prefix, key.get_ref());
            found.insert(path.clone(), line(value));
            match value.get_ref() {
                DeValue::Array(elements) => {
                    let at = |(position, element)| (format!("{path}[{position}]"), line(element));
                    found.extend(elements.iter().enumerate().map(at));
                }
                DeValue::Table(table) => open.push((path, table)),
                _ => {}
            }
        }
    }
    found
}

fn line_of(bytes: &[u8], at: usize) -> usize {
    let before = bytes.iter().take(at);
    before.filter(|byte| **byte == b'\n').count() + 1
}

fn prefixed(prefix: &str, table: Table) -> impl Iterator<Item = (String, Value)> + use<> {
    let prefix = prefix.to_owned();
    table
        .into_iter()
        .map(move |(key, value)| (joined(&prefix, &key), value))
}

fn joined(prefix: &str, key: &str) -> String {
    match prefix {
        "" => key.to_owned(),
        prefix => format!("{prefix}.{key}"),
    }
}

/// Largest configuration file in bytes: hundreds of times a full one, and small enough to read whole
/// when the path is a mistake.
const SIZE_MAX: u64 = 1_048_576;

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves_of(text: &[u8]) -> Result<Vec<(String, Value)>, String> {
        Document::of_toml(text).map(|document| document.leaves)
    }

    #[test]
    fn leaves_carry_their_path() {
        let found =
            leaves_of(b"listen = \"a\"\n[limits]\nsessions_max = 5\n[tcp.deep]\nx = 1").unwrap();
        let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["limits.sessions_max", "listen", "tcp.deep.x"]);
    }

    #[test]
    fn values_and_elements_carry_their_line() {
        let text =
            b"listen = \"a\"\n\n[limits]\n# more\nmax = 5\nlist = [\n  1,\n  2]\n[a.b]\nx = 1";
        let document = Document::of_toml(text).unwrap();
        for (path, line) in [
            ("listen", 1),
            ("limits.max", 5),
            ("limits.list", 6),
            ("limits.list[0]", 7),
            ("limits.list[1]", 8),
            ("a.b.x", 10),
        ] {
            assert_eq!(document.line(path), Some(line), "{path}");
        }
        assert_eq!(document.line("limits.list[2]"), None);
    }

    #[test]
    fn json_is_the_same_document_without_lines() {
        let json = r#"{"listen": "a", "limits": {"max": 5, "list": [1, 2]}}"#;
        let document = Document::of_json(json).unwrap();
        let toml = leaves_of(b"listen = \"a\"\nlimits = { max = 5, list = [1, 2] }").unwrap();
        assert_eq!(document.leaves, toml);
        assert_eq!(document.line("listen"), None);
        let error = Document::of_json("{\n\"listen\": }").unwrap_err();
        assert!(error.contains("line 2 column"), "{error}");
        assert!(Document::of_json(r#"{"listen": null}"#).is_err());
    }

    #[test]
    fn empty_tables_are_leaves_when_named_like_keys() {
        assert_eq!(leaves_of(b"[listen]").unwrap().len(), 1);
        assert_eq!(leaves_of(b"").unwrap(), []);
    }

    #[test]
    fn syntax_error_names_the_line() {
        let error = leaves_of(b"listen = \"a\"\nshards =\n").unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
    }

    #[test]
    fn bytes_that_are_no_text_name_the_line() {
        let error = leaves_of(b"listen = \"a\"\n# caf\xe9\n").unwrap_err();
        assert!(error.starts_with("line 2: the byte 0xe9 "), "{error}");
    }

    #[test]
    fn file_without_end_is_too_large() {
        let kind = Kind {
            name: "test",
            fix: "--test",
        };
        let failure = read(Path::new("/dev/zero"), kind).unwrap_err();
        assert!(
            failure.to_string().contains("is larger than 1048576 bytes"),
            "{failure}"
        );
    }
}
