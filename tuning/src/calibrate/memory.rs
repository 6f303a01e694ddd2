//! What things cost in memory, measured.
//!
//! Here: relays at rest, with traffic, with sessions, with streams, told of peers. Not here: starting them
//! (`programs`), processor time (`processor`).
//!
//! A relay takes its receive blocks when bytes first pass through them, and what traffic has left free is
//! used again by whatever comes next: so each cost is the difference between few and many of it, and what
//! traffic takes is seen beside sessions that stand. A connection has both of its ends on this host, so
//! half of what the kernel took is the relay's.

use std::io;

use super::programs::{Programs, Relay, figure, slab};

/// One round of memory, bytes each.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemoryRound {
    pub(super) program: f64,
    pub(super) shard: f64,
    pub(super) traffic: f64,
    pub(super) busy: f64,
    pub(super) session: f64,
    pub(super) stream: f64,
    pub(super) socket: f64,
    pub(super) announced: f64,
}

impl MemoryRound {
    /// Measures all of it once, with `sessions` sessions.
    pub(super) fn measure(programs: &Programs, sessions: u32) -> io::Result<Self> {
        let (program, shard) = rest(programs)?;
        let held = Held::measure(programs, sessions)?;
        Ok(Self {
            program,
            shard,
            traffic: held.traffic,
            busy: held.busy,
            session: held.session,
            stream: held.stream,
            socket: held.socket,
            announced: announced(programs, sessions)?,
        })
    }
}

/// Returns program and shard before the first connection.
fn rest(programs: &Programs) -> io::Result<(f64, f64)> {
    let few = Relay::start(programs, 1, &[])?.settled()?;
    let many = Relay::start(programs, SHARDS_MANY, &[])?.settled()?;
    let shard = (many - few) / f64::from(SHARDS_MANY - 1);
    Ok((few - shard, shard))
}

struct Held {
    traffic: f64,
    busy: f64,
    session: f64,
    socket: f64,
    stream: f64,
}

impl Held {
    fn measure(programs: &Programs, sessions: u32) -> io::Result<Self> {
        let relay = Relay::start(programs, 1, &[])?;
        let rest = relay.settled()?;
        warm(programs, &relay)?;
        let warm = relay.settled()?;
        // The first third takes what the traffic has left free, the others what they need themselves.
        let few = sessions / 3;
        let many = sessions - few;
        let mut held = vec![programs.hold(&idle(&relay, few).words())?];
        relay.wait_for(few, &mut held)?;
        let (memory_few, slab_few) = (relay.settled()?, slab()?);
        held.push(programs.hold(&idle(&relay, many).words())?);
        relay.wait_for(sessions, &mut held)?;
        let (memory_all, slab_all) = (relay.settled()?, slab()?);
        let session = (memory_all - memory_few) / f64::from(many);
        let socket = (slab_all - slab_few) / f64::from(many) / 2.0;
        held.push(programs.hold(&bulk(&relay))?);
        relay.wait_for(sessions + BULK_SESSIONS, &mut held)?;
        let busy = relay.settled()?;
        drop(held.pop());
        let streams_few = streaming(programs, &relay, STREAMS_FEW)?;
        let streams_many = streaming(programs, &relay, STREAMS_MANY)?;
        drop(held);
        // A stream has an end at each of two sessions.
        let streams = f64::from(STREAM_SESSIONS * (STREAMS_MANY - STREAMS_FEW) / 2);
        Ok(Self {
            traffic: warm - rest,
            busy: busy - warm - f64::from(sessions + BULK_SESSIONS) * session,
            session,
            socket,
            stream: (streams_many - streams_few) / streams,
        })
    }
}

/// Returns the memory of the relay while each of some sessions has so many ends of streams.
fn streaming(programs: &Programs, relay: &Relay, ends: u32) -> io::Result<f64> {
    let streams = Streams::of(relay, [STREAM_SESSIONS, ends]);
    let pid = relay.pid();
    let looked_at = ["--relay-pid", &pid, "--duration", "2s"];
    let result = programs.generate(&[&streams.words()[..], &looked_at].concat())?;
    figure(&result, "relay.end.rss_bytes")
}

/// Streams that hardly say anything.
pub(super) struct Streams<'a> {
    relay: &'a str,
    sessions: String,
    ends: String,
}

impl<'a> Streams<'a> {
    /// So many sessions, and the ends of streams of each.
    pub(super) fn of(relay: &'a Relay, [sessions, ends]: [u32; 2]) -> Self {
        Self {
            relay: &relay.name,
            sessions: sessions.to_string(),
            ends: ends.to_string(),
        }
    }

    /// Returns the words for it, the time excepted.
    pub(super) fn words(&self) -> [&str; 13] {
        let Self {
            relay,
            sessions,
            ends,
        } = self;
        [
            "steady",
            "--relay",
            relay,
            "--sessions",
            sessions,
            "--streams",
            ends,
            "--mode",
            "ping-pong",
            "--message-size",
            "64",
            "--rate",
            "100",
        ]
    }
}

/// Returns what a relay takes for a peer of another one.
fn announced(programs: &Programs, sessions: u32) -> io::Result<f64> {
    let [told, teller] = linked(programs, 1)?;
    let before = told.settled()?;
    let mut held = [programs.hold(&idle(&teller, sessions).words())?];
    teller.wait_for(sessions, &mut held)?;
    let after = told.settled()?;
    drop(held);
    Ok((after - before) / f64::from(sessions))
}

/// Sessions that say nothing.
struct Idle<'a> {
    relay: &'a str,
    sessions: String,
}

fn idle(relay: &Relay, sessions: u32) -> Idle<'_> {
    Idle {
        relay: &relay.name,
        sessions: sessions.to_string(),
    }
}

impl Idle<'_> {
    fn words(&self) -> [&str; 7] {
        let Self { relay, sessions } = self;
        [
            "idle",
            "--relay",
            relay,
            "--sessions",
            sessions,
            "--duration",
            "600s",
        ]
    }
}

/// Starts two relays of so many shards that are linked, each shard with one of the other.
pub(super) fn linked(programs: &Programs, shards: u32) -> io::Result<[Relay; 2]> {
    let first = Relay::start(programs, shards, &["--set", "mesh.allowed=all"])?;
    let second = Relay::start(programs, shards, &["--link", &first.name])?;
    first.wait_for(shards, &mut [])?;
    Ok([first, second])
}

/// Lets bytes pass through all receive blocks of each shard, over so few sessions that little else is left
/// behind.
pub(super) fn warm(programs: &Programs, relay: &Relay) -> io::Result<()> {
    let words = ["steady", "--relay", &relay.name, "--sessions", "4"];
    let size = ["--message-size", "16384", "--duration", "2s"];
    programs
        .generate(&[&words[..], &size[..]].concat())
        .map(drop)
}

/// Returns the words for traffic at full speed until it is dropped.
pub(super) fn bulk(relay: &Relay) -> [&str; 11] {
    [
        "steady",
        "--relay",
        &relay.name,
        "--sessions",
        "16",
        "--message-size",
        "16384",
        "--duration",
        "600s",
        "--src",
        BULK_SOURCE,
    ]
}

/// Where it comes from, so that it can be told from what stands.
const BULK_SOURCE: &str = "127.0.0.98";

/// Sessions of that.
pub(super) const BULK_SESSIONS: u32 = 16;

/// Shards of the larger one of two relays at rest.
const SHARDS_MANY: u32 = 4;

/// Sessions and ends of streams of each for the cost of a stream.
const STREAM_SESSIONS: u32 = 200;
const STREAMS_FEW: u32 = 50;
const STREAMS_MANY: u32 = 150;
