//! What a load takes of one relay, term by term.
//!
//! Here: the sums of memory, processor time, table slots, ports and network. Not here: how much load a
//! relay of a fleet has (`fleet`), what the host has (`limits`).
//!
//! Each term is a count times the cost of one and names where that cost is from, so that a sum can be
//! checked by hand. Measured against real relays: docs/capacity.md.
//!
//! Units: bytes, seconds; rates are by the second.

use ringway_proto::limits::{
    KEEPALIVE_INTERVAL, LINK_KEEPALIVE_INTERVAL, SOCKETS_RESERVED, WINDOW_INITIAL,
};
use ringway_shards::memory::KERNEL_SLOT_BYTES;
use serde::Serialize;

use super::costs::Costs;

/// What one relay has to carry.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Load {
    /// Sessions of peers.
    pub(crate) sessions: f64,
    /// Streams that are open, both legs of one here or one leg here and one on another relay.
    pub(crate) streams: f64,
    /// Payload that its own peers send, bytes a second.
    pub(crate) payload: f64,
    /// Bytes of a message.
    pub(crate) message: f64,
    /// Messages of a session that come together.
    pub(crate) together: f64,
    /// Sessions that come, and as many that go, a second.
    pub(crate) connects: f64,
    /// Streams that are opened, and as many closed, a second.
    pub(crate) opens: f64,
    /// Share of payload and streams whose other peer is on another relay.
    pub(crate) forwarded: f64,
    /// Other relays that each shard has a link with.
    pub(crate) links: f64,
    /// Peers of other relays that this one has been told of.
    pub(crate) announced: f64,
    /// Connections with a registry in Redis.
    pub(crate) registry: f64,
    /// Share of sessions whose peers do not read, so that a window of bytes waits for each.
    pub(crate) slow: f64,
    /// Round trip between relay and peers, seconds.
    pub(crate) round_trip: f64,
    /// Cores that traffic keeps busy.
    pub(crate) busy: f64,
    /// Shards.
    pub(crate) shards: f64,
    /// Most sessions of a shard, by which tables are made.
    pub(crate) sessions_max: f64,
}

impl Load {
    /// Returns the streams of which one leg is on a link.
    ///
    /// Of the streams between peers here there is one each; one between two relays is open on both.
    pub(crate) fn streams_forwarded(&self) -> f64 {
        self.streams * 2.0 * self.forwarded / (1.0 + self.forwarded)
    }
}

/// Which sum a term belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sum {
    /// Memory of the process, bytes.
    ProcessMemory,
    /// Memory of the kernel on its behalf, bytes.
    KernelMemory,
    /// Processor time, seconds a second: cores.
    Processor,
    /// Sockets of each shard's table.
    Slots,
    /// Local ports that the relay itself takes.
    Ports,
    /// Bytes a second in each direction of the network card.
    Network,
}

impl Sum {
    /// All of them, in the order of tables.
    pub(crate) const ALL: [Self; 6] = [
        Self::ProcessMemory,
        Self::KernelMemory,
        Self::Processor,
        Self::Slots,
        Self::Ports,
        Self::Network,
    ];

    /// Returns the word that tables show.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::ProcessMemory => "memory of the process",
            Self::KernelMemory => "memory of the kernel",
            Self::Processor => "processor",
            Self::Slots => "sockets of a shard",
            Self::Ports => "local ports",
            Self::Network => "network, each direction",
        }
    }
}

/// One line of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Term {
    /// The sum.
    pub sum: Sum,
    /// What it is.
    pub name: &'static str,
    /// How many of it.
    pub count: f64,
    /// Each of them, in the unit of the sum.
    pub each: f64,
    /// Where the figure for each is from: `measured`, or a rule in words.
    pub source: &'static str,
}

impl Term {
    /// Returns all of them together.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.count * self.each
    }
}

/// Returns the total of one sum.
pub(crate) fn total(terms: &[Term], sum: Sum) -> f64 {
    let own = terms.iter().filter(|term| term.sum == sum);
    own.map(Term::total).sum()
}

/// Returns the terms of all sums.
pub(crate) fn terms(load: &Load, costs: &Costs) -> Vec<Term> {
    let mut terms = process_memory(load, costs);
    terms.extend(kernel_memory(load, costs));
    terms.extend(processor(load, costs));
    terms.extend(sockets(load));
    terms
}

fn process_memory(load: &Load, costs: &Costs) -> Vec<Term> {
    let term = |name, count, each| Term {
        sum: Sum::ProcessMemory,
        name,
        count,
        each,
        source: MEASURED,
    };
    let memory = &costs.memory;
    let sessions = load.sessions + load.links * load.shards;
    vec![
        term("program and control threads", 1.0, memory.program.median),
        term("shards at rest", load.shards, memory.shard.median),
        term(
            "receive blocks of shards that have traffic",
            load.shards,
            memory.traffic.median,
        ),
        term(
            "queues and pools of busy cores",
            load.busy,
            memory.busy.median,
        ),
        term("sessions, links included", sessions, memory.session.median),
        term("streams", load.streams, memory.stream.median),
        term(
            "announced peers of other relays",
            load.announced,
            memory.announced.median,
        ),
        Term {
            source: "assumed: the window of a new stream waits for each",
            ..term(
                "bytes that wait for peers that do not read",
                load.sessions * load.slow,
                f64::from(WINDOW_INITIAL),
            )
        },
    ]
}

fn kernel_memory(load: &Load, costs: &Costs) -> Vec<Term> {
    let term = |name, count, each, source| Term {
        sum: Sum::KernelMemory,
        name,
        count,
        each,
        source,
    };
    let links = load.links * load.shards;
    let table = load.sessions_max + f64::from(SOCKETS_RESERVED);
    vec![
        term(
            "sockets with an armed receive, links included",
            load.sessions + links,
            costs.memory.socket.median,
            MEASURED,
        ),
        term(
            "slots of the shards' socket tables",
            load.shards * table,
            small(KERNEL_SLOT_BYTES),
            "16 bytes a slot, used or not",
        ),
        term(
            "bytes on their way that are not acknowledged",
            load.payload * (1.0 + load.forwarded) * load.round_trip,
            BUFFER_OVERHEAD,
            "assumed: a third more than the bytes themselves",
        ),
        term(
            "send buffers of peers that do not read",
            load.sessions * load.slow,
            SEND_BUFFER,
            "assumed: the kernel's first send buffer, full",
        ),
    ]
}

fn processor(load: &Load, costs: &Costs) -> Vec<Term> {
    let term = |name, count, each_us: f64| Term {
        sum: Sum::Processor,
        name,
        count,
        each: each_us / 1e6,
        source: WORST,
    };
    let processor = &costs.processor;
    // Of what is forwarded, as much comes in over links as goes out over them.
    let forwarded = 2.0 * load.forwarded;
    let factor = (1.0 - load.forwarded) + forwarded * processor.forward_ratio.most;
    let bytes = load.payload * factor;
    let messages = bytes / load.message;
    let links = load.links * load.shards;
    vec![
        term(
            "wake-ups for messages",
            messages / load.together,
            processor.wake_us.most,
        ),
        term("messages", messages, processor.message_us.most),
        term("bytes of payload", bytes, processor.byte_ns.most / 1_000.0),
        term("handshakes", load.connects, processor.handshake_us.most),
        term(
            "opens",
            load.opens * (1.0 - load.forwarded + forwarded),
            processor.open_us.most,
        ),
        term(
            "signs of life",
            load.sessions / KEEPALIVE_INTERVAL.as_secs_f64()
                + links / LINK_KEEPALIVE_INTERVAL.as_secs_f64(),
            processor.keepalive_us.most,
        ),
    ]
}

fn sockets(load: &Load) -> Vec<Term> {
    let term = |sum, name, count, each, source| Term {
        sum,
        name,
        count,
        each,
        source,
    };
    let rate = load.payload * (1.0 + load.forwarded);
    // A session's frame has its own header, and each segment those of TCP, IP and Ethernet.
    let framed = (load.message + FRAME_HEADER) / load.message * SEGMENT_WIRE / SEGMENT_PAYLOAD;
    vec![
        term(
            Sum::Slots,
            "sessions",
            load.sessions / load.shards,
            1.0,
            "one each, spread evenly",
        ),
        term(
            Sum::Slots,
            "links",
            load.links,
            1.0,
            "one with each other relay",
        ),
        term(
            Sum::Slots,
            "kept free to refuse with a reason",
            f64::from(SOCKETS_RESERVED),
            1.0,
            "SOCKETS_RESERVED",
        ),
        term(
            Sum::Ports,
            "links that this relay dials",
            load.links * load.shards,
            1.0,
            "all of them at worst; sessions of peers take none",
        ),
        term(
            Sum::Ports,
            "connections with the registry",
            load.registry,
            1.0,
            "one for commands, one for notices",
        ),
        term(
            Sum::Network,
            "payload, with heads of frames, TCP, IP and Ethernet",
            rate,
            framed,
            "12 bytes a frame, 1,538 on the wire for 1,448 of a segment",
        ),
    ]
}

/// Returns a small constant as a number of a sum.
fn small(value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}

const MEASURED: &str = "measured";

/// Processor time of the same work differs by a factor of two between the hours of a shared machine, and a
/// plan has to hold in the slow ones.
const WORST: &str = "measured, the slowest round";

/// Bytes of kernel memory behind one byte that waits to be acknowledged.
///
/// An assumption: a full page fragment of 32 KiB has a head of 256 bytes, small messages have more of it.
const BUFFER_OVERHEAD: f64 = 1.33;

/// Send buffer of a connection that has not grown it. Source: tcp(7), `tcp_wmem`, the default.
const SEND_BUFFER: f64 = 16_384.0;

/// Bytes of a frame's header. Source: docs/protocol.md.
const FRAME_HEADER: f64 = 12.0;

/// Bytes of payload in a full segment with timestamps. Source: RFC 9293, RFC 7323.
const SEGMENT_PAYLOAD: f64 = 1_448.0;

/// Bytes of the same on an Ethernet, preamble and gap included. Source: IEEE 802.3.
const SEGMENT_WIRE: f64 = 1_538.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> Load {
        Load {
            sessions: 60_000.0,
            streams: 10_000.0,
            payload: 1e8,
            message: 1_000.0,
            together: 4.0,
            connects: 100.0,
            opens: 1_000.0,
            forwarded: 0.0,
            links: 0.0,
            announced: 0.0,
            registry: 0.0,
            slow: 0.0,
            round_trip: 0.05,
            busy: 0.0,
            shards: 4.0,
            sessions_max: 20_000.0,
        }
    }

    fn sum(load: &Load, sum: Sum) -> f64 {
        total(&terms(load, &Costs::built_in().unwrap()), sum)
    }

    /// Whether two sums are the same but for rounding.
    fn is_near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
    }

    #[test]
    fn memory_of_the_process_is_the_sum_of_what_it_holds() {
        let memory = Costs::built_in().unwrap().memory;
        let expected = memory.program.median
            + 4.0 * (memory.shard.median + memory.traffic.median)
            + 60_000.0 * memory.session.median
            + 10_000.0 * memory.stream.median;
        assert!(is_near(sum(&load(), Sum::ProcessMemory), expected));
        let slow = Load {
            slow: 0.01,
            ..load()
        };
        assert!(is_near(
            sum(&slow, Sum::ProcessMemory) - expected,
            600.0 * 262_144.0
        ));
    }

    #[test]
    fn messages_together_share_a_wake_up() {
        let processor = Costs::built_in().unwrap().processor;
        let alone = Load {
            together: 1.0,
            ..load()
        };
        let saved = 1e5 * 0.75 * processor.wake_us.most / 1e6;
        let difference = sum(&alone, Sum::Processor) - sum(&load(), Sum::Processor);
        assert!(is_near(difference, saved), "{difference} {saved}");
    }

    #[test]
    fn forwarded_bytes_pass_two_relays_and_the_card_twice() {
        let forwarded = Load {
            forwarded: 1.0,
            ..load()
        };
        let processor = Costs::built_in().unwrap().processor;
        let [local, all] = [load(), forwarded].map(|load| {
            let terms = terms(&load, &Costs::built_in().unwrap());
            let bytes = terms.iter().find(|term| term.name == "bytes of payload");
            bytes.unwrap().total()
        });
        assert!(is_near(all, local * 2.0 * processor.forward_ratio.most));
        let network = [load(), forwarded].map(|load| sum(&load, Sum::Network));
        assert!(is_near(network[1], 2.0 * network[0]));
    }

    #[test]
    fn links_are_sessions_of_every_shard() {
        let linked = Load {
            links: 9.0,
            ..load()
        };
        let grown = |sum_of| sum(&linked, sum_of) - sum(&load(), sum_of);
        assert!(is_near(grown(Sum::Slots), 9.0));
        assert!(is_near(grown(Sum::Ports), 36.0));
        let socket = Costs::built_in().unwrap().memory.socket.median;
        assert!((grown(Sum::KernelMemory) - 36.0 * socket).abs() < 1.0);
    }

    #[test]
    fn small_messages_cost_the_network_their_heads() {
        let small = Load {
            message: 64.0,
            ..load()
        };
        let large = Load {
            message: 65_536.0,
            ..load()
        };
        let ratio = sum(&small, Sum::Network) / sum(&large, Sum::Network);
        assert!((1.18..1.19).contains(&ratio), "{ratio}");
    }
}
