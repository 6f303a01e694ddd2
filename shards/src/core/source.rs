//! Where a connection comes from, as far as limits look at it.
//!
//! Here: addresses reduced to who answers for them, and the count of unfinished handshakes of each. Not
//! here: what happens at the limit (`admission`).
//!
//! Bound: one entry a handshake in progress at most.

use core::net::IpAddr;
use std::collections::BTreeMap;

/// Who answers for a connection: an IPv4 address, or the first 64 bits of an IPv6 address, which one
/// customer has to himself (RFC 6177), so that 2^64 addresses do not count as so many parties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source(Option<[u8; 8]>);

impl Source {
    /// A connection whose address the kernel did not tell (before Linux 6.7): no limit by source.
    pub const UNKNOWN: Self = Self(None);

    /// Returns the source of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        if let Some(address) = address.to_ipv4_mapped() {
            // The prefix of documentation addresses (RFC 3849) keeps them apart from IPv6 sources.
            let [a, b, c, d] = address.octets();
            return Self(Some([0x20, 0x01, 0x0d, 0xb8, a, b, c, d]));
        }
        let [a, b, c, d, e, f, g, h, ..] = address.octets();
        Self(Some([a, b, c, d, e, f, g, h]))
    }
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self::of(address)
    }
}

/// Unfinished handshakes by source.
#[derive(Debug, Default)]
pub(super) struct SourceTable(BTreeMap<Source, u32>);

impl SourceTable {
    /// Counts one more; false, and nothing counted, when the source has `max` already.
    pub(super) fn try_add(&mut self, source: Source, max: u32) -> bool {
        if source == Source::UNKNOWN {
            return true;
        }
        let count = self.0.get(&source).copied().unwrap_or(0);
        if count >= max {
            return false;
        }
        self.0.insert(source, count + 1);
        true
    }

    /// Counts one less.
    ///
    /// # Panics
    /// When the source has none: one handshake was given back twice.
    pub(super) fn remove(&mut self, source: Source) {
        if source == Source::UNKNOWN {
            return;
        }
        let Some(count) = self.0.get_mut(&source) else {
            bug()
        };
        *count -= 1;
        if *count == 0 {
            self.0.remove(&source);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[expect(
    clippy::panic,
    reason = "the books of the shard are wrong: it must not go on"
)]
fn bug() -> ! {
    panic!("a handshake of an unknown source has ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    #[test]
    fn one_party_is_one_source() {
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("fd00:1:2:3::1"), source("fd00:1:2:3:ffff::9"));
        assert_ne!(source("fd00:1:2:3::1"), source("fd00:1:2:4::1"));
        assert_ne!(source("::1"), source("127.0.0.1"));
    }

    #[test]
    fn source_at_its_limit_does_not_hinder_others() {
        let mut table = SourceTable::default();
        let (one, other) = (source("192.0.2.1"), source("192.0.2.2"));
        assert!(table.try_add(one, 2) && table.try_add(one, 2));
        assert!(!table.try_add(one, 2));
        assert!(table.try_add(other, 2));
        table.remove(one);
        assert!(table.try_add(one, 2));
        for _ in 0..2 {
            table.remove(one);
        }
        table.remove(other);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn unknown_source_has_no_limit_and_leaves_nothing() {
        let mut table = SourceTable::default();
        assert!(table.try_add(Source::UNKNOWN, 0));
        table.remove(Source::UNKNOWN);
        assert_eq!(table.len(), 0);
    }
}
