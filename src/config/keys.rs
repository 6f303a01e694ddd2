//! The one table of configuration keys.
//!
//! Here: for each key its path, what it accepts, its default, its meaning, and how it is applied; the
//! checks, the environment names and the documentation test all go over this table. Not here: where
//! the values come from.
//!
//! Invariant: every default in the table, applied, gives `Config::default()` (tested).

use std::path::PathBuf;
use std::time::Duration;

use ringway_proto::limits::WINDOW_INITIAL;
use ringway_shards::set::Placement;
use toml::Value;

use super::units::{parse_address, parse_port_range};
use super::values::{
    allowed_relays, allowed_servers, announced, automatic, congestion, cores, count, discoveries,
    dmsg_relays, duration, filled, host_and_port, is_off, is_on, key_set, proxies, registry,
    relays, size, size_u32, small, sources, text, word,
};
use super::{Announce, Config, LogFormat, Preflight, SESSIONS_MAX_MAX};
use crate::access::KeySet;

/// One configuration key.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its path in the file, tables separated by dots.
    pub(crate) path: &'static str,
    /// What it accepts, for people.
    pub(crate) accepts: &'static str,
    /// Its default as it would stand in the file; empty when there is none to write.
    pub(crate) default: &'static str,
    /// Puts a value into the settings.
    pub(super) apply: fn(&mut Config, &Value) -> Result<(), String>,
}

impl Key {
    /// Returns the environment variable that overrides the key.
    pub(crate) fn variable(&self) -> String {
        let mut name = "RINGWAY_".to_owned();
        name.extend(self.path.chars().map(|letter| match letter {
            '.' => '_',
            other => other.to_ascii_uppercase(),
        }));
        name
    }

    /// Returns the default as a value, where there is one to write.
    pub(super) fn default_value(&self) -> Option<Value> {
        let table: toml::Table = format!("value = {}", self.default).parse().ok()?;
        table.get("value").cloned()
    }
}

/// Returns the key with this path.
pub(super) fn key_of(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Every key, in the order of the documentation.
pub(crate) const KEYS: &[Key] = &[
    Key {
        path: "listen",
        accepts: "an IP address and a port, such as \"127.0.0.1:7100\"",
        default: "\"127.0.0.1:7100\"",
        apply: |config, value| {
            config.listen = parse_address(text(value)?)?;
            Ok(())
        },
    },
    Key {
        path: "shards",
        accepts: "\"auto\" or 1 to 256",
        default: "\"auto\"",
        apply: |config, value| {
            config.shards = match automatic(value) {
                true => None,
                false => Some(small(value, 1, SHARDS_MAX)?),
            };
            Ok(())
        },
    },
    Key {
        path: "cores",
        accepts: "\"auto\" or core numbers, one for each shard, such as [0, 1]",
        default: "\"auto\"",
        apply: |config, value| {
            config.cores = cores(value)?;
            Ok(())
        },
    },
    Key {
        path: "placement",
        accepts: "\"balanced\", \"hash\" or \"reuseport\"",
        default: "\"balanced\"",
        apply: |config, value| {
            let name = text(value)?;
            let placement = Placement::ALL.into_iter().find(|one| one.name() == name);
            config.placement =
                placement.ok_or_else(|| format!("{name:?} is no way to share out connections"))?;
            Ok(())
        },
    },
    Key {
        path: "key_file",
        accepts: "a path",
        default: "",
        apply: |config, value| {
            config.key_file = Some(PathBuf::from(filled(value)?));
            Ok(())
        },
    },
    Key {
        path: "preflight",
        accepts: "\"off\", \"warn\" or \"strict\"",
        default: "\"warn\"",
        apply: |config, value| {
            config.preflight = match text(value)? {
                "off" => Preflight::Off,
                "strict" => Preflight::Strict,
                "warn" => Preflight::Warn,
                other => return Err(format!("{other:?} is no way to check the host")),
            };
            Ok(())
        },
    },
    Key {
        path: "admin.listen",
        accepts: "\"off\" or an IP address and a port, such as \"127.0.0.1:7180\"",
        default: "\"127.0.0.1:7180\"",
        apply: |config, value| {
            config.admin_listen = match text(value)? {
                "off" => None,
                address => Some(parse_address(address)?),
            };
            Ok(())
        },
    },
    Key {
        path: "limits.sessions_max",
        accepts: "\"auto\" or 1 to 1000000",
        default: "\"auto\"",
        apply: |config, value| {
            config.sessions_max = match automatic(value) {
                true => None,
                false => Some(count(value, 1, SESSIONS_MAX_MAX)?),
            };
            Ok(())
        },
    },
    Key {
        path: "limits.handshakes_max",
        accepts: "1 to 65536",
        default: "4096",
        apply: |config, value| {
            config.handshakes_max = count(value, 1, 65_536)?;
            Ok(())
        },
    },
    Key {
        path: "limits.handshakes_source_max",
        accepts: "1 to 65536",
        default: "1024",
        apply: |config, value| {
            config.handshakes_source_max = count(value, 1, 65_536)?;
            Ok(())
        },
    },
    Key {
        path: "limits.accepts_per_s_max",
        accepts: "1 to 1000000",
        default: "10000",
        apply: |config, value| {
            config.accepts_per_s_max = count(value, 1, 1_000_000)?;
            Ok(())
        },
    },
    Key {
        path: "limits.streams_max",
        accepts: "1 to 65536",
        default: "2048",
        apply: |config, value| {
            config.streams_max = count(value, 1, 65_536)?;
            Ok(())
        },
    },
    Key {
        path: "limits.shard_streams_max",
        accepts: "2 to 100000000",
        default: "262144",
        apply: |config, value| {
            config.shard_streams_max = count(value, 2, 100_000_000)?;
            Ok(())
        },
    },
    Key {
        path: "limits.session_queue",
        accepts: "a size from \"256KiB\" to \"1GiB\"",
        default: "\"32MiB\"",
        apply: |config, value| {
            // The window that every stream starts with must fit, or an honest sender is reset.
            let bytes = size(value, WINDOW_INITIAL.into(), 1 << 30)?;
            config.session_queue_bytes_max =
                u32::try_from(bytes).map_err(|_| format!("{value} is too large"))?;
            Ok(())
        },
    },
    Key {
        path: "limits.shard_queue",
        accepts: "a size from \"1MiB\" to \"1024GiB\"",
        default: "\"1GiB\"",
        apply: |config, value| {
            config.shard_queue_bytes_max = size(value, 1 << 20, 1 << 40)?;
            Ok(())
        },
    },
    Key {
        path: "limits.receive_memory",
        accepts: "a size from \"8MiB\" to \"8GiB\"",
        default: "\"256MiB\"",
        apply: |config, value| {
            // From the blocks that are lent to the kernel at rest to what their numbers can say.
            config.receive_bytes_max = size(value, 8 << 20, 8 << 30)?;
            Ok(())
        },
    },
    Key {
        path: "limits.keepalive",
        accepts: "a duration in whole seconds from \"1s\" to \"1h\"",
        default: "\"30s\"",
        apply: |config, value| {
            let keepalive = duration(value, Duration::from_secs(1), HOUR)?;
            if keepalive.subsec_nanos() != 0 {
                return Err(format!("{value} is not a whole number of seconds"));
            }
            config.timeouts.keepalive = keepalive;
            Ok(())
        },
    },
    Key {
        path: "timeouts.handshake",
        accepts: "a duration from \"100ms\" to \"1h\"",
        default: "\"5s\"",
        apply: |config, value| {
            config.timeouts.handshake = duration(value, Duration::from_millis(100), HOUR)?;
            Ok(())
        },
    },
    Key {
        path: "timeouts.open",
        accepts: "a duration from \"100ms\" to \"1h\"",
        default: "\"5s\"",
        apply: |config, value| {
            config.timeouts.open = duration(value, Duration::from_millis(100), HOUR)?;
            Ok(())
        },
    },
    Key {
        path: "timeouts.half_closed",
        accepts: "a duration from \"1s\" to \"1d\"",
        default: "\"1m\"",
        apply: |config, value| {
            config.timeouts.half_closed = duration(value, Duration::from_secs(1), DAY)?;
            Ok(())
        },
    },
    Key {
        path: "timeouts.bridge_idle",
        accepts: "a duration from \"1s\" to \"1d\"",
        default: "\"5m\"",
        apply: |config, value| {
            config.timeouts.bridge_idle = duration(value, Duration::from_secs(1), DAY)?;
            Ok(())
        },
    },
    Key {
        path: "timeouts.send_stall",
        accepts: "a duration from \"1s\" to \"1h\"",
        default: "\"30s\"",
        apply: |config, value| {
            config.timeouts.send_stall = duration(value, Duration::from_secs(1), HOUR)?;
            Ok(())
        },
    },
    Key {
        path: "tcp.congestion",
        accepts: "\"auto\", \"system\" or the name of an algorithm of this kernel, such as \"cubic\"",
        default: "\"auto\"",
        apply: |config, value| {
            config.congestion = congestion(value)?;
            Ok(())
        },
    },
    Key {
        path: "tcp.zero_copy",
        accepts: "\"off\" or a size from \"4KiB\" to \"256KiB\"",
        default: "\"off\"",
        apply: |config, value| {
            config.zero_copy_min = match is_off(value) {
                true => None,
                // A send holds no more than a batch does.
                false => Some(size_u32(value, 4 << 10, 256 << 10)?),
            };
            Ok(())
        },
    },
    Key {
        path: "tcp.backlog",
        accepts: "1 to 65535",
        default: "4096",
        apply: |config, value| {
            config.backlog = count(value, 1, 65_535)?;
            Ok(())
        },
    },
    Key {
        path: "ports.sources",
        accepts: "a list of IP addresses of this host, such as [\"192.0.2.1\", \"192.0.2.2\"], or \"auto\"",
        default: "\"auto\"",
        apply: |config, value| {
            config.port_sources = sources(value)?;
            Ok(())
        },
    },
    Key {
        path: "ports.range",
        accepts: "\"auto\" or the first and the last port, such as \"20000-59999\", from 1024 to 65535",
        default: "\"auto\"",
        apply: |config, value| {
            config.port_range = match automatic(value) {
                true => None,
                false => Some(parse_port_range(text(value)?)?),
            };
            Ok(())
        },
    },
    Key {
        path: "ports.quarantine",
        accepts: "a duration from \"0s\" to \"5m\"",
        default: "\"1s\"",
        apply: |config, value| {
            config.port_quarantine = duration(value, Duration::ZERO, Duration::from_secs(300))?;
            Ok(())
        },
    },
    Key {
        path: "ports.dials_max",
        accepts: "1 to 65535",
        default: "256",
        apply: |config, value| {
            config.dials_max = count(value, 1, 65_535)?;
            Ok(())
        },
    },
    Key {
        path: "mesh.relays",
        accepts: "a list of relays, such as [\"KEY@relay.example:7100\"], each as `ringway serve` prints it",
        default: "[]",
        apply: |config, value| {
            config.relays = relays(value)?;
            Ok(())
        },
    },
    Key {
        path: "mesh.allowed",
        accepts: "\"all\" or a list of relays' keys",
        default: "[]",
        apply: |config, value| {
            config.allowed_relays = allowed_relays(value)?;
            Ok(())
        },
    },
    Key {
        path: "mesh.links_max",
        accepts: "1 to 4096",
        default: "64",
        apply: |config, value| {
            config.links_max = count(value, 1, 4_096)?;
            Ok(())
        },
    },
    Key {
        path: "mesh.announce_peers",
        accepts: "\"on\" or \"off\"",
        default: "\"on\"",
        apply: |config, value| {
            config.announces_peers = is_on(value)?;
            Ok(())
        },
    },
    Key {
        path: "mesh.registry",
        accepts: "\"embedded\", \"off\" or the address of a Redis or Valkey, such as \
                  \"redis://:PASSWORD@registry.example:6379/0\" or \"redis+unix:///run/redis.sock\"",
        default: "\"embedded\"",
        apply: |config, value| {
            config.registry = registry(value)?;
            Ok(())
        },
    },
    Key {
        path: "mesh.registry_prefix",
        accepts: "a text of at most 64 characters",
        default: "\"ringway:\"",
        apply: |config, value| {
            let prefix = text(value)?;
            if prefix.len() > REGISTRY_PREFIX_MAX || prefix.chars().any(char::is_control) {
                return Err(format!("{prefix:?} is no prefix"));
            }
            config.registry_prefix = prefix.to_owned();
            Ok(())
        },
    },
    Key {
        path: "mesh.lease",
        accepts: "a duration from \"3s\" to \"5m\"",
        default: "\"15s\"",
        apply: |config, value| {
            config.lease = duration(value, Duration::from_secs(3), Duration::from_secs(300))?;
            Ok(())
        },
    },
    Key {
        path: "mesh.announce",
        accepts: "\"auto\", \"off\" or an IP address and a port, such as \"192.0.2.1:7100\"",
        default: "\"auto\"",
        apply: |config, value| {
            config.announce = match text(value)? {
                "auto" => Announce::Automatic,
                "off" => Announce::Off,
                address => Announce::At(announced(address)?),
            };
            Ok(())
        },
    },
    Key {
        path: "services.http",
        accepts: "\"all\", \"off\" or a list of keys, such as [\"KEY\"]",
        default: "\"all\"",
        apply: |config, value| {
            config.services.http = match is_off(value) {
                true => KeySet::none(),
                false => key_set(value)?,
            };
            Ok(())
        },
    },
    Key {
        path: "services.debug",
        accepts: "\"all\" or a list of keys, such as [\"KEY\"]",
        default: "[]",
        apply: |config, value| {
            config.services.debug = key_set(value)?;
            Ok(())
        },
    },
    Key {
        path: "services.enable_route_setup",
        accepts: "\"on\" or \"off\"",
        default: "\"on\"",
        apply: |config, value| {
            config.services.has_route_setup = is_on(value)?;
            Ok(())
        },
    },
    Key {
        path: "services.route_setup",
        accepts: "\"all\" or a list of keys, such as [\"KEY\"]",
        default: "\"all\"",
        apply: |config, value| {
            config.services.route_setup = key_set(value)?;
            Ok(())
        },
    },
    Key {
        path: "services.route_finder",
        accepts: "\"embedded\" or the key of the relay that finds routes",
        default: "\"embedded\"",
        apply: |config, value| {
            config.services.route_finder = match filled(value)? {
                "embedded" => None,
                key => Some(key.parse().map_err(|error| format!("{key:?}: {error}"))?),
            };
            Ok(())
        },
    },
    Key {
        path: "services.setups_max",
        accepts: "1 to 10000",
        default: "20",
        apply: |config, value| {
            config.services.setups_max = count(value, 1, 10_000)?;
            Ok(())
        },
    },
    Key {
        path: "services.setups_waiting_max",
        accepts: "0 to 100000",
        default: "256",
        apply: |config, value| {
            config.services.setups_waiting_max = count(value, 0, 100_000)?;
            Ok(())
        },
    },
    Key {
        path: "services.setup_timeout",
        accepts: "a duration from \"100ms\" to \"1m\"",
        default: "\"10s\"",
        apply: |config, value| {
            let longest = Duration::from_secs(60);
            config.services.setup_timeout = duration(value, Duration::from_millis(100), longest)?;
            Ok(())
        },
    },
    Key {
        path: "dmsg.listen",
        accepts: "\"off\" or an IP address and a port, such as \"0.0.0.0:8081\"",
        default: "\"off\"",
        apply: |config, value| {
            config.dmsg.listen = match text(value)? {
                "off" => None,
                address => Some(parse_address(address)?),
            };
            Ok(())
        },
    },
    Key {
        path: "dmsg.key_file",
        accepts: "a path",
        default: "",
        apply: |config, value| {
            config.dmsg.key_file = Some(PathBuf::from(filled(value)?));
            Ok(())
        },
    },
    Key {
        path: "dmsg.public_address",
        accepts: "a host and a port, such as \"relay.example:8081\"",
        default: "",
        apply: |config, value| {
            config.dmsg.public_address = Some(host_and_port(filled(value)?)?);
            Ok(())
        },
    },
    Key {
        path: "dmsg.discovery",
        accepts: "URLs, such as [\"http://127.0.0.1:9090\"]",
        default: "[]",
        apply: |config, value| {
            config.dmsg.discoveries = discoveries(value)?;
            Ok(())
        },
    },
    Key {
        path: "dmsg.auth",
        accepts: "a word of at most 64 letters, digits, '-' and '_'",
        default: "",
        apply: |config, value| {
            config.dmsg.auth = Some(word(filled(value)?)?);
            Ok(())
        },
    },
    Key {
        path: "dmsg.peers",
        accepts: "servers, such as [\"KEY@203.0.113.7:8081\"]",
        default: "[]",
        apply: |config, value| {
            config.dmsg.peers = dmsg_relays(value)?;
            Ok(())
        },
    },
    Key {
        path: "dmsg.link_all",
        accepts: "\"on\" or \"off\"",
        default: "\"on\"",
        apply: |config, value| {
            config.dmsg.links_all = is_on(value)?;
            Ok(())
        },
    },
    Key {
        path: "dmsg.allowed",
        accepts: "\"all\" or keys of servers",
        default: "[]",
        apply: |config, value| {
            config.dmsg.allowed = allowed_servers(value)?;
            Ok(())
        },
    },
    Key {
        path: "dmsg.announce",
        accepts: "\"on\" or \"off\"",
        default: "\"on\"",
        apply: |config, value| {
            config.dmsg.announces_itself = is_on(value)?;
            Ok(())
        },
    },
    Key {
        path: "dmsg.geo_database",
        accepts: "a path",
        default: "",
        apply: |config, value| {
            config.dmsg.geo_database = Some(PathBuf::from(filled(value)?));
            Ok(())
        },
    },
    Key {
        path: "dmsg.proxy_protocol",
        accepts: "\"off\", \"all\" or addresses and prefixes of proxies, such as [\"10.0.0.0/8\"]",
        default: "\"off\"",
        apply: |config, value| {
            config.dmsg.proxies = proxies(value)?;
            Ok(())
        },
    },
    Key {
        path: "poll.spin",
        accepts: "a duration from \"0us\" (off) to \"10ms\"",
        default: "\"20us\"",
        apply: |config, value| {
            config.spin = duration(value, Duration::ZERO, Duration::from_millis(10))?;
            Ok(())
        },
    },
    Key {
        path: "poll.napi",
        accepts: "\"off\" or a duration from \"1us\" to \"10ms\"",
        default: "\"off\"",
        apply: |config, value| {
            config.napi = match is_off(value) {
                true => None,
                false => {
                    let longest = Duration::from_millis(10);
                    Some(duration(value, Duration::from_micros(1), longest)?)
                }
            };
            Ok(())
        },
    },
    Key {
        path: "drain.timeout",
        accepts: "a duration from \"0s\" to \"1h\"",
        default: "\"30s\"",
        apply: |config, value| {
            config.drain_timeout = duration(value, Duration::ZERO, Duration::from_secs(3_600))?;
            Ok(())
        },
    },
    Key {
        path: "log.format",
        accepts: "\"text\" or \"json\"",
        default: "\"text\"",
        apply: |config, value| {
            config.log_format = match text(value)? {
                "json" => LogFormat::Json,
                "text" => LogFormat::Text,
                other => return Err(format!("{other:?} is no log format")),
            };
            Ok(())
        },
    },
    Key {
        path: "log.level",
        accepts: "\"error\", \"warn\", \"info\", \"debug\", \"trace\" or a filter such as \
                  \"warn,ringway=debug\"",
        default: "\"warn\"",
        apply: |config, value| {
            let level = filled(value)?;
            tracing_subscriber::EnvFilter::builder()
                .parse(level)
                .map_err(|error| format!("{level:?} is no log level ({error})"))?;
            config.log_level = level.to_owned();
            Ok(())
        },
    },
];

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Most shards of one relay: every pair of them has a mailbox, so memory grows with the square.
const SHARDS_MAX: u32 = 256;

/// Longest prefix of a registry's keys: each of them has it.
const REGISTRY_PREFIX_MAX: usize = 64;

#[cfg(test)]
mod tests;
