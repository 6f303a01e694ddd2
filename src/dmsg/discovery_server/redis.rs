//! Entries in Redis or Valkey, for several discoveries beside each other, or one that must not lose anything
//! with its host.
//!
//! The keys are those of the Go implementation, so that one can take over from the other with what stands:
//!
//! | key | value | time to live |
//! |---|---|---|
//! | `KEY`, 66 hex digits | the entry as readers get it | 120 s for a server, a client's as told |
//! | `servers`, `clients`, `visorClients` | sets of keys; one without an entry is taken out now and then | |
//! | `ringway:source:KEY` | the address the entry was written from; this project's own | the entry's |
//!
//! Here: commands. Not here: what may be written (`rules`).
//!
//! Bound: [`ANSWER_TIME`] a call, connecting included; a connection that failed is not tried again for
//! [`REST_TIME`], and everybody who asks meanwhile is told at once.

use std::future::Future;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, Pipeline};
use ringway_proto::dmsg::entry::{Entry, parse_key};
use ringway_proto::key::PublicKey;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::record::{Moment, Record};
use super::store::{Counts, Outcome, Store, StoreError, Which, Write};

/// The store.
#[derive(Debug)]
pub(crate) struct Redis {
    client: Client,
    clients_max: u32,
    servers_max: u32,
    connection: Mutex<Connection>,
    /// Changes that this process has made.
    changes: AtomicU64,
    /// Where the search for clients without an entry goes on.
    cursor: AtomicU64,
    /// Why the last call had no answer.
    failure: std::sync::Mutex<Option<String>>,
}

/// The one connection, which all calls share.
#[derive(Debug, Default)]
struct Connection {
    open: Option<MultiplexedConnection>,
    rest_until: Option<Instant>,
}

impl Redis {
    /// Returns the store at `url`: `redis://[[USER:]PASSWORD@]HOST[:PORT][/DATABASE]` or
    /// `redis+unix:///PATH`.
    ///
    /// # Errors
    ///
    /// What is wrong with the text.
    pub(crate) fn new(url: &str, servers_max: u32, clients_max: u32) -> Result<Self, String> {
        let client = Client::open(url).map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            clients_max,
            servers_max,
            connection: Mutex::default(),
            changes: AtomicU64::new(0),
            cursor: AtomicU64::new(0),
            failure: std::sync::Mutex::default(),
        })
    }

    /// Returns its address for people, without user and password.
    pub(crate) fn name(&self) -> String {
        format!("redis at {}", self.client.get_connection_info().addr())
    }

    /// Returns the connection, made now if there is none.
    async fn connection(&self) -> Result<MultiplexedConnection, StoreError> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = &connection.open {
            return Ok(open.clone());
        }
        let now = Instant::now();
        if connection.rest_until.is_some_and(|end| now < end) {
            return Err(StoreError::Resting);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_TIME))
            .set_response_timeout(Some(ANSWER_TIME));
        let made = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        match made {
            Ok(open) => {
                connection.open = Some(open.clone());
                connection.rest_until = None;
                Ok(open)
            }
            Err(error) => {
                connection.rest_until = Some(Instant::now() + REST_TIME);
                Err(error.into())
            }
        }
    }

    /// Runs commands within the time that there is.
    async fn run<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, StoreError> {
        let answer = async {
            let mut connection = self.connection().await?;
            Ok(commands.query_async(&mut connection).await?)
        };
        let outcome = bounded(answer).await;
        let failure = outcome.as_ref().err().map(StoreError::to_string);
        let has_failed = failure.is_some();
        self.note(failure);
        if has_failed {
            // Whatever it was, the next call begins with a new one.
            self.connection.lock().await.open = None;
        }
        outcome
    }

    /// Returns the entries of some parties that stand, with what they are.
    async fn records(&self, keys: &[PublicKey]) -> Result<Vec<Arc<Record>>, StoreError> {
        let mut records = Vec::with_capacity(keys.len());
        for some in keys.chunks(BATCH_MAX) {
            let mut commands = Pipeline::new();
            let names: Vec<String> = some.iter().map(PublicKey::to_string).collect();
            commands.cmd("MGET").arg(names);
            let (found,): (Vec<Option<Vec<u8>>>,) = self.run(&commands).await?;
            for (key, json) in some.iter().zip(found) {
                // Of a list nobody misses one that somebody else has put there.
                let record = json.and_then(|json| record_of(*key, json, None).ok());
                records.extend(record.map(Arc::new));
            }
        }
        Ok(records)
    }

    /// Returns the keys of a set.
    async fn members(&self, set: &str) -> Result<Vec<PublicKey>, StoreError> {
        let mut commands = Pipeline::new();
        commands.cmd("SMEMBERS").arg(set);
        let (names,): (Vec<String>,) = self.run(&commands).await?;
        Ok(names
            .iter()
            .filter_map(|name| parse_key(name).ok())
            .collect())
    }

    /// Takes those without an entry out of a set.
    async fn forget(&self, set: &str, names: &[String]) -> Result<u64, StoreError> {
        let mut count = 0;
        for some in names.chunks(BATCH_MAX) {
            let mut commands = Pipeline::new();
            commands.cmd("EVAL").arg(FORGET).arg(1).arg(set).arg(some);
            let (forgotten,): (u64,) = self.run(&commands).await?;
            count += forgotten;
        }
        Ok(count)
    }

    /// Keeps why the last call had no answer, and says so once.
    fn note(&self, failure: Option<String>) {
        let mut last = self.last_failure();
        match (&failure, &*last) {
            (Some(failure), None) => tracing::error!(%failure, "the store does not answer"),
            (None, Some(_)) => tracing::warn!("the store answers again"),
            (Some(_), Some(_)) | (None, None) => {}
        }
        *last = failure;
    }

    fn last_failure(&self) -> MutexGuard<'_, Option<String>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }
}

impl Store for Redis {
    async fn read(&self, key: PublicKey, _: Moment) -> Result<Option<Arc<Record>>, StoreError> {
        let mut commands = Pipeline::new();
        commands.cmd("GET").arg(key.to_string());
        commands.cmd("GET").arg(source_key(&key));
        let (json, source): (Option<Vec<u8>>, Option<String>) = self.run(&commands).await?;
        let source = source.and_then(|text| text.parse().ok());
        let record = json.map(|json| record_of(key, json, source)).transpose()?;
        Ok(record.map(Arc::new))
    }

    async fn write(&self, write: Write<'_>) -> Result<Outcome, StoreError> {
        let Write {
            record,
            before,
            is_vouched,
            now,
        } = write;
        let entry = record.entry();
        let time = record
            .expires()
            .map_or(Duration::ZERO, |end| end.since(now));
        let max = |max: u32| if is_vouched { u32::MAX } else { max };
        let source = record.source().map(|source| source.to_string());
        let mut commands = Pipeline::new();
        commands
            .cmd("EVAL")
            .arg(WRITE)
            .arg(5)
            .arg(record.key().to_string())
            .arg(source_key(&record.key()))
            .arg(&["servers", "clients", "visorClients"])
            .arg(before.map_or(&[][..], |before| before.json()))
            .arg(&record.json()[..])
            .arg(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
            .arg(source.unwrap_or_default())
            .arg(u8::from(entry.server.is_some()))
            .arg(u8::from(entry.client.is_some()))
            .arg(u8::from(entry.is_visor()))
            .arg(max(self.servers_max))
            .arg(max(self.clients_max));
        let (outcome,): (u8,) = self.run(&commands).await?;
        self.changed();
        Ok(match outcome {
            0 => Outcome::Changed,
            1 => Outcome::Done,
            _ => Outcome::Full,
        })
    }

    async fn remove(&self, record: &Record) -> Result<Outcome, StoreError> {
        let mut commands = Pipeline::new();
        commands
            .cmd("EVAL")
            .arg(REMOVE)
            .arg(5)
            .arg(record.key().to_string())
            .arg(source_key(&record.key()))
            .arg(&["servers", "clients", "visorClients"])
            .arg(&record.json()[..]);
        let (is_done,): (bool,) = self.run(&commands).await?;
        self.changed();
        Ok(match is_done {
            true => Outcome::Done,
            false => Outcome::Changed,
        })
    }

    async fn servers(&self, _: Moment) -> Result<Vec<Arc<Record>>, StoreError> {
        let keys = self.members("servers").await?;
        let mut records = self.records(&keys).await?;
        records.retain(|record| record.entry().server.is_some());
        Ok(records)
    }

    async fn keys(&self, which: Which, _: Moment) -> Result<Vec<PublicKey>, StoreError> {
        self.members(match which {
            Which::Clients => "clients",
            Which::Visors => "visorClients",
        })
        .await
    }

    async fn clean(&self, _: Moment) -> Result<Counts, StoreError> {
        let mut commands = Pipeline::new();
        commands.cmd("SMEMBERS").arg("servers");
        let (servers,): (Vec<String>,) = self.run(&commands).await?;
        let mut forgotten = self.forget("servers", &servers).await?;
        let mut commands = Pipeline::new();
        let cursor = self.cursor.load(Ordering::Relaxed);
        commands
            .cmd("SSCAN")
            .arg("clients")
            .arg(cursor)
            .arg("COUNT")
            .arg(SCAN_COUNT);
        let ((cursor, clients),): ((u64, Vec<String>),) = self.run(&commands).await?;
        self.cursor.store(cursor, Ordering::Relaxed);
        forgotten += self.forget("visorClients", &clients).await?;
        forgotten += self.forget("clients", &clients).await?;
        if forgotten > 0 {
            self.changed();
        }
        let mut commands = Pipeline::new();
        commands
            .cmd("SCARD")
            .arg("servers")
            .cmd("SCARD")
            .arg("clients");
        let (servers, clients): (u64, u64) = self.run(&commands).await?;
        Ok(Counts { servers, clients })
    }

    fn generation(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn complaint(&self) -> Option<String> {
        self.last_failure().clone()
    }

    async fn close(&self) {
        self.connection.lock().await.open = None;
    }
}

async fn bounded<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match timeout(ANSWER_TIME, answer).await {
        Ok(outcome) => outcome,
        Err(_) => Err(StoreError::Slow(ANSWER_TIME)),
    }
}

/// Returns what stands of a party; its time to live is Redis' own matter.
fn record_of(key: PublicKey, json: Vec<u8>, source: Option<IpAddr>) -> Result<Record, StoreError> {
    let entry = Entry::decode(&json).ok().filter(|entry| entry.key == key);
    let entry = entry.ok_or(StoreError::Foreign(key))?;
    Ok(Record::with_text(entry, json.into(), source, None))
}

fn source_key(key: &PublicKey) -> String {
    format!("ringway:source:{key}")
}

/// Writes an entry if what stands is what was judged, and there is room. 0: it is not, 1: done, 2: no room.
const WRITE: &str = "\
local old = redis.call('GET', KEYS[1])
if (old or '') ~= ARGV[1] then return 0 end
local function room(set, wanted, max)
  return wanted == '0' or redis.call('SISMEMBER', set, KEYS[1]) == 1 or redis.call('SCARD', set) < tonumber(max)
end
if not (room(KEYS[3], ARGV[5], ARGV[8]) and room(KEYS[4], ARGV[6], ARGV[9])) then return 2 end
local function put(key, value)
  if ARGV[3] == '0' then redis.call('SET', key, value) else redis.call('SET', key, value, 'PX', ARGV[3]) end
end
put(KEYS[1], ARGV[2])
if ARGV[4] ~= '' then put(KEYS[2], ARGV[4]) end
for i = 3, 5 do
  redis.call(ARGV[i + 2] == '1' and 'SADD' or 'SREM', KEYS[i], KEYS[1])
end
return 1";

/// Takes an entry out if it is the one that stands.
const REMOVE: &str = "\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
for i = 3, 5 do redis.call('SREM', KEYS[i], KEYS[1]) end
return 1";

/// Takes those of the named parties out of a set that have no entry.
const FORGET: &str = "\
local count = 0
for _, name in ipairs(ARGV) do
  if redis.call('EXISTS', name) == 0 then count = count + redis.call('SREM', KEYS[1], name) end
end
return count";

/// Longest wait for an answer, connecting included: 100 times what a Redis across a continent takes.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// How long nobody tries to connect after a failure.
const REST_TIME: Duration = Duration::from_millis(200);

/// Keys of one command.
const BATCH_MAX: usize = 512;

/// Clients looked at in each cleaning: 200,000 in eight minutes.
const SCAN_COUNT: u32 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_checked_at_once_and_shown_without_its_password() {
        let redis = Redis::new("redis://me:secret@127.0.0.1:6379/2", 1, 1).unwrap();
        assert_eq!(redis.name(), "redis at 127.0.0.1:6379");
        for wrong in ["http://127.0.0.1", "nonsense", "rediss://127.0.0.1"] {
            assert!(Redis::new(wrong, 1, 1).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_entry_of_its_key_is_named() {
        let secret = ringway_proto::dmsg::key::SecretKey::from_bytes([1; 32]).unwrap();
        let mut entry = Entry::of_client(secret.public(), 0, 0, Vec::new());
        entry.sign(&secret);
        let json = entry.encode();
        assert!(record_of(secret.public(), json.clone(), None).is_ok());
        let other = PublicKey::dmsg([3; 33]);
        for (key, json) in [(other, json), (secret.public(), b"{".to_vec())] {
            let error = record_of(key, json, None).unwrap_err();
            assert!(error.to_string().contains("delete it"), "{error}");
        }
    }

    #[tokio::test]
    async fn redis_that_is_not_there_is_told_at_once_and_rests() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let redis = Redis::new(&format!("redis://127.0.0.1:{port}"), 1, 1).unwrap();
        let key = PublicKey::dmsg([3; 33]);
        let first = redis.read(key, Moment::from_ms(0)).await;
        assert!(matches!(first, Err(StoreError::Redis(_))), "{first:?}");
        let second = redis.read(key, Moment::from_ms(0)).await;
        assert!(matches!(second, Err(StoreError::Resting)), "{second:?}");
    }
}
