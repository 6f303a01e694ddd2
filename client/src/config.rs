//! What a client may be told.
//!
//! Here: settings with defaults and what each costs, and where a relay is. Not here: files, flags.

use std::fmt;
use std::net::{AddrParseError, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use ringway_proto::key::{KeyError, PublicKey};
use ringway_proto::limits;
use thiserror::Error;

use crate::inside::Inside;

/// A relay: who it must prove to be, and where it listens.
///
/// ```
/// use ringway_client::RelayAddress;
///
/// let text = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a@127.0.0.1:7100";
/// let relay: RelayAddress = text.parse()?;
/// assert_eq!(relay.socket.port(), 7100);
/// assert_eq!(relay.to_string(), text);
/// # Ok::<(), ringway_client::RelayAddressError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RelayAddress {
    /// The relay's public key. A relay that cannot prove it gets no session.
    pub key: PublicKey,
    /// Where it listens.
    pub socket: SocketAddr,
}

impl RelayAddress {
    /// Returns the relay `key` at `socket`.
    #[must_use]
    pub const fn new(key: PublicKey, socket: SocketAddr) -> Self {
        Self { key, socket }
    }
}

impl fmt::Display for RelayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.key, self.socket)
    }
}

impl FromStr for RelayAddress {
    type Err = RelayAddressError;

    /// Reads `<key>@<ip>:<port>`, the key in 64 lower-case hex digits, or in 66 for the dmsg dialect.
    fn from_str(text: &str) -> Result<Self, RelayAddressError> {
        let (key, socket) = text.split_once('@').ok_or(RelayAddressError::Separator)?;
        Ok(Self {
            key: PublicKey::parse_any(key)?,
            socket: socket.parse()?,
        })
    }
}

/// Why a text is no relay address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RelayAddressError {
    /// The part before the `@` is no key.
    #[error("relay address: {0}")]
    Key(#[from] KeyError),
    /// There is no `@`.
    #[error("relay address is not of the form <key>@<ip>:<port>")]
    Separator,
    /// The part behind the `@` is no socket address.
    #[error("relay address: {0}")]
    Socket(#[from] AddrParseError),
}

/// Settings of a [`Client`](crate::Client).
///
/// ```
/// use ringway_client::Config;
///
/// let config = Config { backlog_max: 64, ..Config::default() };
/// assert_eq!(config.dial_timeout.as_secs(), 10);
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// Relays that may be used; the first 16 are. All of them speak the dialect of the client's key.
    ///
    /// A session with one costs a socket, a task and about 130 KiB of buffers.
    pub relays: Vec<RelayAddress>,
    /// Relays to hold a session with: so many of the nearest; at least one.
    ///
    /// A party that listens is found at these. See `docs/client.md` for when to hold more.
    pub sessions_min: u32,
    /// Time without a stream after which a session with another relay is let go.
    pub session_idle: Duration,
    /// How long a destination is asked for first at the relay over which it was reached last.
    pub entry_time: Duration,
    /// Longest time a dial takes, all relays tried included.
    ///
    /// Relays with a session get half of it when there are others; of several relays, each gets half
    /// of what is left.
    pub dial_timeout: Duration,
    /// Longest time from the start of a connect to the relay's verdict.
    pub handshake_timeout: Duration,
    /// Longest time [`Client::close`](crate::Client::close) waits for what was written to leave.
    pub close_timeout: Duration,
    /// Silence after which a session sends a ping; the relay may ask for less. Also the time between
    /// two measurements of the distance to a relay.
    pub keepalive_interval: Duration,
    /// Largest receive window of a stream, bytes.
    ///
    /// A stream starts with 256 KiB and grows when its reader keeps up; a reader that stops holds as
    /// much as its window has grown to.
    pub window_max: u32,
    /// Most streams of one session, both directions together; the relay may offer fewer.
    pub streams_max: u32,
    /// Streams that wait in one [`Listener`](crate::Listener); more are refused with reason 305.
    pub backlog_max: u32,
    /// Most payload of one record, bytes; at most 65,519.
    ///
    /// The receiver can open a record only when it is whole. Those of the dmsg dialect hold 4,070 at most;
    /// there it is what one write seals.
    pub record_payload_max: u32,
    /// Upper end of the first pause before a session is made again; it doubles with each failure.
    pub backoff_min: Duration,
    /// Largest upper end of that pause.
    pub backoff_max: Duration,
    /// Whether port 7 echoes, which answers `ringway ping`.
    pub answer_ping: bool,
    /// The way to a relay in this process. With it `relays` names that one alone, and its address is not
    /// used.
    pub inside: Option<Inside>,
}

impl Config {
    /// Returns the defaults with these relays.
    #[must_use]
    pub fn new(relays: impl IntoIterator<Item = RelayAddress>) -> Self {
        Self {
            relays: relays.into_iter().collect(),
            ..Self::default()
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            relays: Vec::new(),
            sessions_min: SESSIONS_MIN,
            session_idle: SESSION_IDLE,
            entry_time: ENTRY_TIME,
            dial_timeout: limits::DIAL_TIMEOUT,
            handshake_timeout: limits::HANDSHAKE_TIMEOUT,
            close_timeout: CLOSE_TIMEOUT,
            keepalive_interval: limits::KEEPALIVE_INTERVAL,
            window_max: limits::WINDOW_MAX,
            streams_max: limits::STREAMS_MAX,
            backlog_max: BACKLOG_MAX,
            record_payload_max: RECORD_PAYLOAD_DEFAULT,
            backoff_min: BACKOFF_MIN,
            backoff_max: BACKOFF_MAX,
            answer_ping: true,
            inside: None,
        }
    }
}

/// Most relays a client uses.
///
/// A dial to nobody asks all of them; with more, parties would rather share a few.
pub(crate) const RELAYS_MAX: usize = 16;

/// Sessions that are held: one more than needed, so that a relay may end and a party that listens is
/// still found.
const SESSIONS_MIN: u32 = 2;

/// Longest idle time of a session that is not held: a minute of dials to the same relay costs one
/// handshake.
const SESSION_IDLE: Duration = Duration::from_secs(60);

/// Life of an entry. A party that has moved costs one question in vain, whatever this is.
const ENTRY_TIME: Duration = Duration::from_secs(60);

/// Longest wait of a close: what is in flight leaves in less unless the receiver has stopped reading.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Streams that wait in a listener. Each is open and may hold what its window allows.
const BACKLOG_MAX: u32 = 256;

/// The default record payload as a configuration value.
const RECORD_PAYLOAD_DEFAULT: u32 = 16_384;

/// First pause before a session is made again. Full jitter spreads the peers of a relay that died
/// over this time.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest pause: a relay that comes back has all its peers after half a minute.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

const _: () = assert!(limits::RECORD_PAYLOAD_DEFAULT == 16_384);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_address_reads_what_it_writes() {
        let relay = RelayAddress::new(
            PublicKey::native([0xab; 32]),
            "[::1]:7100".parse().expect("a socket address"),
        );
        assert_eq!(relay.to_string().parse(), Ok(relay));
    }

    #[test]
    fn relay_address_names_the_part_that_is_wrong() {
        let key = "ab".repeat(32);
        assert_eq!(
            format!("{key}:127.0.0.1").parse::<RelayAddress>(),
            Err(RelayAddressError::Separator)
        );
        assert!(matches!(
            "ab@127.0.0.1:1".parse::<RelayAddress>(),
            Err(RelayAddressError::Key(_))
        ));
        assert!(matches!(
            format!("{key}@localhost").parse::<RelayAddress>(),
            Err(RelayAddressError::Socket(_))
        ));
    }
}
