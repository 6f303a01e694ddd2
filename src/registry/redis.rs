//! The registry in Redis or Valkey, for a fleet.
//!
//! Keys, all behind one prefix (`ringway:` unless configured):
//!
//! | key | value | written |
//! |---|---|---|
//! | `relay:KEY` | the relay's entry, with a time to live: its lease | by the relay, three times a lease |
//! | `relays` | set of the keys of relays; those without a lease are taken out | with each renewal |
//! | `peer:KEY` | place of a peer, without a time to live | once, by the relay it is at |
//! | `reaper` | the relay that looks for orphans now, with a time to live | by whichever comes first |
//!
//! A place is `sequence | epoch`, 16 hex digits each, so that scripts compare them as text, then the
//! relay's key and the peer's signature as bytes: 128 in all. Changes are published on the channel
//! `changes`, 32 bytes a peer.
//!
//! Every command is on one key, so that the keys may lie on different nodes of a cluster.
//!
//! Here: commands. Not here: when, what is believed.
//!
//! Bound: `ANSWER_TIMEOUT` a call, `BATCH_MAX` commands a pipeline, `NOTICES_MAX` changes that wait.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline};
use ringway_proto::entry::{PeerEntry, RelayEntry};
use ringway_proto::key::{NATIVE_KEY_LEN, PublicKey};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{
    BATCH_MAX, KnownRelay, Lease, Notices, PeerRecord, Registry, RegistryError, Session, Update,
};

/// Where Redis is, and the prefix of the keys.
#[derive(Debug, Clone)]
pub(crate) struct Redis {
    client: Client,
    prefix: String,
}

/// A connection, and a second one for what is published.
#[derive(Debug)]
pub(crate) struct RedisSession {
    connection: MultiplexedConnection,
    prefix: String,
    notices: mpsc::Receiver<Vec<u8>>,
    listening: JoinHandle<()>,
    /// Where the scan for orphans goes on.
    cursor: u64,
    /// Relays' entries as they were read last: a signature is verified once.
    verified: Vec<RelayEntry>,
    /// Relays that had no lease when they were read last.
    lapsed: BTreeSet<PublicKey>,
}

impl Redis {
    /// Returns the registry at `url`: `redis://[[USER:]PASSWORD@]HOST[:PORT][/DATABASE]` or
    /// `redis+unix:///PATH`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn new(url: &str, prefix: &str) -> Result<Self, String> {
        let client = Client::open(url).map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            prefix: prefix.to_owned(),
        })
    }

    /// Returns its address for people, without user and password.
    pub(crate) fn name(&self) -> String {
        format!("redis at {}", self.client.get_connection_info().addr())
    }
}

impl Registry for Redis {
    type Session = RedisSession;

    async fn connect(&self) -> Result<RedisSession, RegistryError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        let connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let listening = async {
            let mut pubsub = self.client.get_async_pubsub().await?;
            pubsub.subscribe(format!("{}changes", self.prefix)).await?;
            Ok::<_, redis::RedisError>(pubsub)
        };
        let pubsub = timeout(ANSWER_TIMEOUT, listening)
            .await
            .map_err(|_| RegistryError::Slow(ANSWER_TIMEOUT))??;
        let (sender, notices) = mpsc::channel(NOTICES_MAX);
        let listening = tokio::spawn(async move {
            let mut messages = pubsub.into_on_message();
            while let Some(message) = messages.next().await {
                let bytes = message.get_payload_bytes().to_vec();
                // Without room the connection ends, and with it whatever is remembered is doubted.
                if sender.try_send(bytes).is_err() {
                    return;
                }
            }
        });
        Ok(RedisSession {
            connection,
            prefix: self.prefix.clone(),
            notices,
            listening,
            cursor: 0,
            verified: Vec::new(),
            lapsed: BTreeSet::new(),
        })
    }
}

impl Drop for RedisSession {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Session for RedisSession {
    async fn renew(&mut self, own: &RelayEntry, lease: Duration) -> Result<Lease, RegistryError> {
        let before = self.put_lease(RENEW, own, lease).await?;
        let found = RelayEntry::decode(&before.unwrap_or_default()).ok();
        Ok(match found.filter(|found| found.relay == own.relay) {
            Some(found) if found.epoch > own.epoch => Lease::Taken,
            Some(found) if found.epoch == own.epoch => Lease::Stood,
            Some(_) => Lease::Lapsed,
            None => {
                // Nothing, or something that this relay has not signed, whatever number stands in it.
                self.put_lease(REPLACE, own, lease).await?;
                Lease::Lapsed
            }
        })
    }

    async fn leave(&mut self, own: &RelayEntry) -> Result<(), RegistryError> {
        let mut commands = Pipeline::new();
        commands
            .cmd("EVAL")
            .arg(REMOVE_EQUAL)
            .arg(1)
            .arg(self.relay_key(&own.relay))
            .arg(own.encoded())
            .ignore();
        self.run(&commands).await
    }

    async fn relays(&mut self) -> Result<Vec<KnownRelay>, RegistryError> {
        let mut commands = Pipeline::new();
        commands.cmd("SMEMBERS").arg(self.key("relays"));
        let (keys,): (Vec<Vec<u8>>,) = self.run(&commands).await?;
        let keys: Vec<PublicKey> = keys.iter().filter_map(|key| native_key(key)).collect();
        let mut verified = Vec::new();
        let mut lapsed = BTreeSet::new();
        for some in keys.chunks(BATCH_MAX) {
            let mut commands = Pipeline::new();
            for key in some {
                commands.cmd("GET").arg(self.relay_key(key));
            }
            let found: Vec<Option<Vec<u8>>> = self.run(&commands).await?;
            for (key, bytes) in some.iter().zip(found) {
                let Some(bytes) = bytes else {
                    lapsed.insert(*key);
                    continue;
                };
                let known = self.verified.iter().find(|entry| entry.encoded() == bytes);
                let entry = known.cloned().or_else(|| RelayEntry::decode(&bytes).ok());
                verified.extend(entry.filter(|entry| entry.relay == *key));
            }
        }
        self.verified = verified;
        // One that is away for longer puts itself there again when it is back.
        let gone = lapsed.intersection(&self.lapsed);
        let gone: Vec<&[u8]> = gone.map(PublicKey::as_bytes).collect();
        if !gone.is_empty() {
            let mut commands = Pipeline::new();
            commands
                .cmd("SREM")
                .arg(self.key("relays"))
                .arg(gone)
                .ignore();
            self.run::<()>(&commands).await?;
        }
        self.lapsed = lapsed;
        let known = self.verified.iter().map(|entry| KnownRelay {
            relay: entry.relay,
            epoch: Some(entry.epoch),
            address: entry.address,
        });
        Ok(known.collect())
    }

    async fn remember(
        &mut self,
        _: &[(PublicKey, Option<std::net::SocketAddr>)],
    ) -> Result<(), RegistryError> {
        Ok(())
    }

    async fn write(&mut self, own: &RelayEntry, updates: &[Update]) -> Result<(), RegistryError> {
        if updates.is_empty() {
            return Ok(());
        }
        let mut commands = Pipeline::new();
        let mut changed = Vec::with_capacity(updates.len() * NATIVE_KEY_LEN);
        for update in updates {
            let peer = update.peer();
            changed.extend_from_slice(peer.as_bytes());
            let key = self.peer_key(&peer);
            commands.cmd("EVAL");
            match update {
                Update::Put { entry, .. } => {
                    let place = encode_place(own, entry);
                    commands.arg(PUT_NEWER).arg(1).arg(key).arg(place);
                }
                Update::Remove { .. } => {
                    let here = [hex(own.epoch).as_bytes(), own.relay.as_bytes()].concat();
                    commands.arg(REMOVE_OWN).arg(1).arg(key).arg(here);
                }
            }
            commands.ignore();
        }
        commands
            .cmd("PUBLISH")
            .arg(self.key("changes"))
            .arg(changed)
            .ignore();
        self.run(&commands).await
    }

    async fn find(
        &mut self,
        peers: &[PublicKey],
    ) -> Result<Vec<Option<PeerRecord>>, RegistryError> {
        let mut commands = Pipeline::new();
        for peer in peers {
            commands.cmd("GET").arg(self.peer_key(peer));
        }
        let found: Vec<Option<Vec<u8>>> = self.run(&commands).await?;
        let records = peers.iter().zip(found);
        Ok(records
            .map(|(peer, bytes)| decode_place(*peer, &bytes?))
            .collect())
    }

    async fn scan(&mut self, own: &RelayEntry) -> Result<Vec<PeerRecord>, RegistryError> {
        let mut commands = Pipeline::new();
        commands
            .cmd("EVAL")
            .arg(HOLD)
            .arg(1)
            .arg(self.key("reaper"))
            .arg(own.relay.as_bytes())
            .arg(REAPER_MS);
        let (is_held,): (bool,) = self.run(&commands).await?;
        if !is_held {
            return Ok(Vec::new());
        }
        let prefix = self.key("peer:");
        let mut commands = Pipeline::new();
        commands
            .cmd("SCAN")
            .arg(self.cursor)
            .arg("MATCH")
            .arg(format!("{}*", escaped(&prefix)))
            .arg("COUNT")
            .arg(BATCH_MAX);
        let ((cursor, keys),): ((u64, Vec<String>),) = self.run(&commands).await?;
        self.cursor = cursor;
        let peers: Vec<PublicKey> = keys
            .iter()
            .filter_map(|key| key.strip_prefix(&prefix)?.parse().ok())
            .collect();
        if peers.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.find(&peers).await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn reap(&mut self, records: &[PeerRecord]) -> Result<u64, RegistryError> {
        if records.is_empty() {
            return Ok(0);
        }
        let mut commands = Pipeline::new();
        for record in records {
            let there = [hex(record.epoch).as_bytes(), record.relay.as_bytes()].concat();
            commands
                .cmd("EVAL")
                .arg(REMOVE_OWN)
                .arg(1)
                .arg(self.peer_key(&record.peer))
                .arg(there);
        }
        let removed: Vec<u64> = self.run(&commands).await?;
        Ok(removed.iter().sum())
    }

    fn take_notices(&mut self) -> Notices {
        let mut notices = Notices::default();
        while let Ok(bytes) = self.notices.try_recv() {
            let keys = bytes.chunks_exact(NATIVE_KEY_LEN).filter_map(native_key);
            notices.peers.extend(keys);
        }
        // Whoever listened has ended: what it has not heard of is unknown.
        notices.are_incomplete = self.listening.is_finished();
        notices
    }
}

impl RedisSession {
    /// Runs a script that may put the lease; returns what stood there before.
    async fn put_lease(
        &mut self,
        script: &str,
        own: &RelayEntry,
        lease: Duration,
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        let mut commands = Pipeline::new();
        commands
            .cmd("EVAL")
            .arg(script)
            .arg(1)
            .arg(self.relay_key(&own.relay))
            .arg(own.encoded())
            .arg(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
        commands
            .cmd("SADD")
            .arg(self.key("relays"))
            .arg(own.relay.as_bytes())
            .ignore();
        let (before,) = self.run(&commands).await?;
        Ok(before)
    }

    async fn run<T: redis::FromRedisValue>(
        &mut self,
        commands: &Pipeline,
    ) -> Result<T, RegistryError> {
        let answer = commands.query_async(&mut self.connection);
        // The connection has the same limit for each answer; this one is for all of them.
        match timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(RegistryError::Slow(ANSWER_TIMEOUT)),
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn relay_key(&self, relay: &PublicKey) -> String {
        format!("{}relay:{relay}", self.prefix)
    }

    fn peer_key(&self, peer: &PublicKey) -> String {
        format!("{}peer:{peer}", self.prefix)
    }
}

/// Returns the value of a peer that is at the relay `own`.
fn encode_place(own: &RelayEntry, entry: &PeerEntry) -> Vec<u8> {
    let encoded = entry.encode();
    let signature = encoded.get(8..).unwrap_or_default();
    [
        hex(entry.sequence).as_bytes(),
        hex(own.epoch).as_bytes(),
        own.relay.as_bytes(),
        signature,
    ]
    .concat()
}

/// Returns a peer's place; none when the value is something else.
fn decode_place(peer: PublicKey, value: &[u8]) -> Option<PeerRecord> {
    let (sequence, rest) = value.split_first_chunk::<HEX_LEN>()?;
    let (epoch, rest) = rest.split_first_chunk::<HEX_LEN>()?;
    let (relay, signature) = rest.split_first_chunk::<NATIVE_KEY_LEN>()?;
    let number = |digits: &[u8]| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let sequence = number(sequence)?;
    let entry = [&sequence.to_be_bytes(), signature].concat();
    Some(PeerRecord {
        peer,
        relay: PublicKey::native(*relay),
        epoch: number(epoch)?,
        entry: PeerEntry::decode(&entry).ok()?,
    })
}

fn native_key(bytes: &[u8]) -> Option<PublicKey> {
    Some(PublicKey::native(bytes.try_into().ok()?))
}

fn hex(number: u64) -> String {
    format!("{number:016x}")
}

/// Returns a text as a pattern that only it matches.
fn escaped(text: &str) -> String {
    let is_special = |letter: char| matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^');
    text.chars()
        .flat_map(|letter| {
            is_special(letter)
                .then_some('\\')
                .into_iter()
                .chain([letter])
        })
        .collect()
}

/// Bytes of a number in a place.
const HEX_LEN: usize = 16;

/// Puts a relay's lease, unless one of a later start stands there; the epoch is bytes 34 to 41 of an entry.
const RENEW: &str = "\
local old = redis.call('GET', KEYS[1])
if old then
  for i = 34, 41 do
    local there, here = string.byte(old, i) or 0, string.byte(ARGV[1], i)
    if there > here then return old end
    if there < here then break end
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return old";

/// Puts a relay's lease in any case.
const REPLACE: &str = "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])";

/// Writes a place unless a newer one stands there.
const PUT_NEWER: &str = "\
local old = redis.call('GET', KEYS[1])
if old and string.sub(old, 1, 16) > string.sub(ARGV[1], 1, 16) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1";

/// Removes a place that names this epoch and relay.
const REMOVE_OWN: &str = "\
local old = redis.call('GET', KEYS[1])
if old and string.sub(old, 17, 64) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0";

/// Removes a key with exactly this value.
const REMOVE_EQUAL: &str = "\
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0";

/// Takes or keeps a key that one relay holds at a time.
const HOLD: &str = "\
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1";

/// How long one relay keeps the search for orphans after its last step.
const REAPER_MS: u64 = 10_000;

/// Longest wait for an answer: 100 times what a registry across a continent takes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Messages of changes that wait to be looked at, of 512 peers at most.
const NOTICES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use ringway_proto::key::SecretKey;

    use super::*;

    #[test]
    fn place_is_read_as_it_was_written_and_nothing_else_is_one() {
        let (peer, relay) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let entry = PeerEntry::sign(&peer, &relay.public(), 0x1234_5678_9abc_def0).unwrap();
        let own = RelayEntry::sign(&relay, 77, None).unwrap();
        let place = encode_place(&own, &entry);
        assert_eq!(place.len(), 128);
        let record = decode_place(peer.public(), &place).unwrap();
        assert_eq!((record.epoch, record.entry), (77, entry));
        assert!(record.entry.verify(&peer.public(), &record.relay).is_ok());
        for end in 0..place.len() {
            assert_eq!(decode_place(peer.public(), &place[..end]), None);
        }
        assert_eq!(
            decode_place(peer.public(), &[place, vec![0]].concat()),
            None
        );
        assert_eq!(decode_place(peer.public(), &[b'z'; 128]), None);
    }

    #[test]
    fn prefix_is_no_pattern() {
        assert_eq!(escaped("a*[b]:"), "a\\*\\[b\\]:");
    }

    #[test]
    fn address_of_redis_is_checked_at_once() {
        assert!(Redis::new("redis://127.0.0.1:6379/2", "ringway:").is_ok());
        assert!(Redis::new("http://127.0.0.1", "ringway:").is_err());
        assert!(Redis::new("nonsense", "ringway:").is_err());
    }
}
