//! The admin endpoint: HTTP on an address of the operator's choice, read-only.
//!
//! Here: its socket, and the reader that `ringway status` uses. Not here: the pages (`pages`).
//!
//! It runs on the control thread; a slow or hostile HTTP client delays other HTTP clients, never the
//! data plane.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::health::Health;
use super::pages::{self, Pages};
use crate::failure::Failure;

/// Binds the endpoint, so that a taken address is known before anything else starts.
///
/// # Errors
///
/// [`Failure::Host`] with the address and the flag that changes it.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| Failure::listen(address, "--admin ADDRESS:PORT (or off)", error))
}

/// Serves until the future is dropped.
///
/// # Errors
///
/// The I/O error that ended it.
pub(crate) async fn serve(listener: TcpListener, pages: Pages) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    axum::serve(listener, pages::router(pages)).await
}

/// Asks a relay's admin endpoint for its health.
///
/// # Errors
///
/// [`Failure::Host`] when it does not answer, [`Failure::Check`] when the answer is not a relay's.
pub(crate) fn fetch(address: SocketAddr) -> Result<Health, Failure> {
    let body = request(address, "/health").map_err(|error| {
        let fix = match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                ": no relay has its admin endpoint there. Start one with `ringway serve`, or name \
                 the address with --admin"
            }
            _ => "",
        };
        Failure::host(format!("cannot ask {address}{fix}"), error)
    })?;
    serde_json::from_str(&body).map_err(|error| {
        Failure::host(
            format!("{address} answers, but not as a relay does: name another with --admin"),
            error,
        )
    })
}

/// Asks for a page of an HTTP endpoint on this host or network and returns its body.
///
/// # Errors
///
/// The I/O error, or that the answer is no HTTP.
pub(crate) fn request(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, FETCH_TIMEOUT)?;
    stream.set_read_timeout(Some(FETCH_TIMEOUT))?;
    stream.set_write_timeout(Some(FETCH_TIMEOUT))?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((_, body)) => Ok(body.to_owned()),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the answer is no HTTP",
        )),
    }
}

/// Longest wait for one step of asking a relay on this host or network.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest answer that is read: 256 shards take under 1 MiB.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
