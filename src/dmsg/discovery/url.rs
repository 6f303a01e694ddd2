//! Addresses of discoveries.
//!
//! Here: their text. Not here: names, which are looked up at each connection.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Where a discovery is: `http://HOST[:PORT][/PREFIX]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiscoveryUrl {
    host: String,
    port: u16,
    /// What stands before `/dmsg-discovery`: empty, or a path without a slash at its end.
    prefix: String,
}

impl DiscoveryUrl {
    /// Returns the host, without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the path of a page below `/dmsg-discovery/`.
    pub(crate) fn path(&self, page: &str) -> String {
        format!("{}/dmsg-discovery/{page}", self.prefix)
    }

    /// Returns host and port as a request names them.
    pub(crate) fn authority(&self) -> String {
        let host = match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => self.host.clone(),
        };
        match self.port {
            HTTP_PORT => host,
            port => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for DiscoveryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.prefix)
    }
}

impl FromStr for DiscoveryUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hint = "expected http://HOST[:PORT], for example http://127.0.0.1:9090";
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("{text:?} is no URL: {hint}"));
        };
        match scheme {
            "http" => {}
            "https" => return Err(format!("{text:?}: {WITHOUT_TLS}")),
            "dmsg" => return Err(format!("{text:?}: {WITHOUT_DMSG}")),
            _ => return Err(format!("{text:?}: {scheme} is not supported: {hint}")),
        }
        let (place, prefix) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let is_plain = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_graphic() && !b"?#@\\\"".contains(&b))
        };
        if !is_plain(place) || !is_plain(prefix) {
            return Err(format!(
                "{text:?} has more than host, port and path: {hint}"
            ));
        }
        let (host, port) = split(place).ok_or_else(|| format!("{text:?} has no host: {hint}"))?;
        let port = match port {
            None => HTTP_PORT,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| format!("{text:?}: {port:?} is no port: expected 1 to 65535"))?,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            prefix: prefix.trim_end_matches('/').to_owned(),
        })
    }
}

/// Splits `host:port`, `[host]:port` or a host alone.
fn split(place: &str) -> Option<(&str, Option<&str>)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            let is_ip = host.parse::<std::net::Ipv6Addr>().is_ok();
            match rest.strip_prefix(':') {
                Some(port) if is_ip => (host, Some(port)),
                None if is_ip && rest.is_empty() => (host, None),
                _ => return None,
            }
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    (!host.is_empty()).then_some((host, port))
}

/// Port of HTTP.
const HTTP_PORT: u16 = 80;

/// Why `https` is refused, and what to do.
const WITHOUT_TLS: &str = "https is not supported, since this program has no TLS and entries are signed anyway: name the \
                           discovery with http, or put a proxy that speaks https for it on this host";

/// Why `dmsg` is refused, and what to do.
const WITHOUT_DMSG: &str = "a discovery over dmsg itself is not supported, since a relay needs it before it has \
                            sessions: name the discovery with http";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_host_port_and_prefix() {
        for (text, authority, path, shown) in [
            (
                "http://127.0.0.1:9090",
                "127.0.0.1:9090",
                "/dmsg-discovery/x",
                None,
            ),
            (
                "http://127.0.0.1:9090/",
                "127.0.0.1:9090",
                "/dmsg-discovery/x",
                Some("http://127.0.0.1:9090"),
            ),
            ("http://a.example", "a.example", "/dmsg-discovery/x", None),
            (
                "http://a.example:80/b/c/",
                "a.example",
                "/b/c/dmsg-discovery/x",
                Some("http://a.example/b/c"),
            ),
            ("http://[::1]:9090", "[::1]:9090", "/dmsg-discovery/x", None),
            ("http://[::1]", "[::1]", "/dmsg-discovery/x", None),
        ] {
            let url: DiscoveryUrl = text.parse().unwrap();
            assert_eq!(url.authority(), authority);
            assert_eq!(url.path("x"), path);
            assert_eq!(url.to_string(), shown.unwrap_or(text));
        }
    }

    #[test]
    fn what_is_not_supported_is_told_with_the_way_round_it() {
        for (text, part) in [
            ("https://a.example", "a proxy that speaks https"),
            ("dmsg://02ab:80", "name the discovery with http"),
            ("ftp://a.example", "ftp is not supported"),
            ("127.0.0.1:9090", "is no URL"),
            ("http://", "has no host"),
            ("http://:9090", "has no host"),
            ("http://[::1", "has no host"),
            ("http://[x]:1", "has no host"),
            ("http://[::1]9090", "has no host"),
            ("http://a:0", "is no port"),
            ("http://a:x", "is no port"),
            ("http://a:65536", "is no port"),
            ("http://me:secret@a", "more than host"),
            ("http://a/?b", "more than host"),
            ("http://a b", "more than host"),
            ("http://a\r\nX: y", "more than host"),
        ] {
            let error = text.parse::<DiscoveryUrl>().unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
