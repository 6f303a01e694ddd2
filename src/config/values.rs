//! What a value of the configuration may be.
//!
//! Here: one reader for each kind of value, with what it says about a wrong one. Not here: which key takes
//! which (`keys`), numbers with units (`units`).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ringway_proto::dmsg;
use ringway_proto::key::{KeyError, PublicKey};
use ringway_shards::set::{AllowedRelays, Prefix, Proxies};
use toml::Value;

use super::units::{parse_address, parse_duration, parse_size, within};
use super::{Congestion, RegistryChoice};
use crate::access::KeySet;
use crate::dmsg::discovery::url::DiscoveryUrl;
use crate::registry::redis::Redis;
use crate::relay_name::RelayName;

pub(super) fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Integer(_) | Value::Float(_) => Err(format!(
            "{value} is a bare number where text in quotes is expected"
        )),
        _ => Err(format!("{} is not text", kind(value))),
    }
}

pub(super) fn filled(value: &Value) -> Result<&str, String> {
    match text(value)? {
        "" => Err("the text is empty".to_owned()),
        text => Ok(text),
    }
}

pub(super) fn automatic(value: &Value) -> bool {
    matches!(value, Value::String(text) if text == "auto")
}

pub(super) fn count(value: &Value, min: u32, max: u32) -> Result<u32, String> {
    match value {
        Value::Integer(number) => within(*number, min, max),
        Value::Float(_) | Value::String(_) => Err(format!("{value} is no whole number")),
        _ => Err(format!("{} is no whole number", kind(value))),
    }
}

pub(super) fn small<T: TryFrom<u32>>(value: &Value, min: u32, max: u32) -> Result<T, String> {
    T::try_from(count(value, min, max)?).map_err(|_| format!("{value} is too large"))
}

pub(super) fn is_on(value: &Value) -> Result<bool, String> {
    match text(value)? {
        "on" => Ok(true),
        "off" => Ok(false),
        other => Err(format!("{other:?} is neither")),
    }
}

/// Reads who may use a service.
pub(super) fn key_set(value: &Value) -> Result<KeySet, String> {
    if value.as_str() == Some("all") {
        return Ok(KeySet::All);
    }
    let key = |text: &str| PublicKey::parse_any(text).map_err(|error| format!("{text:?}: {error}"));
    let keys = texts(value)?
        .into_iter()
        .map(key)
        .collect::<Result<BTreeSet<_>, String>>()?;
    if keys.len() > KEYS_MAX {
        let have = keys.len();
        return Err(format!("{have} keys are too many; at most {KEYS_MAX}"));
    }
    Ok(KeySet::Listed(keys))
}

pub(super) fn is_off(value: &Value) -> bool {
    value.as_str() == Some("off")
}

pub(super) fn duration(value: &Value, min: Duration, max: Duration) -> Result<Duration, String> {
    if let Value::Integer(number) = value {
        return Err(format!(
            "{number} has no unit; write for example \"{number}s\""
        ));
    }
    let duration = parse_duration(text(value)?)?;
    if duration < min {
        Err(format!("{value} is too short"))
    } else if duration > max {
        Err(format!("{value} is too long"))
    } else {
        Ok(duration)
    }
}

pub(super) fn size_u32(value: &Value, min: u64, max: u64) -> Result<u32, String> {
    let bytes = size(value, min, max)?;
    u32::try_from(bytes).map_err(|_| format!("{value} is too large"))
}

pub(super) fn size(value: &Value, min: u64, max: u64) -> Result<u64, String> {
    if let Value::Integer(number) = value {
        return Err(format!(
            "{number} has no unit; write for example \"{number}MiB\""
        ));
    }
    let bytes = parse_size(text(value)?)?;
    if bytes < min {
        Err(format!("{value} is too small"))
    } else if bytes > max {
        Err(format!("{value} is too large"))
    } else {
        Ok(bytes)
    }
}

pub(super) fn cores(value: &Value) -> Result<Option<Vec<u16>>, String> {
    if automatic(value) {
        return Ok(None);
    }
    let numbers = match value {
        Value::Array(numbers) => numbers.iter().map(|n| small(n, 0, 65_535)).collect(),
        // A flag or a variable: "0,1", or "0" alone.
        Value::Integer(_) => small(value, 0, 65_535).map(|core| vec![core]),
        Value::String(list) => list
            .split(',')
            .map(|core| {
                core.trim()
                    .parse()
                    .map_err(|_| format!("{core:?} is no core number"))
            })
            .collect(),
        _ => Err(format!("{} is no list of core numbers", kind(value))),
    };
    let numbers: Vec<u16> = numbers?;
    if numbers.is_empty() {
        return Err("the list is empty".to_owned());
    }
    for (position, core) in numbers.iter().enumerate() {
        if numbers.iter().take(position).any(|earlier| earlier == core) {
            return Err(format!("core {core} stands there twice"));
        }
    }
    Ok(Some(numbers))
}

pub(super) fn sources(value: &Value) -> Result<Vec<IpAddr>, String> {
    if automatic(value) {
        return Ok(Vec::new());
    }
    let parse = |text: &str| -> Result<IpAddr, String> {
        let source: IpAddr = text
            .trim()
            .parse()
            .map_err(|_| format!("{text:?} is no IP address"))?;
        if source.is_unspecified() || source.is_multicast() {
            return Err(format!("{source} is no address to connect from"));
        }
        Ok(source)
    };
    let sources: Vec<IpAddr> = match value {
        Value::Array(texts) => texts.iter().map(|source| parse(text(source)?)).collect(),
        // A flag or a variable: "192.0.2.1,192.0.2.2".
        Value::String(list) => list.split(',').map(parse).collect(),
        _ => Err(format!("{} is no list of IP addresses", kind(value))),
    }?;
    for (position, source) in sources.iter().enumerate() {
        if sources
            .iter()
            .take(position)
            .any(|earlier| earlier == source)
        {
            return Err(format!("{source} stands there twice"));
        }
    }
    if sources.len() > SOURCES_MAX {
        let count = sources.len();
        return Err(format!(
            "{count} addresses are too many; at most {SOURCES_MAX}"
        ));
    }
    Ok(sources)
}

/// Returns the texts of a list: of a file's, or of a flag or a variable, where commas part them.
fn texts(value: &Value) -> Result<Vec<&str>, String> {
    match value {
        Value::Array(values) => values.iter().map(text).collect(),
        Value::String(list) if list.is_empty() => Ok(Vec::new()),
        Value::String(list) => Ok(list.split(',').map(str::trim).collect()),
        _ => Err(format!("{} is no list", kind(value))),
    }
}

/// Reads the relays of `mesh.relays`, and of a deployment.
pub(super) fn relays(value: &Value) -> Result<Vec<RelayName>, String> {
    relays_by(value, RelayName::parse_native)
}

/// Reads the servers of `dmsg.peers`.
pub(super) fn dmsg_relays(value: &Value) -> Result<Vec<RelayName>, String> {
    relays_by(value, RelayName::parse_dmsg)
}

fn relays_by(
    value: &Value,
    parse: impl Fn(&str) -> Result<RelayName, String>,
) -> Result<Vec<RelayName>, String> {
    let relays: Vec<RelayName> = texts(value)?
        .into_iter()
        .map(|text| parse(text).map_err(|error| format!("{text:?}: {error}")))
        .collect::<Result<_, String>>()?;
    let mut keys = BTreeSet::new();
    if let Some(relay) = relays.iter().find(|relay| !keys.insert(relay.key)) {
        return Err(format!("{} stands there twice", relay.key));
    }
    if relays.len() > RELAYS_MAX {
        let have = relays.len();
        return Err(format!("{have} relays are too many; at most {RELAYS_MAX}"));
    }
    Ok(relays)
}

/// Reads the keys of `mesh.allowed`, and of a deployment.
pub(super) fn allowed_relays(value: &Value) -> Result<AllowedRelays, String> {
    allowed_by(value, |text| text.parse())
}

/// Reads the keys of `dmsg.allowed`.
pub(super) fn allowed_servers(value: &Value) -> Result<AllowedRelays, String> {
    allowed_by(value, dmsg::key::parse)
}

fn allowed_by(
    value: &Value,
    parse: impl Fn(&str) -> Result<PublicKey, KeyError>,
) -> Result<AllowedRelays, String> {
    if value.as_str() == Some("all") {
        return Ok(AllowedRelays::All);
    }
    let key = |text: &str| parse(text).map_err(|error| format!("{text:?}: {error}"));
    let keys = texts(value)?.into_iter().map(key);
    Ok(AllowedRelays::Listed(keys.collect::<Result<_, String>>()?))
}

/// Reads the proxies of `dmsg.proxy_protocol`.
pub(super) fn proxies(value: &Value) -> Result<Proxies, String> {
    match value.as_str() {
        Some("all") => return Ok(Proxies::All),
        Some("off") => return Ok(Proxies::NONE),
        _ => {}
    }
    let prefixes: Vec<Prefix> = texts(value)?
        .into_iter()
        .map(prefix)
        .collect::<Result<_, String>>()?;
    if prefixes.len() > PROXIES_MAX {
        let have = prefixes.len();
        return Err(format!(
            "{have} proxies are too many; at most {PROXIES_MAX}"
        ));
    }
    Ok(Proxies::Listed(prefixes))
}

/// Reads an address, or the first one of those that share some bits with it, a slash and how many.
fn prefix(text: &str) -> Result<Prefix, String> {
    let (first, len) = match text.split_once('/') {
        Some((first, len)) => (first, Some(len)),
        None => (text, None),
    };
    let first: IpAddr = first
        .parse()
        .map_err(|_| format!("{text:?} is no IP address and no prefix of some"))?;
    let bits = if first.is_ipv4() { 32 } else { 128 };
    let len = match len {
        Some(len) => within(len.parse().unwrap_or(-1), 0, bits)
            .map_err(|error| format!("{text:?}: length of the prefix: {error}"))?,
        None => bits,
    };
    let len = u8::try_from(len).map_err(|_| format!("{text:?} is no prefix"))?;
    Prefix::new(first, len).ok_or_else(|| {
        format!("{text:?} has bits behind its prefix: write its first address, or no prefix")
    })
}

/// Reads a host, by address or by name, with a port.
pub(super) fn host_and_port(text: &str) -> Result<String, String> {
    let port = text
        .rsplit_once(':')
        .map(|(host, port)| (host, port.parse::<u16>()));
    match port {
        Some((host, Ok(port))) if !host.is_empty() && port != 0 && text.len() <= HOST_LEN_MAX => {
            Ok(text.to_owned())
        }
        _ => Err(format!("{text:?} is no host with a port")),
    }
}

/// Reads the discoveries of `dmsg.discovery`.
pub(super) fn discoveries(value: &Value) -> Result<Vec<DiscoveryUrl>, String> {
    let urls = texts(value)?;
    if urls.len() > DISCOVERIES_MAX {
        let have = urls.len();
        return Err(format!("{have} are too many; at most {DISCOVERIES_MAX}"));
    }
    urls.into_iter().map(str::parse).collect()
}

/// Reads a word that others are told.
pub(super) fn word(text: &str) -> Result<String, String> {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if text.len() > WORD_LEN_MAX || !text.chars().all(is_letter) {
        return Err(format!("{text:?} is no such word"));
    }
    Ok(text.to_owned())
}

/// Longest host with a port: a name of 253 letters (RFC 1035), a colon, five digits.
const HOST_LEN_MAX: usize = 259;

/// Longest word that others are told.
const WORD_LEN_MAX: usize = 64;

/// Discoveries of one relay.
const DISCOVERIES_MAX: usize = 8;

/// Reads the registry of `mesh.registry`, and of a deployment.
pub(super) fn registry(value: &Value) -> Result<RegistryChoice, String> {
    match filled(value)? {
        "embedded" => Ok(RegistryChoice::Embedded),
        "off" => Ok(RegistryChoice::Off),
        // What is wrong with an address must not repeat it: it may hold a password.
        url => match Redis::new(url, "") {
            Ok(_) => Ok(RegistryChoice::Redis(url.to_owned())),
            Err(error) => Err(format!("no address of a Redis: {error}")),
        },
    }
}

pub(super) fn announced(text: &str) -> Result<SocketAddr, String> {
    let address = parse_address(text)?;
    if address.ip().is_unspecified() || address.ip().is_multicast() || address.port() == 0 {
        return Err(format!("{text:?} is no address that others can reach"));
    }
    Ok(address)
}

pub(super) fn congestion(value: &Value) -> Result<Congestion, String> {
    match filled(value)? {
        "auto" => Ok(Congestion::Automatic),
        "system" => Ok(Congestion::System),
        // Bound: TCP_CA_NAME_MAX of the kernel is 16 with the closing zero.
        name if name.len() < 16 && name.bytes().all(is_name_byte) => {
            Ok(Congestion::Named(name.to_owned()))
        }
        other => Err(format!("{other:?} is no name of an algorithm")),
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-'
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "a list",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Float(_) | Value::Integer(_) => "a number",
        Value::String(_) => "text",
        Value::Table(_) => "a table",
    }
}

/// Most relays that one keeps links with: a link and a timer each, a shard.
const RELAYS_MAX: usize = 1_024;

/// Most keys of one set: it is looked at for each stream to its service, and 48 bytes each.
const KEYS_MAX: usize = 65_536;

/// Most proxies: each is looked at for each header.
const PROXIES_MAX: usize = 256;

/// Most source addresses: each is a budget that an exhausted dial looks at, and 4 KiB a shard.
const SOURCES_MAX: usize = 64;
