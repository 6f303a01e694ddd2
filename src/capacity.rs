//! How many sessions this host lets a relay hold, and what stops it there.
//!
//! Here: the sum over open files, memory and settings, and the line that says it. Not here: reading the
//! host (`ringway-tuning`), what things cost (`ringway_shards::memory`).
//!
//! Sockets live in the rings' tables of direct descriptors alone. A table may have as many slots as the
//! limit on open files says, for each ring anew, so sessions of a process may exceed that limit.
//! Source: docs/internals/uring.md F.

use std::fmt;

use ringway_proto::limits::{ANNOUNCED_MAX, SOCKETS_RESERVED};
use ringway_shards::memory::{self, Bounds};
use ringway_tuning::Host;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, SESSIONS_MAX_MAX};
use crate::failure::Failure;

/// What the sum needs to know of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Slots that a ring's table may have: the open-files limit.
    pub(crate) open_files: u64,
    /// Memory that the host can give without swapping, bytes; `None` where it does not say.
    pub(crate) memory_available: Option<u64>,
}

impl Room {
    /// Reads this host, after raising the open-files limit as far as this process may.
    pub(crate) fn of_host() -> Self {
        raise_open_files();
        Self {
            open_files: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            memory_available: Host::read().memory_available,
        }
    }
}

/// How many sessions a relay holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// Shards.
    pub(crate) shards: u16,
    /// Sessions of each.
    pub(crate) sessions_max: u32,
    /// Sockets of each: its sessions, and some more to tell peers that it is full, as far as the
    /// open-files limit allows.
    pub(crate) sockets_max: u32,
    /// Why not more.
    pub(crate) stop: Stop,
    /// What the process may hold in memory when every queue of every shard is full, bytes.
    pub(crate) memory_bytes_max: u64,
}

/// What keeps a shard from more sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// [`SESSIONS_MAX_MAX`].
    Ceiling,
    /// The configuration, within what the host allows.
    Configuration,
    /// The configuration, beyond what this many bytes of memory hold.
    ConfigurationBeyondMemory(u64),
    /// Available memory, bytes.
    Memory(u64),
    /// The open-files limit.
    OpenFiles(u64),
}

impl Capacity {
    /// Returns what `room` allows the configuration.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`] when `limits.sessions_max` asks for more than the open-files limit allows, or
    /// when the limit allows nothing at all.
    pub(crate) fn of(config: &Config, shards: u16, room: Room) -> Result<Self, Failure> {
        let spare = spare_slots(config);
        let (sessions_max, stop) = match config.sessions_max {
            None => automatic(shards, room, spare)?,
            Some(wanted) => configured(wanted, shards, room, spare)?,
        };
        let bounds = bounds(config, shards, sessions_max);
        Ok(Self {
            shards,
            sessions_max,
            sockets_max: sessions_max
                .saturating_add(SOCKETS_RESERVED)
                .min(within_files(room.open_files, spare)?),
            stop,
            memory_bytes_max: memory::sum(&memory::process(&bounds)),
        })
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            shards,
            sessions_max,
            stop,
            memory_bytes_max,
            ..
        } = self;
        let total = u64::from(*shards) * u64::from(*sessions_max);
        let noun = if *shards == 1 { "shard" } else { "shards" };
        write!(
            f,
            "{total} sessions ({shards} {noun} x {sessions_max}; {stop}), up to {} of memory if all \
             queues fill",
            binary_text(*memory_bytes_max)
        )
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ceiling => write!(f, "stopped by the ceiling of a shard"),
            Self::Configuration => write!(f, "stopped by limits.sessions_max"),
            Self::ConfigurationBeyondMemory(bytes) => write!(
                f,
                "stopped by limits.sessions_max, which is more than {} of available memory hold",
                binary_text(*bytes)
            ),
            Self::Memory(bytes) => {
                write!(f, "stopped by memory, {} available", binary_text(*bytes))
            }
            Self::OpenFiles(limit) => {
                write!(f, "stopped by the open-files limit, {limit} a ring")
            }
        }
    }
}

/// Returns what the sums of `ringway_shards::memory` need to know.
fn bounds(config: &Config, shards: u16, sessions_max: u32) -> Bounds {
    Bounds {
        shards: shards.into(),
        sessions_max: sessions_max.into(),
        handshakes_max: config.handshakes_max.into(),
        dials_max: config.dials_max.into(),
        streams_max: config.streams_max.into(),
        shard_streams_max: config.shard_streams_max.into(),
        session_queue_bytes_max: config.session_queue_bytes_max.into(),
        shard_queue_bytes_max: config.shard_queue_bytes_max,
        receive_bytes_max: config.receive_bytes_max,
        announced_max: if config.has_links() {
            ANNOUNCED_MAX.into()
        } else {
            0
        },
    }
}

/// The smallest of what open files, memory and the ceiling allow.
///
/// Of the open files some are left over for telling peers that the relay is full, an eighth at most.
fn automatic(shards: u16, room: Room, spare: u32) -> Result<(u32, Stop), Failure> {
    let files = within_files(room.open_files, spare)?;
    let files = files - SOCKETS_RESERVED.min(files / 8);
    let mut least = (SESSIONS_MAX_MAX, Stop::Ceiling);
    if files < least.0 {
        least = (files, Stop::OpenFiles(room.open_files));
    }
    if let Some(bytes) = room.memory_available {
        // A host that is short of memory still gets a relay: one session a shard and a line that says why.
        let held = within_memory(bytes, shards).max(1);
        if held < least.0 {
            least = (held, Stop::Memory(bytes));
        }
    }
    Ok(least)
}

fn configured(wanted: u32, shards: u16, room: Room, spare: u32) -> Result<(u32, Stop), Failure> {
    let Room {
        open_files,
        memory_available,
    } = room;
    let files = within_files(open_files, spare)?;
    if wanted > files {
        let needed = wanted.saturating_add(spare);
        return Err(Failure::Host {
            what: format!(
                "limits.sessions_max is {wanted} sessions a shard, and the open-files limit of {open_files} \
                 allows {files}: raise the limit to {needed} (LimitNOFILE={needed} in the unit, \
                 deploy/limits.d elsewhere), or set limits.sessions_max to {files} or \"auto\""
            ),
            source: None,
        });
    }
    let is_beyond = |bytes: &u64| wanted > within_memory(*bytes, shards);
    let stop = memory_available
        .filter(is_beyond)
        .map_or(Stop::Configuration, Stop::ConfigurationBeyondMemory);
    Ok((wanted, stop))
}

/// Returns the sessions of a shard whose table has `open_files` slots at most.
fn within_files(open_files: u64, spare: u32) -> Result<u32, Failure> {
    match open_files.checked_sub(spare.into()) {
        Some(sessions) if sessions > 0 => Ok(u32::try_from(sessions).unwrap_or(u32::MAX)),
        _ => Err(Failure::Host {
            what: format!(
                "the open-files limit of {open_files} allows no session: raise it (LimitNOFILE= in the unit, \
                 deploy/limits.d elsewhere)"
            ),
            source: None,
        }),
    }
}

/// Returns the sessions of a shard that `bytes` of the host hold, what they cost the kernel included.
fn within_memory(bytes: u64, shards: u16) -> u32 {
    u32::try_from(memory::sessions_in(bytes, shards.into())).unwrap_or(u32::MAX)
}

fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    ) {
        tracing::warn!(%error, "cannot raise the open-files limit to its maximum");
    }
}

/// Returns bytes as memory is counted: `2.6 GiB`, cut at one digit.
fn binary_text(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..0x4000_0000 => (1 << 20, "MiB"),
        _ => (1 << 30, "GiB"),
    };
    let tenths = u128::from(bytes) * 10 / unit;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// Returns the slots of a ring's table that are not for peers. One stays free: at a full table the kernel
/// drops a client it has accepted (docs/internals/uring.md F). The others are the services', one for each
/// dialect.
pub(crate) fn spare_slots(config: &Config) -> u32 {
    2 + u32::from(config.dmsg.listen.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn capacity(sessions_max: Option<u32>, shards: u16, room: Room) -> Result<Capacity, String> {
        let config = Config {
            sessions_max,
            ..Config::default()
        };
        Capacity::of(&config, shards, room).map_err(|failure| failure.to_string())
    }

    fn room(open_files: u64, memory_available: Option<u64>) -> Room {
        Room {
            open_files,
            memory_available,
        }
    }

    #[test]
    fn automatic_takes_the_smallest_of_files_memory_and_ceiling() {
        let found = |files, memory| {
            let found = capacity(None, 2, room(files, memory)).unwrap();
            (found.sessions_max, found.stop)
        };
        assert_eq!(
            found(20_000, Some(64 * GIB)),
            (19_486, Stop::OpenFiles(20_000))
        );
        assert_eq!(found(256, None), (223, Stop::OpenFiles(256)));
        assert_eq!(found(u64::MAX, None), (1_000_000, Stop::Ceiling));
        assert_eq!(found(1_048_576, Some(64 * GIB)), (1_000_000, Stop::Ceiling));
        let (sessions, stop) = found(1_048_576, Some(2 * GIB));
        assert_eq!(stop, Stop::Memory(2 * GIB));
        // 1 GiB a shard at some 5 KB each.
        assert!((170_000..230_000).contains(&sessions), "{sessions}");
        assert_eq!(found(20_000, Some(0)), (1, Stop::Memory(0)));
    }

    #[test]
    fn more_than_the_open_files_limit_is_refused_with_have_want_and_fix() {
        let refused = capacity(Some(20_000), 2, room(20_000, None)).unwrap_err();
        for part in [
            "limits.sessions_max is 20000",
            "open-files limit of 20000 allows 19998",
            "LimitNOFILE=20002",
            "to 19998 or \"auto\"",
        ] {
            assert!(refused.contains(part), "{part} in {refused}");
        }
        let taken = capacity(Some(19_998), 2, room(20_000, None)).unwrap();
        assert_eq!(taken.stop, Stop::Configuration);
        // The services have a session of each dialect.
        let mut config = Config {
            sessions_max: Some(19_998),
            ..Config::default()
        };
        config.dmsg.listen = Some(([127, 0, 0, 1], 0).into());
        let refused = Capacity::of(&config, 2, room(20_000, None)).unwrap_err();
        assert!(refused.to_string().contains("to 19997 or"), "{refused}");
        for files in [0, 1, 2] {
            let refused = capacity(None, 1, room(files, None)).unwrap_err();
            assert!(refused.contains("allows no session"), "{refused}");
        }
    }

    #[test]
    fn sockets_beyond_the_sessions_depend_on_the_open_files_limit() {
        let sockets = |sessions, files| {
            let found = capacity(sessions, 1, room(files, None)).unwrap();
            found.sockets_max
        };
        assert_eq!(sockets(Some(1_000), 20_000), 1_512);
        assert_eq!(sockets(Some(19_900), 20_000), 19_998);
        assert_eq!(sockets(None, 20_000), 19_998);
        assert_eq!(sockets(Some(1_000_000), u64::MAX), 1_000_512);
    }

    #[test]
    fn number_beyond_memory_is_taken_and_said() {
        let taken = capacity(Some(500_000), 1, room(1_000_000, Some(GIB))).unwrap();
        assert_eq!(taken.sessions_max, 500_000);
        assert_eq!(taken.stop, Stop::ConfigurationBeyondMemory(GIB));
        assert!(taken.to_string().contains("1.0 GiB of available memory"));
    }

    #[test]
    fn line_says_number_stop_and_memory() {
        let found = capacity(None, 2, room(20_000, Some(64 * GIB))).unwrap();
        let line = found.to_string();
        assert!(
            line.starts_with(
                "38972 sessions (2 shards x 19486; stopped by the open-files limit, 20000 a ring), up to "
            ),
            "{line}"
        );
        assert!(
            line.ends_with(" GiB of memory if all queues fill"),
            "{line}"
        );
        let one = capacity(Some(7), 1, room(20_000, None)).unwrap();
        assert!(
            one.to_string()
                .starts_with("7 sessions (1 shard x 7; stopped by limits.sessions_max), up to "),
            "{one}"
        );
    }

    #[test]
    fn memory_is_cut_at_one_digit() {
        assert_eq!(binary_text(2_800_000_000), "2.6 GiB");
        assert_eq!(binary_text(300 << 20), "300.0 MiB");
        assert_eq!(binary_text(0), "0.0 MiB");
    }
}
