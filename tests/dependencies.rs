//! Which crate may use which, checked against the manifests and against the `use` lines.
//!
//! Here: the edges between the crates of the workspace, the crates only one place may know, second
//! versions of a crate. Not here: licences and advisories (`deny.toml`, for cargo-deny).
//!
//! The picture these tables draw stands in `docs/architecture.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// For each crate of the workspace, the crates of the workspace it may depend on.
const EDGES: &[(&str, &[&str])] = &[
    ("ringway-proto", &[]),
    ("ringway-tuning", &["ringway-proto", "ringway-shards"]),
    ("ringway-shards", &["ringway-proto"]),
    ("ringway-client", &["ringway-proto"]),
    ("ringway-sim", &["ringway-proto", "ringway-shards"]),
    (
        "ringway-loadgen",
        &["ringway-proto", "ringway-shards", "ringway-tuning"],
    ),
    (
        "ringway-fuzz",
        &["ringway", "ringway-proto", "ringway-shards"],
    ),
    (
        "ringway-bench",
        &["ringway-client", "ringway-proto", "ringway-shards"],
    ),
    (
        "ringway",
        &[
            "ringway-client",
            "ringway-proto",
            "ringway-shards",
            "ringway-tuning",
        ],
    ),
];

/// Edges that only tests may use.
const TEST_EDGES: &[(&str, &[&str])] = &[
    // The client's tests and examples run against a real relay.
    ("ringway-client", &["ringway-shards"]),
];

/// Which parts of `ringway_shards` a crate may name; a crate that is not listed may name all.
const PARTS_OF_SHARDS: &[(&str, &[&str])] = &[
    // The load generator must not share the server's mistakes: never `core`. Its tests start a relay.
    ("loadgen/src", &["batch", "lease", "ring"]),
    // The sums and the probe: a plan is for the relay as it is, not for its code.
    ("tuning", &["memory", "probe"]),
    // The simulator drives the pure part, the ring is another driver of it.
    ("fuzz", &["batch", "core", "lease", "ports"]),
    ("sim", &["batch", "core", "lease", "ports"]),
];

/// Words that may stand only in files below the given paths, with the reason.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    (
        "io_uring::",
        &["shards/src/ring", "shards/src/probe.rs"],
        "only the ring driver talks to io_uring",
    ),
    ("snow::", &["proto"], "Noise stays behind proto's handshake"),
    (
        "getrandom::",
        &["bench", "client", "loadgen", "shards", "src", "tests"],
        "randomness is handed in to proto and sim",
    ),
];

/// Words that the files below a path may not contain, with the reason.
const NEVER_IN: &[(&str, &[&str], &str)] = &[
    (
        "proto/src",
        &["std::net", "std::time", "std::thread", "std::fs", "tokio::"],
        "proto does no I/O",
    ),
    (
        "shards/src/core",
        &[
            "std::net",
            "std::thread",
            "std::fs",
            "std::os",
            "Instant::now",
            "SystemTime",
            "socket2::",
            "rustix::",
            "getrandom::",
        ],
        "the shard core makes no system call",
    ),
    (
        "shards/src",
        &["tokio::", "axum::", "clap::"],
        "the data plane reads no configuration or HTTP",
    ),
    (
        // The command around the runs measures and spreads them over threads.
        "sim/src/main.rs",
        &["std::net"],
        "the simulated network is the only one",
    ),
    (
        "sim/src",
        &["Instant::now", "SystemTime", "std::net", "std::thread"],
        "one seed decides a run",
    ),
];

#[test]
fn crates_depend_only_downwards() {
    let metadata = metadata();
    let members: BTreeSet<String> = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    let mut problems = Vec::new();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let Some(allowed) = row(EDGES, name) else {
            problems.push(format!("{name}: is in the workspace and not in EDGES"));
            continue;
        };
        for dependency in &package.dependencies {
            let is_test = dependency.kind == DependencyKind::Development;
            let target = dependency.name.as_str();
            let is_allowed = allowed.contains(&target)
                || is_test && row(TEST_EDGES, name).is_some_and(|more| more.contains(&target));
            if members.contains(target) && !is_allowed {
                problems.push(format!("{name} -> {target}: this edge is not allowed"));
            }
        }
    }
    report(problems);
}

#[test]
fn crates_name_only_the_parts_they_may() {
    let mut problems = Vec::new();
    for (directory, allowed) in PARTS_OF_SHARDS {
        for path in rust_files(&root().join(directory)) {
            for part in parts_named(&code(&path), "ringway_shards") {
                if !allowed.contains(&part.as_str()) {
                    problems.push(format!(
                        "{}: ringway_shards::{part}, allowed are {allowed:?}",
                        shown(&path)
                    ));
                }
            }
        }
    }
    report(problems);
}

#[test]
fn crates_stay_where_they_are_known() {
    let mut problems = Vec::new();
    for path in rust_files(root()) {
        let name = shown(&path);
        let text = code(&path);
        for (word, homes, reason) in ONLY_IN {
            if text.contains(word) && !homes.iter().any(|home| name.starts_with(home)) {
                problems.push(format!("{name}: {word} ({reason})"));
            }
        }
        for (home, words, reason) in NEVER_IN {
            let is_exempt = *home == "sim/src" && name == "sim/src/main.rs";
            if !name.starts_with(home) || name.ends_with("/tests.rs") || is_exempt {
                continue;
            }
            for word in words.iter().filter(|word| text.contains(**word)) {
                problems.push(format!("{name}: {word} ({reason})"));
            }
        }
    }
    problems.retain(|problem| !problem.starts_with("tests/dependencies.rs"));
    report(problems);
}

#[test]
fn second_versions_have_a_reason() {
    let metadata = metadata();
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let nodes = metadata
        .resolve
        .as_ref()
        .map(|resolve| resolve.nodes.as_slice());
    let used: BTreeSet<_> = nodes
        .unwrap_or_default()
        .iter()
        .map(|node| &node.id)
        .collect();
    for package in metadata
        .packages
        .iter()
        .filter(|package| used.contains(&package.id))
    {
        versions
            .entry(package.name.to_string())
            .or_default()
            .insert(package.version.to_string());
    }
    let skipped = skipped();
    let is_skipped = |name: &str, version: &str| {
        skipped.iter().any(|(skip, short)| {
            skip == name && (version == short || version.starts_with(&format!("{short}.")))
        })
    };
    let mut problems = Vec::new();
    for (name, all) in &versions {
        let unexplained: Vec<_> = all
            .iter()
            .filter(|version| !is_skipped(name, version))
            .collect();
        if all.len() > 1 && unexplained.len() > 1 {
            problems.push(format!(
                "{name}: versions {unexplained:?} side by side; agree on one, or give a reason in \
                 deny.toml [bans] skip"
            ));
        }
    }
    for (name, version) in &skipped {
        let is_double = versions.get(name).is_some_and(|all| {
            all.len() > 1 && all.iter().any(|other| other.starts_with(version.as_str()))
        });
        if !is_double {
            problems.push(format!(
                "deny.toml: skip of {name}@{version} is not needed any more"
            ));
        }
    }
    report(problems);
}

#[test]
fn parser_finds_grouped_and_plain_names() {
    let text = "use ringway_shards::{batch::Batch, core::{Action, Event}, lease};\n\
                let a = ringway_shards::ring::Ring::new();";
    let parts: Vec<String> = parts_named(text, "ringway_shards").into_iter().collect();
    assert_eq!(parts, ["batch", "core", "lease", "ring"]);
}

/// Returns what `deny.toml` allows to be there twice: crate and the start of the version.
fn skipped() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("deny.toml")).unwrap_or_default();
    let table: toml::Table = toml::from_str(&text).unwrap_or_default();
    let entries = table
        .get("bans")
        .and_then(|bans| bans.get("skip"))
        .and_then(toml::Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    entries
        .iter()
        .filter(|entry| {
            let reason = entry.get("reason").and_then(toml::Value::as_str);
            reason.is_some_and(|reason| !reason.is_empty())
        })
        .filter_map(|entry| entry.get("crate")?.as_str()?.split_once('@'))
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect()
}

/// Returns the first path segments that follow `krate::`, also inside one pair of braces.
fn parts_named(text: &str, krate: &str) -> BTreeSet<String> {
    let mut parts = BTreeSet::new();
    for (at, word) in text.match_indices(krate) {
        let Some(rest) = text[at + word.len()..].strip_prefix("::") else {
            continue;
        };
        let Some(group) = rest.strip_prefix('{') else {
            parts.insert(ident(rest));
            continue;
        };
        let mut depth = 0_u32;
        let mut is_start = true;
        for (offset, c) in group.char_indices() {
            match c {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => is_start = true,
                c if is_start && !c.is_whitespace() => {
                    parts.insert(ident(&group[offset..]));
                    is_start = false;
                }
                _ => {}
            }
        }
    }
    parts.remove("");
    parts
}

fn ident(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Returns a file's text without its line comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the Rust files below a directory, build results left out.
fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_skipped = ["target", ".git"]
                .iter()
                .any(|name| entry.file_name() == *name);
            if path.is_dir() && !is_skipped {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

fn metadata() -> Metadata {
    let platform = "x86_64-unknown-linux-gnu".to_owned();
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options([
            "--offline".to_owned(),
            "--filter-platform".to_owned(),
            platform,
        ])
        .exec()
        .expect("cargo metadata describes the workspace")
}

fn row<'a>(table: &[(&str, &'a [&'a str])], name: &str) -> Option<&'a [&'a str]> {
    table
        .iter()
        .find(|(row, _)| *row == name)
        .map(|(_, targets)| *targets)
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned()
}

/// Fails with all problems, one a line.
fn report(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
