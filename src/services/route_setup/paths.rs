//! Questions about paths: the wire's words in the finder's, and back.
//!
//! Here: what a relay answers to `Find`, `Announce` and `Withdraw`, as the keeper of the transports or as
//! one that names the keeper. Not here: the search (`services::finder`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringway_client::{PublicKey, Reason};
use ringway_proto::route::{Announce, Find, Refusal, SetupReply};
use ringway_proto::time::Now;
use tokio::time::Instant;

use crate::services::finder::Finder;
use crate::services::finder::numbers::Numbers;
use crate::services::finder::search::Want;

/// Who finds paths for the peers of this relay.
#[derive(Clone, Debug)]
pub(crate) enum Paths {
    /// Another relay.
    Elsewhere(PublicKey),
    /// This one.
    Here {
        /// What it knows, for all shards.
        finder: Arc<Mutex<Finder>>,
        /// When its clock starts.
        epoch: Instant,
    },
}

impl Paths {
    /// Returns the paths of this relay, or of the one that is named.
    pub(crate) fn new(elsewhere: Option<PublicKey>) -> Self {
        elsewhere.map_or_else(
            || Self::Here {
                finder: Arc::default(),
                epoch: Instant::now(),
            },
            Self::Elsewhere,
        )
    }

    pub(super) fn find(&self, source: &PublicKey, find: &Find) -> SetupReply {
        let (finder, now) = match self.here() {
            Ok(here) => here,
            Err(reply) => return reply,
        };
        let want = Want {
            paths_max: find.paths_max,
            hops_max: u8::try_from(find.hops_max()).unwrap_or(u8::MAX),
            by: find.by,
        };
        let found = finder.find(source, &find.destination, (want, &find.avoid), now);
        SetupReply::Paths { paths: found.paths }
    }

    pub(super) fn announce(&self, source: PublicKey, announce: &Announce) -> SetupReply {
        let (mut finder, now) = match self.here() {
            Ok(here) => here,
            Err(reply) => return reply,
        };
        let ttl = Duration::from_millis(announce.ttl_ms.into());
        match finder.announce(source, &announce.transports, ttl, now) {
            Ok(until) => {
                let left = until.saturating_since(now).as_millis();
                SetupReply::Announced {
                    expires_ms: u32::try_from(left).unwrap_or(u32::MAX),
                }
            }
            Err(error) => {
                let refusal = Refusal::new(Reason::RelayCapacity, &error.to_string());
                SetupReply::Refused(refusal.with_field("transports"))
            }
        }
    }

    pub(super) fn withdraw(&self, source: &PublicKey) -> SetupReply {
        match self.here() {
            Ok((mut finder, _)) => {
                finder.withdraw(source);
                SetupReply::Done
            }
            Err(reply) => reply,
        }
    }

    /// Returns what the finder of this relay counts.
    pub(crate) fn numbers(&self) -> Option<Arc<Numbers>> {
        self.here().ok().map(|(finder, _)| finder.numbers())
    }

    /// Gives back the memory of what has expired.
    pub(crate) fn expire(&self) {
        if let Ok((mut finder, now)) = self.here() {
            finder.expire(now);
        }
    }

    fn here(&self) -> Result<(MutexGuard<'_, Finder>, Now), SetupReply> {
        match self {
            Self::Elsewhere(relay) => Err(SetupReply::Elsewhere { relay: *relay }),
            Self::Here { finder, epoch } => {
                let finder = finder.lock().unwrap_or_else(PoisonError::into_inner);
                Ok((finder, Now::ZERO + epoch.elapsed()))
            }
        }
    }
}
