//! What is remembered of clients, and for how long.
//!
//! Here: a pure state machine. Not here: discoveries.
//!
//! Bound: [`ENTRIES_MAX`] clients, those that came first go first; each with
//! [`ringway_proto::dmsg::entry::DELEGATED_MAX`] servers at most, and [`KEYS_MAX`] servers of all together.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ringway_proto::key::PublicKey;
use tokio::time::Instant;

use super::Found;

/// Answers that were given.
#[derive(Debug, Default)]
pub(super) struct Memory {
    answers: HashMap<PublicKey, Answer>,
    /// Keys in the order in which they came, each with the number it came with.
    order: VecDeque<(PublicKey, u64)>,
    arrivals: u64,
    /// Servers in all answers.
    keys: usize,
}

#[derive(Debug)]
struct Answer {
    /// None if it is nowhere.
    servers: Option<Arc<[PublicKey]>>,
    taken_at: Instant,
    arrival: u64,
}

impl Memory {
    /// Returns what is remembered of a client, if it is fresh.
    pub(super) fn answer(&self, key: &PublicKey, now: Instant) -> Option<Found> {
        let answer = self.answers.get(key)?;
        let age = now.saturating_duration_since(answer.taken_at);
        match &answer.servers {
            Some(servers) if age < FOUND_TIME => Some(Found::At(Arc::clone(servers))),
            None if age < NOWHERE_TIME => Some(Found::Nowhere),
            Some(_) | None => None,
        }
    }

    /// Returns what was true of a client a while ago: no discovery answers.
    pub(super) fn stale_answer(&self, key: &PublicKey, now: Instant) -> Option<Found> {
        let answer = self.answers.get(key)?;
        let age = now.saturating_duration_since(answer.taken_at);
        let servers = answer.servers.as_ref().filter(|_| age < STALE_TIME)?;
        Some(Found::At(Arc::clone(servers)))
    }

    /// Takes in an answer; that nobody knows is none.
    pub(super) fn take(&mut self, key: PublicKey, found: &Found, now: Instant) {
        let servers = match found {
            Found::At(servers) => Some(Arc::clone(servers)),
            Found::Nowhere => None,
            Found::Unavailable => return,
        };
        self.forget(&key);
        self.arrivals += 1;
        self.keys += servers.as_ref().map_or(0, |servers| servers.len());
        let answer = Answer {
            servers,
            taken_at: now,
            arrival: self.arrivals,
        };
        self.answers.insert(key, answer);
        self.order.push_back((key, self.arrivals));
        while self.answers.len() > ENTRIES_MAX
            || self.keys > KEYS_MAX
            || self.order.len() > 2 * ENTRIES_MAX
        {
            let Some((oldest, arrival)) = self.order.pop_front() else {
                return;
            };
            let found = self.answers.get(&oldest);
            if found.is_some_and(|found| found.arrival == arrival) {
                self.forget(&oldest);
            }
        }
    }

    /// A client is not where it was found.
    pub(super) fn forget(&mut self, key: &PublicKey) {
        if let Some(answer) = self.answers.remove(key) {
            self.keys -= answer.servers.map_or(0, |servers| servers.len());
        }
    }

    /// Returns how many are remembered.
    pub(super) fn len(&self) -> usize {
        self.answers.len()
    }
}

/// How long a place is believed without asking again. Clients write their entries again when their sessions
/// change; who goes where one was finds out, and says so.
const FOUND_TIME: Duration = Duration::from_secs(30);

/// How long a client is nowhere: it may come any moment.
const NOWHERE_TIME: Duration = Duration::from_secs(5);

/// How long a place is good for while no discovery answers.
const STALE_TIME: Duration = Duration::from_secs(600);

/// Clients that are remembered.
const ENTRIES_MAX: usize = 65_536;

/// Servers in all answers: four for each of them, 34 bytes each.
const KEYS_MAX: usize = 4 * ENTRIES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> PublicKey {
        let mut bytes = [2; 33];
        bytes[1..5].copy_from_slice(&number.to_be_bytes());
        PublicKey::dmsg(bytes)
    }

    fn at(numbers: &[u32]) -> Found {
        Found::At(numbers.iter().map(|number| key(*number)).collect())
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn answers_lapse_and_places_outlive_a_discovery_that_is_away() {
        let mut memory = Memory::default();
        let now = Instant::now();
        memory.take(key(1), &at(&[7]), now);
        memory.take(key(2), &Found::Nowhere, now);
        memory.take(key(3), &Found::Unavailable, now);
        for (number, seconds, fresh, stale) in [
            (1, 29, Some(at(&[7])), Some(at(&[7]))),
            (1, 30, None, Some(at(&[7]))),
            (1, 600, None, None),
            (2, 4, Some(Found::Nowhere), None),
            (2, 5, None, None),
            (3, 0, None, None),
        ] {
            let later = now + s(seconds);
            assert_eq!(memory.answer(&key(number), later), fresh);
            assert_eq!(memory.stale_answer(&key(number), later), stale);
        }
        memory.forget(&key(1));
        assert_eq!(memory.answer(&key(1), now), None);
        assert_eq!((memory.len(), memory.keys), (1, 0));
    }

    #[test]
    fn oldest_answers_go_first_and_sums_are_kept() {
        let mut memory = Memory::default();
        let now = Instant::now();
        let max = u32::try_from(ENTRIES_MAX).unwrap();
        for number in 0..max {
            memory.take(key(number), &at(&[7]), now);
        }
        // It came again, so it is not the oldest any more.
        memory.take(key(0), &Found::Nowhere, now);
        memory.take(key(max), &at(&[1, 2, 3]), now);
        assert_eq!(memory.len(), ENTRIES_MAX);
        assert_eq!(memory.answer(&key(0), now), Some(Found::Nowhere));
        assert_eq!(memory.answer(&key(1), now), None);
        assert_eq!(memory.keys, ENTRIES_MAX - 2 + 3);
        for number in 0..3 * max {
            memory.take(key(number % 2), &at(&[7]), now);
        }
        assert!(memory.order.len() <= 2 * ENTRIES_MAX);
    }

    #[test]
    fn clients_with_many_servers_take_the_room_of_several() {
        let mut memory = Memory::default();
        let now = Instant::now();
        let many: Vec<u32> = (0..512).collect();
        for number in 0..1_000 {
            memory.take(key(number), &at(&many), now);
            assert!(memory.keys <= KEYS_MAX);
        }
        assert_eq!(memory.len(), 512);
    }
}
