//! The API of a discovery, as clients of dmsg know it.
//!
//! | method, path | answer |
//! |---|---|
//! | `GET /dmsg-discovery/entry/KEY` | the entry |
//! | `POST /dmsg-discovery/entry/`, `.../entry/KEY`, `?timeout=true` for 3 minutes | that it is written |
//! | `DELETE /dmsg-discovery/entry` | that it is deleted |
//! | `GET /dmsg-discovery/entries`, `.../visorEntries` | keys of clients |
//! | `GET /dmsg-discovery/available_servers` | up to 512 entries of servers with room, most first |
//! | `GET /dmsg-discovery/all_servers` | every server's entry |
//! | `DELETE /dmsg-discovery/deregister` | `null`, for keys of the operator's list |
//!
//! Here: requests and their order of checks. Not here: what may be written (`rules`), lists (`lists`), pages
//! for operators (`pages`).
//!
//! Bound: [`ENTRY_LEN_MAX`] bytes of a body, [`STEP_TIME`] for it to come; a write of one key that is
//! contended is judged [`TRIES_MAX`] times.
//! Source: docs/dmsg.md, the section on the discovery.

pub(crate) mod lists;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Router, body};
use hyper::body::Bytes;
use ringway_proto::dmsg::entry::answer::Answer;
use ringway_proto::dmsg::entry::{ENTRY_LEN_MAX, Entry, parse_key};
use ringway_proto::dmsg::key::{self, Signature};
use ringway_proto::key::PublicKey;
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use super::doors::Source;
use super::numbers::Numbers;
use super::rates::Rates;
use super::record::{Moment, Record};
use super::rules::{Request, Rules};
use super::store::{Outcome, Store, StoreError, Write};
use super::{STEP_TIME, pages};
use lists::{List, Lists};

/// What requests share.
#[derive(Debug)]
pub(crate) struct Api<S> {
    /// Where entries are.
    pub(crate) store: S,
    /// Who may write what.
    pub(crate) rules: Rules,
    /// Keys that may delete any entry.
    pub(crate) whitelist: BTreeSet<PublicKey>,
    /// Proxies that say truly whom they speak for.
    pub(crate) proxies: BTreeSet<IpAddr>,
    /// How often a source may write.
    pub(crate) rates: Mutex<Rates>,
    /// Whether somebody has been told of a proxy that is not named.
    pub(crate) has_seen_proxy: AtomicBool,
    /// Lists that were read a moment ago.
    pub(crate) lists: Lists,
    /// What was counted.
    pub(crate) numbers: Arc<Numbers>,
    /// What is told about the process.
    pub(crate) about: pages::About,
}

/// Returns the routes.
pub(crate) fn router<S: Store>(api: Arc<Api<S>>) -> Router {
    Router::new()
        .route("/dmsg-discovery/entry/", post(set_entry::<S>))
        .route(
            "/dmsg-discovery/entry/{key}",
            get(get_entry::<S>).post(set_entry::<S>),
        )
        .route("/dmsg-discovery/entry", delete(delete_entry::<S>))
        .route("/dmsg-discovery/deregister", delete(deregister::<S>))
        .route(
            "/dmsg-discovery/entries",
            get(|state| list::<S>(state, List::Clients)),
        )
        .route(
            "/dmsg-discovery/visorEntries",
            get(|state| list::<S>(state, List::Visors)),
        )
        .route(
            "/dmsg-discovery/available_servers",
            get(|state| list::<S>(state, List::AvailableServers)),
        )
        .route(
            "/dmsg-discovery/all_servers",
            get(|state| list::<S>(state, List::AllServers)),
        )
        .merge(pages::routes::<S>())
        .with_state(api)
}

/// The query of a write.
#[derive(Debug, Deserialize)]
struct Timeout {
    #[serde(default)]
    timeout: String,
}

async fn get_entry<S: Store>(State(api): State<Arc<Api<S>>>, Path(key): Path<String>) -> Response {
    let Ok(key) = parse_key(&key) else {
        return api.refuse(Answer::BadInput);
    };
    match api.store.read(key, Moment::now()).await {
        Ok(Some(record)) => {
            api.numbers.reads.count();
            json(StatusCode::OK, record.json().clone())
        }
        Ok(None) => api.refuse(Answer::NotFound),
        Err(error) => api.refuse(failed(&error)),
    }
}

async fn list<S: Store>(State(api): State<Arc<Api<S>>>, list: List) -> Response {
    match api.lists.read(list, &api.store, Moment::now()).await {
        Ok(Some(text)) => {
            api.numbers.reads.count();
            json(StatusCode::OK, text)
        }
        Ok(None) => api.refuse(Answer::NoServers),
        Err(error) => api.refuse(failed(&error)),
    }
}

async fn set_entry<S: Store>(
    State(api): State<Arc<Api<S>>>,
    Query(query): Query<Timeout>,
    Extension(source): Extension<Source>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let is_brief = query.timeout == "true";
    let outcome = async {
        let (source, body) = api.write_request(source, &headers, body).await?;
        let request = Request {
            body: &body,
            source,
            now: Moment::now(),
        };
        let admitted = api.rules.admit(request, is_brief)?;
        let record = Arc::new(admitted.record);
        api.write(&record, admitted.is_vouched, request.now).await
    };
    api.answer(outcome.await)
}

async fn delete_entry<S: Store>(
    State(api): State<Arc<Api<S>>>,
    Extension(source): Extension<Source>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let outcome = async {
        let (source, body) = api.write_request(source, &headers, body).await?;
        let request = Request {
            body: &body,
            source,
            now: Moment::now(),
        };
        let entry = Rules::read_deletion(request)?;
        api.delete(&entry, source, request.now).await
    };
    api.answer(outcome.await)
}

/// Deletes entries for a key of the list. Answers without a body are what monitors expect.
async fn deregister<S: Store>(
    State(api): State<Arc<Api<S>>>,
    Extension(source): Extension<Source>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let (_, body) = match api.write_request(source, &headers, body).await {
        Ok(request) => request,
        Err(answer) => return api.refuse(answer),
    };
    if let Err(status) = api.check_monitor(&headers) {
        api.numbers.refused(Answer::Unauthorized);
        return status.into_response();
    }
    let Ok(names) = serde_json::from_slice::<Vec<String>>(&body) else {
        api.numbers.refused(Answer::BadInput);
        return StatusCode::BAD_REQUEST.into_response();
    };
    let keys: Result<Vec<PublicKey>, _> = names.iter().map(|name| parse_key(name)).collect();
    let Ok(keys) = keys else {
        return api.refuse(Answer::BadInput);
    };
    for key in keys {
        match api.deregister(key, Moment::now()).await {
            Ok(()) => api.numbers.deregistered.count(),
            Err(answer) => return api.refuse(answer),
        }
    }
    json(StatusCode::OK, Bytes::from_static(b"null"))
}

impl<S: Store> Api<S> {
    /// Returns whom a write is of, and its body.
    async fn write_request(
        &self,
        source: Source,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<(IpAddr, Bytes), Answer> {
        let source = self.source(source, headers);
        let now = Instant::now();
        let is_allowed = {
            let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
            rates.take(source, now)
        };
        if !is_allowed {
            self.look_for_a_proxy(source, headers);
            return Err(Answer::TooMany);
        }
        match timeout(STEP_TIME, body::to_bytes(body, ENTRY_LEN_MAX)).await {
            Ok(Ok(body)) => Ok((source, body)),
            Ok(Err(_)) => Err(Answer::TooLong),
            Err(_) => Err(Answer::Slow),
        }
    }

    /// Returns whom a request is of: a proxy that is believed says so, behind what its own clients claim.
    fn source(&self, Source(peer): Source, headers: &HeaderMap) -> IpAddr {
        let told = headers.get_all(FORWARDED_FOR).into_iter().next_back();
        let told =
            told.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
        match self.proxies.contains(&peer) {
            true => told.unwrap_or(peer),
            false => peer,
        }
    }

    /// Says once that somebody who writes too much may be a proxy that nobody has named.
    fn look_for_a_proxy(&self, source: IpAddr, headers: &HeaderMap) {
        if headers.contains_key(FORWARDED_FOR) && !self.has_seen_proxy.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                %source,
                "writes of one address are held up, and it says that it speaks for others: if it is a proxy of yours, \
                 name it with --proxy {source}"
            );
        }
    }

    /// Writes an entry that was admitted, if what stands allows it.
    async fn write(
        &self,
        record: &Arc<Record>,
        is_vouched: bool,
        now: Moment,
    ) -> Result<Answer, Answer> {
        for _ in 0..TRIES_MAX {
            let before = self.read(record.key(), now).await?;
            let answer = Rules::follow(record, before.as_deref())?;
            let write = Write {
                record,
                before: before.as_deref(),
                is_vouched,
                now,
            };
            match self.store.write(write).await {
                Ok(Outcome::Done) => {
                    match answer {
                        Answer::Written => self.numbers.written.count(),
                        _ => self.numbers.iterated.count(),
                    }
                    return Ok(answer);
                }
                Ok(Outcome::Changed) => {}
                Ok(Outcome::Full) => return Err(Answer::Full),
                Err(error) => return Err(failed(&error)),
            }
        }
        Err(Answer::Unexpected)
    }

    /// Deletes what stands of the party of `entry`, if that entry may do it.
    async fn delete(&self, entry: &Entry, source: IpAddr, now: Moment) -> Result<Answer, Answer> {
        for _ in 0..TRIES_MAX {
            let stands = self.read(entry.key, now).await?;
            Rules::delete(entry, stands.as_deref(), source)?;
            if self.remove(stands.as_deref()).await? {
                self.numbers.deleted.count();
                return Ok(Answer::Deleted);
            }
        }
        Err(Answer::Unexpected)
    }

    /// Deletes what stands of a party.
    async fn deregister(&self, key: PublicKey, now: Moment) -> Result<(), Answer> {
        for _ in 0..TRIES_MAX {
            let stands = self.read(key, now).await?;
            if self.remove(stands.as_deref()).await? {
                return Ok(());
            }
        }
        Err(Answer::Unexpected)
    }

    async fn read(&self, key: PublicKey, now: Moment) -> Result<Option<Arc<Record>>, Answer> {
        let found = self.store.read(key, now).await;
        found.map_err(|error| failed(&error))
    }

    /// Takes a record out; false when something else stands there by now.
    async fn remove(&self, record: Option<&Record>) -> Result<bool, Answer> {
        let Some(record) = record else {
            return Ok(true);
        };
        match self.store.remove(record).await {
            Ok(outcome) => Ok(outcome == Outcome::Done),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Checks that a key of the list asks.
    fn check_monitor(&self, headers: &HeaderMap) -> Result<(), StatusCode> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let key = text(MONITOR_KEY).and_then(|text| parse_key(text).ok());
        let key = key.filter(|key| self.whitelist.contains(key));
        let key = key.ok_or(StatusCode::FORBIDDEN)?;
        let signature = text(MONITOR_SIGNATURE).and_then(|text| text.parse::<Signature>().ok());
        let signature = signature.ok_or(StatusCode::BAD_REQUEST)?;
        key::verify(&key, key.to_string().as_bytes(), &signature).map_err(|_| StatusCode::FORBIDDEN)
    }

    fn answer(&self, outcome: Result<Answer, Answer>) -> Response {
        match outcome {
            Ok(answer) => told(answer),
            Err(answer) => self.refuse(answer),
        }
    }

    fn refuse(&self, answer: Answer) -> Response {
        self.numbers.refused(answer);
        told(answer)
    }
}

/// Returns the answer for a store that has none.
fn failed(error: &StoreError) -> Answer {
    // The store says so once, for all requests.
    tracing::debug!(%error, "the store has no answer");
    Answer::Down
}

/// Returns an answer in HTTP.
fn told(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, answer.encode().into());
    if matches!(answer, Answer::TooMany | Answer::Full | Answer::Down) {
        let soon = header::HeaderValue::from_static("1");
        response.headers_mut().insert(header::RETRY_AFTER, soon);
    }
    response
}

/// Returns a page of JSON.
pub(crate) fn json(status: StatusCode, text: Bytes) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// How often a write is judged again because another one of the same key was faster.
const TRIES_MAX: u32 = 4;

/// The header in which proxies say whom they speak for: the last address is what they saw themselves, those
/// before it are what their client claims.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The header with the key of a monitor.
const MONITOR_KEY: &str = "nm-pk";

/// The header with a monitor's signature of its own key.
const MONITOR_SIGNATURE: &str = "nm-sign";

#[cfg(test)]
mod tests;
