//! How people name a relay: by its key and where it listens.
//!
//! Here: the text and its address. Not here: connecting.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use ringway_proto::dmsg;
use ringway_proto::key::{KeyError, PublicKey};

use crate::failure::Failure;

/// A relay as people name it: `KEY@HOST:PORT`, the key of either dialect, the host by address or by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelayName {
    /// Who it must prove to be.
    pub(crate) key: PublicKey,
    host: String,
}

impl RelayName {
    /// Returns the relay's address; of several the first.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`] when the name has no address.
    pub(crate) fn resolve(&self) -> Result<SocketAddr, Failure> {
        let mut found = self
            .host
            .to_socket_addrs()
            .map_err(|error| Failure::host(format!("cannot resolve {}", self.host), error))?;
        found
            .next()
            .ok_or_else(|| Failure::Check(format!("{} has no address", self.host)))
    }

    /// Returns whether both are reached under the same host and port, without a look-up.
    pub(crate) fn is_at_address_of(&self, other: &Self) -> bool {
        let literal = |host: &str| host.parse::<SocketAddr>().ok();
        self.host.eq_ignore_ascii_case(&other.host)
            || literal(&self.host).is_some_and(|address| literal(&other.host) == Some(address))
    }
}

impl fmt::Display for RelayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.key, self.host)
    }
}

impl FromStr for RelayName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse_by(text, PublicKey::parse_any)
    }
}

impl RelayName {
    /// Reads the name of a native relay.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn parse_native(text: &str) -> Result<Self, String> {
        Self::parse_by(text, |key| key.parse())
    }

    /// Reads the name of a server of the dmsg dialect.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn parse_dmsg(text: &str) -> Result<Self, String> {
        Self::parse_by(text, dmsg::key::parse)
    }

    fn parse_by(
        text: &str,
        parse: impl FnOnce(&str) -> Result<PublicKey, KeyError>,
    ) -> Result<Self, String> {
        let form = "expected KEY@HOST:PORT as `ringway serve` prints it";
        let (key, host) = text
            .split_once('@')
            .ok_or_else(|| format!("there is no '@'; {form}"))?;
        let key = parse(key).map_err(|error| format!("{error}; {form}"))?;
        let port = host
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() {
            return Err(format!("{host:?} does not end in a port; {form}"));
        }
        Ok(Self {
            key,
            host: host.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_name_says_which_part_is_wrong() {
        let key = "ab".repeat(32);
        let error = |text: &str| text.parse::<RelayName>().unwrap_err();
        assert!(error("nonsense").contains("no '@'"));
        assert!(error("ab@127.0.0.1:1").contains("66 characters"));
        assert!(error(&format!("{key}@localhost")).contains("port"));
        let name: RelayName = format!("{key}@127.0.0.1:7100").parse().unwrap();
        assert_eq!(name.resolve().unwrap().port(), 7100);
        let name: RelayName = format!("{key}@[::1]:7100").parse().unwrap();
        assert!(name.resolve().unwrap().is_ipv6());
    }

    #[test]
    fn addresses_are_compared_without_a_look_up() {
        let key = "ab".repeat(32);
        let name = |host: &str| format!("{key}@{host}").parse::<RelayName>().unwrap();
        for (one, other, is_same) in [
            ("Relay.example:7100", "relay.EXAMPLE:7100", true),
            ("[::1]:7100", "[0:0::1]:7100", true),
            ("relay.example:7100", "relay.example:7101", false),
            ("localhost:7100", "127.0.0.1:7100", false),
        ] {
            let is_found = name(one).is_at_address_of(&name(other));
            assert_eq!(is_found, is_same, "{one} and {other}");
        }
        assert_eq!(name("[::1]:7100").to_string(), format!("{key}@[::1]:7100"));
    }
}
