//! The task of one session: it owns the socket and the timer.
//!
//! Here: bytes between the socket and the state, deadlines, leaving. Not here: what the bytes mean.
//!
//! ```text
//!   run_until_ready          run                  leave
//!   handshake, verdict -----> frames -----> rest out, FIN, wait for the relay's end
//!        |                      |                  (at most LINGER_TIMEOUT)
//!        '--- error ------------'
//! ```
//!
//! Reading never waits for a stream: what its reader does not take is bounded by its own window.
//! Bound: one read of `READ_BYTES` and one write of `WRITE_BYTES` at a time.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ringway_proto::limits::LINGER_TIMEOUT;
use ringway_proto::time::Now;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::{Effects, Session};
use crate::error::SessionError;

/// Drives one session over `io`.
pub(crate) struct Driver<T> {
    session: Arc<Session>,
    io: T,
    input: Box<[u8]>,
    output: Vec<u8>,
    /// How much of `output` was written.
    written: usize,
    timer: Pin<Box<Sleep>>,
    /// What `timer` is set to.
    timer_at: Option<Instant>,
    /// Nothing more can be written; the other side may still have said why.
    is_write_broken: bool,
}

/// Where a driver stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Ended,
    Ready,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    pub(crate) fn new(session: Arc<Session>, io: T) -> Self {
        Self {
            session,
            io,
            input: vec![0; READ_BYTES].into_boxed_slice(),
            output: Vec::new(),
            written: 0,
            timer: Box::pin(sleep_until(Instant::now())),
            timer_at: None,
            is_write_broken: false,
        }
    }

    /// Drives until the relay has admitted the session.
    pub(crate) async fn run_until_ready(&mut self) -> Result<(), Arc<SessionError>> {
        poll_fn(|cx| self.poll(cx, Until::Ready)).await;
        self.session.error().map_or(Ok(()), Err)
    }

    /// Drives until the session has ended or our goodbye is complete, then leaves the socket.
    pub(crate) async fn run(mut self) {
        poll_fn(|cx| self.poll(cx, Until::Ended)).await;
        // A relay that does not answer the goodbye is left anyway.
        drop(timeout(LINGER_TIMEOUT, self.leave()).await);
        self.end(SessionError::LocalClosed);
    }

    fn poll(&mut self, cx: &mut Context<'_>, until: Until) -> Poll<()> {
        loop {
            let wrote = self.poll_write(cx);
            let read = self.poll_read(cx);
            let timed = self.poll_timer(cx);
            if wrote || read || timed {
                if self.is_done(until) {
                    return Poll::Ready(());
                }
                continue;
            }
            let is_idle = self.written == self.output.len();
            // Not through `with`, which would wake the driver for what it is about to see itself.
            let mut state = self.session.lock();
            if is_done(&state, until, is_idle) {
                return Poll::Ready(());
            }
            if !is_idle || !state.wants_transmit() {
                state.driver_sleeps(cx, is_idle);
                return Poll::Pending;
            }
        }
    }

    /// Writes what waits; returns whether anything was written or the socket broke.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> bool {
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
            let output = &mut self.output;
            self.session.with(|state, _| {
                state.driver_runs();
                state.transmit(output, WRITE_BYTES)
            });
        }
        if self.output.is_empty() {
            return false;
        }
        if self.is_write_broken {
            self.written = self.output.len();
            return true;
        }
        match Pin::new(&mut self.io).poll_write(cx, &self.output[self.written..]) {
            Poll::Pending => return false,
            Poll::Ready(Ok(n)) if n > 0 => self.written += n,
            // Reading goes on: a relay that refuses says why before it closes.
            Poll::Ready(Ok(_) | Err(_)) => self.is_write_broken = true,
        }
        true
    }

    /// Takes what came; returns whether anything did or the socket ended.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.session.lock().is_ended() {
            return false;
        }
        let mut buf = ReadBuf::new(&mut self.input);
        match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) if buf.filled().is_empty() => {
                self.session.with(|state, now| state.eof(now));
            }
            Poll::Ready(Ok(())) => {
                self.session
                    .with(|state, now| state.receive(now, buf.filled()));
            }
            Poll::Ready(Err(error)) => {
                self.session.with(|state, now| state.break_off(now, error));
            }
        }
        true
    }

    /// Handles a deadline that has passed, or waits for the next one.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let (deadline, until) = {
            let state = self.session.lock();
            (state.next_deadline(), state.closing_until())
        };
        let deadline = deadline.and_then(|deadline| self.instant(deadline));
        let Some(next) = [deadline, until].into_iter().flatten().min() else {
            self.timer_at = None;
            return false;
        };
        if self.timer_at != Some(next) {
            self.timer.as_mut().reset(next);
            self.timer_at = Some(next);
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.timer_at = None;
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            self.session.with(super::state::State::handle_timeout);
            return true;
        }
        false
    }

    fn is_done(&self, until: Until) -> bool {
        let is_idle = self.written == self.output.len();
        is_done(&self.session.lock(), until, is_idle)
    }

    /// Writes the rest, ends our direction and waits for the relay to end its own.
    ///
    /// Closing a socket with unread bytes makes the kernel send RST, and RST overtakes what was
    /// written; so what still comes is read and dropped.
    async fn leave(&mut self) -> io::Result<()> {
        loop {
            self.io.write_all(&self.output[self.written..]).await?;
            self.output.clear();
            self.written = 0;
            let output = &mut self.output;
            if self
                .session
                .with(|state, _| state.transmit(output, WRITE_BYTES))
                == 0
            {
                break;
            }
        }
        self.io.shutdown().await?;
        while self.io.read(&mut self.input).await? > 0 {}
        Ok(())
    }

    fn end(&self, error: SessionError) {
        self.session.end(error);
    }

    fn instant(&self, at: Now) -> Option<Instant> {
        self.session
            .epoch
            .checked_add(Duration::from_nanos(at.as_nanos()))
    }
}

impl Session {
    /// Ends the session if it has not ended yet.
    pub(crate) fn end(self: &Arc<Self>, error: SessionError) {
        let mut effects = Effects::default();
        self.lock().end(&mut effects, error);
        effects.carry_out();
    }
}

fn is_done(state: &super::state::State, until: Until, is_idle: bool) -> bool {
    state.is_ended()
        || (until == Until::Ready && state.has_come_through())
        || (is_idle && state.is_drained())
}

/// Bytes of one read: four of the relay's frames.
const READ_BYTES: usize = 65_536;

/// Bytes of one write: a control frame that comes up meanwhile waits behind at most this much.
const WRITE_BYTES: usize = 65_536;

impl<T> Drop for Driver<T> {
    /// A driver that is dropped before its end takes its session along.
    fn drop(&mut self) {
        self.session.end(SessionError::LocalClosed);
    }
}
