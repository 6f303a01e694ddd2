//! Property tests of the PROXY protocol's headers: roundtrips, pieces, any bytes.

use std::net::{IpAddr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use ringway_proto::limits::PROXY_HEADER_MAX;
use ringway_proto::proxy::{Beginning, Origin, ProxyError, read};
use ringway_proto::reason::Reason;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// What a proxy passes on: two addresses of one family, their ports.
fn ends() -> impl Strategy<Value = [SocketAddr; 2]> {
    let ports = any::<[u16; 2]>();
    let ipv4 = any::<[[u8; 4]; 2]>().prop_map(|ips| ips.map(IpAddr::from));
    let ipv6 = any::<[[u8; 16]; 2]>().prop_map(|ips| ips.map(IpAddr::from));
    (prop_oneof![ipv4, ipv6], ports)
        .prop_map(|([a, b], [p, q])| [SocketAddr::new(a, p), SocketAddr::new(b, q)])
}

fn line([source, target]: &[SocketAddr; 2]) -> Vec<u8> {
    let family = if source.is_ipv4() { 4 } else { 6 };
    let (ip, port) = (source.ip(), source.port());
    let text = format!(
        "PROXY TCP{family} {ip} {} {port} {}\r\n",
        target.ip(),
        target.port()
    );
    text.into_bytes()
}

fn block([source, target]: &[SocketAddr; 2], fields: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for end in [source, target] {
        match end.ip() {
            IpAddr::V4(ip) => body.extend(ip.octets()),
            IpAddr::V6(ip) => body.extend(ip.octets()),
        }
    }
    body.extend(source.port().to_be_bytes());
    body.extend(target.port().to_be_bytes());
    for (kind, value) in fields {
        body.push(*kind);
        body.extend(length(value));
        body.extend(value);
    }
    let family = if source.is_ipv4() { 0x11 } else { 0x21 };
    [&SIGNATURE[..], &[0x21, family], &length(&body), &body].concat()
}

fn length(bytes: &[u8]) -> [u8; 2] {
    let length = u16::try_from(bytes.len()).expect("a short header");
    length.to_be_bytes()
}

/// Headers with the addresses that they name, all within the bound.
fn header() -> impl Strategy<Value = (Vec<u8>, SocketAddr)> {
    let fields = vec((any::<u8>(), vec(any::<u8>(), 0..60)), 0..8);
    (ends(), any::<bool>(), fields).prop_map(|(ends, is_line, fields)| {
        let bytes = if is_line {
            line(&ends)
        } else {
            block(&ends, &fields)
        };
        let [source, _] = ends;
        (
            bytes,
            SocketAddr::new(source.ip().to_canonical(), source.port()),
        )
    })
}

/// Bytes that often begin as a header does.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let rest = || vec(any::<u8>(), 0..700);
    let text = "PROXY (TCP4|TCP6|UNKNOWN|TCP)[ 0-9a-f.:\r\n]{0,120}";
    let head = (0x1f_u8..0x24, any::<u8>(), 0_u16..600).prop_map(|(command, family, len)| {
        let len = len.to_be_bytes();
        [&SIGNATURE[..], &[command, family], &len].concat()
    });
    prop_oneof![
        rest(),
        text.prop_map(String::into_bytes),
        (head, rest()).prop_map(|(head, rest)| [head, rest].concat()),
        header().prop_map(|(bytes, _)| bytes),
    ]
}

proptest! {
    #[test]
    fn header_is_read_whatever_follows_it(
        (header, source) in header(),
        behind in vec(any::<u8>(), 0..80),
    ) {
        let origin = Origin::Address(source);
        let len = header.len();
        let bytes = [header, behind].concat();
        prop_assert_eq!(read(&bytes), Ok(Beginning::Header { len, origin }));
    }

    #[test]
    fn header_is_none_before_its_last_byte((header, _) in header()) {
        for end in 0..header.len() {
            let beginning = read(&header[..end]);
            let is_open = matches!(beginning, Ok(Beginning::Part | Beginning::Unclear));
            prop_assert!(is_open, "{end}: {beginning:?}");
        }
    }

    /// However bytes come in pieces, what they begin with is the same once it is known.
    #[test]
    fn what_is_known_of_a_beginning_stays(bytes in bytes()) {
        let mut known: Option<Result<Beginning, ProxyError>> = None;
        for end in 0..=bytes.len() {
            let now = read(&bytes[..end]);
            match (known, now) {
                (None, Ok(Beginning::Part | Beginning::Unclear)) => {
                    prop_assert!(end < PROXY_HEADER_MAX, "{end} bytes and nothing is known");
                }
                (None, _) => known = Some(now),
                (Some(Ok(beginning)), _) => prop_assert_eq!(now, Ok(beginning)),
                // How long a header without an end is by now may differ.
                (Some(Err(_)), _) => prop_assert!(now.is_err(), "{end}: {now:?}"),
            }
            match now {
                Ok(Beginning::Header { len, .. }) => {
                    prop_assert!(len <= end && len <= PROXY_HEADER_MAX);
                }
                Err(error) => prop_assert_eq!(error.reason(), Reason::BadHandshake),
                Ok(_) => {}
            }
        }
    }

    /// No changed byte makes the header longer than what is there, or a panic.
    #[test]
    fn changed_header_is_another_one_or_none(
        (header, _) in header(),
        at in any::<Index>(),
        bits in 1_u8..,
    ) {
        let mut bytes = header;
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        if let Ok(Beginning::Header { len, .. }) = read(&bytes) {
            prop_assert!(len <= bytes.len());
        }
    }
}
