//! Numbers with which dmsg says what went wrong.
//!
//! Here: the registry, and which reason of ours each number is. Not here: who gives which.
//!
//! They travel in a response that does not accept, which clients of Go never write: between Go's own parts
//! they are for logs. A number that is not listed is no error.
//! Source: docs/dmsg.md "Refusals and codes".

use crate::reason::Reason;

/// The signature of a request does not verify.
pub const BAD_SIGNATURE: u16 = 300;

/// The timestamp of a request is not greater than the last one.
pub const TIMESTAMP: u16 = 301;

/// A request comes from nobody, or from somebody who does not have this session.
pub const SOURCE_KEY: u16 = 302;

/// A request goes to nobody.
pub const DESTINATION_KEY: u16 = 303;

/// A request comes from no port.
pub const SOURCE_PORT: u16 = 304;

/// A request goes to no port.
pub const DESTINATION_PORT: u16 = 305;

/// Nobody listens on the port that a request goes to.
pub const NO_LISTENER: u16 = 306;

/// The server has no session of the destination.
pub const NO_NEXT_SESSION: u16 = 307;

/// The server forwards as many streams as it may.
pub const RELAY_CAPACITY: u16 = 308;

/// The signature of a response does not verify.
pub const BAD_RESPONSE_SIGNATURE: u16 = 350;

/// A response names another request.
pub const RESPONSE_HASH: u16 = 351;

/// A response does not accept and does not say why.
pub const NOT_ACCEPTED: u16 = 352;

/// An object is none.
pub const BAD_OBJECT: u16 = 370;

/// A number, what it says, and which reason of ours that is.
pub const CODES: [(u16, Reason, &str); 23] = [
    (100, Reason::UnknownDestination, "no entry in the discovery"),
    (
        101,
        Reason::UnknownDestination,
        "the entry is not a server's",
    ),
    (
        102,
        Reason::UnknownDestination,
        "the entry is not a client's",
    ),
    (103, Reason::UnknownDestination, "the entry names no server"),
    (200, Reason::RefusedByDestination, "the client is closed"),
    (201, Reason::RefusedByDestination, "the session is closed"),
    (
        202,
        Reason::HopUnreachable,
        "the server of an entry cannot be reached",
    ),
    (203, Reason::BadHandshake, "bytes behind the handshake"),
    (BAD_SIGNATURE, Reason::BadSignature, "request: signature"),
    (TIMESTAMP, Reason::StaleTimestamp, "request: timestamp"),
    (SOURCE_KEY, Reason::NotAllowed, "request: source key"),
    (
        DESTINATION_KEY,
        Reason::ProtocolError,
        "request: destination key",
    ),
    (SOURCE_PORT, Reason::ProtocolError, "request: source port"),
    (
        DESTINATION_PORT,
        Reason::ProtocolError,
        "request: destination port",
    ),
    (
        NO_LISTENER,
        Reason::NoListener,
        "request: nobody listens there",
    ),
    (
        NO_NEXT_SESSION,
        Reason::UnknownDestination,
        "request: no session of the destination",
    ),
    (
        RELAY_CAPACITY,
        Reason::RelayCapacity,
        "request: the server forwards enough",
    ),
    (
        BAD_RESPONSE_SIGNATURE,
        Reason::BadSignature,
        "response: signature",
    ),
    (
        RESPONSE_HASH,
        Reason::ProtocolError,
        "response: to another request",
    ),
    (
        NOT_ACCEPTED,
        Reason::RefusedByDestination,
        "response: refused without a reason",
    ),
    (BAD_OBJECT, Reason::ProtocolError, "no object"),
    (400, Reason::RefusedByDestination, "the port is taken"),
    (
        401,
        Reason::RefusedByDestination,
        "the listener's queue is full",
    ),
];

/// Returns the reason that a number in a response stands for.
#[must_use]
pub fn reason(code: u16) -> Reason {
    CODES
        .iter()
        .find(|(number, ..)| *number == code)
        .map_or(Reason::RefusedByDestination, |(_, reason, _)| *reason)
}

/// Returns the number for a reason: the one that says the same, or that the open was not accepted.
#[must_use]
pub const fn code(reason: Reason) -> u16 {
    match reason {
        Reason::Accepted => 0,
        Reason::BadSignature => BAD_SIGNATURE,
        Reason::StaleTimestamp => TIMESTAMP,
        Reason::NotAllowed => SOURCE_KEY,
        Reason::NoListener => NO_LISTENER,
        Reason::UnknownDestination | Reason::DirectoryUnavailable | Reason::ForwardedTwice => {
            NO_NEXT_SESSION
        }
        Reason::RelayCapacity | Reason::TooManyStreams => RELAY_CAPACITY,
        Reason::ProtocolError => BAD_OBJECT,
        _ => NOT_ACCEPTED,
    }
}
