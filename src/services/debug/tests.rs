//! Tests of the debug pages, over a listener of their own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::read::GzDecoder;

use super::*;
use crate::config::Config;
use crate::control::{Relay, ShardView, Shards};
use crate::services::Shared;

struct Two;

impl Shards for Two {
    fn view(&self) -> Vec<ShardView> {
        let mut first = ShardView::quiet(0);
        first.audit.core.sessions = 41;
        first.data.turn_longest_us = 12_345;
        first.stalls.push(Default::default());
        vec![first, ShardView::quiet(1)]
    }

    fn shards_count(&self) -> usize {
        2
    }
}

/// Serves the pages while `work` runs.
fn serving<T>(work: impl FnOnce(SocketAddr) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let address = listener.local_addr().unwrap();
    let relay = Relay::of_shards(2);
    let pages = router(Pages {
        services: Arc::new(Shared::new(&relay.config)),
        relay: Arc::new(relay),
        shards: Arc::new(Two),
    });
    let serving = runtime.spawn(async move { axum::serve(listener, pages).await });
    let result = work(address);
    serving.abort();
    result
}

/// Returns status and body.
fn ask(address: SocketAddr, path: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer[end + 4..].to_vec())
}

fn ask_text(address: SocketAddr, path: &str) -> (u16, String) {
    let (status, body) = ask(address, path);
    (status, String::from_utf8(body).unwrap())
}

#[test]
fn wrong_questions_are_refused_with_what_is_possible() {
    serving(|address| {
        for (path, status, says) in [
            (
                "/debug/pprof/profile?seconds=0",
                400,
                "seconds=0: a whole number from 1 to 300",
            ),
            ("/debug/pprof/profile?seconds=301", 400, "from 1 to 300"),
            ("/debug/pprof/profile?seconds=x", 400, "seconds=x"),
            (
                "/debug/pprof/profile?hz=1000",
                400,
                "hz=1000: a whole number from 1 to 999",
            ),
            ("/debug/histograms?format=xml", 400, "hlog or hgrm"),
            (
                "/debug/histograms?format=hgrm",
                400,
                "name: format=hgrm needs one of handshake, open, setup_wait",
            ),
            (
                "/debug/histograms?format=hgrm&name=x",
                400,
                "setup_undo, setup",
            ),
            ("/debug/histograms?name=open", 400, "leave the name out"),
            ("/debug/shards?text=yes", 400, "text=yes: 0 or 1"),
            ("/debug/nothing", 404, "/debug/shards"),
        ] {
            let (got, body) = ask_text(address, path);
            assert_eq!(got, status, "{path}: {body}");
            assert!(body.contains(says), "{path}: {body}");
        }
    });
}

#[test]
fn shards_are_shown_in_both_forms() {
    serving(|address| {
        let (status, body) = ask_text(address, "/debug/shards");
        let document: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &document["shards_count"]), (200, &2.into()));
        let first = &document["shards"][0];
        assert_eq!(first["values"]["core_sessions"], 41);
        assert_eq!(first["values"]["turn_longest_us"], 12_345);
        assert_eq!(first["stalls"][0]["took_us"], 0);
        assert_eq!(document["shards"][1]["stalls"][0], serde_json::Value::Null);
        let (status, table) = ask_text(address, "/debug/shards?text=1");
        assert_eq!(status, 200);
        let row = table.lines().find(|line| line.starts_with("core_sessions"));
        let cells: Vec<&str> = row.unwrap().split_whitespace().collect();
        assert_eq!(cells, ["core_sessions", "41", "0"]);
        assert!(table.contains("stalled turn of shard 0"), "{table}");
        let (status, heap) = ask_text(address, "/debug/heap");
        let heap: serde_json::Value = serde_json::from_str(&heap).unwrap();
        assert_eq!(status, 200);
        assert!(heap["rss_bytes"].as_u64() > Some(1 << 20), "{heap}");
    });
}

#[test]
fn heap_is_shown_by_owner() {
    let (status, profile) = serving(|address| ask(address, "/debug/pprof/heap"));
    assert_eq!(status, 200);
    let message = inflate(&profile);
    let strings = strings(&message);
    for name in [
        "inuse_space",
        "shard 0",
        "established sessions",
        "the process",
    ] {
        assert!(strings.contains(&name.as_bytes()), "{name}");
    }
    let values = values(&message);
    assert!(
        values
            .iter()
            .any(|(count, bytes)| *count == 41 && *bytes > 41 * 256)
    );
}

#[test]
fn heap_adds_up_to_what_the_kernel_says() {
    let status = "VmRSS:\t  9000 kB\nRssAnon:\t  3000 kB\n";
    for shards in [vec![], vec![ShardView::quiet(0)]] {
        let profile = heap::profile(&shards, &heap::document(status)).unwrap();
        let message = inflate(&profile);
        let bytes: u64 = values(&message).iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(bytes, 3_000 * 1_024);
        assert!(strings(&message).contains(&&b"the process"[..]));
    }
}

fn inflate(profile: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    GzDecoder::new(profile).read_to_end(&mut message).unwrap();
    message
}

fn strings(message: &[u8]) -> Vec<&[u8]> {
    let strings = fields(message).into_iter().filter(|(n, _, _)| *n == 6);
    strings.map(|(_, _, string)| string).collect()
}

/// The values of all samples.
fn values(message: &[u8]) -> Vec<(u64, u64)> {
    let samples = fields(message).into_iter().filter(|(n, _, _)| *n == 2);
    let pair = |sample: &[u8]| {
        let packed = fields(sample).into_iter().find(|(n, _, _)| *n == 2);
        let mut rest = packed.unwrap().2;
        (varint(&mut rest), varint(&mut rest))
    };
    samples.map(|(_, _, sample)| pair(sample)).collect()
}

#[test]
fn histograms_come_as_log_and_as_table() {
    serving(|address| {
        let (status, log) = ask_text(address, "/debug/histograms");
        assert_eq!(status, 200);
        for name in ["handshake", "open", "setup_wait", "setup"] {
            assert!(log.contains(&format!("Tag={name},")), "{log}");
            let path = format!("/debug/histograms?format=hgrm&name={name}");
            let (status, table) = ask_text(address, &path);
            assert_eq!(status, 200);
            assert!(table.contains("Total count    =            0]"), "{table}");
        }
    });
    let mut histogram = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
    histogram.record_n(100, 3).unwrap();
    histogram.record(900).unwrap();
    let mut table = String::new();
    histograms::table(&mut table, &histogram).unwrap();
    let rows = table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(
        rows[0],
        ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    );
    assert_eq!(rows[1], ["100.000", "0.000000000000", "3", "1.00"]);
    assert_eq!(rows[rows.len() - 1], ["900.000", "1.000000000000", "4"]);
    assert!(table.contains("Total count    =            4]"), "{table}");
}

/// What is left to read of a protobuf message: a field number and either a number or bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let value = varint(&mut bytes);
        match tag & 7 {
            0 => out.push((tag >> 3, value, &[][..])),
            2 => {
                let (inner, rest) = bytes.split_at(usize::try_from(value).unwrap());
                bytes = rest;
                out.push((tag >> 3, value, inner));
            }
            other => panic!("wire type {other}"),
        }
    }
    out
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in 0.. {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << (7 * shift);
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

fn number(message: &[u8], field: u64) -> u64 {
    let found = fields(message)
        .into_iter()
        .find(|(number, _, _)| *number == field);
    found.unwrap().1
}

/// Returns all samples of a profile: the names of the functions of each, the innermost first, and its count.
fn samples(profile: &[u8]) -> Vec<(Vec<String>, u64)> {
    let mut message = Vec::new();
    GzDecoder::new(profile).read_to_end(&mut message).unwrap();
    let all = fields(&message);
    let of = |field: u64| all.iter().filter(move |(number, _, _)| *number == field);
    let strings: Vec<String> = of(6)
        .map(|(_, _, text)| String::from_utf8(text.to_vec()).unwrap())
        .collect();
    assert_eq!(strings[0], "");
    let string = |place: u64| strings[usize::try_from(place).unwrap()].clone();
    let types: Vec<_> = of(1).map(|(_, _, kind)| string(number(kind, 1))).collect();
    assert_eq!(types, ["samples", "cpu"]);
    let functions: BTreeMap<u64, String> = of(5)
        .map(|(_, _, function)| (number(function, 1), string(number(function, 2))))
        .collect();
    let locations: BTreeMap<u64, Vec<String>> = of(4)
        .map(|(_, _, location)| {
            let lines = fields(location)
                .into_iter()
                .filter(|(field, _, _)| *field == 4);
            let names = lines.map(|(_, _, line)| functions[&number(line, 1)].clone());
            (number(location, 1), names.collect())
        })
        .collect();
    let period_ns = number(&message, 12);
    of(2)
        .map(|(_, _, sample)| {
            let parts = fields(sample);
            let list = |field| {
                let found = parts.iter().find(|(number, _, _)| *number == field);
                let mut bytes = found.unwrap().2;
                let mut list = Vec::new();
                while !bytes.is_empty() {
                    list.push(varint(&mut bytes));
                }
                list
            };
            let values = list(2);
            assert_eq!(values[1], values[0] * period_ns);
            let names = list(1).into_iter().flat_map(|id| locations[&id].clone());
            (names.collect(), values[0])
        })
        .collect()
}

#[test]
fn profile_shows_what_the_process_does_and_is_made_one_at_a_time() {
    let is_over = Arc::new(AtomicBool::new(false));
    let load = std::thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            let mut frames = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                frames += u64::try_from(work_of_a_relay().len()).unwrap();
            }
            frames
        }
    });
    serving(|address| {
        let wanted = cpu::Wanted { seconds: 1, hz: 99 };
        let running = cpu::Running::start(wanted).unwrap();
        let (status, body) = ask_text(address, "/debug/pprof/profile?seconds=1");
        assert_eq!(status, 409, "{body}");
        assert!(body.contains("another CPU profile"), "{body}");
        drop(running);
        let (status, profile) = ask(address, "/debug/pprof/profile?seconds=2&hz=199");
        assert_eq!(status, 200);
        let samples = samples(&profile);
        let is_work = |(names, _): &&(Vec<String>, u64)| {
            names.iter().any(|name| name.contains("work_of_a_relay"))
        };
        let of_work: u64 = samples.iter().filter(is_work).map(|(_, count)| count).sum();
        assert!(of_work > 10, "{samples:?}");
        // Over: the next one may begin.
        drop(cpu::Running::start(wanted).unwrap());
    });
    is_over.store(true, Ordering::Relaxed);
    assert!(load.join().unwrap() > 0);
}

#[inline(never)]
fn work_of_a_relay() -> String {
    let shared = Shared::new(&Config::default());
    crate::control::metrics::page(&[ShardView::quiet(0)], (None, None, &shared), 1, false)
}
