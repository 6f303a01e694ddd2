//! Rules of the source tree that no compiler checks.
//!
//! Here: what files may be called, how long they are, which words they contain, where `unsafe` may
//! stand, whether links lead somewhere. Not here: edges between crates (`dependencies.rs`), documents
//! compared with code (`documents.rs`).
//!
//! Every check names the file, the line and what to write instead, and reports all of its findings
//! at once.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Most lines of a Rust file, tests included; longer ones are split.
const FILE_LINES_MAX: usize = 1_200;

/// Lines above which a Rust file must stand in [`LONG_FILES`].
const FILE_LINES_SOFT: usize = 800;

/// Rust files that are longer than [`FILE_LINES_SOFT`], each with the length it must not exceed. The
/// list is a ratchet: an entry may shrink or leave, a new one needs a reason in its commit.
const LONG_FILES: &[(&str, usize)] = &[("shards/src/ring/tests.rs", 820)];

/// Most characters of a comment line of Rust. rustfmt holds code at 100 and leaves comments alone.
const LINE_CHARS_MAX: usize = 110;

/// Words that stay out of code, with what to do instead. Split so that this file passes itself.
const BANNED: &[(&str, &str)] = &[
    (concat!("FIX", "ME"), "fix it, or open an issue"),
    (concat!("TO", "DO"), "do it, or open an issue"),
    (concat!("XX", "X"), "say what is wrong, or open an issue"),
    (concat!("db", "g!"), "use tracing, or take it out"),
];

/// What no file of the repository may contain: places that exist on one machine only.
const MACHINE_WORDS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/tm", "p/t/"),
    concat!("/tm", "p/rw"),
    concat!("/ro", "ot/"),
    concat!("index.cra", "tes.io"),
    concat!("static.cra", "tes.io"),
    concat!("file", "://"),
];

/// The only directory whose files may contain `unsafe`.
const UNSAFE_HOME: &str = "shards/src/ring";

/// Directories that are not part of the repository.
const SKIPPED: &[&str] = &[".git", "target", "artifacts", "coverage", "node_modules"];

#[test]
fn rust_files_are_ascii() {
    report(each_line("rs", |line| {
        let found = line.chars().find(|c| !c.is_ascii())?;
        Some(format!(
            "`{found}` is not ASCII: write it in words or as an escape"
        ))
    }));
}

#[test]
fn comments_fit_the_page() {
    report(each_line("rs", |line| {
        let is_comment = line.trim_start().starts_with("//") && !line.contains("://");
        let chars = line.chars().count();
        (is_comment && chars > LINE_CHARS_MAX)
            .then(|| format!("{chars} characters, at most {LINE_CHARS_MAX}: break the line"))
    }));
}

#[test]
fn code_has_no_banned_words() {
    let mut problems = Vec::new();
    for extension in ["rs", "toml", "sh", "yml"] {
        problems.extend(each_line(extension, |line| {
            BANNED
                .iter()
                .find(|(word, _)| has_word(line, word))
                .map(|(word, instead)| format!("`{word}`: {instead}"))
        }));
    }
    report(problems);
}

#[test]
fn nothing_names_a_build_machine() {
    let mut problems = Vec::new();
    for path in files() {
        // The lock file names the public index, which is the point of it; binary files have no lines.
        if path.ends_with("Cargo.lock") {
            continue;
        }
        let Ok(text) = fs::read_to_string(root().join(&path)) else {
            continue;
        };
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(word) = MACHINE_WORDS.iter().find(|word| line.contains(**word)) {
                problems.push(format!(
                    "{}:{number}: `{word}` exists on one machine only",
                    path.display()
                ));
            }
        }
    }
    report(problems);
}

#[test]
fn lock_file_names_only_the_public_index() {
    const PUBLIC: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    let text = read(Path::new("Cargo.lock"));
    report(
        text.lines()
            .filter(|line| line.starts_with("source = ") && *line != PUBLIC)
            .map(|line| format!("Cargo.lock: {line}"))
            .collect(),
    );
}

#[test]
fn rust_files_stay_short() {
    let mut problems = Vec::new();
    for path in files_with("rs") {
        let lines = read(&path).lines().count();
        let name = slashes(&path);
        let allowed = LONG_FILES
            .iter()
            .find(|(long, _)| *long == name)
            .map_or(FILE_LINES_SOFT, |(_, lines)| *lines)
            .min(FILE_LINES_MAX);
        if lines > allowed {
            problems.push(format!(
                "{name}: {lines} lines, at most {allowed}: split it, or move its tests to a file \
                 of their own"
            ));
        }
    }
    for (name, _) in LONG_FILES {
        if !root().join(name).is_file() {
            problems.push(format!("{name}: stands in LONG_FILES and does not exist"));
        }
    }
    report(problems);
}

#[test]
fn modules_are_named_by_their_file() {
    report(
        files_with("rs")
            .iter()
            .filter(|path| path.ends_with("mod.rs"))
            .map(|path| format!("{}: write foo.rs beside foo/ instead", path.display()))
            .collect(),
    );
}

#[test]
fn every_rust_file_has_a_header() {
    report(
        files_with("rs")
            .iter()
            .filter(|path| {
                let text = read(path);
                // A fuzz target starts with the attribute that removes `main`.
                let first = text.lines().find(|line| !line.starts_with("#!["));
                // A file that another one includes cannot have `//!` and says so.
                !first.is_some_and(|line| line.starts_with("//!") || line.contains("No `//!` here"))
            })
            .map(|path| format!("{}: starts without a `//!` header", path.display()))
            .collect(),
    );
}

#[test]
fn crates_without_unsafe_forbid_it() {
    let crates = [
        "bench", "client", "fuzz", "loadgen", "proto", "sim", "src", "tuning",
    ];
    let mut problems = Vec::new();
    for name in crates {
        let path = if name == "src" {
            "src/lib.rs".into()
        } else {
            format!("{name}/src/lib.rs")
        };
        if !read(Path::new(&path)).contains("#![forbid(unsafe_code)]") {
            problems.push(format!(
                "{path}: write `#![forbid(unsafe_code)]` at the top"
            ));
        }
    }
    report(problems);
}

#[test]
fn unsafe_stays_in_the_ring_and_is_listed() {
    let mut problems = Vec::new();
    let mut counted = Vec::new();
    for path in files_with("rs") {
        let name = slashes(&path);
        let count = unsafe_count(&read(&path));
        if count == 0 {
            continue;
        }
        if name.starts_with(UNSAFE_HOME) {
            counted.push((name, count));
        } else {
            problems.push(format!(
                "{name}: {count} uses of unsafe outside {UNSAFE_HOME}"
            ));
        }
    }
    let listed = listed_unsafe(&read(Path::new("docs/internals/unsafe.md")));
    for (name, count) in &counted {
        match listed.iter().find(|(file, _)| file == name) {
            None => problems.push(format!("{name}: {count} uses of unsafe, no section")),
            Some((_, rows)) if rows != count => problems.push(format!(
                "{name}: {count} uses of unsafe, {rows} rows in docs/internals/unsafe.md"
            )),
            Some(_) => {}
        }
    }
    for (name, _) in &listed {
        if !counted.iter().any(|(file, _)| file == name) {
            problems.push(format!("docs/internals/unsafe.md: {name} has no unsafe"));
        }
    }
    report(problems);
}

#[test]
fn clippy_files_share_their_lines() {
    // Clippy takes the nearest clippy.toml and does not merge.
    let shared = read(Path::new("clippy.toml"));
    let mut problems = Vec::new();
    for path in files_with("toml") {
        if !path.ends_with("clippy.toml") || path == Path::new("clippy.toml") {
            continue;
        }
        let own: BTreeSet<String> = read(&path).lines().map(squeeze).collect();
        for line in shared.lines().map(squeeze).filter(|line| !line.is_empty()) {
            if !own.contains(&line) {
                problems.push(format!("{}: lacks `{line}` of clippy.toml", path.display()));
            }
        }
    }
    report(problems);
}

#[test]
fn every_document_has_one_title() {
    let mut problems = Vec::new();
    for path in files_with("md") {
        let titles = prose(&read(&path))
            .filter(|(_, line)| line.starts_with("# "))
            .count();
        if titles != 1 {
            problems.push(format!(
                "{}: {titles} lines start with `# `",
                path.display()
            ));
        }
    }
    report(problems);
}

#[test]
fn links_between_documents_resolve() {
    let mut problems = Vec::new();
    for path in files_with("md") {
        for (number, line) in prose(&read(&path)) {
            for target in links(line) {
                if let Some(problem) = broken(&path, target) {
                    problems.push(format!("{}:{number}: {problem}", path.display()));
                }
            }
        }
    }
    report(problems);
}

#[test]
fn every_document_is_reachable_from_the_readme() {
    let all: BTreeSet<PathBuf> = files_with("md").into_iter().collect();
    let mut seen = BTreeSet::new();
    let mut waiting = vec![PathBuf::from("README.md")];
    // Bound: every document enters `seen` once.
    while let Some(path) = waiting.pop() {
        if !all.contains(&path) || !seen.insert(path.clone()) {
            continue;
        }
        for (_, line) in prose(&read(&path)) {
            for target in links(line) {
                let file = target.split('#').next().unwrap_or(target);
                waiting.push(normal(&parent(&path).join(file)));
            }
        }
    }
    report(
        all.difference(&seen)
            .map(|path| format!("{}: no chain of links leads here", path.display()))
            .collect(),
    );
}

#[test]
fn documents_named_in_code_exist() {
    let mut problems = Vec::new();
    for path in files_with("rs") {
        for (number, line) in (1..).zip(read(&path).lines()) {
            for word in line.split(|c: char| !(c.is_alphanumeric() || "./_-".contains(c))) {
                let Some(at) = word.find(".md") else { continue };
                let name = &word[..at + 3];
                // Documents of other projects are named with the project before them.
                let is_own = line.trim_start().starts_with("//") && !line.contains("spec.md");
                if is_own && !root().join(name).is_file() && !parent(&path).join(name).is_file() {
                    problems.push(format!("{}:{number}: no file {name}", path.display()));
                }
            }
        }
    }
    report(problems);
}

/// Fails with all problems, one a line.
fn report(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// Calls `check` with each line of each file with this extension, and collects what it says.
fn each_line(extension: &str, check: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut problems = Vec::new();
    for path in files_with(extension) {
        for (number, line) in (1..).zip(read(&path).lines()) {
            if let Some(problem) = check(line) {
                problems.push(format!("{}:{number}: {problem}", path.display()));
            }
        }
    }
    problems
}

/// Returns whether `word` stands in `line` with no letter, digit or underscore around it.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// Counts `unsafe` blocks, functions, implementations and traits, comments left out.
fn unsafe_count(text: &str) -> usize {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or(line))
        .map(|code| {
            code.match_indices("unsafe ")
                .filter(|(at, word)| {
                    let before = code[..*at].chars().next_back();
                    let after = &code[at + word.len()..];
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
                        && ["{", "fn ", "impl", "trait ", "extern "]
                            .iter()
                            .any(|what| after.starts_with(what))
                })
                .count()
        })
        .sum()
}

/// Returns the files that `docs/internals/unsafe.md` names in headings, with the rows of their tables.
fn listed_unsafe(document: &str) -> Vec<(String, usize)> {
    let mut listed: Vec<(String, usize)> = Vec::new();
    for (_, line) in prose(document) {
        if let Some(heading) = line.strip_prefix("## ") {
            let name = heading.split('`').nth(1).unwrap_or(heading).trim();
            listed.push((name.to_owned(), 0));
        } else if line.starts_with('|')
            && !line.starts_with("|-")
            && !line.starts_with("| -")
            && let Some((_, rows)) = listed.last_mut()
        {
            *rows += 1;
        }
    }
    // The first row of each table is its head.
    listed
        .into_iter()
        .filter(|(name, rows)| name.ends_with(".rs") && *rows > 0)
        .map(|(name, rows)| (name, rows - 1))
        .collect()
}

/// Returns the lines of a document outside fenced code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// Returns the targets of the links in a line that lead into the repository.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](").filter_map(|(at, mark)| {
        let target = line[at + mark.len()..].split([')', ' ']).next()?;
        let is_outside = target.contains("://") || target.starts_with("mailto:");
        (!target.is_empty() && !is_outside).then_some(target)
    })
}

/// Says why a link leads nowhere, or nothing when it does not.
fn broken(from: &Path, target: &str) -> Option<String> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() {
        from.to_owned()
    } else {
        normal(&parent(from).join(file))
    };
    let full = root().join(&path);
    if !full.exists() {
        return Some(format!("link to {target}: no such file"));
    }
    if anchor.is_empty() || !full.is_file() {
        return None;
    }
    let text = read(&path);
    let is_there = prose(&text)
        .filter(|(_, line)| line.starts_with('#'))
        .any(|(_, line)| anchor_of(line.trim_start_matches('#').trim()) == anchor);
    (!is_there).then(|| format!("link to {target}: no such heading"))
}

/// Returns the anchor that renderers give a heading.
fn anchor_of(heading: &str) -> String {
    heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| {
            if c == ' ' {
                '-'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

/// Resolves `.` and `..` without asking the file system.
fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part.as_os_str().to_str() {
            Some(".") => {}
            Some("..") => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts
}

/// Returns every file of the repository, relative to its root, in order.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        let entries = fs::read_dir(root().join(&directory));
        for entry in entries.into_iter().flatten().filter_map(io::Result::ok) {
            let path = directory.join(entry.file_name());
            let is_skipped = SKIPPED.iter().any(|name| entry.file_name() == *name);
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !is_skipped => waiting.push(path),
                Ok(kind) if kind.is_file() => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no files below {}", root().display());
    found
}

fn files_with(extension: &str) -> Vec<PathBuf> {
    let mut found = files();
    found.retain(|path| path.extension().is_some_and(|own| own == extension));
    found
}

/// Returns a file's text; a missing one is empty, and the checks then say what they miss in it.
fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_default()
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new(""))
}

fn slashes(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "/")
}

/// Removes what formatting may change: repeated blanks and comments.
fn squeeze(line: &str) -> String {
    let code = line.split('#').next().unwrap_or(line);
    code.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
