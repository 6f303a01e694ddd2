//! Documents compared with the code they describe.
//!
//! Here: hex examples, the tables of reasons, limits, sums and metrics. Not here: links and titles
//! (`tidy.rs`), the meaning of the golden vectors (proto's own tests).
//!
//! With `RINGWAY_BLESS=1` the tests write the generated parts instead of comparing them:
//! `RINGWAY_BLESS=1 cargo test --test documents`, then read the difference before committing it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringway_proto::limits;
use ringway_proto::reason::Reason;
use ringway_shards::memory::{self, Bounds};

/// Where the crates of the workspace keep their sources, from the bottom up.
const CRATES: &[&str] = &[
    "proto/src",
    "shards/src",
    "client/src",
    "src",
    "loadgen/src",
    "sim/src",
    "fuzz/src",
    "bench/src",
    "tuning/src",
];

/// Names and values of constants of `ringway_proto::limits`.
macro_rules! values {
    ($($name:ident)+) => {
        vec![$((stringify!($name), Value::value(limits::$name)),)+]
    };
}

/// Every constant of `proto/src/limits.rs`, in its order. A test below says when one is missing.
fn limit_values() -> Vec<(&'static str, String)> {
    let mut all = limit_values_of_peers();
    all.extend(limit_values_of_relays_and_memory());
    all.extend(limit_values_of_routes());
    all.extend(limit_sums());
    all
}

fn limit_values_of_peers() -> Vec<(&'static str, String)> {
    values![
        WINDOW_INITIAL
        WINDOW_MAX
        STREAMS_MAX
        SHARD_STREAMS_MAX
        EPHEMERAL_PORT_MIN
        PORT_QUARANTINE_VIRTUAL
        PORT_QUARANTINE_LOCAL
        PORT_ASIDE
        LOCAL_PORT_MIN
        LOCAL_PORT_MAX
        DIALS_MAX
        DIAL_TRIES_MAX
        HANDSHAKE_TIMEOUT
        HANDSHAKES_MAX
        HANDSHAKES_SOURCE_MAX
        HANDSHAKE_FOLD_AFTER
        HANDSHAKES_UNFOLDED_MAX
        ACCEPTS_PER_S_MAX
        HANDSHAKE_MESSAGE_MAX
        DMSG_HANDSHAKE_MESSAGE_MIN
        DMSG_HANDSHAKE_MESSAGE_MAX
        PROXY_HEADER_MAX
        PROXY_LINE_MAX
        PIPELINED_MAX
        PIPELINED_SHARD_MAX
        OPEN_TIMEOUT
        DIAL_TIMEOUT
        OPEN_TIMESTAMP_SKEW_MAX
        OPEN_NOISE_MAX
        OPEN_REQUEST_FIXED
        OPEN_RESPONSE_FIXED
        OPEN_REQUEST_MAX
        OPEN_RESPONSE_MAX
        DMSG_OPEN_NOISE_MAX
        DMSG_GEO_TEXT_MAX
        VERDICT_LEN
        SEALED_OVERHEAD
        SEALED_PLAIN_MAX
        PEER_SET_FIXED
        PEER_SET_KEYS_MAX
        SEALED_OBJECT_MAX
        DMSG_OBJECT_MAX
        DMSG_PLAIN_MAX
        NONCE_WINDOW_BITS
        DMSG_FRAME_MAX
        DMSG_FRAME_OVERHEAD
        DMSG_PAYLOAD_MAX
        RECORD_MAX
        RECORD_PREFIX
        RECORD_TAG
        RECORD_PAYLOAD_MAX
        RECORD_PAYLOAD_DEFAULT
        KEEPALIVE_INTERVAL
        KEEPALIVE_MISSED_MAX
        BRIDGE_IDLE_TIMEOUT
        HALF_CLOSED_TIMEOUT
        LINGER_TIMEOUT
        SEND_STALL_TIMEOUT
    ]
}

fn limit_values_of_relays_and_memory() -> Vec<(&'static str, String)> {
    values![
        LINKS_MAX
        LINK_STREAMS_MAX
        LINK_KEEPALIVE_INTERVAL
        LINK_RETRY_MIN
        LINK_RETRY_MAX
        FORWARD_TRIES_MAX
        NEGATIVE_ANSWER_TIME
        NEGATIVE_ANSWERS_MAX
        FORWARDED_STREAMS_MAX
        ANNOUNCED_MAX
        HOLDERS_MAX
        LOOKUPS_MAX
        PEER_ENTRY_LEN
        REQUEST_CHECKS_MAX
        REQUESTS_WAITING_MAX
        CHUNK_BYTES
        COPY_THRESHOLD
        BATCH_BYTES_MAX
        BATCH_SEGMENTS_MAX
        SESSION_REFERENCED_MAX
        SESSION_QUEUE_MAX
        SESSION_QUEUE_SMALL
        SHARD_QUEUE_MAX
        DRR_QUANTUM
        TURN_QUANTUM
        SOCKETS_RESERVED
        RECEIVE_MEMORY_MAX
    ]
}

fn limit_values_of_routes() -> Vec<(&'static str, String)> {
    values![
        ROUTE_HOPS_MAX
        ROUTE_SETUP_TIMEOUT
        ROUTE_SETUPS_MAX
        ROUTE_KEEP_ALIVE
        ROUTE_KEEP_ALIVE_MIN
        ROUTE_KEEP_ALIVE_MAX
        ROUTE_RESERVE_TIME
        ROUTE_RULES_MAX
        ROUTE_IDS_MAX
        ROUTE_MESSAGE_PREFIX
        ROUTE_MESSAGE_MAX
        ROUTE_REQUESTS_MAX
        ROUTE_FIELD_TEXT_MAX
        ROUTE_MESSAGE_TEXT_MAX
        ROUTE_TRANSPORTS_MAX
        ROUTE_PATHS_MAX
        ROUTE_AVOID_MAX
        ROUTE_PACKET_HEAD
        ROUTE_PACKET_PAYLOAD_MAX
        ROUTE_SEGMENT_NUMBER
        ROUTE_SEGMENT_HEAD
        ROUTE_SEGMENT_DATA_MAX
        ROUTE_WINDOW
        ROUTE_GROUPS_MAX
        ROUTE_NEIGHBOURS_MAX
        ROUTE_QUEUE_MAX
        ROUTE_QUEUE_ROUTE_MAX
        ROUTE_NEIGHBOUR_IDLE
        ROUTE_ANNOUNCE_TTL
    ]
}

fn limit_sums() -> Vec<(&'static str, String)> {
    values![
        OPEN_FLIGHT_MAX
        KEEPALIVE_TIMEOUT
        HANDSHAKE_BYTES_MAX
    ]
}

#[test]
fn hex_examples_are_the_golden_vectors() {
    for (document, least) in [
        ("docs/protocol.md", 5),
        ("docs/routes.md", 5),
        ("docs/dmsg.md", 4),
    ] {
        let path = root().join(document);
        let (text, problems, count) = with_hex_examples(&read(&path));
        assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
        assert!(
            count >= least,
            "only {count} hex examples in {document}: the parser lost them"
        );
        compare_or_bless(&path, &text);
    }
}

#[test]
fn reasons_are_the_ones_of_the_code() {
    let rows: Vec<String> = Reason::ALL
        .iter()
        .map(|reason| {
            format!(
                "| {} | `{}` | {} |",
                reason.code(),
                reason.label(),
                reason.text()
            )
        })
        .collect();
    let path = root().join("docs/protocol.md");
    let text = with_rows(&read(&path), "<!-- reasons:", &rows);
    compare_or_bless(&path, &text);
}

#[test]
fn limits_are_the_ones_of_the_code() {
    let values = limit_values();
    let source = read(&root().join("proto/src/limits.rs"));
    let documented = documented_constants(&source);
    let listed: BTreeSet<&str> = values.iter().map(|(name, _)| *name).collect();
    for (name, meaning) in &documented {
        assert!(
            listed.contains(name.as_str()),
            "{name}: add it to limit_values in {}",
            file!()
        );
        assert!(!meaning.is_empty(), "{name}: has no doc comment");
    }
    let rows: Vec<String> = documented
        .iter()
        .filter_map(|(name, meaning)| {
            let (_, value) = values.iter().find(|(listed, _)| listed == name)?;
            Some(format!("| `{name}` | {value} | {meaning} |"))
        })
        .collect();
    let path = root().join("docs/limits.md");
    let text = with_rows(&read(&path), "<!-- limits:", &rows);
    compare_or_bless(&path, &text);
}

#[test]
fn sums_are_the_ones_of_the_code() {
    let bounds = Bounds::of_one_shard(20_000);
    let sums = [
        ("idle session", memory::idle_session().to_vec()),
        ("session", memory::session(&bounds).to_vec()),
        ("shard", memory::shard(&bounds).to_vec()),
        ("kernel", memory::kernel(&bounds).to_vec()),
    ];
    let mut rows = Vec::new();
    for (name, terms) in sums {
        rows.extend(terms.iter().map(|term| {
            format!(
                "| {name} | {} | {} | {} | {} | {} |",
                term.name,
                term.holder,
                term.count.value(),
                term.each_bytes.value(),
                term.bytes().value()
            )
        }));
        if terms.len() > 1 {
            let total = memory::sum(&terms).value();
            rows.push(format!("| **{name}** | | | | | **{total}** |"));
        }
    }
    let path = root().join("docs/limits.md");
    let text = with_rows(&read(&path), "<!-- sums:", &rows);
    compare_or_bless(&path, &text);
}

#[test]
fn modules_are_the_ones_of_the_tree() {
    let mut rows = Vec::new();
    for directory in CRATES {
        for file in rust_files(&root().join(directory)) {
            if file.ends_with("tests.rs")
                || file.components().any(|part| part.as_os_str() == "tests")
            {
                continue;
            }
            let text = read(&file);
            let header: Vec<&str> = text
                .lines()
                .skip_while(|line| !line.starts_with("//!"))
                .map_while(|line| line.strip_prefix("//! "))
                .collect();
            let shown = file.strip_prefix(root()).unwrap_or(&file).display();
            rows.push(format!(
                "| `{shown}` | {} |",
                header.join(" ").replace('|', "\\|")
            ));
        }
    }
    let path = root().join("docs/modules.md");
    let text = with_rows(&read(&path), "<!-- modules:", &rows);
    compare_or_bless(&path, &text);
}

#[test]
fn metrics_are_the_ones_of_the_code() {
    let mut files = rust_files(&root().join("src/control"));
    files.push(root().join("src/registry/numbers.rs"));
    files.push(root().join("src/services/route_setup/numbers.rs"));
    files.push(root().join("src/services/finder/numbers.rs"));
    files.push(root().join("src/dmsg/discovery/numbers.rs"));
    files.push(root().join("src/dmsg/discovery_server/numbers.rs"));
    files.push(root().join("src/dmsg/discovery_server/pages.rs"));
    let source: String = files.iter().map(|file| read(file)).collect();
    let code = metric_names(&source, '"');
    let path = root().join("docs/metrics.md");
    let rows = metric_rows(&read(&root().join("src/control/metrics/table.rs")));
    assert!(
        rows.len() >= 10,
        "only {} metrics in src/control/metrics/table.rs",
        rows.len()
    );
    let text = with_rows(&read(&path), "<!-- metrics:", &rows);
    let document = metric_names(&text, '`');
    assert!(
        !code.is_empty(),
        "no metric names in src/control: the parser lost them"
    );
    let missing: Vec<_> = code.difference(&document).collect();
    let stale: Vec<_> = document.difference(&code).collect();
    assert!(missing.is_empty(), "docs/metrics.md lacks {missing:?}");
    assert!(
        stale.is_empty(),
        "docs/metrics.md describes {stale:?}, which no code exports"
    );
    compare_or_bless(&path, &text);
}

#[test]
fn configuration_keys_are_the_ones_of_the_code() {
    let source = read(&root().join("src/config/keys.rs"));
    let quoted = |text: &str, field: &str| {
        let (_, rest) = text.split_once(&format!("{field}: \""))?;
        Some(rest.split_once("\",")?.0.replace("\\\"", "\""))
    };
    let entries: Vec<&str> = source.split("Key {").skip(1).collect();
    let keys: Vec<(String, String)> = entries
        .iter()
        .filter_map(|entry| Some((quoted(entry, "path")?, quoted(entry, "default")?)))
        .collect();
    assert!(
        keys.len() >= 10,
        "only {} keys in src/config/keys.rs",
        keys.len()
    );
    let document = read(&root().join("docs/config.md"));
    let rows: Vec<&str> = document
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    for (key, default) in &keys {
        let start = if default.is_empty() {
            format!("| `{key}` | |")
        } else {
            format!("| `{key}` | `{default}` |")
        };
        assert!(
            rows.iter().any(|row| row.starts_with(&start)),
            "docs/config.md has no row that starts with {start}"
        );
    }
    for row in rows {
        let key = row.split('`').nth(1).unwrap_or_default();
        assert!(
            keys.iter().any(|(known, _)| known == key),
            "docs/config.md describes {key}, which is no key"
        );
    }
}

#[test]
fn minimum_rust_version_is_the_same_everywhere() {
    let manifest: toml::Table =
        toml::from_str(&read(&root().join("Cargo.toml"))).unwrap_or_default();
    let version = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("package")?.get("rust-version")?.as_str())
        .unwrap_or_default();
    assert!(
        !version.is_empty(),
        "Cargo.toml has no workspace.package.rust-version"
    );
    for name in ["README.md", "clippy.toml", "CONTRIBUTING.md"] {
        let text = read(&root().join(name));
        assert!(text.contains(version), "{name}: does not say {version}");
    }
}

/// A value as the tables of the documents show it.
trait Value {
    fn value(self) -> String;
}

macro_rules! value_of_integers {
    ($($integer:ty)+) => {
        $(impl Value for $integer {
            fn value(self) -> String {
                grouped(&self.to_string())
            }
        })+
    };
}

value_of_integers!(u8 u16 u32 u64 usize);

impl Value for Duration {
    fn value(self) -> String {
        format!("{} s", grouped(&self.as_secs().to_string()))
    }
}

/// Puts a comma between groups of three digits.
fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Returns the public constants of a source file with the first paragraph of their comments.
fn documented_constants(source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut meaning = String::new();
    let mut is_first_paragraph = true;
    for line in source.lines() {
        if let Some(comment) = line.strip_prefix("///") {
            is_first_paragraph &= !comment.trim().is_empty();
            if is_first_paragraph {
                meaning.push_str(comment);
            }
            continue;
        }
        if let Some((name, _)) = line
            .strip_prefix("pub const ")
            .and_then(|l| l.split_once(':'))
        {
            let text = meaning.trim().replace("[`", "`").replace("`]", "`");
            found.push((name.to_owned(), text));
        }
        meaning.clear();
        is_first_paragraph = true;
    }
    found
}

/// Returns the document with each block fenced as `hex FILE: NAME` filled with the golden vector
/// NAME of `proto/testdata/FILE.hex`.
fn with_hex_examples(document: &str) -> (String, Vec<String>, usize) {
    let mut out = String::new();
    let mut problems = Vec::new();
    let mut count = 0;
    let mut is_example = false;
    for line in document.lines() {
        if let Some(which) = line.strip_prefix("```hex ") {
            is_example = true;
            count += 1;
            out.push_str(line);
            out.push('\n');
            match golden(which) {
                Ok(bytes) => out.push_str(&rows_of_hex(&bytes)),
                Err(problem) => problems.push(problem),
            }
            continue;
        }
        is_example &= line != "```";
        if !is_example {
            out.push_str(line);
            out.push('\n');
        }
    }
    (out, problems, count)
}

/// Reads the golden vector `FILE: NAME`: the line `hex: ...` of the paragraph `name: NAME`.
fn golden(which: &str) -> Result<Vec<u8>, String> {
    let (file, name) = which
        .split_once(": ")
        .ok_or_else(|| format!("{which}: is not `FILE: NAME`"))?;
    let path = root().join("proto/testdata").join(format!("{file}.hex"));
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let digits = text
        .lines()
        .skip_while(|line| line.strip_prefix("name: ") != Some(name))
        .take_while(|line| !line.is_empty())
        .find_map(|line| line.strip_prefix("hex: "))
        .ok_or_else(|| format!("{}: has no vector `{name}`", path.display()))?;
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs
        .iter()
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    match bytes {
        Some(bytes) if rest.is_empty() && !bytes.is_empty() => Ok(bytes),
        _ => Err(format!("{which}: is not a whole number of hex pairs")),
    }
}

fn rows_of_hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for row in bytes.chunks(16) {
        let pairs: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        out.push_str(&pairs.join(" "));
        out.push('\n');
    }
    out
}

/// Replaces the rows of the table between the line that starts with `marker` and `<!-- end -->`.
fn with_rows(document: &str, marker: &str, rows: &[String]) -> String {
    let mut out = String::new();
    // Lines of the generated part seen so far, the marker included; 0 outside of it.
    let mut inside = 0_u32;
    let mut is_found = false;
    for line in document.lines() {
        if line.starts_with(marker) {
            inside = 1;
            is_found = true;
        } else if line == "<!-- end -->" && inside > 0 {
            inside = 0;
            for row in rows {
                out.push_str(row);
                out.push('\n');
            }
        } else if inside > 0 {
            inside += 1;
        }
        // Of the table, its head and the line below the head stay.
        if inside <= 3 {
            out.push_str(line);
            out.push('\n');
        }
    }
    assert!(is_found, "no line starts with {marker}");
    out
}

/// Returns a row for each `Metric { name: "...", help: "...", read: Read::... }` of a source file, and for
/// each `Times { .., read: Recorder::... }`.
fn metric_rows(source: &str) -> Vec<String> {
    let mut rows = Vec::new();
    for entry in source.split("name: \"").skip(1) {
        let Some((name, rest)) = entry.split_once('"') else {
            continue;
        };
        let Some((_, rest)) = rest.split_once("help: \"") else {
            continue;
        };
        let Some((help, rest)) = rest.split_once('"') else {
            continue;
        };
        let kind = rest.split_once("Read::").map_or("", |(_, kind)| kind);
        let (kind, labels) = match kind.split_once('(') {
            Some(("Counter" | "ShardCounter", _)) => ("counter", "`shard`"),
            Some(("CounterByDialect", _)) => ("counter", "`shard`, `dialect`"),
            Some(("GaugeByDialect", _)) => ("gauge", "`shard`, `dialect`"),
            Some(("CounterByReason", _)) => ("counter", "`shard`, `reason`"),
            Some(("Gauge" | "ShardGauge", _)) => ("gauge", "`shard`"),
            None if rest.contains("read: Recorder::") => ("histogram", "`shard`, `le`"),
            _ => continue,
        };
        // A backslash at the end of a line joins it with the next.
        let help: Vec<&str> = help
            .split_whitespace()
            .filter(|word| *word != "\\")
            .collect();
        rows.push(format!(
            "| `{name}` | {kind} | {labels} | {} |",
            help.join(" ")
        ));
    }
    rows
}

/// Returns the words `ringway_...` that stand right behind `quote`.
fn metric_names(text: &str, quote: char) -> BTreeSet<String> {
    text.match_indices(&format!("{quote}ringway_"))
        .map(|(at, _)| {
            let name = text[at + 1..].chars();
            name.take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_')
                .collect::<String>()
        })
        // The bare prefix stands in the code's own tests.
        .filter(|name| !name.ends_with('_'))
        .collect()
}

/// Writes the document when asked to, else fails when it differs.
fn compare_or_bless(path: &Path, wanted: &str) {
    let have = read(path);
    if have == wanted {
        return;
    }
    if std::env::var_os("RINGWAY_BLESS").is_some() {
        fs::write(path, wanted).expect("the document can be written");
        return;
    }
    let mut lines = have.lines().zip(wanted.lines());
    let first = lines.find(|(have, wanted)| have != wanted);
    assert_eq!(
        have.lines().count(),
        wanted.lines().count(),
        "{}: has another number of lines than the code asks for, first difference (have, wanted) \
         {first:#?}; {BLESS}",
        path.display()
    );
    assert_eq!(
        first,
        None,
        "{}: differs from the code; {BLESS}",
        path.display()
    );
}

/// How the generated parts are written.
const BLESS: &str =
    "write it with: RINGWAY_BLESS=1 cargo test --test documents -- --test-threads 1";

/// Returns the Rust files below a directory, in order.
fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(
                fs::read_dir(&path)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|e| e.path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Returns a file's text; a missing one is empty, and the tests then say what they miss in it.
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
