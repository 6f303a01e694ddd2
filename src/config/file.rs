//! The TOML file as a flat list of keys and values.
//!
//! Here: reading, and flattening tables to paths with dots. Not here: what the keys mean; an unknown
//! one passes through and is refused by `resolve` together with everything else.

use std::path::Path;

use toml::{Table, Value};

use crate::failure::Failure;

/// Reads a file.
///
/// # Errors
///
/// [`Failure::Host`] when it cannot be read.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    if size > SIZE_MAX {
        let what = format!(
            "{} has {size} bytes; a configuration file has at most {SIZE_MAX}",
            path.display()
        );
        return Err(Failure::Usage(what));
    }
    std::fs::read_to_string(path).map_err(|error| {
        let fix = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "; name an existing file with --config, or leave the flag out to start without one"
            }
            std::io::ErrorKind::PermissionDenied => "; make it readable for this user",
            _ => "",
        };
        let what = format!("cannot read the configuration {}{fix}", path.display());
        Failure::host(what, error)
    })
}

/// Returns every leaf of the file with its path.
///
/// # Errors
///
/// The position and the reason, when the text is no TOML.
pub(super) fn leaves(text: &str) -> Result<Vec<(String, Value)>, String> {
    let table: Table = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| {
            text.bytes()
                .take(span.start)
                .filter(|byte| *byte == b'\n')
                .count()
                + 1
        });
        format!("line {line}: {}", error.message().replace('\n', ", "))
    })?;
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
    Ok(found)
}

fn prefixed(prefix: &str, table: Table) -> impl Iterator<Item = (String, Value)> + use<> {
    let prefix = match prefix {
        "" => String::new(),
        prefix => format!("{prefix}."),
    };
    table
        .into_iter()
        .map(move |(key, value)| (format!("{prefix}{key}"), value))
}

/// Largest configuration file in bytes: hundreds of times a full one, and small enough to read whole
/// when the path is a mistake.
const SIZE_MAX: u64 = 1_048_576;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_carry_their_path() {
        let found =
            leaves("listen = \"a\"\n[limits]\nsessions_max = 5\n[tcp.deep]\nx = 1").unwrap();
        let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["limits.sessions_max", "listen", "tcp.deep.x"]);
    }

    #[test]
    fn empty_tables_are_leaves_when_named_like_keys() {
        assert_eq!(leaves("[listen]").unwrap().len(), 1);
        assert_eq!(leaves("").unwrap(), []);
    }

    #[test]
    fn syntax_error_names_the_line() {
        let error = leaves("listen = \"a\"\nshards =\n").unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
    }
}
