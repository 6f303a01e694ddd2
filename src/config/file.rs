//! The TOML file as a flat list of keys and values.
//!
//! Here: reading, and flattening tables to paths with dots. Not here: what the keys mean; an unknown
//! one passes through and is refused by `resolve` together with everything else.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use toml::{Table, Value};

use crate::failure::Failure;

/// Reads a file.
///
/// # Errors
///
/// [`Failure::Host`] when it cannot be read, [`Failure::Usage`] when it is too large.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    // Not by the size that the file system reports: a device has none, and no end.
    let read = File::open(path)
        .and_then(|file| file.take(SIZE_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            let fix = match error.kind() {
                io::ErrorKind::NotFound => {
                    "; name an existing file with --config, or leave the flag out to start without one"
                }
                io::ErrorKind::PermissionDenied => "; make it readable for this user",
                _ => "",
            };
            let what = format!("cannot read the configuration {}{fix}", path.display());
            Failure::host(what, error)
        })?;
    if read as u64 > SIZE_MAX {
        let what = format!(
            "{} is larger than {SIZE_MAX} bytes, the most that a configuration file may have; name the \
             right file with --config",
            path.display()
        );
        return Err(Failure::Usage(what));
    }
    Ok(bytes)
}

/// Returns every leaf of the file with its path.
///
/// # Errors
///
/// The position and the reason, when the bytes are no TOML.
pub(super) fn leaves(bytes: &[u8]) -> Result<Vec<(String, Value)>, String> {
    let text = str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        format!(
            "{}: the byte 0x{:02x} is no UTF-8; save the file as UTF-8",
            line_of(bytes, at),
            bytes[at]
        )
    })?;
    let table: Table = toml::from_str(text).map_err(|error| {
        let line = line_of(bytes, error.span().map_or(0, |span| span.start));
        format!("{line}: {}", error.message().replace('\n', ", "))
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

fn line_of(bytes: &[u8], at: usize) -> String {
    let before = bytes.iter().take(at);
    format!("line {}", before.filter(|byte| **byte == b'\n').count() + 1)
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
            leaves(b"listen = \"a\"\n[limits]\nsessions_max = 5\n[tcp.deep]\nx = 1").unwrap();
        let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["limits.sessions_max", "listen", "tcp.deep.x"]);
    }

    #[test]
    fn empty_tables_are_leaves_when_named_like_keys() {
        assert_eq!(leaves(b"[listen]").unwrap().len(), 1);
        assert_eq!(leaves(b"").unwrap(), []);
    }

    #[test]
    fn syntax_error_names_the_line() {
        let error = leaves(b"listen = \"a\"\nshards =\n").unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
    }

    #[test]
    fn bytes_that_are_no_text_name_the_line() {
        let error = leaves(b"listen = \"a\"\n# caf\xe9\n").unwrap_err();
        assert!(error.starts_with("line 2: the byte 0xe9 "), "{error}");
    }

    #[test]
    fn file_without_end_is_too_large() {
        let failure = read(Path::new("/dev/zero")).unwrap_err();
        assert!(
            failure.to_string().contains("is larger than 1048576 bytes"),
            "{failure}"
        );
    }
}
