//! What another host announces, as a relay that could be there.
//!
//! Here: which announcements are understood, and the addresses in them that may be tried. Not here: whether a
//! relay is there.
//!
//! Everything in an announcement is written by whoever is on the network.
//! Bound: `ADDRESSES_MAX` addresses of each.

use std::net::{IpAddr, SocketAddr};

use mdns_sd::ResolvedService;
use ringway_client::{PublicKey, RelayAddress};

use super::interface::Network;
use super::{TXT_KEY, TXT_VERSION, VERSION};

/// An announcement, taken apart as far as the name service does it.
#[derive(Debug, Clone)]
pub(super) struct Answer<'a> {
    version: Option<&'a [u8]>,
    key: Option<&'a [u8]>,
    port: u16,
    addresses: Vec<IpAddr>,
}

impl<'a> Answer<'a> {
    /// Returns what a resolved service says.
    pub(super) fn of(service: &'a ResolvedService) -> Self {
        let text = |name| service.get_property_val(name).flatten();
        let addresses = service.addresses.iter().map(mdns_sd::ScopedIp::to_ip_addr);
        Self {
            version: text(TXT_VERSION),
            key: text(TXT_KEY),
            port: service.port,
            addresses: addresses.take(ADDRESSES_MAX).collect(),
        }
    }

    /// Returns where the relay could be.
    ///
    /// # Errors
    ///
    /// What is wrong with the announcement.
    pub(super) fn relays(&self, network: &Network) -> Result<Vec<RelayAddress>, &'static str> {
        if self.version != Some(VERSION.as_bytes()) {
            return Err("it is of another version");
        }
        let key = self.key.ok_or("it has no key")?;
        let key = std::str::from_utf8(key).map_err(|_| "its key is no text")?;
        let key: PublicKey = key.parse().map_err(|_| "its key is no key")?;
        if self.port == 0 {
            return Err("it has no port");
        }
        let held = self.addresses.iter().filter(|ip| network.holds(**ip));
        let relay = |ip: &IpAddr| RelayAddress::new(key, SocketAddr::new(*ip, self.port));
        let mut relays: Vec<RelayAddress> = held.map(relay).collect();
        relays.sort_by_key(|relay| relay.socket);
        match relays.is_empty() {
            true => Err("it has no address in the subnets of the interface"),
            false => Ok(relays),
        }
    }
}

/// Most addresses of one announcement that are looked at; a relay announces one.
const ADDRESSES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    fn answer(addresses: &[&str]) -> Answer<'static> {
        Answer {
            version: Some(b"1"),
            key: Some(KEY.as_bytes()),
            port: 7100,
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        }
    }

    fn network() -> Network {
        Network::with_subnet("10.77.0.1".parse().unwrap(), 24)
    }

    #[test]
    fn addresses_of_other_networks_are_ignored() {
        let found = answer(&["127.0.0.1", "10.77.0.9", "10.78.0.9", "203.0.113.1", "::1"]);
        let relay: RelayAddress = format!("{KEY}@10.77.0.9:7100").parse().unwrap();
        assert_eq!(found.relays(&network()), Ok(vec![relay]));
        assert!(answer(&["10.78.0.9"]).relays(&network()).is_err());
        assert!(answer(&[]).relays(&network()).is_err());
    }

    #[test]
    fn malformed_announcement_says_what_is_wrong() {
        let error = |wrong: Answer<'_>| wrong.relays(&network()).unwrap_err();
        let good = answer(&["10.77.0.9"]);
        for version in [None, Some(&b"2"[..]), Some(b""), Some(b"\xff")] {
            let wrong = Answer {
                version,
                ..good.clone()
            };
            assert!(error(wrong).contains("version"), "{version:?}");
        }
        let (long, upper) = (KEY.repeat(3), KEY.to_uppercase());
        for (key, part) in [
            (None, "no key"),
            (Some(&b"\xff\xfe"[..]), "no text"),
            (Some(b""), "no key"),
            (Some(b"abc"), "no key"),
            (Some(long.as_bytes()), "no key"),
            (Some(upper.as_bytes()), "no key"),
        ] {
            let wrong = Answer {
                key,
                ..good.clone()
            };
            assert!(error(wrong).contains(part), "{key:?}");
        }
        assert!(error(Answer { port: 0, ..good }).contains("no port"));
    }
}
