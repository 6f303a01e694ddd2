//! Reasons: why something was refused or closed.
//!
//! Here: the one registry of numbers, names, metric labels and sentences. Not here: who gives which
//! (each error type maps itself with `fn reason`).
//!
//! Invariant: numbers and labels never change meaning and are never reused.
//! Source: docs/protocol.md section 4.

use core::fmt;

macro_rules! reasons {
    ($($code:literal $name:ident $label:literal $text:literal)+) => {
        /// Why a request was refused or a session closed; the numbers are the wire's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum Reason {
            $(#[doc = $text] $name = $code,)+
        }

        impl Reason {
            /// Every reason, in the order of the numbers.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$name,)+];

            /// How many reasons there are: the length of an array of counters.
            pub const COUNT: usize = [$($code,)+].len();

            /// Returns the reason with this number.
            #[must_use]
            pub const fn from_code(code: u16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// Returns the dense position in [`Reason::ALL`], for arrays of counters.
            #[inline]
            #[must_use]
            pub const fn index(self) -> usize {
                enum Dense { $($name,)+ }
                match self {
                    $(Self::$name => Dense::$name as usize,)+
                }
            }

            /// Returns the value of the metric label `reason`.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)+
                }
            }

            /// Returns a sentence for people.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

reasons! {
    0 Accepted "accepted" "The request was accepted."
    101 UnknownDestination "unknown_destination" "No session and no directory entry for the destination."
    102 DirectoryUnavailable "directory_unavailable" "The directory gave no answer."
    201 NotAllowed "not_allowed" "The relay does not admit this key."
    202 Replaced "replaced" "A newer session of the same key took over."
    203 TooManySessions "too_many_sessions" "The relay holds as many sessions as it may."
    204 HandshakeTimeout "handshake_timeout" "The handshake did not end in time."
    205 BadHandshake "bad_handshake" "The handshake failed."
    206 ProtocolError "protocol_error" "The other side broke the protocol."
    207 Replay "replay" "A sealed object was seen before or is too old."
    208 SlowConsumer "slow_consumer" "The receiver took its data too slowly."
    209 Idle "idle" "Nothing was heard for too long."
    210 Draining "draining" "The relay is shutting down and takes nothing new."
    211 Version "version" "The other side speaks a version that is not supported."
    212 TooManyHandshakes "too_many_handshakes" "Too many handshakes are unfinished."
    301 NoListener "no_listener" "Nobody listens on that port of the destination."
    302 DialTimeout "dial_timeout" "The destination did not answer the open in time."
    303 TooManyStreams "too_many_streams" "The session has as many streams as it may."
    304 RelayCapacity "relay_capacity" "The relay is at a limit of its own."
    305 RefusedByDestination "refused_by_destination" "The destination refused the open."
    306 BadSignature "bad_signature" "The signature of the open does not verify."
    307 ForwardedTwice "forwarded_twice" "The open was forwarded once and the destination is not here."
    308 StaleTimestamp "stale_timestamp" "The timestamp of the open is too far from now."
    309 OtherDialect "other_dialect" "The destination speaks another dialect than the opener."
    310 Unexplained "unexplained" "The open was refused, and its dialect has no word for why."
    401 VirtualPortsExhausted "virtual_ports_exhausted" "No ephemeral port of this key is free."
    402 LocalPortsExhausted "local_ports_exhausted" "No local TCP port is free for that destination."
    501 RouteBusy "route_busy" "Route setup is at its limit."
    502 NoRoute "no_route" "No route leads to the destination."
    503 HopUnreachable "hop_unreachable" "A hop of the route cannot be reached."
    504 HopRefused "hop_refused" "A hop of the route refused."
    505 RouteTimeout "route_timeout" "Route setup did not end in time."
    506 BadRoute "bad_route" "The request for a route is not well formed."
}

impl Reason {
    /// Returns the wire's number.
    #[inline]
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code(), self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/protocol.md section 4, number by number. A line may be added; none may change.
    const TABLE: [(u16, Reason, &str); 33] = [
        (0, Reason::Accepted, "accepted"),
        (101, Reason::UnknownDestination, "unknown_destination"),
        (102, Reason::DirectoryUnavailable, "directory_unavailable"),
        (201, Reason::NotAllowed, "not_allowed"),
        (202, Reason::Replaced, "replaced"),
        (203, Reason::TooManySessions, "too_many_sessions"),
        (204, Reason::HandshakeTimeout, "handshake_timeout"),
        (205, Reason::BadHandshake, "bad_handshake"),
        (206, Reason::ProtocolError, "protocol_error"),
        (207, Reason::Replay, "replay"),
        (208, Reason::SlowConsumer, "slow_consumer"),
        (209, Reason::Idle, "idle"),
        (210, Reason::Draining, "draining"),
        (211, Reason::Version, "version"),
        (212, Reason::TooManyHandshakes, "too_many_handshakes"),
        (301, Reason::NoListener, "no_listener"),
        (302, Reason::DialTimeout, "dial_timeout"),
        (303, Reason::TooManyStreams, "too_many_streams"),
        (304, Reason::RelayCapacity, "relay_capacity"),
        (305, Reason::RefusedByDestination, "refused_by_destination"),
        (306, Reason::BadSignature, "bad_signature"),
        (307, Reason::ForwardedTwice, "forwarded_twice"),
        (308, Reason::StaleTimestamp, "stale_timestamp"),
        (309, Reason::OtherDialect, "other_dialect"),
        (310, Reason::Unexplained, "unexplained"),
        (
            401,
            Reason::VirtualPortsExhausted,
            "virtual_ports_exhausted",
        ),
        (402, Reason::LocalPortsExhausted, "local_ports_exhausted"),
        (501, Reason::RouteBusy, "route_busy"),
        (502, Reason::NoRoute, "no_route"),
        (503, Reason::HopUnreachable, "hop_unreachable"),
        (504, Reason::HopRefused, "hop_refused"),
        (505, Reason::RouteTimeout, "route_timeout"),
        (506, Reason::BadRoute, "bad_route"),
    ];

    #[test]
    fn numbers_and_labels_are_those_of_the_protocol() {
        assert_eq!(TABLE.len(), Reason::COUNT);
        for ((code, reason, label), listed) in TABLE.into_iter().zip(Reason::ALL) {
            assert_eq!(reason, listed);
            assert_eq!(reason.code(), code);
            assert_eq!(reason.label(), label);
        }
    }

    #[test]
    fn every_number_of_sixteen_bits_maps_to_at_most_one_reason() {
        let known = (0..=u16::MAX).filter_map(|code| {
            let reason = Reason::from_code(code)?;
            assert_eq!(reason.code(), code);
            Some(reason)
        });
        assert!(known.eq(Reason::ALL));
    }

    #[test]
    fn indices_are_dense_and_in_order() {
        for (position, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), position);
        }
    }

    #[test]
    fn labels_are_unique_metric_labels_and_texts_are_sentences() {
        for (position, reason) in Reason::ALL.into_iter().enumerate() {
            let label = reason.label();
            assert!(
                label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            );
            assert!(
                Reason::ALL[..position]
                    .iter()
                    .all(|other| other.label() != label)
            );
            assert!(
                Reason::ALL[..position]
                    .iter()
                    .all(|other| other.text() != reason.text())
            );
            assert!(
                reason
                    .text()
                    .starts_with(|first: char| first.is_ascii_uppercase())
            );
            assert!(reason.text().ends_with('.'));
        }
    }
}
