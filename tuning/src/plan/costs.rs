//! What things cost a relay: the constants of the plan, each one measured.
//!
//! Here: their names and units, the file they are kept in, the ones that come with the program. Not here: how
//! they are measured (`calibrate`), what is made of them (`load`).
//!
//! The constants that come with the program are those of one machine, which the file names; `ringway-tune
//! plan calibrate` measures those of the host at hand.
//!
//! Invariant: every value is finite and not negative, or the file is refused.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Median and range of what was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// The middle one, which the plan takes of memory.
    pub median: f64,
    /// The smallest one.
    pub least: f64,
    /// The largest one, which the plan takes of processor time.
    pub most: f64,
}

impl Measured {
    /// Returns median and range of `samples`; `None` without any, or when one is no number.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        if sorted.iter().any(|sample| !sample.is_finite()) {
            return None;
        }
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: *sorted.get(sorted.len() / 2)?,
            least: *sorted.first()?,
            most: *sorted.last()?,
        })
    }

    fn is_valid(&self) -> bool {
        [self.median, self.least, self.most]
            .iter()
            .all(|value| value.is_finite() && *value >= 0.0)
            && self.least <= self.median
            && self.median <= self.most
    }
}

/// Memory, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryCosts {
    /// The process without its shards: program, libraries, control threads.
    pub program: Measured,
    /// A shard before the first connection.
    pub shard: Measured,
    /// What a shard takes more once bytes have passed through all of its receive blocks.
    pub traffic: Measured,
    /// What queues and pools take more while traffic keeps a core busy, for each such core.
    pub busy: Measured,
    /// An established session, in the process.
    pub session: Measured,
    /// A stream with both of its legs, in the process.
    pub stream: Measured,
    /// A peer of another relay that a link has announced, in the process.
    pub announced: Measured,
    /// A connection with an armed receive, in the kernel, the relay's end alone.
    pub socket: Measured,
}

/// Processor time of the relay, the kernel's on its behalf included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessorCosts {
    /// A session that comes and goes, microseconds.
    pub handshake_us: Measured,
    /// A stream that is opened and closed, microseconds.
    pub open_us: Measured,
    /// A message that comes alone: one wake-up, one receive, one send, microseconds; its bytes excepted.
    pub wake_us: Measured,
    /// A message among many that come together, microseconds; its bytes excepted.
    pub message_us: Measured,
    /// A byte of payload, nanoseconds.
    pub byte_ns: Measured,
    /// A sign of life of a session that says nothing else, microseconds.
    pub keepalive_us: Measured,
    /// What a forwarded byte costs each of the two relays, as a multiple of a local one.
    pub forward_ratio: Measured,
}

/// All constants, and where they are from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// Name and version of the document: [`Costs::SCHEMA`].
    pub schema: String,
    /// The machine in words: kernel, processor, cores.
    pub machine: String,
    /// Version of the relay.
    pub relay: String,
    /// Memory.
    pub memory: MemoryCosts,
    /// Processor time.
    pub processor: ProcessorCosts,
}

impl Costs {
    /// Name and version of the document.
    pub const SCHEMA: &str = "ringway-costs/1";

    /// Returns the constants that come with the program.
    ///
    /// # Errors
    /// Never, as a test shows; the type is that of every other file.
    pub fn built_in() -> io::Result<Self> {
        Self::parse(include_str!("costs.json"))
    }

    /// Returns the constants that were measured on this host, or those that come with the program.
    ///
    /// # Errors
    /// When there is a file of them that cannot be read; the text names it.
    pub fn of_this_host() -> io::Result<Self> {
        match Self::path().filter(|path| path.exists()) {
            Some(path) => Self::read(&path),
            None => Self::built_in(),
        }
    }

    /// Returns where the constants of this host are kept, unless somebody names another file: in the state
    /// directory of the relay's programs. None when there is no home.
    #[must_use]
    pub fn path() -> Option<PathBuf> {
        let absolute = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let base = absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
        Some(base.join("ringway/costs.json"))
    }

    /// Reads the constants of a file.
    ///
    /// # Errors
    /// When the file cannot be read, or is none of these; the text says what was expected.
    pub fn read(path: &Path) -> io::Result<Self> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let size = fs::metadata(path).map_err(named)?.len();
        if size > FILE_BYTES_MAX {
            return Err(named(invalid(format!(
                "{size} bytes, expected at most {FILE_BYTES_MAX}"
            ))));
        }
        fs::read_to_string(path)
            .and_then(|text| Self::parse(&text))
            .map_err(named)
    }

    fn parse(text: &str) -> io::Result<Self> {
        let costs: Self = serde_json::from_str(text).map_err(|error| {
            invalid(format!(
                "no constants of a plan: {error}; 'ringway-tune plan calibrate' writes them"
            ))
        })?;
        if costs.schema != Self::SCHEMA {
            return Err(invalid(format!(
                "schema '{}', expected '{}'; measure them again with 'ringway-tune plan calibrate'",
                costs.schema,
                Self::SCHEMA
            )));
        }
        match costs.named().iter().find(|(_, cost)| !cost.is_valid()) {
            Some((name, cost)) => Err(invalid(format!(
                "{name} is {} [{}-{}], expected least <= median <= most, none negative",
                cost.median, cost.least, cost.most
            ))),
            None => Ok(costs),
        }
    }

    /// Returns every constant with its name and its unit.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Measured); 15] {
        let (memory, processor) = (&self.memory, &self.processor);
        [
            ("program, bytes", memory.program),
            ("shard at rest, bytes", memory.shard),
            ("shard with traffic, bytes more", memory.traffic),
            ("core busy with traffic, bytes more", memory.busy),
            ("session, bytes", memory.session),
            ("stream, bytes", memory.stream),
            ("announced peer, bytes", memory.announced),
            ("socket in the kernel, bytes", memory.socket),
            ("handshake, us", processor.handshake_us),
            ("open, us", processor.open_us),
            ("wake-up for a message, us", processor.wake_us),
            ("message among many, us", processor.message_us),
            ("byte, ns", processor.byte_ns),
            ("sign of life, us", processor.keepalive_us),
            (
                "forwarded byte, against a local one",
                processor.forward_ratio,
            ),
        ]
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Longest file of constants: twenty times what one has.
const FILE_BYTES_MAX: u64 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_of_the_program_are_valid() {
        let costs = Costs::built_in().unwrap();
        assert!(costs.named().iter().all(|(_, cost)| cost.median > 0.0));
    }

    #[test]
    fn file_holds_what_was_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let costs = Costs::built_in().unwrap();
        fs::write(file.path(), serde_json::to_string(&costs).unwrap()).unwrap();
        assert_eq!(Costs::read(file.path()).unwrap(), costs);
    }

    #[test]
    fn what_is_no_file_of_constants_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = include_str!("costs.json");
        let negative = {
            let mut costs = Costs::built_in().unwrap();
            costs.memory.session.least = -1.0;
            serde_json::to_string(&costs).unwrap()
        };
        let cases = [
            (String::new(), "plan calibrate"),
            ("{}".to_owned(), "missing field"),
            (
                text.replace("ringway-costs/1", "ringway-costs/9"),
                "expected 'ringway-costs/1'",
            ),
            (
                text.replacen("\"shard\"", "\"shards\"", 1),
                "unknown field `shards`",
            ),
            (negative, "session, bytes is"),
            (" ".repeat(70_000), "expected at most 65536"),
        ];
        for (text, expected) in cases {
            fs::write(file.path(), text).unwrap();
            let error = Costs::read(file.path()).unwrap_err().to_string();
            let name = file.path().display().to_string();
            assert!(error.contains(expected) && error.contains(&name), "{error}");
        }
        let error = Costs::read(Path::new("/nowhere/costs.json")).unwrap_err();
        assert!(
            error.to_string().starts_with("/nowhere/costs.json: "),
            "{error}"
        );
    }

    #[test]
    fn median_is_one_of_the_samples() {
        let measured = Measured::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!(
            (measured.least, measured.median, measured.most),
            (1.0, 2.0, 3.0)
        );
        assert_eq!(Measured::of(&[]), None);
        assert_eq!(Measured::of(&[1.0, f64::NAN]), None);
    }
}
