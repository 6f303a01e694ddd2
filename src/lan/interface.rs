//! Which network interface is the own network's.
//!
//! Here: the interfaces of the host, which addresses count as private, the choice of one. Not here: what is
//! sent there.
//!
//! Source: RFC 1918 and RFC 4193 (private addresses), RFC 3927 (link-local ones of IPv4). Those of IPv6
//! do not count: they mean something only together with an interface's number, which is another one on each
//! host.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;

use if_addrs::IfAddr;

use crate::failure::Failure;

/// An interface with private addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Network {
    /// The interface's name.
    pub(crate) name: String,
    /// The address to listen on.
    pub(crate) address: IpAddr,
    subnets: Vec<(IpAddr, u8)>,
}

/// One address of an interface.
#[derive(Debug, Clone)]
struct Card {
    name: String,
    address: IpAddr,
    prefix: u8,
    is_up: bool,
    is_point_to_point: bool,
}

impl Network {
    /// Returns the network of this host: the one of the interface called `wanted`, else the one that the
    /// choice falls on.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`] when the kernel does not tell, [`Failure::Check`] when there is none, with what to
    /// do.
    pub(crate) fn of_host(wanted: Option<&str>) -> Result<Self, Failure> {
        let found = if_addrs::get_if_addrs()
            .map_err(|error| Failure::host("cannot list the network interfaces", error))?;
        let cards: Vec<Card> = found.into_iter().map(Card::from).collect();
        // Without a list there is no default route, and the choice goes by the name.
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let routes = default_routes(&text("/proc/net/route"), &text("/proc/net/ipv6_route"));
        choose(&cards, &routes, wanted).map_err(Failure::Check)
    }

    /// Returns whether an address is private and in a subnet of the interface.
    pub(crate) fn holds(&self, ip: IpAddr) -> bool {
        let is_inside = |(own, prefix): &(IpAddr, u8)| is_in_subnet(ip, *own, *prefix);
        rank(ip).is_some() && self.subnets.iter().any(is_inside)
    }

    /// Returns the private addresses of the interface.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.subnets.iter().map(|(address, _)| *address)
    }

    /// Returns a network with one subnet.
    #[cfg(test)]
    pub(super) fn with_subnet(address: IpAddr, prefix: u8) -> Self {
        Self {
            name: "test".to_owned(),
            address,
            subnets: vec![(address, prefix)],
        }
    }
}

impl From<if_addrs::Interface> for Card {
    fn from(found: if_addrs::Interface) -> Self {
        let prefix = match &found.addr {
            IfAddr::V4(v4) => v4.prefixlen,
            IfAddr::V6(v6) => v6.prefixlen,
        };
        Self {
            address: found.ip(),
            prefix,
            is_up: found.is_oper_up(),
            is_point_to_point: found.is_p2p,
            name: found.name,
        }
    }
}

/// Chooses the interface: the wanted one, else of those that may be used the one with the best default
/// route, else the first by name.
fn choose(cards: &[Card], routes: &[String], wanted: Option<&str>) -> Result<Network, String> {
    let is_wanted = |card: &Card| match wanted {
        Some(name) => card.name == name,
        // A tunnel has private addresses as well, and is no network of one's own.
        None => !card.is_point_to_point,
    };
    let mut usable: BTreeMap<&str, Vec<(u8, &Card)>> = BTreeMap::new();
    for card in cards.iter().filter(|card| card.is_up && is_wanted(card)) {
        if let Some(rank) = rank(card.address) {
            usable.entry(&card.name).or_default().push((rank, card));
        }
    }
    let routed = routes
        .iter()
        .find(|name| usable.contains_key(name.as_str()));
    let name = routed.map(String::as_str);
    let Some(name) = name.or_else(|| usable.keys().next().copied()) else {
        return Err(none(cards, wanted));
    };
    let mut own = usable.remove(name).unwrap_or_default();
    own.sort_by_key(|(rank, card)| (*rank, card.address));
    let Some((_, first)) = own.first() else {
        return Err(none(cards, wanted));
    };
    let subnet = |(_, card): &(u8, &Card)| (card.address, card.prefix);
    Ok(Network {
        name: name.to_owned(),
        address: first.address,
        subnets: own.iter().map(subnet).collect(),
    })
}

fn none(cards: &[Card], wanted: Option<&str>) -> String {
    let mut names: Vec<&str> = cards.iter().map(|card| card.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let names = names.join(", ");
    let what = match wanted {
        Some(name) => format!("the interface {name} is not up with a private address"),
        None => "no network interface is up with a private address".to_owned(),
    };
    format!(
        "{what} (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 169.254.0.0/16 or fc00::/7; interfaces with \
         addresses: {names}): see them with `ip -brief address`, connect one or choose it with \
         --lan-interface NAME, or name addresses with --listen and --relay in place of --lan"
    )
}

/// Returns how well an address serves, the best first; `None` when it is not private.
fn rank(ip: IpAddr) -> Option<u8> {
    match ip {
        IpAddr::V4(ip) if ip.is_private() => Some(0),
        IpAddr::V6(ip) if ip.is_unique_local() => Some(1),
        IpAddr::V4(ip) if ip.is_link_local() => Some(2),
        _ => None,
    }
}

fn is_in_subnet(ip: IpAddr, own: IpAddr, prefix: u8) -> bool {
    let prefix = u32::from(prefix);
    match (ip, own) {
        (IpAddr::V4(ip), IpAddr::V4(own)) => {
            let differing = ip.to_bits() ^ own.to_bits();
            differing.leading_zeros() >= prefix
        }
        (IpAddr::V6(ip), IpAddr::V6(own)) => {
            let differing = ip.to_bits() ^ own.to_bits();
            differing.leading_zeros() >= prefix
        }
        _ => false,
    }
}

/// Returns the interfaces with a default route, the one that the kernel prefers first, those of IPv4 before
/// those of IPv6.
fn default_routes(v4: &str, v6: &str) -> Vec<String> {
    let words =
        |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    let zero = |word: &String| word.bytes().all(|digit| digit == b'0');
    let of_v4 = v4.lines().skip(1).map(words).filter_map(|line| {
        // Name, destination, gateway, flags, two counters, metric, mask.
        let [name, to, _, _, _, _, metric, mask, ..] = line.as_slice() else {
            return None;
        };
        let is_default = zero(to) && zero(mask);
        is_default.then(|| Some((0, metric.parse::<u32>().ok()?, name.clone())))?
    });
    let of_v6 = v6.lines().map(words).filter_map(|line| {
        // Destination and its length, source and its length, next hop, metric, two counters, flags, name.
        let [to, length, _, _, _, metric, _, _, _, name] = line.as_slice() else {
            return None;
        };
        let is_default = zero(to) && zero(length) && name != "lo";
        is_default.then(|| Some((1, u32::from_str_radix(metric, 16).ok()?, name.clone())))?
    });
    let mut routes: Vec<(u8, u32, String)> = of_v4.chain(of_v6).collect();
    routes.sort();
    routes.into_iter().map(|(_, _, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str, address: &str, prefix: u8) -> Card {
        Card {
            name: name.to_owned(),
            address: address.parse().unwrap(),
            prefix,
            is_up: true,
            is_point_to_point: false,
        }
    }

    fn chosen(cards: &[Card], routes: &[&str], wanted: Option<&str>) -> Result<Network, String> {
        let routes: Vec<String> = routes.iter().map(|name| (*name).to_owned()).collect();
        choose(cards, &routes, wanted)
    }

    fn host() -> Vec<Card> {
        vec![
            card("lo", "127.0.0.1", 8),
            card("wan", "203.0.113.7", 24),
            card("wlan0", "192.168.1.5", 24),
            card("wlan0", "fe80::1", 64),
            card("wlan0", "fd00::5", 64),
            card("eth1", "10.1.2.3", 8),
            card("eth0", "169.254.3.4", 16),
        ]
    }

    #[test]
    fn default_route_decides_then_the_name() {
        let name = |routes: &[&str], wanted| chosen(&host(), routes, wanted).unwrap().name;
        assert_eq!(name(&["wan", "wlan0", "eth1"], None), "wlan0");
        assert_eq!(name(&["wan"], None), "eth0");
        assert_eq!(name(&[], None), "eth0");
        assert_eq!(name(&["wlan0"], Some("eth1")), "eth1");
    }

    #[test]
    fn interfaces_that_are_down_or_tunnels_are_left_out() {
        let mut cards = vec![card("eth0", "10.0.0.1", 8), card("tun0", "10.9.0.1", 24)];
        cards[0].is_up = false;
        cards[1].is_point_to_point = true;
        let error = chosen(&cards, &["tun0"], None).unwrap_err();
        for part in [
            "no network interface",
            "eth0, tun0",
            "--lan-interface",
            "--listen",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(chosen(&cards, &[], Some("tun0")).unwrap().name, "tun0");
        let error = chosen(&cards, &[], Some("eth0")).unwrap_err();
        assert!(error.contains("the interface eth0 is not up"), "{error}");
    }

    #[test]
    fn only_private_addresses_are_listened_on_the_best_first() {
        for (addresses, expected) in [
            (
                &["169.254.1.1", "fd00::1", "192.168.0.1"][..],
                Some("192.168.0.1"),
            ),
            (&["169.254.1.1", "fd00::1"], Some("fd00::1")),
            (&["fe80::1", "169.254.1.1"], Some("169.254.1.1")),
            (&["fe80::1", "8.8.8.8", "172.32.0.1", "2001:db8::1"], None),
        ] {
            let cards: Vec<Card> = addresses.iter().map(|ip| card("a", ip, 16)).collect();
            let address = chosen(&cards, &[], None)
                .ok()
                .map(|own| own.address.to_string());
            assert_eq!(address.as_deref(), expected, "{addresses:?}");
        }
    }

    #[test]
    fn addresses_outside_of_the_own_subnets_are_not_held() {
        let own = chosen(&host(), &[], Some("wlan0")).unwrap();
        for (ip, is_held) in [
            ("192.168.1.99", true),
            ("192.168.2.99", false),
            ("10.1.2.3", false),
            ("203.0.113.7", false),
            ("127.0.0.1", false),
            ("fd00::99", true),
            ("fd00:0:0:1::99", false),
            ("fe80::2", false),
        ] {
            assert_eq!(own.holds(ip.parse().unwrap()), is_held, "{ip}");
        }
        // A subnet of all addresses lets private ones through alone.
        let wide = chosen(&[card("a", "10.0.0.1", 0)], &[], None).unwrap();
        assert!(wide.holds("192.168.1.1".parse().unwrap()));
        assert!(!wide.holds("198.51.100.1".parse().unwrap()));
    }

    #[test]
    fn default_routes_are_read_from_the_kernels_lists() {
        let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                  wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
                  eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                  vpn\t00000000\t00000000\t0001\t0\t0\t50\t00000080\t0\t0\t0\n\
                  eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\
                  damaged\n";
        let zero = "0".repeat(32);
        let v6 = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 1 0 00000003 eth2\n\
             {zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 lo\n\
             fd000000000000000000000000000000 40 {zero} 00 {zero} 00000100 1 0 00000001 eth3\n"
        );
        assert_eq!(default_routes(v4, &v6), ["eth0", "wlan0", "eth2"]);
        assert!(default_routes("", "").is_empty());
    }
}
