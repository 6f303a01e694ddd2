//! Connections of HTTP: who gets in, and how long a slow one may stay.
//!
//! Here: taking connections, HTTP on each of them, their end. Not here: when one is too slow (`pace`), what
//! is answered (`api`).
//!
//! Invariant: a connection that does nothing makes room for one that does. When all places are taken, the one
//! that has been silent for longest goes; first of the source that asks, so that nobody takes the places of
//! others.
//! Bound: [`Limits::connections_max`], [`Limits::connections_source_max`]; [`HEAD_BYTES_MAX`] of a request's
//! head; times as `pace` has them. An answer is held once, however many read it.

mod pace;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};

use super::Limits;
use super::numbers::Numbers;
use pace::Pace;

/// Where a request comes from; an extension of each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source(pub(crate) IpAddr);

/// All connections.
#[derive(Debug)]
pub(crate) struct Doors {
    limits: Limits,
    numbers: Arc<Numbers>,
    seats: Mutex<HashMap<u64, Arc<Seat>>>,
    /// Whether the last connection could not be taken.
    is_failing: AtomicBool,
}

/// The place of one connection.
#[derive(Debug)]
struct Seat {
    source: IpAddr,
    pace: Mutex<Pace>,
    /// It has to go at once.
    ended: Notify,
}

/// A place that is given back when it is dropped.
#[derive(Debug)]
struct Taken {
    doors: Arc<Doors>,
    number: u64,
    seat: Arc<Seat>,
}

impl Doors {
    /// Returns doors that nobody has come through yet.
    pub(crate) fn new(limits: Limits, numbers: Arc<Numbers>) -> Arc<Self> {
        Arc::new(Self {
            limits,
            numbers,
            seats: Mutex::default(),
            is_failing: AtomicBool::new(false),
        })
    }

    /// Serves until `stop` becomes true; then requests that are under way are answered, within [`END_TIME`].
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        router: Router,
        stop: watch::Receiver<bool>,
    ) {
        let mut connections = JoinSet::new();
        let mut sweep = interval(SWEEP_INTERVAL);
        let mut stopping = stop.clone();
        let mut number = 0;
        loop {
            tokio::select! {
                () = told_to_stop(&mut stopping) => break,
                _ = sweep.tick() => self.sweep(Instant::now()),
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = listener.accept() => {
                    let Some((tcp, source)) = self.accepted(accepted).await else { continue };
                    number += 1;
                    if let Some(taken) = self.take(number, source.ip(), Instant::now()) {
                        connections.spawn(taken.talk(tcp, router.clone(), stop.clone()));
                    }
                }
            }
        }
        drop(listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        if timeout(END_TIME, ended).await.is_err() {
            tracing::warn!("connections were cut: they took longer than {END_TIME:?} to end");
        }
    }

    /// Looks at what accepting gave. Without descriptors it fails at once, again and again: the pause is for
    /// that.
    async fn accepted(
        &self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
    ) -> Option<(TcpStream, SocketAddr)> {
        match accepted {
            Ok(accepted) => {
                self.is_failing.store(false, Ordering::Relaxed);
                Some(accepted)
            }
            Err(error) => {
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "connections cannot be taken");
                }
                self.numbers.connections_refused.count();
                self.shed(|_| true);
                sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }

    /// Gives a place to a connection; none when there is none, and nobody silent to take it from.
    fn take(self: &Arc<Self>, number: u64, source: IpAddr, now: Instant) -> Option<Taken> {
        let source = source.to_canonical();
        let (all, own) = {
            let seats = self.lock();
            let own = seats.values().filter(|seat| seat.source == source).count();
            (seats.len(), own)
        };
        let is_over = |count: usize, max: u32| u32::try_from(count).is_ok_and(|count| count >= max);
        let limits = &self.limits;
        let has_place = if is_over(own, limits.connections_source_max) {
            self.shed(|seat| seat.source == source)
        } else {
            !is_over(all, limits.connections_max) || self.shed(|_| true)
        };
        if !has_place {
            self.numbers.connections_refused.count();
            return None;
        }
        let seat = Arc::new(Seat {
            source,
            pace: Mutex::new(Pace::new(now)),
            ended: Notify::new(),
        });
        self.lock().insert(number, Arc::clone(&seat));
        self.numbers.accepted.count();
        self.numbers.connections.count();
        Some(Taken {
            doors: Arc::clone(self),
            number,
            seat,
        })
    }

    /// Ends the connection that has been silent for longest, of those that `may` allows; false if there is
    /// none.
    fn shed(&self, may: impl Fn(&Seat) -> bool) -> bool {
        let mut seats = self.lock();
        let silent = seats.iter().filter(|(_, seat)| may(seat));
        let longest = silent
            .filter_map(|(number, seat)| Some((seat.pace().silent_since()?, *number)))
            .min();
        let Some(seat) = longest.and_then(|(_, number)| seats.remove(&number)) else {
            return false;
        };
        self.numbers.connections.sub();
        self.numbers.connections_shed.count();
        seat.ended.notify_one();
        true
    }

    /// Ends connections that are too slow.
    fn sweep(&self, now: Instant) {
        for seat in self.lock().values() {
            if seat.pace().is_overdue(now) {
                seat.ended.notify_one();
                self.numbers.connections_slow.count();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Seat>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // Whoever was shed has given its place up before.
        if self.doors.lock().remove(&self.number).is_some() {
            self.doors.numbers.connections.sub();
        }
    }
}

impl Taken {
    /// One connection, from its first request to its end.
    async fn talk(self, tcp: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "small answers may wait for the client's acknowledgement");
        }
        let service = Pages {
            inner: TowerToHyperService::new(router),
            seat: Arc::clone(&self.seat),
        };
        let watched = Watched {
            tcp,
            seat: Arc::clone(&self.seat),
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(watched), service);
        let mut connection = std::pin::pin!(connection);
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = self.seat.ended.notified() => return,
            () = told_to_stop(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, source = %self.seat.source, "a connection ended");
        }
    }
}

/// Waits until the discovery ends; a sender that is gone says so too.
async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|is_stopping| *is_stopping).await);
}

/// The pages, told of each request's beginning and of the end of its answer.
#[derive(Debug)]
struct Pages {
    inner: TowerToHyperService<Router>,
    seat: Arc<Seat>,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

impl Service<Request<Incoming>> for Pages {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.seat.pace().begin(Instant::now());
        request.extensions_mut().insert(Source(self.seat.source));
        let seat = Arc::clone(&self.seat);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| Answer { body, seat }))
        })
    }
}

/// The body of an answer; when it is dropped, all that is left is to write it.
#[derive(Debug)]
struct Answer {
    body: Body,
    seat: Arc<Seat>,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.seat.pace().answered(Instant::now());
    }
}

/// A connection whose progress is noted.
#[derive(Debug)]
struct Watched {
    tcp: TcpStream,
    seat: Arc<Seat>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.tcp).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.seat.pace().heard(Instant::now());
        }
        outcome
    }
}

impl Watched {
    fn note(&self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.seat.pace().wrote(Instant::now());
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(context, bytes);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(context, pieces);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.tcp).poll_flush(context);
        // HTTP flushes once all it had to say is with the kernel.
        if flushed.is_ready() {
            self.seat.pace().flushed(Instant::now());
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

/// How often slow connections are looked for; they stay that much longer at most.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// Longest wait for requests that are under way when the discovery ends.
const END_TIME: Duration = Duration::from_secs(5);

/// Pause after a connection that could not be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bytes of a request's head, and of what is read at once; hyper wants at least 8 KiB.
const HEAD_BYTES_MAX: usize = 16_384;

#[cfg(test)]
mod tests;
