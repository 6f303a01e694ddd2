//! Headers of the PROXY protocol: whom a proxy passes a connection on for.
//!
//! Here: the headers of version 1, a line of text, and of version 2, a block of bytes; from the first bytes
//! of a connection to an address. Not here: whether whoever sent a header may (who reads it decides), the
//! destination and the further fields of a header, which nobody here needs.
//!
//! Layouts, big-endian:
//!
//! ```text
//! version 1:  "PROXY TCP4 " source " " destination " " port " " port CR LF     (or TCP6)
//!             "PROXY UNKNOWN" anything CR LF
//! version 2:  [12] signature | u8 version 2, command | u8 family, transport | u16 length | length bytes:
//!             source | destination | u16 port | u16 port | fields: u8 kind | u16 length | value
//! ```
//!
//! Invariant: what bytes begin with does not change with those behind them, but from [`Beginning::Part`] and
//! [`Beginning::Unclear`] to something else.
//! Bound: [`PROXY_HEADER_MAX`]; a longer one is an error before it is there.
//! Source: `HAProxy`, "The PROXY protocol", sections 2.1 and 2.2.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr;

use thiserror::Error;

use crate::bytes::Reader;
use crate::limits::{PROXY_HEADER_MAX, PROXY_LINE_MAX};
use crate::reason::Reason;

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// A header.
    Header {
        /// Its bytes; what follows them belongs to the connection itself.
        len: usize,
        /// Where that comes from.
        origin: Origin,
    },
    /// No header.
    Other,
    /// A header that goes on behind these bytes.
    Part,
    /// Too few bytes to say.
    Unclear,
}

/// Where a connection comes from, in its proxy's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From this address, of the family that the connection has: an IPv4 address is none of IPv6.
    Address(SocketAddr),
    /// From the proxy itself, which looks whether somebody listens, or from where addresses are not of IP:
    /// the socket's own address counts.
    Socket,
}

/// Returns what a connection begins with whose first bytes are these.
///
/// # Errors
///
/// The bytes begin as a header does and are none: close the connection.
pub fn read(bytes: &[u8]) -> Result<Beginning, ProxyError> {
    if bytes.starts_with(SIGNATURE_1) {
        read_line(bytes)
    } else if bytes.starts_with(SIGNATURE_2) {
        read_block(bytes)
    } else if SIGNATURE_1.starts_with(bytes) || SIGNATURE_2.starts_with(bytes) {
        Ok(Beginning::Unclear)
    } else {
        Ok(Beginning::Other)
    }
}

/// Why bytes that begin as a header does are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Neither a connection that is passed on nor one of the proxy's own.
    #[error("PROXY header with command {0}")]
    PeerCommand(u8),
    /// Not of IPv4, IPv6 or Unix sockets, or not over a stream.
    #[error("PROXY header with family and transport {0:#04x}")]
    PeerFamily(u8),
    /// The fields behind the addresses do not fill the header.
    #[error("PROXY header with fields that do not end where it does")]
    PeerFields,
    /// Too short for its addresses, or longer than [`PROXY_HEADER_MAX`] or, of version 1, [`PROXY_LINE_MAX`].
    #[error("PROXY header of {have} bytes")]
    PeerLength {
        /// Bytes, as far as they are known.
        have: usize,
    },
    /// The line is no header of version 1.
    #[error("PROXY header that is no line of version 1")]
    PeerLine,
    /// Another version than 2, as a block of bytes.
    #[error("PROXY header of version {0}")]
    PeerVersion(u8),
}

impl ProxyError {
    /// Returns the reason with the wire's number.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::PeerCommand(_)
            | Self::PeerFamily(_)
            | Self::PeerFields
            | Self::PeerLength { .. }
            | Self::PeerLine
            | Self::PeerVersion(_) => Reason::BadHandshake,
        }
    }
}

/// Reads a header of version 1, whose signature is there.
fn read_line(bytes: &[u8]) -> Result<Beginning, ProxyError> {
    let line = bytes.get(..PROXY_LINE_MAX).unwrap_or(bytes);
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        let have = bytes.len();
        return match have < PROXY_LINE_MAX {
            true => Ok(Beginning::Part),
            false => Err(ProxyError::PeerLength { have }),
        };
    };
    let text = line.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    let origin = text.and_then(origin_of_line).ok_or(ProxyError::PeerLine)?;
    let len = end + 1;
    Ok(Beginning::Header { len, origin })
}

/// Reads a line without its end.
fn origin_of_line(line: &[u8]) -> Option<Origin> {
    let mut words = line.strip_prefix(SIGNATURE_1)?.split(|byte| *byte == b' ');
    let source = match words.next()? {
        b"TCP4" => source_of_words::<Ipv4Addr>(words)?,
        b"TCP6" => source_of_words::<Ipv6Addr>(words)?,
        // Whatever stands behind it is to be ignored.
        b"UNKNOWN" => return Some(Origin::Socket),
        _ => return None,
    };
    Some(address(source.0, source.1))
}

/// Reads addresses and ports, source first.
fn source_of_words<'a, T: FromStr + Into<IpAddr>>(
    mut words: impl Iterator<Item = &'a [u8]>,
) -> Option<(IpAddr, u16)> {
    let source: T = parsed(words.next()?)?;
    let _destination: T = parsed(words.next()?)?;
    let port = port(words.next()?)?;
    let _destination_port = self::port(words.next()?)?;
    words.next().is_none().then(|| (source.into(), port))
}

/// Reads a port as it is written: without a sign and without leading zeros.
fn port(word: &[u8]) -> Option<u16> {
    let is_plain = word == b"0"
        || word
            .first()
            .is_some_and(|digit| (b'1'..=b'9').contains(digit));
    is_plain.then(|| parsed(word))?
}

fn parsed<T: FromStr>(word: &[u8]) -> Option<T> {
    core::str::from_utf8(word).ok()?.parse().ok()
}

/// Reads a header of version 2, whose signature is there.
fn read_block(bytes: &[u8]) -> Result<Beginning, ProxyError> {
    let mut reader = Reader::new(bytes.get(SIGNATURE_2.len()..).unwrap_or_default());
    let (Some(command), Some(family), Some(body_len)) = (reader.u8(), reader.u8(), reader.u16())
    else {
        return Ok(Beginning::Part);
    };
    let (version, command) = (command >> 4, command & 0xf);
    if version != VERSION_2 {
        return Err(ProxyError::PeerVersion(version));
    }
    let kind = match command {
        COMMAND_LOCAL => Kind::Local,
        COMMAND_PROXY => Kind::of(family)?,
        command => return Err(ProxyError::PeerCommand(command)),
    };
    let body_len = usize::from(body_len);
    let len = HEAD_LEN + body_len;
    if len > PROXY_HEADER_MAX || body_len < kind.addresses_len() {
        return Err(ProxyError::PeerLength { have: len });
    }
    let Some(body) = reader.slice(body_len) else {
        return Ok(Beginning::Part);
    };
    let origin = kind.read(body).ok_or(ProxyError::PeerFields)?;
    Ok(Beginning::Header { len, origin })
}

/// What a header of version 2 has in it.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Whatever the proxy likes: the connection is its own, or its address of a family that has no number
    /// here.
    Local,
    Ipv4,
    Ipv6,
    Unix,
}

impl Kind {
    /// Returns what is in the header of a connection that is passed on. It has come over a stream, as it
    /// goes on.
    const fn of(family: u8) -> Result<Self, ProxyError> {
        match family {
            0x00 => Ok(Self::Local),
            0x11 => Ok(Self::Ipv4),
            0x21 => Ok(Self::Ipv6),
            0x31 => Ok(Self::Unix),
            family => Err(ProxyError::PeerFamily(family)),
        }
    }

    /// Returns the bytes of both addresses and their ports.
    const fn addresses_len(self) -> usize {
        match self {
            Self::Local => 0,
            Self::Ipv4 => 2 * (4 + 2),
            Self::Ipv6 => 2 * (16 + 2),
            Self::Unix => 2 * 108,
        }
    }

    /// Reads what is behind the length; `None` when its fields do not fill it.
    fn read(self, body: &[u8]) -> Option<Origin> {
        let (addresses, fields) = body.split_at_checked(self.addresses_len())?;
        let mut reader = Reader::new(addresses);
        let origin = match self {
            Self::Local => return Some(Origin::Socket),
            Self::Ipv4 => {
                let [source, _]: [[u8; 4]; 2] = [reader.array()?, reader.array()?];
                address(Ipv4Addr::from(source).into(), reader.u16()?)
            }
            Self::Ipv6 => {
                let [source, _]: [[u8; 16]; 2] = [reader.array()?, reader.array()?];
                address(Ipv6Addr::from(source).into(), reader.u16()?)
            }
            Self::Unix => Origin::Socket,
        };
        are_fields(fields).then_some(origin)
    }
}

fn are_fields(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let len = reader.u8().and_then(|_kind| reader.u16());
        if len.and_then(|len| reader.slice(len.into())).is_none() {
            return false;
        }
    }
    true
}

/// Returns an origin whose address is of the family that its connection has.
fn address(ip: IpAddr, port: u16) -> Origin {
    Origin::Address(SocketAddr::new(ip.to_canonical(), port))
}

/// What a header of version 1 begins with.
const SIGNATURE_1: &[u8] = b"PROXY ";

/// What a header of version 2 begins with. No message 1 of the dmsg dialect does: its third byte is the
/// first one of a compressed point.
const SIGNATURE_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version number of a header of bytes.
const VERSION_2: u8 = 2;

/// The proxy has made the connection for itself.
const COMMAND_LOCAL: u8 = 0;

/// The proxy passes a connection on.
const COMMAND_PROXY: u8 = 1;

/// Bytes of a header of version 2 up to its length and with it.
const HEAD_LEN: usize = SIGNATURE_2.len() + 4;

#[cfg(test)]
mod tests;
