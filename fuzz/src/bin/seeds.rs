//! Writes the seed corpora of the fuzz targets from the golden vectors, below the folder that is given.
//!
//! Every vector goes to every target that reads bare bytes: what is no header for one is a sealed object
//! for another, and a wrong kind of object is an input worth having. Targets that read operations start
//! from inputs of growing length.

#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const BARE: &[&str] = &[
    "dmsg_gob",
    "dmsg_open",
    "frame",
    "open_objects",
    "proxy_header",
];
const OPERATIONS: &[&str] = &[
    "dmsg_handshake",
    "dmsg_peer",
    "dmsg_sealed",
    "handshake",
    "peer_session",
    "record",
    "route",
    "sealed",
    "shard_core",
];

#[expect(clippy::print_stdout, reason = "a program that reports to a person")]
fn main() -> io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(corpus) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("usage: seeds FOLDER"));
    };
    let mut count = 0;
    for entry in fs::read_dir(here.join("../proto/testdata"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "hex") {
            continue;
        }
        let file = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        for (number, bytes) in (0..).zip(vectors(&fs::read_to_string(&path)?)) {
            for target in BARE.iter().chain(OPERATIONS) {
                let directory = corpus.join(target);
                fs::create_dir_all(&directory)?;
                fs::write(directory.join(format!("{file}-{number}")), &bytes)?;
                count += 1;
            }
        }
    }
    for target in OPERATIONS {
        let directory = corpus.join(target);
        fs::create_dir_all(&directory)?;
        for length in [64_usize, 256, 1_024, 4_096] {
            // A fixed sequence without short cycles: enough for operations of every kind to appear.
            let mut state = length as u64;
            let bytes: Vec<u8> = (0..length)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    state.to_be_bytes()[0]
                })
                .collect();
            fs::write(directory.join(format!("sequence-{length}")), bytes)?;
            count += 1;
        }
    }
    write_configurations(&corpus.join("config"))?;
    write_entries(&corpus.join("dmsg_entry"))?;
    println!("{count} seeds below {}", corpus.display());
    Ok(())
}

fn write_configurations(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (name, text) in [
        ("empty", ""),
        (
            "listen",
            "listen = \"127.0.0.1:7100\"\n[admin]\nlisten = \"127.0.0.1:7180\"\n",
        ),
        (
            "wrong",
            "listen = 7100\nunknown = true\n[limits]\nsessions_max = -1\n",
        ),
    ] {
        fs::write(directory.join(name), text)?;
    }
    let document = include_str!("../../../docs/config.md");
    let examples = document.split("```toml").skip(1);
    for (number, example) in (0..).zip(examples.filter_map(|rest| rest.split("```").next())) {
        fs::write(directory.join(format!("example-{number}")), example)?;
    }
    Ok(())
}

/// Writes the entries of the Go implementation, and texts that are nearly one.
fn write_entries(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let vectors = include_str!("../../../proto/testdata/dmsg.txt");
    let entries = vectors.lines().filter(|line| line.starts_with('{'));
    for (number, entry) in (0..).zip(entries) {
        fs::write(directory.join(format!("vector-{number}")), entry)?;
        let later = entry.replace(
            "\"server\":{",
            "\"protocol\":\"smux\",\"server\":{\"dht_bootstrap\":true,",
        );
        fs::write(directory.join(format!("later-{number}")), later)?;
    }
    for (name, text) in [
        (
            "answer",
            "{\"code\":404,\"message\":\"entry of public key is not found\"}",
        ),
        (
            "blanks",
            " { \"client\" : { \"delegated_servers\" : null } , \"more\" : [ { } ] } ",
        ),
        ("empty", "{}"),
        (
            "escapes",
            "{\"client_type\":\"\\u0076is\\/or\",\"protocol\":\"\\u0008\"}",
        ),
        (
            "nobody",
            "{\"static\":\"000000\",\"client\":{\"delegated_servers\":[\"\",\"0\"]}}",
        ),
        (
            "numbers",
            "{\"sequence\":18446744073709551615,\"timestamp\":-9223372036854775808}",
        ),
    ] {
        fs::write(directory.join(name), text)?;
    }
    Ok(())
}

/// Returns the vectors of a file: its lines `hex: ...`. A line that is no hex is left out; proto's own
/// tests complain about it.
fn vectors(text: &str) -> impl Iterator<Item = Vec<u8>> {
    text.lines()
        .filter_map(|line| line.strip_prefix("hex: "))
        .filter_map(|digits| {
            let digits: Option<Vec<u32>> = digits.chars().map(|c| c.to_digit(16)).collect();
            let digits = digits?;
            let (pairs, rest) = digits.as_chunks::<2>();
            let bytes = pairs
                .iter()
                .map(|[high, low]| u8::try_from(high * 16 + low).ok());
            if rest.is_empty() {
                bytes.collect()
            } else {
                None
            }
        })
}
