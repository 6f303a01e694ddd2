//! The byte stream of a route group, behind tokio's traits.
//!
//! Here: reading and writing one end. Not here: the state it reaches under the router's lock.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ringway_proto::key::{Address, PublicKey};
use ringway_proto::route::GroupName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Mutex;
use tokio::sync::mpsc::Receiver;

use super::error::RouteError;
use super::shared::Shared;

/// A stream to another party over a route, encrypted from end to end.
///
/// Its path may change while it is open: no byte is lost, doubled or out of order by that. Writes need no
/// flush. [`shutdown`](tokio::io::AsyncWriteExt::shutdown) ends this side's direction, the other goes on.
/// Dropping the stream resets it, unless this side was shut down: then what was written still arrives.
///
/// # Errors
///
/// Reads and writes fail with a [`RouteError`] inside the [`io::Error`].
#[derive(Debug)]
pub struct RouteStream {
    shared: Arc<Shared>,
    name: GroupName,
    peer: Address,
    local_port: u16,
}

impl RouteStream {
    pub(crate) const fn new(
        shared: Arc<Shared>,
        name: GroupName,
        peer: Address,
        local_port: u16,
    ) -> Self {
        Self {
            shared,
            name,
            peer,
            local_port,
        }
    }

    /// Ends the stream at once, both directions: the other side gets an error.
    pub fn reset(&mut self) {
        self.shared.with(|state, fx| state.reset(&self.name, fx));
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

    /// Returns the name of the group.
    #[must_use]
    pub const fn name(&self) -> GroupName {
        self.name
    }

    /// Returns the peers of its forward path now; empty at the end that has not opened it.
    #[must_use]
    pub fn path(&self) -> Vec<PublicKey> {
        self.shared.with(|state, _| {
            let group = state.groups.get(&self.name);
            group.map(|group| group.forward.clone()).unwrap_or_default()
        })
    }

    fn poll_read_into(&self, cx: &Context<'_>, buf: &mut [u8]) -> Poll<Result<usize, RouteError>> {
        self.shared.with(|state, fx| {
            let Some(group) = state.groups.get_mut(&self.name) else {
                return Poll::Ready(Err(RouteError::LocalClosed));
            };
            if let Some(n) = group.flow.read(buf) {
                state.pump(&self.name, fx);
                return Poll::Ready(Ok(n));
            }
            if let Some(error) = &group.error {
                return Poll::Ready(Err(error.clone()));
            }
            group.read_waker = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    fn poll_write_from(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<Result<usize, RouteError>> {
        self.shared.with(|state, fx| {
            let Some(group) = state.groups.get_mut(&self.name) else {
                return Poll::Ready(Err(RouteError::LocalClosed));
            };
            if let Some(error) = &group.error {
                return Poll::Ready(Err(error.clone()));
            }
            if group.flow.is_finished() {
                return Poll::Ready(Err(RouteError::LocalFinished));
            }
            let n = group.flow.write(bytes);
            if n == 0 && !bytes.is_empty() {
                group.write_waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            state.pump(&self.name, fx);
            Poll::Ready(Ok(n))
        })
    }
}

impl AsyncRead for RouteStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let coop = std::task::ready!(tokio::task::coop::poll_proceed(cx));
        let n = std::task::ready!(self.poll_read_into(cx, buf.initialize_unfilled()))?;
        coop.made_progress();
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for RouteStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let coop = std::task::ready!(tokio::task::coop::poll_proceed(cx));
        let n = std::task::ready!(self.poll_write_from(cx, bytes))?;
        coop.made_progress();
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = self.shared.with(|state, fx| {
            let group = state.groups.get_mut(&self.name);
            let group = group.ok_or(RouteError::LocalClosed)?;
            if let Some(error) = &group.error {
                return Err(error.clone());
            }
            group.flow.finish();
            state.pump(&self.name, fx);
            Ok(())
        });
        Poll::Ready(done.map_err(io::Error::from))
    }
}

impl Drop for RouteStream {
    fn drop(&mut self) {
        self.shared.with(|state, fx| state.dropped(&self.name, fx));
    }
}

/// Takes route groups that others open to one port.
///
/// Dropping it frees the port; groups that still wait in it are reset.
#[derive(Debug)]
pub struct RouteListener {
    shared: Arc<Shared>,
    port: u16,
    streams: Mutex<Receiver<RouteStream>>,
}

impl RouteListener {
    pub(crate) fn new(shared: Arc<Shared>, port: u16, streams: Receiver<RouteStream>) -> Self {
        Self {
            shared,
            port,
            streams: Mutex::new(streams),
        }
    }

    /// Waits for the next group.
    ///
    /// # Errors
    ///
    /// [`RouteError::LocalClosed`] once the router was stopped and none waits.
    ///
    /// # Cancel
    ///
    /// Dropping the future loses no group.
    pub async fn accept(&self) -> Result<RouteStream, RouteError> {
        let next = self.streams.lock().await.recv().await;
        next.ok_or(RouteError::LocalClosed)
    }

    /// Returns the address that others dial.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::new(self.shared.key(), self.port)
    }
}

impl Drop for RouteListener {
    fn drop(&mut self) {
        let sender = self
            .shared
            .with(|state, _| state.listeners.remove(&self.port));
        drop(sender);
    }
}
