//! A client of the relay that is in its own process: the relay's services.
//!
//! Here: where its sockets come from and which source ports it may use. Not here: the services.
//!
//! Such a client has the relay's key and reaches it over a socket pair; everything else is as for any other.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ringway_proto::ports::PortSet;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// How a client in the process of its relay reaches it.
#[derive(Clone)]
pub struct Inside {
    attach: Arc<dyn Fn() -> io::Result<StdUnixStream> + Send + Sync>,
    /// Source ports of its dials. The relay counts them too and lets each rest after its use, so that here
    /// they do not rest.
    pub(crate) ports: PortSet,
}

impl Inside {
    /// Returns the way in: `attach` gives one end of a pair whose other end the relay has got.
    pub fn new(
        ports: PortSet,
        attach: impl Fn() -> io::Result<StdUnixStream> + Send + Sync + 'static,
    ) -> Self {
        Self {
            attach: Arc::new(attach),
            ports,
        }
    }

    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
        let socket = (self.attach)()?;
        socket.set_nonblocking(true)?;
        UnixStream::from_std(socket)
    }
}

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inside")
            .field("ports", &self.ports.len())
            .finish_non_exhaustive()
    }
}

/// What a session runs over.
#[derive(Debug)]
pub(crate) enum Socket {
    /// One end of a pair in this process.
    Pair(UnixStream),
    /// A connection.
    Tcp(TcpStream),
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Pair(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Pair(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Pair(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tcp(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Pair(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}
