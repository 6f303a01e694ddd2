//! The host in an address as servers write it.
//!
//! Here: what a discovery has to know of it. Not here: names, which nobody looks up there.

use core::net::IpAddr;

/// Returns whether an address `host:port` is one that others cannot dial: it names the own host by number, or
/// no host. What is no such address at all is somebody else's problem.
pub(super) fn is_loopback(address: &str) -> bool {
    let Some(host) = host_of(address) else {
        return false;
    };
    let ip = host.parse::<IpAddr>();
    host.is_empty() || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Returns the host of `host:port` or `[host]:port`.
fn host_of(address: &str) -> Option<&str> {
    if let Some(rest) = address.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return port.starts_with(':').then_some(host);
    }
    let (host, port) = address.split_once(':')?;
    (!port.contains(':')).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_host_is_told_by_number() {
        for address in [
            "127.0.0.1:8081",
            "127.9.9.9:1",
            "[::1]:8081",
            "[::ffff:127.0.0.1]:8081",
            ":8081",
            "[]:8081",
        ] {
            assert!(is_loopback(address), "{address}");
        }
        for address in [
            "192.0.2.1:8081",
            "[2001:db8::1]:8081",
            "localhost:8081",
            "127.0.0.1",
            "::1",
            "::1:8081",
            "[::1]",
            "",
        ] {
            assert!(!is_loopback(address), "{address}");
        }
    }
}
