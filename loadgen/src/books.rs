//! The relay's books: everything it owns at one moment, and what should not be there.
//!
//! Here: one look at the audit, the descriptors, the memory and the kernel's sockets, and the comparison
//! of two looks. Not here: when to look (`run`), how each part is read (`health`, `sockets`, `process`).
//!
//! Law: at rest a relay owns what it owned at rest before. Sessions that stand over the whole run are in
//! both looks, so they cancel out; memory is reported and not compared, since allocators keep some.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::health::Health;
use crate::plan::Plan;
use crate::process::ProcessSample;
use crate::sockets::Ledger;

/// One look.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    /// What the relay says, with `--admin`.
    pub health: Option<Health>,
    /// Open descriptors of its process, with `--relay-pid`.
    pub files: Option<u64>,
    /// Its resident memory, with `--relay-pid`.
    pub rss_bytes: Option<u64>,
    /// The kernel's sockets, where both ends are on this host.
    pub sockets: Ledger,
}

impl Books {
    /// Looks once.
    ///
    /// # Errors
    /// When a part cannot be read; the text says which and what to do.
    pub fn take(plan: &Plan) -> Result<Self, String> {
        // Before the admin listener is asked, whose connection is a descriptor too.
        let pid = plan.relay_pid;
        let files = pid.map(files_count).transpose().map_err(|error| {
            format!("cannot count the descriptors of the relay (--relay-pid): {error}")
        })?;
        let sample = pid.map(ProcessSample::take).transpose();
        let sample = sample.map_err(|error| format!("cannot look at the relay: {error}"))?;
        let health = plan
            .admin
            .map(|admin| fetch(admin, ASKED_TIME))
            .transpose()?;
        let sockets = Ledger::take(plan.target.socket())
            .map_err(|error| format!("cannot read the list of sockets: {error}"))?;
        Ok(Self {
            health,
            files,
            rss_bytes: sample.map(|sample| sample.rss_bytes),
            sockets,
        })
    }

    /// Looks until the relay is at rest, at most `REST_TIME`: the look that others are compared with.
    ///
    /// # Errors
    /// As [`Books::take`].
    pub fn at_rest(plan: &Plan) -> Result<Self, String> {
        let begun = Instant::now();
        loop {
            let books = Self::take(plan)?;
            if books.is_at_rest() || begun.elapsed() >= REST_TIME {
                return Ok(books);
            }
            thread::sleep(LOOK_TIME);
        }
    }

    /// Looks until the books equal those `before`, at most [`SETTLE_TIME`]; returns the last look, the
    /// time it took and what is left over by then.
    ///
    /// # Errors
    /// As [`Books::take`].
    pub fn settle(plan: &Plan, before: &Self) -> Result<Settled, String> {
        let begun = Instant::now();
        loop {
            let books = Self::take(plan)?;
            let leftovers = books.leftovers(before);
            let took = begun.elapsed();
            if leftovers.is_empty() || took >= SETTLE_TIME {
                return Ok(Settled {
                    books,
                    took,
                    leftovers,
                });
            }
            thread::sleep(LOOK_TIME);
        }
    }

    /// Returns what is here and should not be, against the look `before`, in words.
    #[must_use]
    pub fn leftovers(&self, before: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if let (Some(now), Some(then)) = (&self.health, &before.health) {
            for (name, count) in &now.audit {
                let expected = then.audit.get(name).copied().unwrap_or(0);
                if *count != expected {
                    found.push(format!("audit {name}: {count} instead of {expected}"));
                }
            }
            let laws = now.broken_laws.iter();
            found.extend(laws.map(|law| format!("a law of the counters does not hold: {law}")));
        }
        // Fewer than before is no leak.
        if let (Some(now), Some(then)) = (self.files, before.files)
            && now > then
        {
            found.push(format!("descriptors: {now} instead of {then}"));
        }
        for (state, count) in &self.sockets.relay {
            // A standing session is an established socket; every other state is on its way out.
            let expected = match *state {
                ESTABLISHED => before.sockets.of_relay(ESTABLISHED),
                _ => 0,
            };
            if *count > expected {
                found.push(format!(
                    "sockets of the relay in {state}: {count} instead of {expected}"
                ));
            }
        }
        found
    }

    fn is_at_rest(&self) -> bool {
        let Some(health) = &self.health else {
            return true;
        };
        let mut moving = MOVING.iter().filter_map(|name| health.audit.get(*name));
        moving.all(|count| *count == 0)
    }
}

/// How a relay came to rest, or did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The last look.
    pub books: Books,
    /// Until it equalled the look before, or was given up.
    pub took: Duration,
    /// What was left over; empty when the books are balanced.
    pub leftovers: Vec<String>,
}

/// Asks the relay, again for `patience` while it does not answer.
fn fetch(admin: SocketAddr, patience: Duration) -> Result<Health, String> {
    let begun = Instant::now();
    loop {
        match Health::fetch(admin) {
            Ok(health) => return Ok(health),
            // The connection of an admin client can be lost where thousands come and go.
            Err(_) if begun.elapsed() < patience => thread::sleep(LOOK_TIME),
            Err(error) => {
                return Err(format!(
                    "cannot ask the relay at {admin}: {error}; is --admin the address that \
                     'ringway serve' prints?"
                ));
            }
        }
    }
}

fn files_count(pid: u32) -> io::Result<u64> {
    let count = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    Ok(u64::try_from(count).unwrap_or(u64::MAX))
}

/// Longest wait until the relay's books are back. The slowest of its time-outs that a killed connection
/// can meet is the 5 s of a handshake or an open; twice that is a leak.
pub const SETTLE_TIME: Duration = Duration::from_secs(10);
/// Longest wait for a look without bytes, handshakes or jobs on their way.
const REST_TIME: Duration = Duration::from_secs(2);
/// Time between two looks.
const LOOK_TIME: Duration = Duration::from_millis(100);
/// Longest time in which the relay is asked again.
const ASKED_TIME: Duration = Duration::from_secs(1);
/// Entries of the audit that are zero at rest, however many sessions stand.
const MOVING: [&str; 4] = ["queued_bytes", "batches_in_flight", "handshakes", "jobs"];
const ESTABLISHED: &str = "ESTABLISHED";

#[cfg(test)]
mod tests {
    use super::*;

    fn books() -> Books {
        let audit = [("sockets", 4), ("sessions", 4), ("queued_bytes", 0)];
        Books {
            health: Some(Health {
                audit: audit.map(|(name, count)| (name.to_owned(), count)).into(),
                ..Health::default()
            }),
            files: Some(20),
            rss_bytes: Some(1 << 20),
            sockets: Ledger {
                queues: crate::sockets::Queues::default(),
                relay: [(ESTABLISHED, 4)].into(),
                generator: [(ESTABLISHED, 4)].into(),
            },
        }
    }

    fn audit(books: &mut Books, name: &str, count: u64) {
        let health = books.health.as_mut().unwrap();
        health.audit.insert(name.into(), count);
    }

    #[test]
    fn equal_books_leave_nothing_over() {
        let mut later = books();
        // What is no leak: memory, fewer descriptors, sockets of the generator's side.
        later.rss_bytes = Some(1 << 30);
        later.files = Some(19);
        later.sockets.generator.insert("TIME_WAIT", 900);
        assert_eq!(later.leftovers(&books()), Vec::<String>::new());
    }

    #[test]
    fn a_relay_with_something_on_its_way_is_not_at_rest() {
        let mut books = books();
        assert!(books.is_at_rest());
        for name in MOVING {
            audit(&mut books, name, 1);
            assert!(!books.is_at_rest(), "{name}");
            audit(&mut books, name, 0);
        }
        books.health = None;
        assert!(books.is_at_rest());
    }

    #[test]
    fn everything_left_over_is_named() {
        let mut later = books();
        audit(&mut later, "sessions", 5);
        later.files = Some(21);
        later.sockets.relay.insert("TIME_WAIT", 1);
        later.sockets.relay.insert("CLOSE_WAIT", 2);
        later.sockets.relay.insert(ESTABLISHED, 5);
        later
            .health
            .as_mut()
            .unwrap()
            .broken_laws
            .push("a = b".into());
        let found = later.leftovers(&books()).join("\n");
        for part in [
            "audit sessions: 5 instead of 4",
            "a law of the counters does not hold: a = b",
            "descriptors: 21 instead of 20",
            "sockets of the relay in CLOSE_WAIT: 2 instead of 0",
            "sockets of the relay in ESTABLISHED: 5 instead of 4",
            "sockets of the relay in TIME_WAIT: 1 instead of 0",
        ] {
            assert!(found.contains(part), "{part} in {found}");
        }
    }

    #[test]
    fn a_standing_session_that_is_gone_is_found_too() {
        let mut later = books();
        audit(&mut later, "sessions", 3);
        assert_eq!(
            later.leftovers(&books()),
            ["audit sessions: 3 instead of 4"]
        );
    }

    #[test]
    fn bytes_on_their_way_are_no_rest() {
        let mut busy = books();
        assert!(busy.is_at_rest());
        audit(&mut busy, "queued_bytes", 1);
        assert!(!busy.is_at_rest());
    }

    #[test]
    fn own_descriptors_can_be_counted() {
        assert!(files_count(std::process::id()).unwrap() > 0);
        assert!(files_count(u32::MAX).is_err());
    }
}
