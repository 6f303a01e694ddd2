//! What goes into a shard core and what comes out of it.
//!
//! Here: the identifiers, the actions a driver carries out, the messages between shards, the compute
//! jobs. Not here: what the core does with them.

use ::core::net::{IpAddr, SocketAddr};

use ringway_proto::dialect::handshake::{
    Established, FoldedResponder, Identities, Initiator, Responder,
};
use ringway_proto::dialect::{Dialect, RequestHash};
use ringway_proto::dmsg::open::{Geo, PeerAnnounce, StreamResponse};
use ringway_proto::entry::PeerEntry;
use ringway_proto::handshake::{Extension, HandshakeError, Offer};
use ringway_proto::key::PublicKey;
use ringway_proto::sealed::{Opener, Sealer};
use ringway_proto::time::Now;

use super::dial::{DialError, DialKey, Dialed};
use super::source::Source;
use crate::batch::Batch;

/// Number of a shard, dense from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// Index in the ring's direct-descriptor table. A session lives in the slot of its socket, so finding
/// the session of a completion needs no lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// Generational reference to a session: a reused slot has another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    /// The slot.
    pub slot: Slot,
    /// Incremented whenever the slot's session ends.
    pub generation: u32,
}

/// Generational reference to a stream of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    /// Index in the stream table.
    pub index: u32,
    /// Incremented whenever the entry is removed.
    pub generation: u32,
}

/// Where a session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The shard that owns it.
    pub shard: ShardId,
    /// The session there.
    pub session: SessionKey,
}

/// A connection as the driver reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// What its listener speaks.
    pub dialect: Dialect,
    /// Who answers for it, as limits see it.
    pub source: Source,
    /// Its address, to be told to the peer where the dialect lets it ask.
    pub address: Option<IpAddr>,
}

impl From<Source> for Arrival {
    /// A native connection of this source.
    fn from(source: Source) -> Self {
        Self {
            dialect: Dialect::Native,
            source,
            address: None,
        }
    }
}

/// What the directory holds of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// Where it lives.
    pub place: Place,
    /// When its connection was accepted, by the clock that all shards share.
    pub accepted_at: Now,
}

impl Registration {
    /// Returns whether this session must leave the key to `there`, whose connection is newer.
    ///
    /// The accept counts, not the end of the handshake: a peer that has given a connection up and made
    /// another had message 2 of the first one, so that its accept lies before the second connect. The
    /// end of the handshake may lie behind that of the second: on a slower shard, or because the relay
    /// has not been told that the first connection is gone.
    #[must_use]
    pub fn is_outdated_by(&self, there: &Self) -> bool {
        there.accepted_at > self.accepted_at
    }
}

/// A newer session of the key is in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outdated;

/// The read-mostly map from key to session that all shards share.
///
/// Every method must be atomic: of two shards that insert the same key, exactly one is told about the
/// other's place or that it is outdated, so that exactly one of the two sessions is ended.
pub trait Directory {
    /// Makes the session the one of `key`; returns the place it replaces. The peer's entry is kept for a
    /// registry, where there is one.
    ///
    /// # Errors
    /// When the session [is outdated](Registration::is_outdated_by) by the one there, which stays.
    fn insert(
        &self,
        key: PublicKey,
        registration: Registration,
        entry: Option<&PeerEntry>,
    ) -> Result<Option<Place>, Outdated>;
    /// Removes `key` if its session is the one at `place`.
    fn remove(&self, key: &PublicKey, place: Place);
    /// Returns the session of `key`.
    fn lookup(&self, key: &PublicKey) -> Option<Place>;
    /// Returns the keys of all sessions.
    fn keys(&self) -> Vec<PublicKey>;
    /// Makes `link` the one on which `relay` is told of the peers here, unless another one is; returns
    /// whether it is.
    fn claim_announcer(&self, relay: PublicKey, link: Place) -> bool;
    /// Takes that back, if it was `link`.
    fn drop_announcer(&self, relay: &PublicKey, link: Place);
    /// Returns the shards that have such links, each once.
    fn announcers(&self) -> Vec<ShardId>;
    /// Returns the link on which `relay` is told of the peers here.
    fn announcer(&self, relay: &PublicKey) -> Option<Place>;
    /// Notes that a link with a relay stands, and what the relay says of itself, if it does.
    fn note_relay(&self, relay: PublicKey, address: Option<SocketAddr>);
    /// Notes that another relay has a session of `key`. Beyond `HOLDERS_MAX` of them nothing is noted.
    fn hold(&self, key: PublicKey, holder: Holder);
    /// Forgets what a link has told of `key`.
    fn release(&self, key: &PublicKey, link: Place);
    /// Returns who has said to have a session of `key`, in the order in which they did.
    fn holders(&self, key: &PublicKey) -> Vec<Holder>;
}

/// A relay that has a session of some key, and how this relay knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The relay.
    pub relay: PublicKey,
    /// The link that told it.
    pub link: Place,
}

/// What the driver has to do.
#[derive(Debug)]
pub enum Action<L> {
    /// Give up a connect; `connected` or `connect_failed` still follows.
    CancelConnect {
        /// The dial.
        dial: DialKey,
    },
    /// Cancel the send in flight on the slot: its `ShardCore::sent` then says how far it came, or
    /// `ECANCELED` when the kernel had not taken a byte. Nothing to do when it has completed meanwhile.
    CancelSend {
        /// The socket.
        slot: Slot,
    },
    /// Cancel every operation of the slot and close its socket; answer with `ShardCore::closed`.
    Close {
        /// The socket.
        slot: Slot,
    },
    /// Run on the service executor; answer with `ShardCore::computed`.
    Compute(Job),
    /// Tell the registry that a peer is not with the relay that it has named; no answer.
    Doubt {
        /// The peer.
        key: PublicKey,
    },
    /// Ask the registry which relay has a peer; answer with `ShardCore::looked_up`.
    LookUp(Lookup),
    /// Bind to exactly `source` and connect to `target`; answer with `ShardCore::connected` or, once the
    /// socket is gone, `ShardCore::connect_failed`.
    Connect {
        /// The dial.
        dial: DialKey,
        /// Address and port to connect from.
        source: SocketAddr,
        /// Whom to connect to.
        target: SocketAddr,
    },
    /// Tell whoever asked for the dial what became of it.
    Dialed {
        /// The dial.
        dial: DialKey,
        /// What became of it.
        outcome: Result<Dialed, DialError>,
    },
    /// Put into the mailbox of the ordered pair (this shard, target): in order, never lost.
    Message {
        /// The shard to tell.
        target: ShardId,
        /// What to tell it.
        message: Message<L>,
    },
    /// Cancel the multishot accept: the table is full, too many handshakes are being computed, or
    /// connections come too fast.
    PauseAccept,
    /// Arm the multishot accept again.
    ResumeAccept,
    /// Send the batch; answer with `ShardCore::sent`, which gives the batch back.
    Send {
        /// The socket.
        slot: Slot,
        /// What to send.
        batch: Batch<L>,
    },
}

/// A question to the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookup {
    /// The open that waits for the answer.
    pub stream: StreamKey,
    /// The peer.
    pub key: PublicKey,
}

/// What the registry knows of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookedUp {
    /// It has a session with this relay.
    At(PublicKey),
    /// Nothing.
    Nowhere,
    /// The registry did not answer, or is asked too much.
    Unavailable,
}

/// How receiving on a socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvEnd {
    /// The peer closed its side.
    Eof,
    /// The kernel reported this errno.
    Error(i32),
}

/// What one shard tells another. Each ordered pair of shards is FIFO.
#[derive(Debug)]
pub enum Message<L> {
    /// The destination acknowledged the stream and granted `delta` bytes beyond the initial window.
    Acknowledged {
        /// The opener's stream.
        stream: StreamKey,
        /// Bytes.
        delta: u32,
    },
    /// The link on which this relay told another one of its peers has ended.
    AnnouncerGone {
        /// The other relay. In a box, as any key would make every message longer.
        relay: Box<PublicKey>,
    },
    /// The destination answered the open.
    Answered {
        /// The opener's stream.
        stream: StreamKey,
        /// The plain response object.
        response: Vec<u8>,
    },
    /// Newest session wins: end this one with reason 202.
    Evict {
        /// The session to end.
        session: SessionKey,
    },
    /// No more data from the other leg.
    Finish {
        /// The stream on the receiving shard.
        stream: StreamKey,
    },
    /// Complete frames for a stream, headers already rewritten to its id.
    Frames {
        /// The stream on the receiving shard.
        stream: StreamKey,
        /// Headers and payload.
        range: L,
    },
    /// The other leg's peer granted `delta` more bytes.
    Grant {
        /// The stream on the receiving shard.
        stream: StreamKey,
        /// Bytes.
        delta: u32,
    },
    /// Open a stream towards a session of the receiving shard.
    Open(Box<OpenMessage>),
    /// The open could not be carried out.
    OpenFailed {
        /// The opener's stream.
        stream: StreamKey,
        /// Why.
        reason: ringway_proto::reason::Reason,
    },
    /// The open was carried out: this is the leg towards the destination.
    Opened {
        /// The opener's stream.
        stream: StreamKey,
        /// The leg on the sending shard.
        other: StreamKey,
        /// Its id on the wire.
        other_id: u32,
    },
    /// A session of a peer has begun or ended on the sending shard.
    PeerChanged {
        /// The peer.
        key: Box<PublicKey>,
    },
    /// Payload whose frame header the receiving shard writes.
    Piece {
        /// The stream on the receiving shard.
        stream: StreamKey,
        /// Payload only.
        range: L,
    },
    /// Receive memory of the sending shard runs short: copy out what waits in leases.
    Relieve,
    /// The other leg was reset or its session died.
    Reset {
        /// The stream on the receiving shard.
        stream: StreamKey,
    },
}

/// An open request on its way to the destination's shard.
#[derive(Debug)]
pub struct OpenMessage {
    /// The opener's stream on the sending shard.
    pub origin: StreamKey,
    /// Its id on the wire.
    pub origin_id: u32,
    /// The destination's session.
    pub target: SessionKey,
    /// The plain request object.
    pub request: Vec<u8>,
    /// Its hash, which the response must carry.
    pub hash: RequestHash,
    /// Bytes the opener granted beyond the initial window.
    pub window_extra: u32,
}

/// Processor-heavy work that must not delay a turn of the data thread: one step of a handshake.
#[derive(Debug)]
pub struct Job {
    pub(super) session: SessionKey,
    pub(super) step: Step,
}

/// The handshake steps that cost Diffie-Hellman operations.
#[derive(Debug)]
pub(super) enum Step {
    Message1 {
        dialect: Dialect,
        offer: Offer,
        message: Vec<u8>,
    },
    Message3 {
        responder: Box<Responder>,
        message: Vec<u8>,
    },
    Message3Folded {
        responder: Box<FoldedResponder>,
        message: Vec<u8>,
    },
    /// Verify the signature of a request.
    CheckRequest {
        dialect: Dialect,
        stream: StreamKey,
        request: Vec<u8>,
    },
    /// Verify what a server says of itself, and sign that it is taken.
    CheckAnnouncement {
        stream: StreamKey,
        hash: RequestHash,
        announcement: Vec<u8>,
    },
    /// Tell a peer where it comes from.
    AnswerAddress {
        stream: StreamKey,
        hash: RequestHash,
        address: IpAddr,
        /// Whether it is told where on earth that is.
        wants_place: bool,
    },
    /// Begin the handshake of a link with a relay.
    LinkHello {
        relay: PublicKey,
        /// What this relay says of itself.
        extensions: Vec<Extension>,
    },
    /// Go on with it after message 2.
    LinkAnswer {
        initiator: Box<Initiator>,
        message: Vec<u8>,
    },
}

#[cfg(test)]
impl Job {
    /// A job that fails, whose session is nobody's.
    pub(crate) fn unreadable() -> Self {
        let offer = Offer {
            capabilities: 0,
            streams_max: 1,
            stream_window: 65_536,
            keepalive_s: 30,
        };
        Self {
            session: SessionKey {
                slot: Slot(0),
                generation: 0,
            },
            step: Step::Message1 {
                dialect: Dialect::Native,
                offer,
                message: Vec::new(),
            },
        }
    }
}

/// What a [`Job`] came to.
#[derive(Debug)]
pub struct JobResult {
    pub(super) session: SessionKey,
    pub(super) outcome: Result<Progress, HandshakeError>,
}

/// A handshake after one step.
#[derive(Debug)]
pub(super) enum Progress {
    Established(Box<Established>),
    Reply {
        responder: Box<Responder>,
        message: Vec<u8>,
    },
    RequestChecked {
        stream: StreamKey,
        request: Vec<u8>,
        is_valid: bool,
    },
    AnnouncementChecked {
        stream: StreamKey,
        /// Absent when it is not signed by whom it names.
        response: Option<Vec<u8>>,
    },
    AddressAnswered {
        stream: StreamKey,
        /// Absent when this relay cannot sign it.
        response: Option<Vec<u8>>,
    },
    LinkHello {
        initiator: Box<Initiator>,
        message: Vec<u8>,
    },
    LinkAnswer {
        keys: Box<(Sealer, Opener)>,
        message: Vec<u8>,
    },
}

impl Job {
    /// Does the work. `random` is the ephemeral key of the handshake; it must be fresh for each job.
    #[must_use]
    pub fn run(self, identities: &Identities, random: [u8; 32]) -> JobResult {
        let Self { session, step } = self;
        let established = |established| Progress::Established(Box::new(established));
        let outcome = match step {
            Step::Message1 {
                dialect,
                offer,
                message,
            } => Responder::begin(dialect, identities, offer, random, &message).map(
                |(responder, message)| Progress::Reply {
                    responder: Box::new(responder),
                    message,
                },
            ),
            Step::Message3 { responder, message } => responder.message_3(&message).map(established),
            Step::Message3Folded { responder, message } => responder
                .unfold(identities)
                .and_then(|responder| responder.message_3(&message))
                .map(established),
            Step::CheckRequest {
                dialect,
                stream,
                request,
            } => Ok(Progress::RequestChecked {
                is_valid: dialect.verify_request(&request).is_ok(),
                stream,
                request,
            }),
            Step::CheckAnnouncement {
                stream,
                hash,
                announcement,
            } => Ok(Progress::AnnouncementChecked {
                stream,
                response: announcement_response(identities, hash, &announcement),
            }),
            Step::AnswerAddress {
                stream,
                hash,
                address,
                wants_place,
            } => Ok(Progress::AddressAnswered {
                stream,
                response: address_response(identities, hash, address, wants_place),
            }),
            Step::LinkHello { relay, extensions } => {
                Initiator::begin(identities, &relay, &extensions, random).map(
                    |(initiator, message)| Progress::LinkHello {
                        initiator: Box::new(initiator),
                        message,
                    },
                )
            }
            Step::LinkAnswer { initiator, message } => {
                initiator.message_2(&message).map(|(message, greeted)| {
                    let keys = Box::new((greeted.sealer, greeted.opener));
                    Progress::LinkAnswer { keys, message }
                })
            }
        };
        JobResult { session, outcome }
    }
}

/// Returns the signed answer to a peer of the dmsg dialect that asks for its own address.
fn address_response(
    identities: &Identities,
    request_hash: RequestHash,
    address: IpAddr,
    wants_place: bool,
) -> Option<Vec<u8>> {
    let place = wants_place.then(|| identities.locate(address)).flatten();
    let geo = place.as_ref().map(|place| Geo {
        country: &place.country,
        region: &place.region,
        latitude: place.latitude,
        longitude: place.longitude,
    });
    let response = StreamResponse {
        ip: Some(address),
        geo,
        ..StreamResponse::accept(request_hash, &[])
    };
    response.encode(identities.dmsg()?.secret()).ok()
}

/// Returns the signed answer to another server's word that it is one, if that is its own.
fn announcement_response(
    identities: &Identities,
    request_hash: RequestHash,
    announcement: &[u8],
) -> Option<Vec<u8>> {
    PeerAnnounce::verify(announcement).ok()?;
    let response = StreamResponse::accept(request_hash, &[]);
    response.encode(identities.dmsg()?.secret()).ok()
}
