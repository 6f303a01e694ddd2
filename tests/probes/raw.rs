//! A peer that speaks the protocol byte by byte on a blocking socket.
//!
//! Here: each step of a session as a call of its own, so that a probe can stop, lie or die between any
//! two. Not here: the client library, which does none of that.
//!
//! Bound: every read and write ends at `relay::DEADLINE`.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringway_client::{Address, PublicKey, SecretKey};
use ringway_proto::dialect::RequestHash;
use ringway_proto::frame::{Flags, FrameKind, HEADER_LEN, Header};
use ringway_proto::handshake::{Initiator, InitiatorEstablished, Role, message_len};
use ringway_proto::open::{OpenRequest, OpenResponse};
use ringway_proto::reason::Reason;
use ringway_proto::sealed::{Opener, Sealer, object_len};
use ringway_proto::verdict::Verdict;
use socket2::SockRef;

use crate::relay::{DEADLINE, Relay, secret_of};

/// The relay does not look at the Noise messages of an open.
const NOISE: [u8; 48] = [0x55; 48];

/// A session of a peer, from message 3 on.
pub(crate) struct Raw {
    socket: TcpStream,
    secret: SecretKey,
    key: PublicKey,
    sealer: Sealer,
    opener: Opener,
    next_id: u32,
    /// Own opens without an answer.
    unanswered: BTreeSet<u32>,
    /// Streams of others whose request has not come.
    unread: BTreeSet<u32>,
}

/// A handshake whose message 1 is ready.
pub(crate) struct Begun {
    pub(crate) socket: TcpStream,
    pub(crate) message_1: Vec<u8>,
    secret: SecretKey,
    initiator: Initiator,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Stream data.
    Data(u32, Vec<u8>),
    /// The other end sends no more.
    Finish(u32),
    /// The relay ends the session, or takes no new streams.
    GoAway(u32),
    /// An answer to a ping.
    Pong(u32),
    /// Somebody asks for a stream.
    Request(u32, RequestHash),
    /// The stream is gone.
    Reset(u32),
    /// An answer to an open.
    Response(u32, Reason),
}

/// Connects; nothing is said yet.
pub(crate) fn connect(relay: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(relay).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Makes the death of a socket a reset, as that of a process that dies with unread bytes is.
pub(crate) fn kill(socket: TcpStream) {
    SockRef::from(&socket)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(socket);
}

/// Reads until the relay has closed; returns whether it did so with a reset.
pub(crate) fn is_reset(socket: &mut TcpStream) -> bool {
    let mut rest = [0; 4_096];
    loop {
        match socket.read(&mut rest) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return true,
            Err(error) => panic!("the relay does not close: {error}"),
        }
    }
}

impl Begun {
    pub(crate) fn new(relay: &Relay, number: u32) -> Self {
        Self::with_secret(relay, secret_of(number), Role::Peer)
    }

    pub(crate) fn with_secret(relay: &Relay, secret: SecretKey, role: Role) -> Self {
        let begun = Initiator::new(&secret, &relay.key(), role, &[], random());
        let (initiator, message_1) = begun.unwrap();
        Self {
            socket: connect(relay.address()),
            message_1,
            secret,
            initiator,
        }
    }

    pub(crate) fn send(&mut self) {
        self.socket.write_all(&self.message_1).unwrap();
    }

    /// Reads message 2; returns the session and message 3, which is not sent.
    pub(crate) fn answered(mut self) -> (Raw, Vec<u8>) {
        let message = read_prefixed(&mut self.socket, |bytes| message_len(bytes).unwrap());
        let (message_3, established) = self.initiator.message_2(&message[2..]).unwrap();
        let InitiatorEstablished { sealer, opener, .. } = established;
        let raw = Raw {
            socket: self.socket,
            key: self.secret.public(),
            secret: self.secret,
            sealer,
            opener,
            next_id: 1,
            unanswered: BTreeSet::new(),
            unread: BTreeSet::new(),
        };
        (raw, message_3)
    }
}

impl Raw {
    /// Connects the peer with this number and waits until it is admitted.
    pub(crate) fn admitted(relay: &Relay, number: u32) -> Self {
        let mut begun = Begun::new(relay, number);
        begun.send();
        let (mut raw, message_3) = begun.answered();
        raw.send(&message_3);
        assert_eq!(raw.verdict().reason, Reason::Accepted);
        raw
    }

    pub(crate) fn key(&self) -> PublicKey {
        self.key
    }

    pub(crate) fn secret(&self) -> &SecretKey {
        &self.secret
    }

    pub(crate) fn address(&self) -> Address {
        Address::new(self.key, 80)
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(crate) fn into_socket(self) -> TcpStream {
        self.socket
    }

    /// Dies with a reset.
    pub(crate) fn kill(self) {
        kill(self.socket);
    }

    /// Ends its direction; the socket stays.
    pub(crate) fn shut_down(&self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    pub(crate) fn send_frame(&mut self, header: Header) {
        self.send(&header.encode());
    }

    pub(crate) fn verdict(&mut self) -> Verdict {
        let mut object = read_prefixed(&mut self.socket, |bytes| object_len(bytes).unwrap());
        Verdict::decode(self.opener.open(&mut object[2..]).unwrap()).unwrap()
    }

    /// Returns the plain request for a stream to `destination`.
    pub(crate) fn request(&self, destination: Address) -> Vec<u8> {
        let request = OpenRequest {
            forwarded: false,
            timestamp_ns: unix_time_ns(),
            source: Address::new(self.key, 50_000),
            destination,
            noise: &NOISE,
        };
        request.encode(&self.secret).unwrap()
    }

    /// Seals a request; returns the stream's id and the frames that open it, which are not sent.
    pub(crate) fn sealed(&mut self, request: &[u8]) -> (u32, Vec<u8>) {
        let id = self.next_id;
        self.next_id += 2;
        self.unanswered.insert(id);
        let mut object = Vec::new();
        self.sealer.seal(request, &mut object).unwrap();
        let mut frames = Header::window_update(id, Flags::SYN, 0).encode().to_vec();
        let length = u32::try_from(object.len()).unwrap();
        frames.extend_from_slice(&Header::data(id, Flags::NONE, length).encode());
        frames.extend_from_slice(&object);
        (id, frames)
    }

    /// Asks for a stream; returns its id.
    pub(crate) fn open(&mut self, destination: Address) -> u32 {
        let request = self.request(destination);
        let (id, frames) = self.sealed(&request);
        self.send(&frames);
        id
    }

    /// Returns the frames that accept a stream, which are not sent.
    pub(crate) fn acceptance(&mut self, id: u32, hash: RequestHash) -> Vec<u8> {
        self.answer(id, hash, Reason::Accepted, Flags::ACK)
    }

    /// Returns the frames that refuse a stream as a destination does.
    pub(crate) fn refusal(&mut self, id: u32, hash: RequestHash, reason: Reason) -> Vec<u8> {
        self.answer(id, hash, reason, Flags::ACK.union(Flags::FIN))
    }

    fn answer(&mut self, id: u32, hash: RequestHash, reason: Reason, flags: Flags) -> Vec<u8> {
        let response = OpenResponse {
            reason_code: reason.code(),
            request_hash: hash,
            noise: &NOISE,
        };
        let plain = response.encode(&self.secret).unwrap();
        let mut object = Vec::new();
        self.sealer.seal(&plain, &mut object).unwrap();
        let length = u32::try_from(object.len()).unwrap();
        let mut frames = Header::data(id, flags, length).encode().to_vec();
        frames.extend_from_slice(&object);
        frames
    }

    /// Reads until a request comes, which is accepted; returns the stream.
    pub(crate) fn accept(&mut self) -> u32 {
        let (id, hash) = self.asked();
        let frames = self.acceptance(id, hash);
        self.send(&frames);
        id
    }

    /// Reads until a request comes.
    pub(crate) fn asked(&mut self) -> (u32, RequestHash) {
        loop {
            if let Event::Request(id, hash) = self.next() {
                return (id, hash);
            }
        }
    }

    /// Reads until the answer to this open comes.
    pub(crate) fn response(&mut self, id: u32) -> Reason {
        loop {
            match self.next() {
                Event::Response(answered, reason) if answered == id => return reason,
                Event::Reset(gone) if gone == id => panic!("stream {id} was reset"),
                _ => {}
            }
        }
    }

    /// Opens a stream to `other`, which accepts; returns the ids at both ends.
    pub(crate) fn bridge(&mut self, other: &mut Self) -> (u32, u32) {
        let near = self.open(other.address());
        let far = other.accept();
        assert_eq!(self.response(near), Reason::Accepted);
        (near, far)
    }

    /// Sends bytes on a stream.
    pub(crate) fn write(&mut self, id: u32, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap();
        let mut frame = Header::data(id, Flags::NONE, length).encode().to_vec();
        frame.extend_from_slice(bytes);
        self.send(&frame);
    }

    /// Reads until these bytes of a stream have come.
    pub(crate) fn expect(&mut self, id: u32, wanted: &[u8]) {
        let mut have = Vec::new();
        while have.len() < wanted.len() {
            if let Event::Data(from, bytes) = self.next() {
                assert_eq!(from, id);
                have.extend_from_slice(&bytes);
            }
        }
        assert_eq!(have, wanted);
    }

    /// Sends a ping and reads until its answer; returns what came before it.
    pub(crate) fn ping(&mut self, value: u32) -> Vec<Event> {
        self.send_frame(Header::ping(Flags::SYN, value));
        let mut before = Vec::new();
        loop {
            match self.next() {
                Event::Pong(answered) if answered == value => return before,
                event => before.push(event),
            }
        }
    }

    /// Reads until the relay says goodbye and has closed; returns the code.
    pub(crate) fn dismissed(mut self) -> u32 {
        let code = loop {
            match self.next() {
                Event::GoAway(code) => break code,
                Event::Response(..) | Event::Reset(_) | Event::Pong(_) => {}
                event => panic!("{event:?} instead of a goodbye"),
            }
        };
        self.shut_down();
        is_reset(&mut self.socket);
        code
    }

    /// Reads the next event.
    pub(crate) fn next(&mut self) -> Event {
        self.try_next().unwrap()
    }

    /// Reads the next event; an error when the relay has closed.
    pub(crate) fn try_next(&mut self) -> io::Result<Event> {
        loop {
            let mut bytes = [0; HEADER_LEN];
            self.socket.read_exact(&mut bytes)?;
            let header = Header::decode(&bytes).unwrap();
            let mut payload = vec![0; usize::try_from(header.payload_bytes()).unwrap()];
            self.socket.read_exact(&mut payload)?;
            if let Some(event) = self.understand(header, payload) {
                return Ok(event);
            }
        }
    }

    fn understand(&mut self, header: Header, mut payload: Vec<u8>) -> Option<Event> {
        let id = header.stream_id;
        match header.kind {
            FrameKind::GoAway => return Some(Event::GoAway(header.length)),
            FrameKind::Ping if header.flags.contains(Flags::ACK) => {
                return Some(Event::Pong(header.length));
            }
            FrameKind::Ping => {
                self.send_frame(Header::ping(Flags::ACK, header.length));
                return None;
            }
            FrameKind::Data | FrameKind::WindowUpdate => {}
        }
        if header.flags.contains(Flags::RST) {
            self.unread.remove(&id);
            self.unanswered.remove(&id);
            return Some(Event::Reset(id));
        }
        if header.flags.contains(Flags::SYN) {
            self.unread.insert(id);
        }
        if payload.is_empty() {
            return header
                .flags
                .contains(Flags::FIN)
                .then_some(Event::Finish(id));
        }
        // What the relay itself seals comes in one frame.
        if self.unread.remove(&id) {
            let plain = self.opener.open(&mut payload[2..]).unwrap();
            return Some(Event::Request(id, OpenRequest::hash(plain)));
        }
        if self.unanswered.remove(&id) {
            let plain = self.opener.open(&mut payload[2..]).unwrap();
            let code = OpenResponse::decode(plain).unwrap().reason_code;
            return Some(Event::Response(id, Reason::from_code(code).unwrap()));
        }
        Some(Event::Data(id, payload))
    }
}

/// Reads one message whose first two bytes say its length; returns it with them.
fn read_prefixed(socket: &mut TcpStream, total: impl Fn(&[u8]) -> Option<usize>) -> Vec<u8> {
    let mut message = vec![0; 2];
    socket.read_exact(&mut message).unwrap();
    message.resize(total(&message).unwrap(), 0);
    socket.read_exact(&mut message[2..]).unwrap();
    message
}

pub(crate) fn random() -> [u8; 32] {
    let mut random = [0; 32];
    getrandom::fill(&mut random).unwrap();
    random
}

pub(crate) fn unix_time_ns() -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(wall.as_nanos()).unwrap()
}
