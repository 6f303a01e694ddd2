//! A relay for tests, in one mutex: it does the protocol and can misbehave.
//!
//! Here: handshake, verdict, bridging of streams between sessions, faults on demand. Not here:
//! limits, fairness, speed, and anything else of a real relay.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringway_client::{PublicKey, Reason, RelayAddress, SecretKey};
use ringway_proto::dialect::Dialect;
use ringway_proto::frame::{Flags, FrameKind, HEADER_LEN, Header};
use ringway_proto::handshake::{Offer, RelayIdentity, Responder};
use ringway_proto::open::OpenResponse;
use ringway_proto::sealed::{self, Opener, Sealer};
use ringway_proto::verdict::Verdict;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

/// A running relay; dropping it cuts every connection.
pub(crate) struct MiniRelay {
    pub(crate) address: RelayAddress,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What a relay does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Answers no ping: nothing is farther than what was never measured.
    Far,
    /// Refuses every session.
    Refuse(Reason, u32),
    /// Accepts connections and says nothing.
    Silent,
    /// Answers no open request.
    Swallow,
    /// Changes a bit in stream data.
    Flip,
    /// Ends a stream after the first half of the first data frame.
    Cut,
}

struct Shared {
    identity: RelayIdentity,
    fault: Fault,
    hub: Mutex<Hub>,
}

#[derive(Default)]
struct Hub {
    sessions: HashMap<u64, Session>,
    by_key: HashMap<PublicKey, u64>,
    next_session: u64,
    accepted_count: u64,
    opens_count: u64,
}

struct Session {
    key: PublicKey,
    out: mpsc::UnboundedSender<Vec<u8>>,
    sealer: Sealer,
    opener: Opener,
    next_stream: u32,
    stream_max: u32,
    legs: HashMap<u32, Leg>,
}

/// One end of a stream at the relay.
struct Leg {
    /// First bytes, until the open object is whole.
    setup: Option<Vec<u8>>,
    delta: u32,
    far: Option<(u64, u32)>,
    is_finished: bool,
}

impl MiniRelay {
    pub(crate) async fn start(secret: &SecretKey, fault: Fault) -> Self {
        Self::start_at(secret, fault, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn start_at(secret: &SecretKey, fault: Fault, socket: SocketAddr) -> Self {
        let listener = TcpListener::bind(socket).await.expect("a free port");
        let socket = listener.local_addr().expect("a bound listener");
        let identity = RelayIdentity::new(secret);
        let address = RelayAddress::new(identity.public(), socket);
        let shared = Arc::new(Shared {
            identity,
            fault,
            hub: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            task,
        }
    }

    /// Stops listening, cuts every connection, and returns when that is done.
    pub(crate) async fn kill(self) {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// Says goodbye to every session.
    pub(crate) fn go_away(&self, code: u32) {
        for session in self.shared.hub().sessions.values() {
            let header = Header {
                kind: FrameKind::GoAway,
                flags: Flags::NONE,
                stream_id: 0,
                length: code,
            };
            session.send(header, &[]);
        }
    }

    /// How many sessions were admitted so far.
    pub(crate) fn accepted_count(&self) -> u64 {
        self.shared.hub().accepted_count
    }

    /// How many open requests came so far.
    pub(crate) fn opens_count(&self) -> u64 {
        self.shared.hub().opens_count
    }

    /// How many streams there are, both legs counted.
    pub(crate) fn legs_count(&self) -> usize {
        let hub = self.shared.hub();
        hub.sessions
            .values()
            .map(|session| session.legs.len())
            .sum()
    }
}

impl Drop for MiniRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.expect("an accepted connection");
        socket.set_nodelay(true).expect("a socket option");
        connections.spawn(serve(socket, Arc::clone(&shared)));
    }
}

async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    if shared.fault == Fault::Silent {
        std::future::pending::<()>().await;
    }
    let (mut reader, mut writer) = socket.into_split();
    let mut hub_id = None;
    let _ended: Option<()> = async {
        let offer = Offer {
            capabilities: 0,
            streams_max: 4_096,
            stream_window: 262_144,
            keepalive_s: 30,
        };
        let mut responder = Responder::new(&shared.identity, offer, random());
        let message_2 = responder.message_1(&message(&mut reader).await?).ok()?;
        writer.write_all(&message_2).await.ok()?;
        let established = responder.message_3(&message(&mut reader).await?).ok()?;
        let mut sealer = established.sealer;
        let mut bytes = Vec::new();
        let verdict = match shared.fault {
            Fault::Refuse(reason, retry_after_ms) => Verdict {
                reason,
                retry_after_ms,
            },
            _ => Verdict::ACCEPTED,
        };
        sealer.seal(&verdict.encode(), &mut bytes).ok()?;
        if verdict.reason != Reason::Accepted {
            writer.write_all(&bytes).await.ok()?;
            writer.shutdown().await.ok()?;
            return None;
        }
        let (out, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
        out.send(bytes).ok()?;
        let id = shared
            .hub()
            .enter(established.key, out, sealer, established.opener);
        hub_id = Some(id);
        let write = async {
            while let Some(bytes) = queue.recv().await {
                writer.write_all(&bytes).await.ok()?;
            }
            writer.shutdown().await.ok()
        };
        tokio::select! {
            done = write => done,
            done = read_frames(&mut reader, id, &shared) => done,
        }
    }
    .await;
    if let Some(id) = hub_id {
        shared.hub().leave(id);
    }
}

async fn read_frames(reader: &mut OwnedReadHalf, id: u64, shared: &Shared) -> Option<()> {
    let mut bytes = [0; HEADER_LEN];
    loop {
        reader.read_exact(&mut bytes).await.ok()?;
        let header = Header::decode(&bytes).expect("clients send good headers");
        let payload_bytes = usize::try_from(header.payload_bytes()).expect("small");
        let mut payload = vec![0; payload_bytes];
        reader.read_exact(&mut payload).await.ok()?;
        shared.hub().on_frame(id, header, payload, shared.fault);
    }
}

async fn message(reader: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut message = vec![0; usize::from(reader.read_u16().await.ok()?)];
    reader.read_exact(&mut message).await.ok()?;
    Some(message)
}

impl Shared {
    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    fn enter(
        &mut self,
        key: PublicKey,
        out: mpsc::UnboundedSender<Vec<u8>>,
        sealer: Sealer,
        opener: Opener,
    ) -> u64 {
        self.next_session += 1;
        self.accepted_count += 1;
        let id = self.next_session;
        self.by_key.insert(key, id);
        let session = Session {
            key,
            out,
            sealer,
            opener,
            next_stream: 2,
            stream_max: 0,
            legs: HashMap::new(),
        };
        self.sessions.insert(id, session);
        id
    }

    fn leave(&mut self, id: u64) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        if self.by_key.get(&session.key) == Some(&id) {
            self.by_key.remove(&session.key);
        }
        for (far, stream) in session.legs.into_values().filter_map(|leg| leg.far) {
            if let Some(far) = self.sessions.get_mut(&far) {
                far.legs.remove(&stream);
                far.send(Header::window_update(stream, Flags::RST, 0), &[]);
            }
        }
    }

    fn on_frame(&mut self, id: u64, header: Header, payload: Vec<u8>, fault: Fault) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        match header.kind {
            FrameKind::Ping if header.flags.contains(Flags::SYN) && fault != Fault::Far => {
                session.send(Header::ping(Flags::ACK, header.length), &[]);
            }
            FrameKind::Ping | FrameKind::GoAway => {}
            FrameKind::Data | FrameKind::WindowUpdate => {
                self.on_stream(id, header, payload, fault);
            }
        }
    }

    fn on_stream(&mut self, id: u64, header: Header, payload: Vec<u8>, fault: Fault) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let stream = header.stream_id;
        if header.flags.contains(Flags::SYN) {
            assert!(
                stream > session.stream_max && stream % 2 == 1,
                "stream ids increase"
            );
            session.stream_max = stream;
            let delta = if header.kind == FrameKind::WindowUpdate {
                header.length
            } else {
                0
            };
            session.legs.insert(stream, Leg::new(delta));
        }
        let Some(leg) = session.legs.get_mut(&stream) else {
            return;
        };
        let Some(setup) = &mut leg.setup else {
            return self.forward(id, header, payload, fault);
        };
        if header.flags.contains(Flags::RST) {
            return self.forward(id, header, payload, fault);
        }
        setup.extend_from_slice(&payload);
        if header.kind == FrameKind::WindowUpdate && leg.far.is_some() {
            return self.forward(id, header, payload, fault);
        }
        let Ok(Some(len)) = sealed::object_len(setup) else {
            return;
        };
        if setup.len() < len {
            return;
        }
        let rest = setup.split_off(len);
        let mut object = leg.setup.take().unwrap_or_default();
        let plain = session
            .opener
            .open(&mut object[2..])
            .expect("a good object")
            .to_vec();
        if leg.far.is_some() {
            self.answer(id, header.flags, stream, &plain);
        } else {
            self.opens_count += 1;
            if fault != Fault::Swallow {
                self.open(id, stream, &plain);
            }
        }
        if !rest.is_empty() {
            self.forward(id, Header::data(stream, Flags::NONE, 0), rest, fault);
        }
    }

    /// Carries an open request to its destination, or refuses it.
    fn open(&mut self, id: u64, stream: u32, plain: &[u8]) {
        let head = Dialect::Native
            .decode_request(plain)
            .expect("a good request");
        let far_id = self.by_key.get(&head.destination.key).copied();
        let far_id = far_id.filter(|far| self.sessions.contains_key(far));
        let Some(far_id) = far_id else {
            let hash = Dialect::Native.request_hash(plain);
            let refusal = OpenResponse::encode_refusal(hash, Reason::UnknownDestination);
            let session = self.sessions.get_mut(&id).expect("the session is there");
            session.legs.remove(&stream);
            session.send_sealed(stream, Flags::ACK | Flags::FIN, &refusal);
            return;
        };
        let near = self.sessions.get_mut(&id).expect("the session is there");
        let delta = near.legs.get(&stream).map_or(0, |leg| leg.delta);
        let far = self
            .sessions
            .get_mut(&far_id)
            .expect("the session is there");
        let far_stream = far.next_stream;
        far.next_stream += 2;
        far.legs.insert(
            far_stream,
            Leg {
                far: Some((id, stream)),
                ..Leg::new(0)
            },
        );
        far.send(Header::window_update(far_stream, Flags::SYN, delta), &[]);
        far.send_sealed(far_stream, Flags::NONE, plain);
        let near = self.sessions.get_mut(&id).expect("the session is there");
        if let Some(leg) = near.legs.get_mut(&stream) {
            leg.far = Some((far_id, far_stream));
        }
    }

    /// Carries the destination's answer back.
    fn answer(&mut self, id: u64, flags: Flags, stream: u32, plain: &[u8]) {
        let Some((far_id, far_stream)) = self.far(id, stream) else {
            return;
        };
        if flags.contains(Flags::FIN) {
            self.forget(id, stream);
        }
        if let Some(far) = self.sessions.get_mut(&far_id) {
            far.send_sealed(far_stream, flags, plain);
        }
    }

    fn forward(&mut self, id: u64, header: Header, mut payload: Vec<u8>, fault: Fault) {
        let stream = header.stream_id;
        let Some((far_id, far_stream)) = self.far(id, stream) else {
            self.forget(id, stream);
            return;
        };
        let mut flags = header.flags;
        if fault == Fault::Flip
            && let Some(last) = payload.last_mut()
        {
            *last ^= 1;
        }
        let is_cut = fault == Fault::Cut && !payload.is_empty();
        if is_cut {
            payload.truncate(payload.len() / 2);
            flags = flags | Flags::FIN;
        }
        let length = u32::try_from(payload.len()).expect("small");
        let header = match header.kind {
            FrameKind::Data => Header::data(far_stream, flags, length),
            _ => Header::window_update(far_stream, flags, header.length),
        };
        if let Some(far) = self.sessions.get(&far_id) {
            far.send(header, &payload);
        }
        let session = self.sessions.get_mut(&id).expect("the session is there");
        if let Some(leg) = session.legs.get_mut(&stream) {
            leg.is_finished |= flags.contains(Flags::FIN);
        }
        let is_finished = |session: u64, stream: u32| {
            let legs = self.sessions.get(&session).map(|session| &session.legs);
            legs.and_then(|legs| legs.get(&stream))
                .is_none_or(|leg| leg.is_finished)
        };
        let is_over = is_finished(id, stream) && is_finished(far_id, far_stream);
        if is_over || flags.contains(Flags::RST) || is_cut {
            self.forget(id, stream);
        }
    }

    fn far(&self, id: u64, stream: u32) -> Option<(u64, u32)> {
        self.sessions.get(&id)?.legs.get(&stream)?.far
    }

    fn forget(&mut self, id: u64, stream: u32) {
        let far = self.far(id, stream);
        for (session, stream) in [Some((id, stream)), far].into_iter().flatten() {
            if let Some(session) = self.sessions.get_mut(&session) {
                session.legs.remove(&stream);
            }
        }
    }
}

impl Session {
    fn send(&self, header: Header, payload: &[u8]) {
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(payload);
        // The connection may have gone; its session leaves in a moment.
        drop(self.out.send(bytes));
    }

    fn send_sealed(&mut self, stream: u32, flags: Flags, plain: &[u8]) {
        let mut object = Vec::new();
        self.sealer.seal(plain, &mut object).expect("it fits");
        let length = u32::try_from(object.len()).expect("small");
        self.send(Header::data(stream, flags, length), &object);
    }
}

impl Leg {
    fn new(delta: u32) -> Self {
        Self {
            setup: Some(Vec::new()),
            delta,
            far: None,
            is_finished: false,
        }
    }
}

fn random() -> [u8; 32] {
    let mut random = [0; 32];
    getrandom::fill(&mut random).expect("randomness");
    random
}
