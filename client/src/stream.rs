//! An encrypted stream to another party.
//!
//! Here: records over the bytes of a session's stream, behind tokio's traits. Not here: windows,
//! frames, the session.
//!
//! Reading opens records in place in `inbox`; writing seals one record a call, or as many as a dialect of
//! short records needs, and hands them over whole, so nothing that was written waits for a flush.
//!
//! Invariant: `plain` lies before `start`, the bytes in `start..end` are sealed and in order.
//! Bound: the inbox is at most one record of `RECORD_MAX` bytes or `INBOX_BYTES`; an idle stream has
//! none. One record of `record_payload_max` waits with the session.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ringway_proto::dialect::Dialect;
use ringway_proto::dialect::record::{RecordError, RecordOpener, RecordSealer};
use ringway_proto::key::Address;
use ringway_proto::kk::RecordKeys;
use ringway_proto::limits::{RECORD_PAYLOAD_MAX, RECORD_PREFIX};
use ringway_proto::record::NativeAead;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use crate::config::RelayAddress;
use crate::error::StreamError;
use crate::ports::PortPermit;
use crate::session::{Opened, StreamHandle};

/// A stream to another party, encrypted from end to end.
///
/// Writes need no flush. [`shutdown`](tokio::io::AsyncWriteExt::shutdown) ends this side's
/// direction; the other goes on until the other side ends it. Dropping the stream resets it, unless
/// this side was shut down: then what was written still arrives, as from a closed TCP socket.
///
/// # Errors
///
/// Reads and writes fail with a [`StreamError`] inside the [`io::Error`]: `ConnectionReset` after a
/// reset, `UnexpectedEof` when the other side ended inside a record, `InvalidData` when a record does
/// not open, `ConnectionAborted` when the session ended, `BrokenPipe` for writes after a shutdown.
///
/// ```
/// use ringway_client::{Client, Config, SecretKey};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shards/relay.rs"));
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let relay = start_relay(1);
/// # let config = Config::new([relay.address]);
/// # let client = Client::connect(SecretKey::from_seed([4; 32]), config).await?;
/// # let listener = client.listen(80)?;
/// let (here, there) = tokio::join!(client.dial(listener.address()), listener.accept());
/// let (mut here, mut there) = (here?, there?);
/// here.write_all(b"ping").await?;
/// let mut word = [0; 4];
/// there.read_exact(&mut word).await?;
/// here.shutdown().await?;
/// assert_eq!(there.read(&mut word).await?, 0, "one direction has ended");
/// there.write_all(b"pong").await?;
/// here.read_exact(&mut word).await?;
/// assert_eq!(&word, b"pong");
/// # drop(relay);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Stream {
    handle: StreamHandle,
    peer: Address,
    local_port: u16,
    opener: RecordOpener<NativeAead>,
    sealer: RecordSealer<NativeAead>,
    inbox: Inbox,
    outbox: Vec<u8>,
    payload_max: usize,
    read_error: Option<StreamError>,
    /// Gives the source port of a dial back when the stream goes.
    _permit: Option<PortPermit>,
}

/// Received bytes: what was opened and not read, then what is still sealed.
#[derive(Debug, Default)]
struct Inbox {
    dialect: Dialect,
    bytes: Vec<u8>,
    plain: Range<usize>,
    start: usize,
    end: usize,
}

impl Stream {
    /// Returns the stream of a dial that was accepted.
    pub(crate) fn dialled(
        opened: Opened,
        peer: Address,
        permit: PortPermit,
        payload_max: usize,
    ) -> Self {
        let Opened { handle, keys } = opened;
        let local_port = permit.port();
        Self {
            _permit: Some(permit),
            ..Self::accepted(handle, &keys, peer, local_port, payload_max)
        }
    }

    /// Returns the stream of an open that was accepted.
    pub(crate) fn accepted(
        handle: StreamHandle,
        keys: &RecordKeys,
        peer: Address,
        local_port: u16,
        payload_max: usize,
    ) -> Self {
        let dialect = peer.key.dialect();
        Self {
            handle,
            peer,
            local_port,
            opener: RecordOpener::new(dialect, NativeAead::new(&keys.open)),
            sealer: RecordSealer::new(dialect, NativeAead::new(&keys.seal)),
            inbox: Inbox::new(dialect),
            outbox: Vec::new(),
            payload_max: payload_max.clamp(1, RECORD_PAYLOAD_MAX),
            read_error: None,
            _permit: None,
        }
    }

    /// Ends the stream at once, both directions: the other side gets an error.
    pub fn reset(&mut self) {
        self.handle.reset();
    }

    /// Returns who is at the other end: the party that the handshake has authenticated.
    #[must_use]
    pub const fn peer(&self) -> Address {
        self.peer
    }

    /// Returns the port at this end.
    #[must_use]
    pub const fn local_port(&self) -> u16 {
        self.local_port
    }

    /// Returns the relay whose session carries the stream.
    #[must_use]
    pub fn relay(&self) -> RelayAddress {
        self.handle.relay()
    }

    /// Opens records until there are plain bytes; `false` at the end of the stream.
    fn poll_plain(&mut self, cx: &Context<'_>) -> Poll<Result<bool, StreamError>> {
        while self.inbox.plain.is_empty() {
            if let Some(record) = self.inbox.next_record()? {
                let plain = self.opener.open(&mut self.inbox.bytes[record.clone()])?;
                let start = record.start + self.opener.plain_at();
                self.inbox.plain = start..start + plain.len();
                continue;
            }
            if ready!(self.inbox.poll_fill(&self.handle, cx))? == 0 {
                let is_whole = self.inbox.start == self.inbox.end;
                return Poll::Ready(is_whole.then_some(false).ok_or(StreamError::PeerTruncated));
            }
        }
        Poll::Ready(Ok(true))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = &self.read_error {
            return Poll::Ready(Err(error.clone().into()));
        }
        let coop = ready!(poll_proceed(cx));
        let polled = ready!(self.poll_plain(cx));
        coop.made_progress();
        match polled {
            Ok(true) => self.inbox.take(buf),
            Ok(false) => {}
            Err(error) => {
                if matches!(error, StreamError::PeerRecord) {
                    self.handle.reset();
                }
                self.inbox.clear();
                self.read_error = Some(error.clone());
                return Poll::Ready(Err(error.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let this = self.get_mut();
        let coop = ready!(poll_proceed(cx));
        ready!(this.handle.poll_writable(cx))?;
        coop.made_progress();
        let payload = &buf[..buf.len().min(this.payload_max)];
        this.sealer
            .seal(payload, &mut this.outbox)
            .map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))?;
        this.handle.write(&mut this.outbox)?;
        if this.outbox.capacity() > OUTBOX_BYTES_KEPT {
            this.outbox = Vec::new();
        }
        Poll::Ready(Ok(payload.len()))
    }

    /// Waits until the session has taken everything written; it leaves without that as well.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.handle.poll_writable(cx)) {
            Ok(()) | Err(StreamError::LocalFinished) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.handle.poll_finish(cx).map_err(io::Error::from)
    }
}

impl Inbox {
    fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            ..Self::default()
        }
    }

    /// Forgets everything and frees the memory.
    fn clear(&mut self) {
        *self = Self::new(self.dialect);
    }

    /// Returns where the next whole record lies, without its prefix, and steps over it.
    fn next_record(&mut self) -> Result<Option<Range<usize>>, StreamError> {
        let sealed = &self.bytes[self.start..self.end];
        match self.dialect.record_len(sealed)? {
            Some(len) if len <= sealed.len() => {
                let record = self.start + RECORD_PREFIX..self.start + len;
                self.start = record.end;
                Ok(Some(record))
            }
            _ => Ok(None),
        }
    }

    /// Reads more sealed bytes; frees the memory when there are none and none are kept.
    fn poll_fill(
        &mut self,
        handle: &StreamHandle,
        cx: &Context<'_>,
    ) -> Poll<Result<usize, StreamError>> {
        if self.start == self.end {
            if self.bytes.len() < INBOX_BYTES {
                return self.poll_first(handle, cx);
            }
            *self = Self {
                bytes: std::mem::take(&mut self.bytes),
                ..Self::new(self.dialect)
            };
        }
        let sealed = &self.bytes[self.start..self.end];
        let wanted = self.dialect.record_len(sealed)?;
        let wanted = wanted.unwrap_or(0).max(INBOX_BYTES);
        if self.bytes.len() < self.start + wanted {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            self.plain = 0..0;
            if self.bytes.len() < wanted {
                self.bytes.resize(wanted, 0);
            }
        }
        let polled = handle.poll_read(cx, &mut self.bytes[self.end..]);
        match polled {
            Poll::Ready(Ok(n)) => self.end += n,
            Poll::Pending if self.start == self.end => self.clear(),
            Poll::Ready(Err(_)) | Poll::Pending => {}
        }
        polled
    }

    /// Reads the first bytes by way of the stack: a stream that waits holds no buffer, and small
    /// messages need only a small one.
    fn poll_first(
        &mut self,
        handle: &StreamHandle,
        cx: &Context<'_>,
    ) -> Poll<Result<usize, StreamError>> {
        let mut first = [0; FIRST_BYTES];
        self.clear();
        let n = ready!(handle.poll_read(cx, &mut first))?;
        self.bytes = first[..n].to_vec();
        self.end = n;
        Poll::Ready(Ok(n))
    }

    /// Moves plain bytes to `buf`.
    fn take(&mut self, buf: &mut ReadBuf<'_>) {
        let n = self.plain.len().min(buf.remaining());
        buf.put_slice(&self.bytes[self.plain.start..self.plain.start + n]);
        self.plain.start += n;
    }
}

impl From<RecordError> for StreamError {
    fn from(_: RecordError) -> Self {
        Self::PeerRecord
    }
}

/// Bytes of a busy stream's inbox: two records of the default size a lock of the session.
const INBOX_BYTES: usize = 36_864;

/// Bytes of the first read of a burst.
const FIRST_BYTES: usize = 1_024;

/// Larger outboxes are freed after the record has gone.
const OUTBOX_BYTES_KEPT: usize = 2_048;
