//! Requests to one discovery.
//!
//! Here: HTTP, connections that are used again, times and sizes. Not here: what is asked when.
//!
//! Bound: the time that a request is given, connecting and looking its name up included; [`IDLE_MAX`]
//! connections that wait for the next one, [`IDLE_TIME`] each, less than discoveries keep them: so a request
//! rarely meets one that has ended.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use ringway_proto::dmsg::entry::answer::Answer;
use ringway_proto::dmsg::entry::{ENTRY_LEN_MAX, Entry};
use ringway_proto::key::PublicKey;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::ServerPlace;
use super::url::DiscoveryUrl;
use crate::failure::chain;

/// A discovery.
#[derive(Debug)]
pub(super) struct Fetcher {
    url: DiscoveryUrl,
    request_time: Duration,
    idle: Mutex<Vec<Idle>>,
}

/// A connection that waits for the next request.
#[derive(Debug)]
struct Idle {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

/// An entry and its text.
#[derive(Debug)]
pub(super) struct Read {
    /// The entry.
    pub(super) entry: Entry,
    /// As the discovery has given it.
    pub(super) json: Bytes,
}

/// Why a request has no answer that is of use.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    /// The discovery says no.
    #[error("{url} answers {answer}")]
    Refused {
        /// Which one.
        url: DiscoveryUrl,
        /// What it says.
        answer: Answer,
    },
    /// The discovery says something that is not of the protocol.
    #[error("{url} answers {status}, which is no answer of a discovery: is this its address?")]
    Strange {
        /// Which one.
        url: DiscoveryUrl,
        /// The status of HTTP.
        status: u16,
    },
    /// It does not answer.
    #[error("{url} does not answer: {what}")]
    Silent {
        /// Which one.
        url: DiscoveryUrl,
        /// What happened.
        what: String,
    },
}

impl FetchError {
    /// Returns what the discovery says, if it says something.
    pub(super) const fn answer(&self) -> Option<Answer> {
        match self {
            Self::Refused { answer, .. } => Some(*answer),
            Self::Strange { .. } | Self::Silent { .. } => None,
        }
    }
}

impl Fetcher {
    /// Returns a discovery that has not been asked yet, and has so long for an answer.
    pub(super) fn new(url: DiscoveryUrl, request_time: Duration) -> Self {
        Self {
            url,
            request_time,
            idle: Mutex::default(),
        }
    }

    /// Returns where it is.
    pub(super) const fn url(&self) -> &DiscoveryUrl {
        &self.url
    }

    /// Returns what stands of a party.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub(super) async fn entry(&self, key: PublicKey) -> Result<Option<Read>, FetchError> {
        let page = format!("entry/{key}");
        let asked = self.ask(Method::GET, &page, Bytes::new(), ENTRY_LEN_MAX);
        let json = match asked.await {
            Err(error) if error.answer() == Some(Answer::NotFound) => return Ok(None),
            outcome => outcome?,
        };
        match Entry::decode(&json) {
            Ok(entry) if entry.key == key => Ok(Some(Read { entry, json })),
            _ => Err(self.strange(200)),
        }
    }

    /// Returns every server; what is none of them in the list is left out.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub(super) async fn servers(&self) -> Result<Vec<ServerPlace>, FetchError> {
        let asked = self.ask(Method::GET, "all_servers", Bytes::new(), LIST_LEN_MAX);
        let json = match asked.await {
            Err(error) if error.answer() == Some(Answer::NoServers) => return Ok(Vec::new()),
            outcome => outcome?,
        };
        let list: Vec<serde_json::Value> =
            serde_json::from_slice(&json).map_err(|_| self.strange(200))?;
        let places = list.iter().take(SERVERS_MAX).filter_map(|value| {
            let entry = Entry::decode(value.to_string().as_bytes()).ok()?;
            ServerPlace::of(entry)
        });
        Ok(places.collect())
    }

    /// Writes an entry.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub(super) async fn write(&self, entry: &Entry) -> Result<(), FetchError> {
        let body = entry.encode().into();
        let asked = self.ask(Method::POST, "entry/", body, ENTRY_LEN_MAX);
        asked.await.map(drop)
    }

    /// Deletes what stands of the party of an entry.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub(super) async fn delete(&self, entry: &Entry) -> Result<(), FetchError> {
        let body = entry.encode().into();
        let asked = self.ask(Method::DELETE, "entry", body, ENTRY_LEN_MAX);
        asked.await.map(drop)
    }

    /// Sends a request; returns the body of an answer that says yes.
    async fn ask(
        &self,
        method: Method,
        page: &str,
        body: Bytes,
        len_max: usize,
    ) -> Result<Bytes, FetchError> {
        let asked = self.request(method, page, body, len_max);
        let (status, text) = match timeout(self.request_time, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(what)) => return Err(self.silent(what)),
            Err(_) => return Err(self.silent(format!("nothing within {:?}", self.request_time))),
        };
        match (status, Answer::decode(&text)) {
            (200, _) => Ok(text),
            (_, Some(answer)) => Err(FetchError::Refused {
                url: self.url.clone(),
                answer,
            }),
            (_, None) => Err(self.strange(status)),
        }
    }

    /// Sends a request over a connection that is there, or else over a new one.
    async fn request(
        &self,
        method: Method,
        page: &str,
        body: Bytes,
        len_max: usize,
    ) -> Result<(u16, Bytes), String> {
        let request = || {
            Request::builder()
                .method(method.clone())
                .uri(self.url.path(page))
                .header(header::HOST, self.url.authority())
                .header(header::USER_AGENT, USER_AGENT)
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(body.clone()))
                .map_err(|error| error.to_string())
        };
        if let Some(sender) = self.take_idle() {
            // It may have ended a moment ago; then nobody has seen the request, or it is one that can be sent
            // twice: a second copy of an entry is refused as one that stands already, and read.
            if let Ok(answer) = self.send(sender, request()?, len_max).await {
                return Ok(answer);
            }
        }
        let place = (self.url.host(), self.url.port());
        let tcp = TcpStream::connect(place)
            .await
            .map_err(|error| chain(&error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(tcp))
            .await
            .map_err(|error| chain(&error))?;
        let url = self.url.clone();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%url, %error, "a connection to a discovery ended");
            }
        });
        self.send(sender, request()?, len_max).await
    }

    async fn send(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
        len_max: usize,
    ) -> Result<(u16, Bytes), String> {
        sender.ready().await.map_err(|error| chain(&error))?;
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| chain(&error))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), len_max).collect().await;
        let body = body.map_err(|error| chain(&*error))?.to_bytes();
        self.keep(sender);
        Ok((status, body))
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let now = Instant::now();
        let mut idle = self.lock();
        idle.retain(|it| {
            now.saturating_duration_since(it.since) < IDLE_TIME && !it.sender.is_closed()
        });
        idle.pop().map(|it| it.sender)
    }

    fn keep(&self, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.lock();
        if idle.len() < IDLE_MAX {
            let since = Instant::now();
            idle.push(Idle { sender, since });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strange(&self, status: u16) -> FetchError {
        let url = self.url.clone();
        FetchError::Strange { url, status }
    }

    fn silent(&self, what: String) -> FetchError {
        let url = self.url.clone();
        FetchError::Silent { url, what }
    }
}

/// Connections that wait for the next request.
const IDLE_MAX: usize = 4;

/// How long one waits: discoveries of Go close theirs after 30 s.
const IDLE_TIME: Duration = Duration::from_secs(20);

/// Longest list of servers, in bytes: 4,000 of them.
const LIST_LEN_MAX: usize = 4 << 20;

/// Servers of one list.
pub(super) const SERVERS_MAX: usize = 1_024;

const USER_AGENT: &str = concat!("ringway/", env!("CARGO_PKG_VERSION"));
