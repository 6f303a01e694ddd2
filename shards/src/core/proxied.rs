//! Connections that a proxy passes on.
//!
//! Here: whose headers are believed, taking one off the front of what a connection brings, and what follows
//! from it: the connection counts as one of the address that is named. Not here: the headers
//! (`ringway_proto::proxy`), the native dialect, whose listener knows none.
//!
//! A header may be missing, and may come in any pieces; it counts in the time of the handshake that follows.
//! From anybody else it is a bad handshake: who could name any address would have no limit by source.
//!
//! Bound: what is kept of a header stands where message 1 will, and is shorter (`PROXY_HEADER_MAX`).
//! Source: docs/dmsg.md "Behind a proxy".

use ::core::net::IpAddr;

use ringway_proto::limits::PROXY_HEADER_MAX;
use ringway_proto::proxy::{self, Beginning, Origin};
use ringway_proto::reason::Reason;

use super::ShardCore;
use super::event::{Directory, Slot};
use super::session::Stage;
use super::source::Source;
use crate::lease::Lease;

/// Whose word on where a connection comes from is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proxies {
    /// Whoever connects.
    All,
    /// Those with an address in one of these.
    Listed(Vec<Prefix>),
}

impl Proxies {
    /// Nobody's.
    pub const NONE: Self = Self::Listed(Vec::new());

    /// Returns whether a connection from this address may bring a header. One whose address the kernel did
    /// not tell is nobody's that is listed.
    #[must_use]
    pub fn allow(&self, address: Option<IpAddr>) -> bool {
        match self {
            Self::All => true,
            Self::Listed(prefixes) => {
                address.is_some_and(|address| prefixes.iter().any(|it| it.contains(address)))
            }
        }
    }
}

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// The first of them.
    first: IpAddr,
    /// How many bits.
    len: u8,
}

impl Prefix {
    /// Returns the addresses whose first `len` bits are those of `first`; `None` when it has not so many, or
    /// has others set behind them. IPv4 addresses in the form of IPv6 are those of IPv4.
    #[must_use]
    pub fn new(first: IpAddr, len: u8) -> Option<Self> {
        let (first, len) = match (first, first.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(ipv4)) => (ipv4.into(), len.checked_sub(96)?),
            _ => (first, len),
        };
        let this = Self { first, len };
        (len <= bits_of(first) && this.start_of(first) == value_of(first)).then_some(this)
    }

    /// Returns whether an address is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && self.start_of(address) == value_of(self.first)
    }

    /// Returns an address of the family with what is behind the prefix taken as zeros.
    fn start_of(&self, address: IpAddr) -> u128 {
        let behind = bits_of(self.first).saturating_sub(self.len);
        let mask = u128::MAX.checked_shl(behind.into()).unwrap_or(0);
        value_of(address) & mask
    }
}

impl<L: Lease, D: Directory> ShardCore<L, D> {
    /// Takes a proxy's header off the front of what has come, or finds that there is none: then the handshake
    /// begins there. When more has to come first, all of it is kept.
    ///
    /// # Errors
    /// The handshake ends with this reason.
    pub(super) fn take_header(&mut self, slot: Slot, lease: &mut L) -> Result<(), Reason> {
        let proxies = &self.config.proxies;
        let session = self.sessions.get_mut(slot.0 as usize);
        let Some(handshake) = session.and_then(|session| session.handshake_mut()) else {
            return Ok(());
        };
        let held = handshake.collected.len();
        let count = lease.len().min(PROXY_HEADER_MAX.saturating_sub(held));
        let more = lease.bytes().get(..count).unwrap_or_default();
        handshake.collected.extend_from_slice(more);
        let beginning = proxy::read(&handshake.collected);
        let is_header = !matches!(beginning, Ok(Beginning::Other | Beginning::Unclear));
        if is_header && !proxies.allow(handshake.arrival.address) {
            let address = handshake.arrival.address;
            tracing::debug!(?address, "a PROXY header of somebody who may bring none");
            return Err(Reason::BadHandshake);
        }
        match beginning.map_err(|error| error.reason())? {
            Beginning::Header { len, origin } => {
                lease.advance(len.saturating_sub(held));
                handshake.collected = Vec::new();
                handshake.stage = Stage::Message1;
                match origin {
                    Origin::Address(address) => self.come_from(slot, address.ip()),
                    Origin::Socket => Ok(()),
                }
            }
            Beginning::Other => {
                handshake.collected.truncate(held);
                handshake.stage = Stage::Message1;
                Ok(())
            }
            Beginning::Part | Beginning::Unclear => {
                lease.advance(count);
                Ok(())
            }
        }
    }

    /// Counts a connection as one of this address from now on.
    fn come_from(&mut self, slot: Slot, address: IpAddr) -> Result<(), Reason> {
        let source = Source::of(address);
        let session = self.sessions.get_mut(slot.0 as usize);
        let Some(handshake) = session.and_then(|session| session.handshake_mut()) else {
            return Ok(());
        };
        let arrival = &mut handshake.arrival;
        if source != arrival.source {
            let handshakes_max = self.config.admission.handshakes_source_max;
            if !self.sources.try_add(source, handshakes_max) {
                return Err(Reason::TooManyHandshakes);
            }
            self.sources.remove(arrival.source);
            arrival.source = source;
        }
        arrival.address = Some(address);
        Ok(())
    }
}

const fn bits_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn value_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Option<Prefix> {
        let (first, len) = text.split_once('/').unwrap();
        Prefix::new(first.parse().unwrap(), len.parse().unwrap())
    }

    #[test]
    fn prefix_has_the_addresses_that_begin_as_it_does() {
        for (text, inside, outside) in [
            (
                "10.0.0.0/8",
                vec!["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"],
                vec!["11.0.0.0", "9.255.255.255", "a00::", "::10.0.0.1"],
            ),
            (
                "192.0.2.6/31",
                vec!["192.0.2.6", "192.0.2.7"],
                vec!["192.0.2.5", "192.0.2.8"],
            ),
            (
                "192.0.2.1/32",
                vec!["192.0.2.1"],
                vec!["192.0.2.0", "192.0.2.2"],
            ),
            (
                "0.0.0.0/0",
                vec!["0.0.0.0", "255.255.255.255"],
                vec!["::", "::1"],
            ),
            (
                "::ffff:10.0.0.0/104",
                vec!["10.0.0.1", "::ffff:10.0.0.1"],
                vec!["11.0.0.1", "::1"],
            ),
            (
                "2001:db8::/33",
                vec!["2001:db8::", "2001:db8:7fff::1"],
                vec!["2001:db8:8000::", "2001:db7::"],
            ),
            (
                "2001:db8::1/128",
                vec!["2001:db8::1"],
                vec!["2001:db8::", "2001:db8::2"],
            ),
            (
                "::/0",
                vec!["::", "ffff::1"],
                vec!["0.0.0.0", "::ffff:192.0.2.1"],
            ),
        ] {
            let prefix = prefix(text).unwrap();
            for address in inside {
                assert!(
                    prefix.contains(address.parse().unwrap()),
                    "{text} {address}"
                );
            }
            for address in outside {
                assert!(
                    !prefix.contains(address.parse().unwrap()),
                    "{text} {address}"
                );
            }
        }
    }

    #[test]
    fn prefix_ends_where_its_address_has_its_last_bit() {
        for text in [
            "10.0.0.0/33",
            "10.0.0.1/31",
            "10.0.0.1/0",
            "::/129",
            "::1/127",
            "::ffff:10.0.0.0/95",
            "::ffff:10.0.0.1/127",
        ] {
            assert_eq!(prefix(text), None, "{text}");
        }
    }

    #[test]
    fn only_who_is_listed_is_believed() {
        let address = |text: &str| Some(text.parse().unwrap());
        let listed = Proxies::Listed(vec![
            prefix("10.0.0.0/8").unwrap(),
            prefix("::1/128").unwrap(),
        ]);
        assert!(listed.allow(address("10.1.1.1")) && listed.allow(address("::1")));
        assert!(!listed.allow(address("127.0.0.1")) && !listed.allow(None));
        assert!(!Proxies::NONE.allow(address("127.0.0.1")) && !Proxies::NONE.allow(None));
        assert!(Proxies::All.allow(address("127.0.0.1")) && Proxies::All.allow(None));
    }
}
