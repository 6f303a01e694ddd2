//! Which local TCP ports a relay dials from.
//!
//! Here: the configured range, or the host's, without the ports that are spoken for. Not here: how the
//! shards share them (`ringway_shards::ports`), the limit's check (`ringway-tuning`).
//!
//! Source: kernel Documentation/networking/ip-sysctl.rst, `ip_local_port_range` and
//! `ip_local_reserved_ports`; they hold for IPv6 too.

use std::fs;
use std::net::SocketAddr;

use ringway_proto::limits::{LOCAL_PORT_MAX, LOCAL_PORT_MIN};
use ringway_shards::ports::{PortSet, PortsConfig};

use crate::config::Config;
use crate::proc_text;

/// Returns the ports part of the data plane's settings.
pub(crate) fn ports_config(config: &Config) -> PortsConfig {
    let own = [Some(config.listen), config.admin_listen];
    let own = own.into_iter().flatten();
    let range = match config.port_range {
        // Ports that the host reserves are meant for programs that name them, as this range does.
        Some(range) => without(range, own),
        None => host_range(
            &read("/proc/sys/net/ipv4/ip_local_port_range"),
            &read("/proc/sys/net/ipv4/ip_local_reserved_ports"),
            own,
        ),
    };
    PortsConfig {
        sources: config.port_sources.clone(),
        range,
        quarantine: config.port_quarantine,
        dials_max: config.dials_max,
    }
}

/// Returns the ports of a range, both ends included, without those of `own`.
pub(crate) fn without(range: (u16, u16), own: impl Iterator<Item = SocketAddr>) -> PortSet {
    let mut ports = PortSet::range(range.0, range.1);
    for address in own {
        ports.remove(address.port());
    }
    ports
}

/// Returns what the kernel would choose from, by the texts of its two settings.
fn host_range(range: &str, reserved: &str, own: impl Iterator<Item = SocketAddr>) -> PortSet {
    let range = proc_text::port_range(range).unwrap_or((LOCAL_PORT_MIN, LOCAL_PORT_MAX));
    let mut ports = without(range, own);
    for (first, last) in proc_text::reserved_ports(reserved) {
        for port in first..=last {
            ports.remove(port);
        }
    }
    ports
}

/// Returns a file's text; of a host that hides it, the kernel's defaults are assumed.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| {
        tracing::warn!(path, %error, "cannot be read; the kernel's default is assumed");
        String::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(port: u16) -> std::iter::Once<SocketAddr> {
        std::iter::once(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    #[test]
    fn range_is_the_hosts_without_reserved_and_own_ports() {
        let ports = host_range("40000\t40009\n", "40002,40004-40005,50000\n", own(40_008));
        let left: Vec<u16> = ports.iter().collect();
        assert_eq!(left, [40_000, 40_001, 40_003, 40_006, 40_007, 40_009]);
    }

    #[test]
    fn without_the_hosts_texts_the_kernels_default_holds() {
        let ports = host_range("", "", own(80));
        assert_eq!(ports, PortSet::range(LOCAL_PORT_MIN, LOCAL_PORT_MAX));
    }

    #[test]
    fn configured_range_leaves_out_listen_and_admin() {
        let config = Config {
            port_range: Some((7_099, 7_200)),
            ..Config::default()
        };
        let ports = ports_config(&config).range;
        assert_eq!(ports.len(), 100);
        assert!(!ports.contains(7_100) && !ports.contains(7_180));
    }
}
