//! Every bound of the protocol and of the relay, and the sums that follow from them.
//!
//! Here: numbers with meaning, unit, reason, cost and source. Not here: the host's limits (the tuning
//! crate derives them from these) and what an operator may change (configuration takes these as
//! defaults).
//!
//! Units: bytes where the name says nothing else, `Duration` for times.

use core::time::Duration;

use crate::frame::HEADER_LEN;
use crate::key::{KEY_LEN_MAX, NATIVE_KEY_LEN, SIGNATURE_LEN};

// ---- Streams -------------------------------------------------------------------------------------

/// Bytes a side may send on a new stream before the first window update.
///
/// yamux fixes it: both sides assume it without asking. It bounds what one direction of one stream
/// makes a relay hold.
/// Source: hashicorp/yamux spec.md; docs/protocol.md section 3.
pub const WINDOW_INITIAL: u32 = 262_144;

/// Largest receive window a stream grows to, in bytes.
///
/// 16 MiB carry 1 Gbit/s over 134 ms. A reader that stops costs the relay up to this much a stream
/// until [`SESSION_QUEUE_MAX`] cuts it off.
/// Source: the bandwidth-delay product above; quinn and h2 grow to the same order.
pub const WINDOW_MAX: u32 = 16 * MIB;

/// Most open streams of one session.
///
/// Each costs a slot of the stream table and up to a window; legitimate peers stay under 100.
/// Source: docs/protocol.md section 3.
pub const STREAMS_MAX: u32 = 2_048;

/// Most stream legs of one shard, unless configured; a bridge has two. Past it opens get reason 304.
///
/// 131,072 bridges. A leg is 1.2 KB while it is opened and 0.2 KB afterwards; without this bound the
/// sessions of a shard could ask for forty million.
pub const SHARD_STREAMS_MAX: u32 = 262_144;

/// First port of the ephemeral range; those below are for services.
///
/// Source: docs/protocol.md section 1; RFC 6335 section 6.
pub const EPHEMERAL_PORT_MIN: u16 = 49_152;

/// Rest of an ephemeral virtual port after its stream has ended.
///
/// The far side may still hold the old stream while the last frames cross two relays and their queues;
/// an open from the same key and port would look like the same conversation to whoever logs or matches
/// by address. 5 s is the longest time an open may wait unanswered ([`OPEN_TIMEOUT`]), so nothing of the
/// old stream is under way after it. Costs 16 bytes a resting port; 16,384 ports allow 3,276 streams a
/// second in the long run.
pub const PORT_QUARANTINE_VIRTUAL: Duration = Duration::from_secs(5);

/// Rest of a local TCP port after its socket has closed, unless configured.
///
/// The relay resets what it closes, so its kernel keeps no `TIME_WAIT` that would guard the pair of
/// addresses. The reset may be lost or late: the far side then holds the old connection until it hears
/// from the port again, and answers a new SYN to it with a challenge instead of accepting. 1 s is longer
/// than a segment lives on any path that relays use, and short enough that a shard with 14,000 ports
/// can dial 14,000 times a second. Costs 16 bytes a resting port.
/// Source: RFC 9293 section 3.6.1, RFC 5961 section 4; docs/decisions.md.
pub const PORT_QUARANTINE_LOCAL: Duration = Duration::from_secs(1);

/// Time for which a local port is put aside that somebody else on the host was found to have.
///
/// Trying it again costs a dial one of its [`DIAL_TRIES_MAX`] tries; connections of other programs last
/// seconds to minutes.
pub const PORT_ASIDE: Duration = Duration::from_secs(10);

/// First port of the local range when the host does not say which: the kernel's own default.
///
/// Source: ip-sysctl, `ip_local_port_range`.
pub const LOCAL_PORT_MIN: u16 = 32_768;

/// Last port of the local range when the host does not say which.
///
/// Source: as for [`LOCAL_PORT_MIN`].
pub const LOCAL_PORT_MAX: u16 = 60_999;

/// Outbound connections that one shard makes at once, unless configured.
///
/// Each holds a port, a slot of the file table and a kernel socket for up to [`DIAL_TIMEOUT`] when the
/// target is a black hole. A relay dials other relays, of which there are tens.
pub const DIALS_MAX: u32 = 256;

/// Ports tried for one dial when somebody else on the host turns out to have them.
///
/// Each try costs the data thread a socket; a host that takes two ports of the relay's slice in a row
/// has too few for both, which the refusal says.
pub const DIAL_TRIES_MAX: u8 = 2;

// ---- Handshake and open --------------------------------------------------------------------------

/// Longest time from TCP accept to an established session.
///
/// A pending handshake pins one descriptor, one slot and one receive buffer. Legitimate handshakes
/// end in under 1 s; 20 s let dead peers hold four times as much as 5 s do.
/// Source: docs/protocol.md section 2.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Most handshakes in progress on one shard, unless configured.
///
/// Past it the one that has waited longest for its peer is shed, so that sockets which never finish
/// cannot keep others out: at [`ACCEPTS_PER_S_MAX`] an honest peer still has 400 ms for each message.
/// Each pins a socket and some hundred bytes, and [`HANDSHAKE_BYTES_MAX`] at the very worst.
pub const HANDSHAKES_MAX: u32 = 4_096;

/// Most handshakes in progress from one source on one shard, unless configured; past it new
/// connections of that source are reset.
///
/// A source is an IPv4 address, or the first 64 bits of an IPv6 address, which one customer has to
/// himself. Many peers may share one behind a translator, and all come back at once after a restart:
/// a quarter of [`HANDSHAKES_MAX`] lets 2,000 a second finish over a path of 500 ms.
pub const HANDSHAKES_SOURCE_MAX: u32 = 1_024;

/// Time for which a handshake waits for message 3 with its Noise state at hand.
///
/// The state is some 2 KiB; what it can be computed again from is a tenth. A peer that needs longer than
/// this for its answer costs two more Diffie-Hellman operations, one that never answers costs less.
pub const HANDSHAKE_FOLD_AFTER: Duration = Duration::from_secs(1);

/// Handshakes waiting for their peers on one shard above which states are folded at once.
///
/// 2 MiB of states. Below it nobody who answers within a second pays for a flood.
pub const HANDSHAKES_UNFOLDED_MAX: u32 = 1_024;

/// Most connections accepted in a second by one shard, unless configured; the rest waits in the
/// kernel's backlog.
///
/// Three times the handshakes a core computes in a second: enough never to be noticed by peers, and
/// it leaves a flood of connections to the kernel, which holds each for 300 bytes.
pub const ACCEPTS_PER_S_MAX: u32 = 10_000;

/// Longest Noise message of the handshake, without its length prefix.
///
/// Message 3 with a relay's announcement is the largest; 1,024 leave 900 bytes to extensions. A
/// pending handshake holds at most this much unread.
/// Source: docs/protocol.md section 2.
pub const HANDSHAKE_MESSAGE_MAX: usize = 1_024;

/// Shortest Noise message of the dmsg dialect, without its length prefix: a key and a tag.
pub const DMSG_HANDSHAKE_MESSAGE_MIN: usize = KEY_LEN_MAX + 16;

/// Longest Noise message of the dmsg dialect, without its length prefix: a frame of 4,096 bytes.
///
/// Messages are 49 and 65 bytes long; clients of 2026 put a post-quantum key of 1,184 bytes into the first
/// one. A pending handshake holds at most this much unread.
/// Source: docs/dmsg.md "Handshake".
pub const DMSG_HANDSHAKE_MESSAGE_MAX: usize = 4_094;

/// Longest header of the PROXY protocol that a connection may begin with.
///
/// 216 for addresses, of Unix sockets, and 304 for what proxies add: names of hosts, certificates, networks.
/// Its specification counts on so much fitting into the first segment of a connection. A pending handshake
/// holds it in the place of message 1.
/// Source: `HAProxy`, "The PROXY protocol", section 2.
pub const PROXY_HEADER_MAX: usize = 536;

/// Longest header of version 1 of that, a line: an unknown family, two IPv6 addresses, two ports.
///
/// Source: `HAProxy`, "The PROXY protocol", section 2.1.
pub const PROXY_LINE_MAX: usize = 107;

/// Most bytes kept that a peer sent right behind its handshake, before the session is admitted.
///
/// Enough for a few hundred opens in one flight; beyond it the socket is simply not read. Costs this
/// much a pending handshake at worst.
/// Source: docs/protocol.md section 2, "The verdict".
pub const PIPELINED_MAX: usize = 65_536;

/// Most bytes kept behind all handshakes of one shard.
///
/// A thousand full ones. Beyond it a peer that sends ahead is reset with reason 212.
pub const PIPELINED_SHARD_MAX: u64 = 64 * MIB as u64;

/// Longest time from a stream's first frame to the destination's answer, at one relay.
///
/// A stream without its request, or whose destination is mute, pins two slots of the stream table for
/// this long and nothing after.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time from an open request to the destination's answer, all relays tried included.
///
/// Long enough for two relays in turn over bad paths; 30 s kept the streams of dead destinations three
/// times as long.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest difference between the timestamp of an open request and the destination's clock.
///
/// Wide enough for hosts without time synchronisation, narrow enough that an old request is useless.
pub const OPEN_TIMESTAMP_SKEW_MAX: Duration = Duration::from_secs(120);

/// Longest Noise KK message in an open object.
///
/// Both messages are 48 bytes without payload; the rest is room for one.
/// Source: docs/protocol.md section 4.
pub const OPEN_NOISE_MAX: usize = 256;

/// Bytes of an open request around its Noise message: head, two addresses, length, signature.
pub const OPEN_REQUEST_FIXED: usize = 12 + 2 * (NATIVE_KEY_LEN + 2) + 2 + SIGNATURE_LEN;

/// Bytes of an open response around its Noise message: head, request hash, length, signature.
pub const OPEN_RESPONSE_FIXED: usize = 4 + 32 + 2 + SIGNATURE_LEN;

/// Longest open request.
pub const OPEN_REQUEST_MAX: usize = OPEN_REQUEST_FIXED + OPEN_NOISE_MAX;

/// Longest open response.
pub const OPEN_RESPONSE_MAX: usize = OPEN_RESPONSE_FIXED + OPEN_NOISE_MAX;

/// Longest Noise KK message in an open object of the dmsg dialect.
///
/// Both messages are 49 bytes without payload; clients of 2026 add a post-quantum key of 1,184 bytes and its
/// tag to the first one.
/// Source: docs/dmsg.md "Open objects".
pub const DMSG_OPEN_NOISE_MAX: usize = 2_048;

/// Longest name of a country or region in an open response of the dmsg dialect; codes have two or three
/// letters.
pub const DMSG_GEO_TEXT_MAX: usize = 64;

/// Bytes of a verdict.
pub const VERDICT_LEN: usize = 8;

// ---- Sealed objects ------------------------------------------------------------------------------

/// Bytes that sealing adds: length prefix, explicit nonce, tag.
pub const SEALED_OVERHEAD: usize = 2 + 8 + 16;

/// Longest plain object that is sealed.
pub const SEALED_PLAIN_MAX: usize = max(max(OPEN_REQUEST_MAX, OPEN_RESPONSE_MAX), VERDICT_LEN);

/// Keys that a shard may be asking the registry for at a time: an open that comes then is refused with 102.
pub const LOOKUPS_MAX: u32 = 1_024;

/// Bytes of a peer's entry: sequence and signature.
pub const PEER_ENTRY_LEN: usize = 8 + 64;

/// Bytes of a peer set without its keys: kind, version, flags, sequence and two counts.
pub const PEER_SET_FIXED: usize = 4 + 8 + 2 + 2;

/// Most keys in one peer set: as many as fit in the longest object that is sealed anyway.
pub const PEER_SET_KEYS_MAX: usize = (SEALED_PLAIN_MAX - PEER_SET_FIXED) / NATIVE_KEY_LEN;

/// Longest sealed object on the wire, its length prefix included.
///
/// A stream that is being opened holds at most this much.
pub const SEALED_OBJECT_MAX: usize = SEALED_OVERHEAD + SEALED_PLAIN_MAX;

/// Longest sealed object of the dmsg dialect on the wire, its length prefix included.
///
/// Clients of 2024 send up to 383 bytes. Those of 2026 add a post-quantum key of 1,184 bytes or a
/// ciphertext of 1,088 to the Noise message, and a few fields: some 1,700. 4,096 is what Go's frames of a
/// stream hold, and twice that and more. A stream that is being opened holds at most this much.
/// Source: docs/dmsg.md "Sealed objects".
pub const DMSG_OBJECT_MAX: usize = 4_096;

/// Longest plain object of the dmsg dialect.
pub const DMSG_PLAIN_MAX: usize = DMSG_OBJECT_MAX - SEALED_OVERHEAD;

/// Nonces the replay window remembers.
///
/// Objects of one direction arrive in order over TCP, so any window would do for honest peers; 1,024
/// bits are 128 bytes a session and leave room for a dialect that seals out of order.
/// Source: docs/protocol.md section 4.
pub const NONCE_WINDOW_BITS: u64 = 1_024;

// ---- Records, peer to peer -----------------------------------------------------------------------

/// Longest frame of a stream of the dmsg dialect, without its length prefix.
///
/// Source: docs/dmsg.md "Frames of a stream".
pub const DMSG_FRAME_MAX: usize = 4_094;

/// Bytes a frame of the dmsg dialect adds to its payload, without its length prefix: nonce and tag.
pub const DMSG_FRAME_OVERHEAD: usize = 8 + 16;

/// Longest payload of a frame of the dmsg dialect.
pub const DMSG_PAYLOAD_MAX: usize = DMSG_FRAME_MAX - DMSG_FRAME_OVERHEAD;

/// Longest ciphertext of a record, tag included, length prefix not: what its u16 can say.
pub const RECORD_MAX: usize = 65_535;

/// Bytes of a record's length prefix.
pub const RECORD_PREFIX: usize = 2;

/// Bytes of a record's tag.
pub const RECORD_TAG: usize = 16;

/// Longest payload of a record.
pub const RECORD_PAYLOAD_MAX: usize = RECORD_MAX - RECORD_TAG;

/// Payload of the records a peer writes unless told otherwise.
///
/// The receiver can open a record only when it is whole: 16 KiB cost 0.1 % in tags and delay the
/// first byte by 130 us at 1 Gbit/s.
/// Source: docs/protocol.md section 5; the same number as TLS.
pub const RECORD_PAYLOAD_DEFAULT: usize = 16_384;

// ---- Liveness ------------------------------------------------------------------------------------

/// Silence after which a side sends a ping.
///
/// Below the 60 s after which common NATs forget a connection.
/// Source: docs/protocol.md section 3, "Ping and Go Away".
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// Unanswered pings after which a session ends with reason 209.
///
/// One lost ping is no proof, since TCP retransmits; a dead peer pins its slot for
/// [`KEEPALIVE_TIMEOUT`].
pub const KEEPALIVE_MISSED_MAX: u32 = 3;

/// Time without a byte in either direction after which a bridge is reset.
///
/// Applications that are silent for longer send something of their own. An idle bridge costs two slots
/// of stream tables and no buffers.
pub const BRIDGE_IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Time without a byte in either direction after which a half-closed bridge is reset.
///
/// One side has said that it will send nothing more. The other may go on for as long as it sends; when
/// it falls silent, nobody may be left to end the bridge, and it is given up sooner than a whole one.
/// Source: relays that waited for ever kept a thousand such bridges a day.
pub const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest wait for the last bytes (a verdict, a go away) to leave before a socket is reset.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest time a session's socket may take no byte while bytes wait for it; then reason 208.
///
/// Covers a few TCP retransmissions with back-off; a receiver that stalls longer holds its share of
/// [`SESSION_QUEUE_MAX`] for nothing. A receiver that takes bytes, however slowly, is not cut off.
pub const SEND_STALL_TIMEOUT: Duration = Duration::from_secs(30);

// ---- Relays among themselves ---------------------------------------------------------------------

/// Most links of one shard with other relays.
///
/// One link a shard of each of 64 relays. Each costs a socket and, when it is idle, what a session does.
pub const LINKS_MAX: u32 = 64;

/// Most streams open at a time on one link.
///
/// A link carries the streams of many peers: 32 of a peer's own bound.
pub const LINK_STREAMS_MAX: u32 = 65_536;

/// Silence after which a relay sends a ping on a link.
///
/// A link that is cut must not hold up the opens of all its peers for two minutes, and there are few.
pub const LINK_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Shortest wait before a link that could not be made, or was lost, is tried again.
///
/// It doubles with each failure, up to [`LINK_RETRY_MAX`]; a jitter takes off up to half of it.
pub const LINK_RETRY_MIN: Duration = Duration::from_millis(500);

/// Longest wait before a link is tried again.
pub const LINK_RETRY_MAX: Duration = Duration::from_secs(30);

/// Most relays that are asked for the destination of one open.
///
/// A second one for a peer that has just moved; more would multiply the cost of an open to nobody.
pub const FORWARD_TRIES_MAX: usize = 2;

/// How long a relay that does not have a destination is not asked for it again.
pub const NEGATIVE_ANSWER_TIME: Duration = Duration::from_secs(5);

/// Requests of other relays whose signatures a shard's executor verifies at a time: few enough not to stand
/// in the way of handshakes.
pub const REQUEST_CHECKS_MAX: usize = 32;

/// Requests of other relays that wait for that: a second's work of 50 us each, and then some. More are
/// refused with 304.
pub const REQUESTS_WAITING_MAX: usize = 32_768;

/// Most negative answers that a shard remembers.
pub const NEGATIVE_ANSWERS_MAX: usize = 4_096;

/// Most streams of all links of a shard together.
pub const FORWARDED_STREAMS_MAX: u32 = 131_072;

/// Most peers of other relays that all links of a shard may announce; the rest is not known here.
///
/// The directory holds them all: some 250 MB a shard at the bound.
pub const ANNOUNCED_MAX: u32 = 1_000_000;

/// Most links that are remembered to have announced the same peer.
///
/// A peer has sessions with two or three relays; a request is forwarded to two at most.
pub const HOLDERS_MAX: usize = 4;

// ---- Forwarding and memory -----------------------------------------------------------------------

/// Bytes of one chunk of a session's out-buffer.
///
/// Holds some 30 copied frames of up to [`COPY_THRESHOLD`]; a session with anything queued owns at
/// least one.
pub const CHUNK_BYTES: usize = 32_768;

/// Ranges shorter than this are copied to the out-buffer, longer ones are sent by reference.
///
/// Source: docs/architecture.md "The life of a byte" (measured crossover between 1 and 4 KiB).
pub const COPY_THRESHOLD: usize = 1_024;

/// Most bytes of one gather send.
///
/// One send is in flight a session: what is in it delays a control frame by 2 ms at 1 Gbit/s.
pub const BATCH_BYTES_MAX: usize = 262_144;

/// Most segments of one gather send; the kernel takes up to 1,024 (`UIO_MAXIOV`) and walks them all.
pub const BATCH_SEGMENTS_MAX: usize = 64;

/// Most bytes a session's egress may hold by reference in the buffers of the ring.
///
/// Past it the waiting bytes are moved to memory of the session, so that a slow consumer cannot
/// starve the others of receive buffers.
/// Source: docs/architecture.md "The life of a byte", step 5.
pub const SESSION_REFERENCED_MAX: u32 = 262_144;

/// Most bytes that wait for one session, in whatever memory; past it streams get reason 208.
///
/// Two streams of [`WINDOW_MAX`]: one slow consumer may hold this much of [`SHARD_QUEUE_MAX`].
pub const SESSION_QUEUE_MAX: u32 = 32 * MIB;

/// Bytes that may wait for a session whatever waits for others, up to the shard's bound.
///
/// Two direct sends: what a session that keeps up has waiting at most. Those with more share the first
/// three quarters of [`SHARD_QUEUE_MAX`]; the last quarter is for these.
pub const SESSION_QUEUE_SMALL: u32 = 131_072;

/// Most bytes that wait for all sessions of one shard.
///
/// Thirty-two sessions at their own limit. It is the largest term of a shard's memory.
pub const SHARD_QUEUE_MAX: u64 = 1_024 * MIB as u64;

/// Bytes a stream may send before the next one of the same session has its turn.
///
/// One default record with its header: a bulk stream delays a keystroke by one record.
/// Source: Shreedhar and Varghese, "Efficient fair queuing using DRR".
pub const DRR_QUANTUM: u32 = 16_384;

/// Most completions a data thread handles before it submits again.
///
/// At 1 us each it bounds the wait of a finished send by a quarter of a millisecond.
pub const TURN_QUANTUM: u32 = 256;

/// Sockets of a shard beyond its sessions, where the limit of open files allows it.
///
/// A relay that is full still makes this many handshakes, to tell peers so with reason 203 and when to
/// come back; without them they would wait in the kernel's backlog until they give up.
pub const SOCKETS_RESERVED: u32 = 512;

/// Most receive memory of one shard: blocks lent to the kernel and blocks that leases hold.
///
/// A lease of one byte holds its whole block of 256 KiB. When half of the memory is held, what waits
/// for slow sessions is copied out of it, so that they cannot take the memory of all.
pub const RECEIVE_MEMORY_MAX: u64 = 256 * MIB as u64;

// ---- Routes --------------------------------------------------------------------------------------

/// Most peers of a path of a route, both ends included.
///
/// Each peer adds its latency, a rule and one exchange at setup; paths of more than a handful of peers are
/// slower than any use of them.
pub const ROUTE_HOPS_MAX: usize = 16;

/// Longest time from a request for a route to its answer.
///
/// Every hop is asked twice, over a stream that may have to be opened first.
pub const ROUTE_SETUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Route setups that a relay has under way at a time; more are refused with 501.
///
/// Each holds up to two streams for every hop. They end within [`ROUTE_SETUP_TIMEOUT`].
pub const ROUTE_SETUPS_MAX: u32 = 20;

/// Time without a packet after which a hop forgets a rule, unless the setup says another.
pub const ROUTE_KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Shortest time without a packet that a setup may ask for.
pub const ROUTE_KEEP_ALIVE_MIN: Duration = Duration::from_secs(1);

/// Longest time without a packet that a setup may ask for.
///
/// Rules of ends that have vanished take places of a hop's table for so long.
pub const ROUTE_KEEP_ALIVE_MAX: Duration = Duration::from_secs(600);

/// Time for which an id is reserved at a hop without a rule.
///
/// As long as a setup may take.
pub const ROUTE_RESERVE_TIME: Duration = Duration::from_secs(10);

/// Most rules and reserved ids in a peer's table.
///
/// About 200 bytes each. A route has one in every peer but its first.
pub const ROUTE_RULES_MAX: usize = 4_096;

/// Most ids or rules in one request to a hop.
///
/// A hop stands on at most two routes of a group.
pub const ROUTE_IDS_MAX: usize = 16;

/// Bytes of the length before a control message of routes.
pub const ROUTE_MESSAGE_PREFIX: usize = 4;

/// Longest control message of routes, without its length.
///
/// The longest one that is of use is an announcement of [`ROUTE_TRANSPORTS_MAX`] transports.
pub const ROUTE_MESSAGE_MAX: usize = 65_536;

/// Requests that one stream of control messages has under way at a time.
///
/// More are answered later: the next one is not read before.
pub const ROUTE_REQUESTS_MAX: usize = 32;

/// Longest name of a field in a refusal.
pub const ROUTE_FIELD_TEXT_MAX: usize = 64;

/// Longest sentence in a refusal.
pub const ROUTE_MESSAGE_TEXT_MAX: usize = 256;

/// Most transports that a peer announces.
pub const ROUTE_TRANSPORTS_MAX: usize = 1_024;

/// Most paths that one question for paths is answered with.
pub const ROUTE_PATHS_MAX: usize = 8;

/// Most peers that a question for paths excludes.
///
/// The hops of a few paths that have failed one after the other.
pub const ROUTE_AVOID_MAX: usize = 64;

/// Bytes before the payload of a packet: route id, kind, length.
pub const ROUTE_PACKET_HEAD: usize = 7;

/// Longest payload of a packet.
///
/// With the head one record of the stream below at its usual size.
pub const ROUTE_PACKET_PAYLOAD_MAX: usize = RECORD_PAYLOAD_DEFAULT - ROUTE_PACKET_HEAD;

/// Bytes of a segment's number, before what is sealed.
pub const ROUTE_SEGMENT_NUMBER: usize = 8;

/// Bytes of a segment's head.
pub const ROUTE_SEGMENT_HEAD: usize = 29;

/// Most bytes of data in a segment: a packet has no more.
pub const ROUTE_SEGMENT_DATA_MAX: usize =
    ROUTE_PACKET_PAYLOAD_MAX - ROUTE_SEGMENT_NUMBER - ROUTE_SEGMENT_HEAD - RECORD_TAG;

/// Bytes that an end of a route group holds for each direction.
///
/// 1 MiB carries 80 Mbit/s over 100 ms. Costs up to twice as much a group at each end.
pub const ROUTE_WINDOW: u32 = MIB;

/// Most route groups that end at one peer.
pub const ROUTE_GROUPS_MAX: usize = 1_024;

/// Most neighbours that a peer has packet streams with.
pub const ROUTE_NEIGHBOURS_MAX: usize = 256;

/// Most bytes that wait for one neighbour; further packets are dropped.
///
/// A neighbour that takes nothing costs this much and its own routes, no others.
pub const ROUTE_QUEUE_MAX: usize = 4 * MIB as usize;

/// Most bytes of one route that wait for a neighbour.
///
/// A window and what goes with it: a route that has the neighbour for itself loses nothing.
pub const ROUTE_QUEUE_ROUTE_MAX: usize = ROUTE_WINDOW as usize + ROUTE_WINDOW as usize / 8;

/// Time without a packet and without a rule after which the stream with a neighbour is let go.
pub const ROUTE_NEIGHBOUR_IDLE: Duration = Duration::from_secs(60);

/// Time for which an announcement of transports counts; it is renewed after a third of it.
pub const ROUTE_ANNOUNCE_TTL: Duration = Duration::from_secs(60);

// ---- Sums ----------------------------------------------------------------------------------------

/// Longest first flight of a stream: the frame that opens it and the data frame with the request.
pub const OPEN_FLIGHT_MAX: usize = 2 * HEADER_LEN + SEALED_OBJECT_MAX;

/// Longest wait from the last byte of a dead peer to the end of its session.
pub const KEEPALIVE_TIMEOUT: Duration =
    Duration::from_secs(KEEPALIVE_INTERVAL.as_secs() * (KEEPALIVE_MISSED_MAX as u64 + 1));

/// Most bytes a pending handshake makes a relay hold: one unread message and what came behind it.
pub const HANDSHAKE_BYTES_MAX: usize = 2 + HANDSHAKE_MESSAGE_MAX + PIPELINED_MAX;

const MIB: u32 = 1_048_576;

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

// The offsets that docs/protocol.md section 4 prints.
const _: () = assert!(OPEN_REQUEST_FIXED == 82 + SIGNATURE_LEN);
const _: () = assert!(OPEN_RESPONSE_FIXED == 38 + SIGNATURE_LEN);
// A sealed object covers the biggest open object, and its u16 length can say it.
const _: () = assert!(SEALED_OBJECT_MAX >= SEALED_OVERHEAD + OPEN_REQUEST_MAX);
const _: () = assert!(SEALED_OBJECT_MAX >= SEALED_OVERHEAD + OPEN_RESPONSE_MAX);
const _: () = assert!(SEALED_OBJECT_MAX - 2 <= u16::MAX as usize);
// The same in the dmsg dialect.
const _: () = assert!(DMSG_OBJECT_MAX - 2 <= u16::MAX as usize);
const _: () = assert!(DMSG_OBJECT_MAX < WINDOW_INITIAL as usize);
const _: () = assert!(2 * HEADER_LEN + DMSG_OBJECT_MAX <= PIPELINED_MAX);
const _: () = assert!(DMSG_PAYLOAD_MAX == 4_070);
// A header of a proxy takes no more than the message that follows it may.
const _: () = assert!(PROXY_LINE_MAX <= PROXY_HEADER_MAX);
const _: () = assert!(PROXY_HEADER_MAX <= DMSG_HANDSHAKE_MESSAGE_MAX);
// An open fits in the window both sides assume, in the bytes kept behind a handshake, and in a batch.
const _: () = assert!(SEALED_OBJECT_MAX < WINDOW_INITIAL as usize);
const _: () = assert!(OPEN_FLIGHT_MAX <= PIPELINED_MAX);
const _: () = assert!(OPEN_FLIGHT_MAX <= BATCH_BYTES_MAX);
// A KK message (ephemeral key and tag) fits in an open object.
const _: () = assert!(OPEN_NOISE_MAX >= 32 + 16);
// Message 3 without extensions: sealed static key, role, ed25519 key, extension length, tag.
const _: () = assert!(HANDSHAKE_MESSAGE_MAX >= 48 + 1 + NATIVE_KEY_LEN + 2 + 16);
const _: () = assert!(RECORD_PAYLOAD_DEFAULT <= RECORD_PAYLOAD_MAX);
const _: () = assert!(NONCE_WINDOW_BITS.is_multiple_of(64));
// A copied range fits in a chunk with its header, a chunk in a batch.
const _: () = assert!(COPY_THRESHOLD + HEADER_LEN <= CHUNK_BYTES);
const _: () = assert!(CHUNK_BYTES <= BATCH_BYTES_MAX);
// A full window can wait for a session; every session's share fits in the shard's.
const _: () = assert!(WINDOW_INITIAL <= WINDOW_MAX && WINDOW_MAX <= SESSION_QUEUE_MAX);
const _: () = assert!(SESSION_REFERENCED_MAX <= SESSION_QUEUE_MAX);
const _: () = assert!(SESSION_QUEUE_MAX as u64 <= SHARD_QUEUE_MAX);
// A session that keeps up is never held to the share of those that do not.
const _: () = assert!(SESSION_QUEUE_SMALL <= SESSION_QUEUE_MAX);
const _: () = assert!(HANDSHAKES_SOURCE_MAX <= HANDSHAKES_MAX);
const _: () = assert!(HALF_CLOSED_TIMEOUT.as_secs() <= BRIDGE_IDLE_TIMEOUT.as_secs());
// A dead peer is found before its bridges would have been called idle.
const _: () = assert!(KEEPALIVE_TIMEOUT.as_secs() < BRIDGE_IDLE_TIMEOUT.as_secs());
const _: () = assert!(OPEN_TIMEOUT.as_secs() <= DIAL_TIMEOUT.as_secs());
// Announcements and paths fit in a message: a key, a varint of 32 or 64 bits, counts.
const _: () = assert!(16 + ROUTE_TRANSPORTS_MAX * (NATIVE_KEY_LEN + 5) <= ROUTE_MESSAGE_MAX);
const _: () =
    assert!(16 + ROUTE_PATHS_MAX * (ROUTE_HOPS_MAX * NATIVE_KEY_LEN + 11) <= ROUTE_MESSAGE_MAX);
// An id outlives the setup that reserved it.
const _: () = assert!(ROUTE_RESERVE_TIME.as_secs() >= ROUTE_SETUP_TIMEOUT.as_secs());
