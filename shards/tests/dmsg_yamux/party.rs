//! A client of dmsg whose multiplexer is not ours: our handshake, libp2p's yamux, and what came and went.
//!
//! Here: the connection, its task, the tap on its socket. Not here: what the tests expect.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use ringway_proto::dialect::RequestHash;
use ringway_proto::dmsg::handshake::{self, Identity, Initiator};
use ringway_proto::dmsg::key::SecretKey;
use ringway_proto::dmsg::kk::{KkInitiator, kk_respond};
use ringway_proto::dmsg::open::{StreamRequest, StreamResponse};
use ringway_proto::frame::{Flags, FrameKind, HEADER_LEN, Header};
use ringway_proto::key::{Address, PublicKey};
use ringway_proto::sealed::{Opener, Sealer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};
use yamux::{Config, Connection, ConnectionError, Mode};

/// A stream as tokio has them.
pub(crate) type Stream = Compat<yamux::Stream>;

/// Who listens and dials in the tests.
pub(crate) const PORT: u16 = 80;

/// One connection with its keys.
pub(crate) struct Party {
    pub(crate) identity: Identity,
    sealer: Mutex<Sealer>,
    opener: Mutex<Opener>,
    orders: mpsc::Sender<Order>,
    inbound: tokio::sync::Mutex<mpsc::Receiver<Stream>>,
    pub(crate) tap: Arc<Tap>,
    task: JoinHandle<Result<(), ConnectionError>>,
}

enum Order {
    Open(oneshot::Sender<Stream>),
    Close,
}

impl Party {
    /// Shakes hands and hands the socket to yamux at once: its first frame is right behind message 3.
    pub(crate) async fn connect(relay: PublicKey, address: SocketAddr, seed: u8) -> Self {
        let identity = Identity::new(SecretKey::from_bytes([seed; 32]).unwrap());
        let mut socket = TcpStream::connect(address).await.unwrap();
        let (initiator, message_1) = Initiator::new(&identity, &relay, random()).unwrap();
        socket.write_all(&message_1).await.unwrap();
        let mut message_2 = vec![0; 2];
        socket.read_exact(&mut message_2).await.unwrap();
        let length = handshake::message_len(&message_2).unwrap().unwrap();
        message_2.resize(length, 0);
        socket.read_exact(&mut message_2[2..]).await.unwrap();
        let (message_3, established) = initiator.message_2(&message_2[2..]).unwrap();
        socket.write_all(&message_3).await.unwrap();
        let tap = Arc::new(Tap::default());
        let tapped = Tapped {
            socket,
            tap: Arc::clone(&tap),
        };
        let connection = Connection::new(tapped.compat(), Config::default(), Mode::Client);
        let (orders, to_do) = mpsc::channel(16);
        let (arrived, inbound) = mpsc::channel(1_024);
        Self {
            identity,
            sealer: Mutex::new(established.sealer),
            opener: Mutex::new(established.opener),
            orders,
            inbound: inbound.into(),
            tap,
            task: tokio::spawn(drive(connection, to_do, arrived)),
        }
    }

    pub(crate) fn key(&self) -> PublicKey {
        self.identity.public()
    }

    /// Opens a stream and asks for `destination`; the answer is still to come.
    pub(crate) async fn ask(&self, destination: PublicKey) -> (Stream, Asked) {
        let (answer, opened) = oneshot::channel();
        self.orders.send(Order::Open(answer)).await.unwrap();
        let mut stream = opened.await.unwrap();
        let (kk, noise) = KkInitiator::new(&self.identity, &destination, random()).unwrap();
        let request = StreamRequest {
            timestamp_ns: 1_700_000_000_000_000_000,
            source: Address::new(self.key(), 50_000),
            destination: Address::new(destination, PORT),
            wants_ip: false,
            wants_geo: false,
            noise: &noise,
        };
        let signed = request.encode(self.identity.secret()).unwrap();
        let hash = StreamRequest::hash(&signed);
        self.write_object(&mut stream, &signed).await;
        (stream, Asked { kk, hash })
    }

    /// Opens a stream that is accepted.
    pub(crate) async fn dial(&self, destination: PublicKey) -> Stream {
        let (mut stream, asked) = self.ask(destination).await;
        let signed = self.read_object(&mut stream).await.unwrap();
        StreamResponse::verify(&signed, &destination).unwrap();
        let response = StreamResponse::decode(&signed).unwrap();
        assert!(response.is_accepted);
        assert_eq!(response.request_hash, asked.hash);
        asked.kk.finish(response.noise).unwrap();
        stream
    }

    /// Takes the next stream and accepts it.
    pub(crate) async fn accept(&self) -> Stream {
        let mut stream = self.inbound.lock().await.recv().await.unwrap();
        let signed = self.read_object(&mut stream).await.unwrap();
        StreamRequest::verify(&signed).unwrap();
        let request = StreamRequest::decode(&signed).unwrap();
        assert_eq!(request.destination, Address::new(self.key(), PORT));
        let source = request.source.key;
        let answer = kk_respond(&self.identity, &source, request.noise, random());
        let (noise, _keys) = answer.unwrap();
        let response = StreamResponse::accept(StreamRequest::hash(&signed), &noise);
        let signed = response.encode(self.identity.secret()).unwrap();
        self.write_object(&mut stream, &signed).await;
        stream
    }

    /// Says goodbye and waits for the relay's end.
    pub(crate) async fn close(self) {
        self.orders.send(Order::Close).await.unwrap();
        self.task.await.unwrap().unwrap();
    }

    /// Waits until the relay has ended the connection, and returns how that looked.
    pub(crate) async fn ended(self) -> ConnectionError {
        self.task.await.unwrap().unwrap_err()
    }

    async fn write_object(&self, stream: &mut Stream, plain: &[u8]) {
        let mut object = Vec::new();
        let sealed = lock(&self.sealer).seal(plain, &mut object);
        sealed.unwrap();
        stream.write_all(&object).await.unwrap();
        stream.flush().await.unwrap();
    }

    pub(crate) async fn read_object(&self, stream: &mut Stream) -> std::io::Result<Vec<u8>> {
        let length = stream.read_u16().await?;
        let mut object = vec![0; length.into()];
        stream.read_exact(&mut object).await?;
        Ok(lock(&self.opener).open(&mut object).unwrap().to_vec())
    }
}

/// What the answer to an open is checked against.
pub(crate) struct Asked {
    kk: KkInitiator,
    hash: RequestHash,
}

/// The task of a connection: it makes progress only while it is polled.
async fn drive(
    mut connection: Connection<Compat<Tapped>>,
    mut orders: mpsc::Receiver<Order>,
    inbound: mpsc::Sender<Stream>,
) -> Result<(), ConnectionError> {
    let mut waiting = None;
    let mut is_closing = false;
    poll_fn(|cx| {
        loop {
            if is_closing {
                return connection.poll_close(cx);
            }
            if waiting.is_none() {
                match orders.poll_recv(cx) {
                    Poll::Ready(Some(Order::Open(answer))) => waiting = Some(answer),
                    Poll::Ready(Some(Order::Close)) => {
                        is_closing = true;
                        continue;
                    }
                    // Whoever gave orders has gone; the connection goes on.
                    Poll::Ready(None) | Poll::Pending => {}
                }
            }
            if waiting.is_some()
                && let Poll::Ready(stream) = connection.poll_new_outbound(cx)?
                && let Some(answer) = waiting.take()
            {
                drop(answer.send(stream.compat()));
                continue;
            }
            match ready!(connection.poll_next_inbound(cx)) {
                Some(Ok(stream)) => drop(inbound.try_send(stream.compat())),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(ConnectionError::Closed)),
            }
        }
    })
    .await
}

/// A socket whose bytes are looked at on their way.
struct Tapped {
    socket: TcpStream,
    tap: Arc<Tap>,
}

/// Headers of the frames that passed.
#[derive(Default)]
pub(crate) struct Tap {
    sent: Mutex<Frames>,
    received: Mutex<Frames>,
}

/// The headers of one direction, and where in a frame its bytes end so far.
#[derive(Default)]
struct Frames {
    headers: BTreeMap<(u8, u16), Vec<Header>>,
    partial: Vec<u8>,
    payload_left: usize,
}

impl Tap {
    /// Returns the frames that the party sent of this kind with these flags.
    pub(crate) fn sent(&self, kind: FrameKind, flags: Flags) -> Vec<Header> {
        lock(&self.sent).of(kind, flags)
    }

    /// Returns the frames that the relay sent of this kind with these flags.
    pub(crate) fn received(&self, kind: FrameKind, flags: Flags) -> Vec<Header> {
        lock(&self.received).of(kind, flags)
    }
}

impl Frames {
    fn of(&self, kind: FrameKind, flags: Flags) -> Vec<Header> {
        let headers = self.headers.get(&(kind as u8, flags.bits()));
        headers.cloned().unwrap_or_default()
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = bytes.len().min(self.payload_left);
            self.payload_left -= skipped;
            bytes = &bytes[skipped..];
            let (part, rest) = bytes.split_at(bytes.len().min(HEADER_LEN - self.partial.len()));
            self.partial.extend_from_slice(part);
            bytes = rest;
            let Some(header) = self.partial.first_chunk::<HEADER_LEN>() else {
                continue;
            };
            let header = Header::decode(header).unwrap();
            self.partial.clear();
            self.payload_left = header.payload_bytes().try_into().unwrap();
            let kind = (header.kind as u8, header.flags.bits());
            self.headers.entry(kind).or_default().push(header);
        }
    }
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        lock(&self.tap.received).take(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes))?;
        lock(&self.tap.sent).take(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random() -> [u8; 32] {
    let mut random = [0; 32];
    getrandom::fill(&mut random).unwrap();
    random
}
