//! The servers that discoveries have, for the mesh.
//!
//! Here: reading the lists and joining them. Not here: links.
//!
//! A list that cannot be read is kept as it was for [`STALE_TIME`]: servers come and go rarely, and whoever
//! dials one that is gone finds out.
//! Bound: [`SERVERS_MAX`] servers of each discovery.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use ringway_proto::dmsg::entry::SERVER_REFRESH;
use ringway_proto::key::PublicKey;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{Shared, chance};
use crate::dmsg::discovery::ServerPlace;
use crate::dmsg::discovery::fetch::SERVERS_MAX;

/// The list of one discovery.
#[derive(Debug, Clone)]
struct List {
    places: Vec<ServerPlace>,
    read_at: Instant,
}

/// Reads the lists now and then, for ever.
pub(super) async fn keep(shared: Arc<Shared>, servers: watch::Sender<Arc<[ServerPlace]>>) {
    let mut lists: Vec<Option<List>> = vec![None; shared.discoveries.len()];
    let mut is_first = true;
    loop {
        let reads = shared.discoveries.iter().map(async |discovery| {
            let outcome = discovery.fetcher.servers().await;
            shared.note(discovery, &outcome);
            outcome
        });
        let mut have_all = true;
        for (list, outcome) in lists.iter_mut().zip(join_all(reads).await) {
            match outcome {
                Ok(places) => {
                    shared.numbers.lists.count();
                    let read_at = Instant::now();
                    *list = Some(List { places, read_at });
                }
                Err(error) => {
                    have_all = false;
                    tracing::debug!(%error, "the list of servers stays as it was");
                }
            }
        }
        let joined = join(&lists, shared.own, Instant::now());
        shared.numbers.servers.set(joined.len());
        servers.send_if_modified(|before| {
            let has_changed = **before != *joined;
            if has_changed {
                *before = joined.into();
            }
            has_changed
        });
        let pause = pause(have_all, is_first);
        is_first = false;
        // Relays that started together drift apart.
        let less = pause / 4 / 1_000 * (chance() % 1_000);
        sleep(pause - less).await;
    }
}

/// Returns how long the lists are good for. Servers that start together are in them only after each has read
/// them once.
const fn pause(have_all: bool, is_first: bool) -> Duration {
    if have_all && !is_first {
        SERVER_REFRESH
    } else {
        RETRY_TIME
    }
}

/// Returns the servers of all lists, each once and without this relay, in the order of their keys.
fn join(lists: &[Option<List>], own: PublicKey, now: Instant) -> Vec<ServerPlace> {
    let mut joined = BTreeMap::new();
    let fresh = lists
        .iter()
        .flatten()
        .filter(|list| now.saturating_duration_since(list.read_at) < STALE_TIME);
    for place in fresh.flat_map(|list| list.places.iter().take(SERVERS_MAX)) {
        if place.key != own {
            joined.entry(place.key).or_insert_with(|| place.clone());
        }
    }
    joined.into_values().collect()
}

/// Between two attempts while a discovery does not answer, and from the first list to the second.
const RETRY_TIME: Duration = Duration::from_secs(10);

/// How long a list is believed that cannot be read anew.
const STALE_TIME: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: u8, address: &str) -> ServerPlace {
        ServerPlace {
            key: PublicKey::dmsg([number; 33]),
            address: address.to_owned(),
            address_v6: String::new(),
            available_sessions: 1,
        }
    }

    #[test]
    fn lists_are_read_again_soon_after_the_start_and_while_one_is_missing() {
        assert_eq!(pause(true, true), RETRY_TIME);
        assert_eq!(pause(true, false), SERVER_REFRESH);
        assert_eq!(pause(false, false), RETRY_TIME);
        assert!(RETRY_TIME < SERVER_REFRESH);
    }

    #[test]
    fn lists_are_joined_each_server_once_and_without_this_relay() {
        let now = Instant::now();
        let own = PublicKey::dmsg([2; 33]);
        let list = |places: &[ServerPlace]| {
            Some(List {
                places: places.to_vec(),
                read_at: now,
            })
        };
        let lists = [
            list(&[place(3, "a"), place(2, "own")]),
            None,
            list(&[place(3, "b"), place(1, "c")]),
        ];
        assert_eq!(join(&lists, own, now), [place(1, "c"), place(3, "a")]);
        let later = now + STALE_TIME;
        assert_eq!(join(&lists, own, later), []);
    }
}
