//! Connections over the loopback that leave nothing behind.
//!
//! Here: a listener with a backlog, a connect that does not wait long. Not here: what is measured with them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_linger, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with};

/// Returns a listener on a free port whose queue holds `backlog` connections, or fewer where the host says
/// so.
pub(super) fn listener(backlog: u64) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = stream_socket()?;
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    listen(&socket, i32::try_from(backlog).unwrap_or(i32::MAX))?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Returns a connection that ends with a reset when it is dropped; none when nobody answered in `ANSWER_MAX`.
pub(super) fn dial(address: SocketAddr) -> io::Result<Option<TcpStream>> {
    let socket = stream_socket()?;
    set_socket_timeout(&socket, Timeout::Send, Some(ANSWER_MAX))?;
    reset_at_end(&socket)?;
    match connect(&socket, &address) {
        Ok(()) => Ok(Some(TcpStream::from(socket))),
        // Source: socket(7), SO_SNDTIMEO: a connect that took longer fails like one that does not wait.
        Err(Errno::INPROGRESS | Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns both ends of a connection that ends with a reset when one of them is dropped.
pub(super) fn pair() -> io::Result<(TcpStream, TcpStream, SocketAddr)> {
    let (listener, address) = listener(1)?;
    let here = dial(address)?.ok_or_else(silence)?;
    let (there, _) = listener.accept()?;
    reset_at_end(&there)?;
    for end in [&here, &there] {
        end.set_nodelay(true)?;
        // A thread that was lost does not make the other one wait for ever.
        end.set_read_timeout(Some(SILENCE_MAX))?;
        end.set_write_timeout(Some(SILENCE_MAX))?;
    }
    Ok((here, there, address))
}

/// Nobody answers on the loopback, where nothing can be far away or busy.
pub(super) fn silence() -> io::Error {
    let text = "nobody answers: see with `ip link show lo` whether the loopback is up, and the firewall for rules on it";
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// A reset in place of a goodbye: no end waits in `TIME_WAIT`.
///
/// Source: socket(7), `SO_LINGER` with a time of 0.
pub(super) fn reset_at_end(socket: &impl std::os::fd::AsFd) -> io::Result<()> {
    Ok(set_socket_linger(socket, Some(Duration::ZERO))?)
}

fn stream_socket() -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC, None)?)
}

/// Longest wait for the answer to a SYN: one that was dropped is sent again only after 1 s, and a loopback
/// needs microseconds.
const ANSWER_MAX: Duration = Duration::from_millis(100);

/// Longest silence of a connection that is being measured.
const SILENCE_MAX: Duration = Duration::from_secs(2);
