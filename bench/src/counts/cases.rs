//! What is counted: the list of cases, and the function that marks what counts.
//!
//! Here: names, operations, repetitions. Not here: what they do (`cases/payload.rs` and the other files
//! below), the relay that they do it to (`relay`).
//!
//! A case sets a relay up, does its work a few times so that pools and tables have their size, and then goes
//! on inside of the function [`COUNTED`], where callgrind counts.

mod nonces;
mod opens;
mod payload;
mod queues;

use std::hint::black_box;

use super::callgrind::Performed;

/// Name of the one function inside of which callgrind counts.
pub const COUNTED: &str = "counted_work";

/// Whether callgrind counts a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meter {
    /// It does not: preparation, and what another case counts.
    Off,
    /// It does.
    On,
}

impl Meter {
    /// Does the work. Never inside of other work that counts: entering the function a second time would stop
    /// the count.
    pub(super) fn run<T>(self, work: impl FnOnce() -> T) -> T {
        match self {
            Self::Off => work(),
            Self::On => counted_work(work),
        }
    }

    /// Returns `self` if `condition` holds, else `Off`.
    pub(super) const fn only_if(self, condition: bool) -> Self {
        if condition { self } else { Self::Off }
    }
}

/// Callgrind starts to count where this begins and stops where it returns ([`COUNTED`]).
#[inline(never)]
fn counted_work<T>(work: impl FnOnce() -> T) -> T {
    // Something is left to do behind the work, so that it cannot become a jump out of here.
    let mark = black_box(0_u8);
    let result = work();
    black_box(mark);
    result
}

/// Repeats one piece of work.
pub(super) trait Work {
    /// Does a round of it, counted as far as `meter` says; returns the operations of the round.
    ///
    /// # Errors
    /// When the relay did not do what the round is about: then the count would mean nothing.
    fn round(&mut self, meter: Meter) -> Result<u64, String>;
}

type Prepared = Result<Box<dyn Work>, String>;

/// Something that is counted.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// One operation of it.
    pub operation: &'static str,
    rounds: u32,
    prepare: fn() -> Prepared,
}

impl Case {
    /// Returns the case with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        CASES.iter().find(|case| case.name == name).copied()
    }

    /// Performs the case, for callgrind to count.
    ///
    /// # Errors
    /// When the relay did not do what the case is about.
    pub fn perform(self) -> Result<Performed, String> {
        let mut work = (self.prepare)()?;
        for _ in 0..self.rounds.min(WARM_UP_ROUNDS_MAX) {
            work.round(Meter::Off)?;
        }
        let mut operations = 0;
        for _ in 0..self.rounds {
            operations += work.round(Meter::On)?;
        }
        Ok(Performed {
            operations,
            processor: processor(),
        })
    }
}

/// Returns the processor as this process sees it, as far as code chooses its way by it.
fn processor() -> String {
    let parts = [
        (std::env::consts::ARCH, true),
        #[cfg(target_arch = "x86_64")]
        ("avx", std::is_x86_feature_detected!("avx")),
        #[cfg(target_arch = "x86_64")]
        ("avx2", std::is_x86_feature_detected!("avx2")),
        #[cfg(target_arch = "x86_64")]
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
    ];
    let there: Vec<&str> = parts
        .into_iter()
        .filter_map(|(name, is_there)| is_there.then_some(name))
        .collect();
    there.join("+")
}

/// By then every table and pool has the size that it keeps.
const WARM_UP_ROUNDS_MAX: u32 = 8;

/// All cases. Rounds are as many as take a second or so under callgrind.
pub const CASES: &[Case] = &[
    // Received bytes whose frames all go to one session: they leave as one range, by reference.
    Case {
        name: "frame-64",
        operation: "frame of 64 B parsed, rewritten, queued; 862 a receive",
        rounds: 32,
        prepare: || payload::to_one_session(64),
    },
    Case {
        name: "frame-1k",
        operation: "frame of 1 KiB, the same; 63 a receive",
        rounds: 256,
        prepare: || payload::to_one_session(1_024),
    },
    Case {
        name: "frame-16k",
        operation: "frame of 16 KiB, the same; 4 a receive",
        rounds: 512,
        prepare: || payload::to_one_session(16_384),
    },
    Case {
        name: "frame-in-parts",
        operation: "frame of 16 KiB that comes in 4 receives, each part with a header of its own",
        rounds: 512,
        prepare: payload::in_parts,
    },
    // Neighbouring frames go to different sessions, so each is a range of its own.
    Case {
        name: "copy-64",
        operation: "frame of 64 B parsed, rewritten, copied to one of 16 sessions in turn",
        rounds: 32,
        prepare: || payload::to_many_sessions(64),
    },
    Case {
        name: "copy-512",
        operation: "frame of 512 B, the same",
        rounds: 128,
        prepare: || payload::to_many_sessions(512),
    },
    Case {
        name: "reference-1k",
        operation: "frame of 1 KiB parsed, rewritten, queued by reference for one of 16 sessions in turn",
        rounds: 256,
        prepare: || payload::to_many_sessions(1_024),
    },
    Case {
        name: "reference-16k",
        operation: "frame of 16 KiB, the same",
        rounds: 512,
        prepare: || payload::to_many_sessions(16_384),
    },
    Case {
        name: "lone-64",
        operation: "frame of 64 B that comes alone: received, queued, gathered, sent, taken back",
        rounds: 512,
        prepare: payload::alone,
    },
    // What a session does not take at once.
    Case {
        name: "backlog-in",
        operation: "frame of 1 KiB queued by its stream, since the session does not keep up",
        rounds: 128,
        prepare: || queues::backlog(queues::Part::In),
    },
    Case {
        name: "backlog-out",
        operation: "the same frame gathered by round robin, sent, taken back",
        rounds: 128,
        prepare: || queues::backlog(queues::Part::Out),
    },
    Case {
        name: "gather-copied",
        operation: "send of 54 copied frames of 64 B gathered, taken back",
        rounds: 32,
        prepare: || payload::gathered(64, 1),
    },
    Case {
        name: "gather-referenced",
        operation: "send of 32 frames of 1 KiB by reference gathered, taken back",
        rounds: 32,
        prepare: || payload::gathered(1_024, 8),
    },
    // From shard to shard.
    Case {
        name: "mailbox",
        operation: "message put into a mailbox and taken out of it; 64 at once",
        rounds: 256,
        prepare: queues::mailbox,
    },
    Case {
        name: "across-64",
        operation: "frame of 64 B received on one shard, queued on another; 64 at once",
        rounds: 128,
        prepare: || payload::across(64),
    },
    Case {
        name: "across-1k",
        operation: "frame of 1 KiB, the same",
        rounds: 128,
        prepare: || payload::across(1_024),
    },
    // Sealed objects.
    Case {
        name: "nonce-in-order",
        operation: "nonce checked and marked, each one above the last",
        rounds: 64,
        prepare: || Ok(nonces::in_order()),
    },
    Case {
        name: "nonce-out-of-order",
        operation: "nonce checked and marked, 32 late ones behind each 32 that jump ahead",
        rounds: 64,
        prepare: || Ok(nonces::out_of_order()),
    },
    Case {
        name: "open",
        operation: "stream opened and accepted: all that the relay does for it; 8 at once",
        rounds: 6,
        prepare: || opens::accepted(1),
    },
    Case {
        name: "open-across",
        operation: "the same between two shards",
        rounds: 6,
        prepare: || opens::accepted(2),
    },
    Case {
        name: "open-refused",
        operation: "open to nobody, refused; 8 at once",
        rounds: 6,
        prepare: opens::refused,
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_case_does_what_it_is_about() {
        for case in CASES {
            let once = Case { rounds: 1, ..*case };
            let performed = once
                .perform()
                .unwrap_or_else(|why| panic!("{}: {why}", case.name));
            assert!(performed.operations > 0, "{}", case.name);
            assert!(performed.processor.starts_with(std::env::consts::ARCH));
        }
    }

    #[test]
    fn cases_have_names_of_their_own() {
        let names: BTreeSet<&str> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len());
        for name in names {
            assert_eq!(Case::named(name).map(|case| case.name), Some(name));
        }
        assert!(Case::named("none").is_none());
    }
}
