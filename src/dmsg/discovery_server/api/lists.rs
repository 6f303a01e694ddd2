//! Lists of entries and keys, as text.
//!
//! Every client that starts reads the list of servers, and monitors read that of all clients: each is made
//! once for all who ask until something changes.
//!
//! Here: making and keeping the texts. Not here: where entries are (`store`).
//!
//! Bound: one text of each list; one of more than [`LONG_BYTES`] is not made anew more than once in
//! [`LONG_TIME`].

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use ringway_proto::key::PublicKey;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::dmsg::discovery_server::record::{Moment, Record};
use crate::dmsg::discovery_server::store::{Store, StoreError, Which};

/// Which list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    /// Entries of every server.
    AllServers,
    /// Entries of servers that take sessions.
    AvailableServers,
    /// Keys of every client.
    Clients,
    /// Keys of every visor.
    Visors,
}

/// The lists.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    /// Whoever makes one lets the others wait for it.
    all_servers: Mutex<Option<Kept>>,
    available_servers: Mutex<Option<Kept>>,
    clients: Mutex<Option<Kept>>,
    visors: Mutex<Option<Kept>>,
}

/// A list as it was made.
#[derive(Debug, Clone)]
struct Kept {
    /// None when there is nothing in a list of servers.
    text: Option<Bytes>,
    generation: u64,
    made_at: Instant,
}

impl Lists {
    /// Returns a list; none for servers when there are none.
    ///
    /// # Errors
    ///
    /// The store's.
    pub(crate) async fn read<S: Store>(
        &self,
        list: List,
        store: &S,
        now: Moment,
    ) -> Result<Option<Bytes>, StoreError> {
        let place = match list {
            List::AllServers => &self.all_servers,
            List::AvailableServers => &self.available_servers,
            List::Clients => &self.clients,
            List::Visors => &self.visors,
        };
        let mut place = place.lock().await;
        let generation = store.generation();
        if let Some(kept) = &*place
            && kept.is_fresh(generation, store.is_shared())
        {
            return Ok(kept.text.clone());
        }
        let text = match list {
            List::AllServers => entries(&store.servers(now).await?),
            List::AvailableServers => entries(&available(store.servers(now).await?)),
            List::Clients => Some(names(&store.keys(Which::Clients, now).await?)),
            List::Visors => Some(names(&store.keys(Which::Visors, now).await?)),
        };
        *place = Some(Kept {
            text: text.clone(),
            generation,
            made_at: Instant::now(),
        });
        Ok(text)
    }
}

impl Kept {
    /// Returns whether the list is still what it would be if it were made now, or made so lately that it may
    /// not be.
    fn is_fresh(&self, generation: u64, is_shared: bool) -> bool {
        let age = self.made_at.elapsed();
        let is_long = self
            .text
            .as_ref()
            .is_some_and(|text| text.len() > LONG_BYTES);
        let time = if is_shared { SHARED_TIME } else { OWN_TIME };
        (is_long && age < LONG_TIME) || (self.generation == generation && age < time)
    }
}

/// Returns servers that take sessions, those that take most first; some of them where they are too many.
fn available(mut servers: Vec<Arc<Record>>) -> Vec<Arc<Record>> {
    servers.retain(|server| server.available_sessions() > 0);
    if servers.len() > AVAILABLE_MAX {
        // Another order each time, so that all of them get their clients.
        let chance = RandomState::new();
        servers.sort_by_cached_key(|server| chance.hash_one(server.key()));
        servers.truncate(AVAILABLE_MAX);
    }
    servers.sort_by_key(|server| (-i128::from(server.available_sessions()), server.key()));
    servers
}

fn entries(records: &[Arc<Record>]) -> Option<Bytes> {
    (!records.is_empty()).then(|| {
        let texts = records.iter().map(|record| &record.json()[..]);
        array(
            texts,
            records.iter().map(|record| record.json().len()).sum(),
        )
    })
}

fn names(keys: &[PublicKey]) -> Bytes {
    let mut names: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
    names.sort_unstable();
    let len = names.iter().map(String::len).sum();
    array(names.iter().map(String::as_bytes), len)
}

/// Returns an array of JSON of texts that are JSON.
fn array<'a>(texts: impl Iterator<Item = &'a [u8]>, len: usize) -> Bytes {
    let mut out = Vec::with_capacity(len + len / 64 + 2);
    out.push(b'[');
    for text in texts {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(text);
    }
    out.push(b']');
    out.into()
}

/// Most servers that a client is told at once.
const AVAILABLE_MAX: usize = 512;

/// Bytes of a list that takes milliseconds to make: 4,000 clients, 800 servers.
const LONG_BYTES: usize = 256 << 10;

/// How long a long list is kept even if some have come and gone.
const LONG_TIME: Duration = Duration::from_secs(1);

/// How long a list of a shared store is kept.
const SHARED_TIME: Duration = Duration::from_secs(1);

/// How long a list is kept that only this process changes: until entries may have expired.
const OWN_TIME: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use ringway_proto::dmsg::entry::{Entry, Server};
    use ringway_proto::dmsg::key::SecretKey;

    use super::*;

    fn server(number: u16, available_sessions: i64) -> Arc<Record> {
        let mut secret = [1; 32];
        secret[..2].copy_from_slice(&number.to_be_bytes());
        let secret = SecretKey::from_bytes(secret).expect("below the order of the curve");
        let server = Server {
            address: "192.0.2.1:1".to_owned(),
            available_sessions,
            ..Server::default()
        };
        let entry = Entry::of_server(secret.public(), 0, 0, server);
        Arc::new(Record::new(entry, None, None))
    }

    #[test]
    fn servers_without_room_are_left_out_and_most_room_comes_first() {
        let servers = [(1, 3), (2, 0), (3, -1), (4, 9), (5, i64::MAX)];
        let servers = servers.map(|(number, room)| server(number, room)).to_vec();
        let rooms: Vec<i64> = available(servers)
            .iter()
            .map(|server| server.available_sessions())
            .collect();
        assert_eq!(rooms, [i64::MAX, 9, 3]);
    }

    #[test]
    fn too_many_servers_are_told_in_part_and_another_part_each_time() {
        let servers: Vec<_> = (0..600).map(|number| server(number, 5)).collect();
        let mut told: Vec<PublicKey> = Vec::new();
        for _ in 0..8 {
            let some = available(servers.clone());
            assert_eq!(some.len(), AVAILABLE_MAX);
            told.extend(some.iter().map(|server| server.key()));
        }
        told.sort_unstable();
        told.dedup();
        assert!(told.len() > AVAILABLE_MAX, "{}", told.len());
    }

    #[test]
    fn arrays_are_json() {
        assert_eq!(names(&[]), "[]");
        assert_eq!(entries(&[]), None);
        let keys = [server(2, 1).key(), server(1, 1).key()];
        let read: Vec<String> = serde_json::from_slice(&names(&keys)).unwrap();
        assert_eq!(read.len(), 2);
        let text = entries(&[server(1, 1), server(2, 2)]).unwrap();
        let read: Vec<Entry> = serde_json::from_slice(&text).unwrap();
        assert_eq!(read.len(), 2);
    }
}
