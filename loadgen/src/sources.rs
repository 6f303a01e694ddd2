//! Where connections come from: addresses, prefixes, ports.
//!
//! Here: what `--src` and `--ports` name, and how many 4-tuples that makes. Not here: which of them a
//! connection takes (`worker::tuples`).
//!
//! A prefix stands for its hosts: of an IPv4 prefix with room for them the network's own address and its
//! broadcast address are left out. An IPv6 prefix may have more hosts than can be counted out; they are
//! numbered and made when they are needed.
//!
//! Bound: one entry for each address or prefix that was named.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One address, or the hosts of a prefix: `127.0.0.2`, `127.0.0.0/24`, `fd00::/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The first host.
    first: IpAddr,
    /// Hosts; `u64::MAX` for prefixes with more.
    count: u64,
}

impl Source {
    /// Returns how many hosts there are; `u64::MAX` for more than that.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Returns whether the hosts have IPv6 addresses.
    #[must_use]
    pub const fn is_ipv6(&self) -> bool {
        self.first.is_ipv6()
    }

    /// Returns host number `number`, which is below the count.
    fn host(&self, number: u64) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => {
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                IpAddr::V4(Ipv4Addr::from_bits(first.to_bits().saturating_add(number)))
            }
            IpAddr::V6(first) => {
                let bits = first.to_bits().saturating_add(u128::from(number));
                IpAddr::V6(Ipv6Addr::from_bits(bits))
            }
        }
    }

    fn of_prefix(address: IpAddr, bits: u8) -> Self {
        match address {
            IpAddr::V4(address) => {
                let free = 32 - u32::from(bits);
                let hosts = 1_u64 << free;
                let mask = u32::try_from(hosts - 1).unwrap_or(u32::MAX);
                let network = address.to_bits() & !mask;
                // RFC 3021: the two addresses of a /31 are hosts.
                let (skip, count) = if free >= 2 {
                    (1, hosts - 2)
                } else {
                    (0, hosts)
                };
                Self {
                    first: IpAddr::V4(Ipv4Addr::from_bits(network + skip)),
                    count,
                }
            }
            IpAddr::V6(address) => {
                let free = 128 - u32::from(bits);
                let mask = 1_u128
                    .checked_shl(free)
                    .map_or(u128::MAX, |hosts| hosts - 1);
                let network = address.to_bits() & !mask;
                // RFC 4291 2.6.1: the first address of a subnet is that of its routers, any of them.
                let (skip, hosts) = if free >= 2 { (1, mask) } else { (0, mask + 1) };
                Self {
                    first: IpAddr::V6(Ipv6Addr::from_bits(network + skip)),
                    count: u64::try_from(hosts).unwrap_or(u64::MAX),
                }
            }
        }
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| format!("'{address}' is no address (names are not looked up)"))?;
        let bits_max: u8 = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(bits_max), |bits| {
            bits.parse()
                .ok()
                .filter(|bits| *bits <= bits_max)
                .ok_or_else(|| format!("'/{bits}' is no prefix length: 0 to {bits_max}"))
        })?;
        if bits == bits_max {
            let first = address;
            return Ok(Self { first, count: 1 });
        }
        Ok(Self::of_prefix(address, bits))
    }
}

/// All hosts of all sources, in the order they were named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Returns the hosts of these sources.
    #[must_use]
    pub const fn new(sources: Vec<Source>) -> Self {
        Self(sources)
    }

    /// Returns whether none was named, so that the kernel chooses.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how many hosts there are; `u64::MAX` for more than that.
    #[must_use]
    pub fn count(&self) -> u64 {
        let counts = self.0.iter().map(Source::count);
        counts.fold(0, u64::saturating_add)
    }

    /// Returns the first source of the other family than the target's: it cannot reach it.
    #[must_use]
    pub fn other_family(&self, target: IpAddr) -> Option<&Source> {
        let mut sources = self.0.iter();
        sources.find(|source| source.is_ipv6() != target.is_ipv6())
    }

    /// Returns the sources as they were named, prefixes by their first and last host.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// Returns host number `number` of all; nothing beyond the last.
    #[must_use]
    pub fn host(&self, mut number: u64) -> Option<IpAddr> {
        for source in &self.0 {
            if number < source.count {
                return Some(source.host(number));
            }
            number -= source.count;
        }
        None
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => write!(f, "{}", self.first),
            u64::MAX => write!(f, "{} and all that follow", self.first),
            count => write!(f, "{} to {}", self.first, self.host(count - 1)),
        }
    }
}

/// Local ports that connections may come from, both ends included: `20000-59999`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// Lowest.
    pub first: u16,
    /// Highest.
    pub last: u16,
}

impl PortRange {
    /// Returns how many ports there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        u64::from(self.last - self.first) + 1
    }

    /// Returns the part of one of several threads; the last gets what is over. Nothing when there are
    /// fewer ports than threads.
    #[must_use]
    pub fn slice(&self, index: u32, threads: u32) -> Option<Self> {
        let each = u32::try_from(self.count()).ok()? / threads.max(1);
        if each == 0 || index >= threads {
            return None;
        }
        let first = u32::from(self.first) + each * index;
        let last = if index + 1 == threads {
            u32::from(self.last)
        } else {
            first + each - 1
        };
        Some(Self {
            first: u16::try_from(first).ok()?,
            last: u16::try_from(last).ok()?,
        })
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text
            .split_once('-')
            .ok_or_else(|| format!("'{text}' is no range: write FIRST-LAST, as 20000-59999"))?;
        let port = |text: &str| {
            let port: Option<u16> = text.trim().parse().ok();
            port.filter(|port| *port != 0)
                .ok_or_else(|| format!("'{text}' is no port: 1 to 65535"))
        };
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(format!(
                "the range {first}-{last} is empty: put the lower port first"
            ));
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Vec<String> {
        let sources = Sources::new(vec![text.parse().unwrap()]);
        let hosts = (0..).map_while(|number| sources.host(number));
        hosts.take(5).map(|host| host.to_string()).collect()
    }

    #[test]
    fn prefixes_stand_for_their_hosts() {
        assert_eq!(hosts("127.0.0.2"), ["127.0.0.2"]);
        assert_eq!(hosts("127.0.0.2/32"), ["127.0.0.2"]);
        assert_eq!(hosts("10.1.2.3/30"), ["10.1.2.1", "10.1.2.2"]);
        assert_eq!(hosts("10.1.2.3/31"), ["10.1.2.2", "10.1.2.3"]);
        assert_eq!(hosts("fd00::7/127"), ["fd00::6", "fd00::7"]);
        assert_eq!(hosts("fd00::7/126"), ["fd00::5", "fd00::6", "fd00::7"]);
        assert_eq!(hosts("fd00:1::/64")[..2], ["fd00:1::1", "fd00:1::2"]);
    }

    #[test]
    fn hosts_are_counted_without_being_made() {
        let count = |text: &str| text.parse::<Source>().unwrap().count();
        assert_eq!(count("127.0.0.0/24"), 254);
        assert_eq!(count("127.0.0.0/8"), 16_777_214);
        assert_eq!(count("0.0.0.0/0"), (1 << 32) - 2);
        assert_eq!(count("fd00::/112"), 65_535);
        assert_eq!(count("fd00::/64"), u64::MAX);
        assert_eq!(count("::/0"), u64::MAX);
        let sources = Sources::new(vec![
            "fd00::/64".parse().unwrap(),
            "fd01::/64".parse().unwrap(),
        ]);
        assert_eq!(sources.count(), u64::MAX);
    }

    #[test]
    fn hosts_of_several_sources_follow_each_other() {
        let sources = ["127.0.0.9", "10.0.0.0/30", "127.0.0.8"];
        let sources = Sources::new(sources.map(|text| text.parse().unwrap()).to_vec());
        assert_eq!(sources.count(), 4);
        let hosts: Vec<String> = (0..5)
            .filter_map(|number| Some(sources.host(number)?.to_string()))
            .collect();
        assert_eq!(hosts, ["127.0.0.9", "10.0.0.1", "10.0.0.2", "127.0.0.8"]);
    }

    #[test]
    fn wrong_sources_are_named() {
        for (text, part) in [
            ("localhost", "'localhost' is no address"),
            ("10.0.0.0/33", "'/33' is no prefix length: 0 to 32"),
            ("fd00::/129", "0 to 128"),
            ("10.0.0.0/x", "'/x'"),
            ("10.0.0.0/", "'/'"),
        ] {
            let error = text.parse::<Source>().unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn sources_that_cannot_reach_the_target_are_found() {
        let sources = Sources::new(vec![
            "10.0.0.1".parse().unwrap(),
            "fd00::/64".parse().unwrap(),
        ]);
        let found = sources.other_family("127.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(found.to_string(), "fd00::1 and all that follow");
        let found = sources.other_family("::1".parse().unwrap()).unwrap();
        assert_eq!(found.to_string(), "10.0.0.1");
    }

    #[test]
    fn ranges_are_read_and_shared_out() {
        let range: PortRange = "20000-20009".parse().unwrap();
        assert_eq!(
            (range.count(), range.to_string()),
            (10, "20000-20009".into())
        );
        let slices: Vec<String> = (0..3)
            .filter_map(|index| Some(range.slice(index, 3)?.to_string()))
            .collect();
        assert_eq!(slices, ["20000-20002", "20003-20005", "20006-20009"]);
        assert_eq!(range.slice(0, 11), None);
        assert_eq!("1-65535".parse::<PortRange>().unwrap().count(), 65_535);
        for text in ["5", "0-5", "9-5", "5-70000", "a-b", "-"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
    }
}
