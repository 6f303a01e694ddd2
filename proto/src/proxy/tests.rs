//! Headers of both versions, and what is none.

use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use super::*;

fn header(bytes: &[u8], origin: &str) -> Result<Beginning, ProxyError> {
    Ok(Beginning::Header {
        len: bytes.len(),
        origin: match origin {
            "socket" => Origin::Socket,
            address => Origin::Address(address.parse().unwrap()),
        },
    })
}

/// A header of version 2.
fn block(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE_2, &[command, family], &length, body].concat()
}

/// 192.0.2.1:258 and 192.0.2.2:772.
const BODY_4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 1, 2, 3, 4];

#[test]
fn headers_of_haproxy_are_read() {
    let file = include_str!("../../testdata/proxy.hex");
    let field = |case: &str, name: &str| {
        let mut lines = case.lines();
        lines.find_map(|line| line.strip_prefix(name).map(ToString::to_string))
    };
    let mut count = 0;
    for case in file.split("\n\n").skip(1) {
        let digits = field(case, "hex: ").unwrap();
        let bytes: Vec<u8> = (0..digits.len() / 2)
            .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let origin = field(case, "origin: ").unwrap();
        assert_eq!(read(&bytes), header(&bytes, &origin), "{case}");
        count += 1;
    }
    assert_eq!(count, 6);
}

#[test]
fn lines_of_the_specification_are_read() {
    let widest = ["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"; 2].join(" ");
    let unknown = format!("PROXY UNKNOWN {widest} 65535 65535\r\n");
    assert_eq!(unknown.len(), PROXY_LINE_MAX);
    for (line, origin) in [
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            "255.255.255.255:65535",
        ),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 0 443\r\n", "192.0.2.1:0"),
        ("PROXY TCP6 2001:DB8::1 ::1 1 2\r\n", "[2001:db8::1]:1"),
        (
            "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:0202 1 2\r\n",
            "192.0.2.1:1",
        ),
        ("PROXY UNKNOWN\r\n", "socket"),
        ("PROXY UNKNOWN \r\n", "socket"),
        ("PROXY UNKNOWN TCP4 \r 1.2.3 \u{e9}\r\n", "socket"),
        (&unknown, "socket"),
    ] {
        assert_eq!(
            read(line.as_bytes()),
            header(line.as_bytes(), origin),
            "{line:?}"
        );
    }
}

#[test]
fn other_lines_are_refused() {
    for line in [
        "PROXY \r\n",
        "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY UNKNOWN\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        "PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n",
        "PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 ::1 1 2\r\n",
        "PROXY TCP4 ::1 ::2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 -2\r\n",
    ] {
        assert_eq!(read(line.as_bytes()), Err(ProxyError::PeerLine), "{line:?}");
    }
}

#[test]
fn line_without_an_end_is_refused_where_none_may_be() {
    let line = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; PROXY_LINE_MAX]].concat();
    for len in SIGNATURE_1.len()..PROXY_LINE_MAX {
        assert_eq!(read(&line[..len]), Ok(Beginning::Part));
    }
    for len in [PROXY_LINE_MAX, line.len()] {
        let have = len;
        assert_eq!(read(&line[..len]), Err(ProxyError::PeerLength { have }));
    }
    // Nor does an end behind that count.
    let late = [&line[..PROXY_LINE_MAX - 1], b"\r\n"].concat();
    let have = late.len();
    assert_eq!(read(&late), Err(ProxyError::PeerLength { have }));
    let last = [&line[..PROXY_LINE_MAX - 2], b"\r\n"].concat();
    assert_eq!(read(&last), header(&last, "socket"));
}

#[test]
fn blocks_are_read_by_their_command_and_family() {
    let mapped: Vec<u8> = [
        [0; 10].as_slice(),
        &[0xff; 2],
        &[192, 0, 2, 1],
        &[9; 16],
        &[0, 7, 0, 8],
    ]
    .concat();
    for (command, family, body, origin) in [
        (0x21, 0x11, BODY_4.to_vec(), "192.0.2.1:258"),
        (
            0x21,
            0x11,
            [&BODY_4[..], &[4, 0, 2, 0, 0, 5, 0, 0]].concat(),
            "192.0.2.1:258",
        ),
        (0x21, 0x21, mapped, "192.0.2.1:7"),
        (0x21, 0x31, vec![b'/'; 216], "socket"),
        (0x21, 0x00, Vec::new(), "socket"),
        (0x21, 0x00, vec![1, 2, 3], "socket"),
        // A proxy's own connection: whatever else stands there is to be ignored.
        (0x20, 0x00, Vec::new(), "socket"),
        (0x20, 0x11, BODY_4.to_vec(), "socket"),
        (0x20, 0xff, vec![7; 520], "socket"),
    ] {
        let bytes = block(command, family, &body);
        assert_eq!(
            read(&bytes),
            header(&bytes, origin),
            "{command:#x} {family:#x}"
        );
    }
}

#[test]
fn other_blocks_are_refused() {
    use ProxyError::{PeerCommand, PeerFamily, PeerFields, PeerLength, PeerVersion};
    let body = |len| vec![0; len];
    for (command, family, body, error) in [
        (0x11, 0x11, BODY_4.to_vec(), PeerVersion(1)),
        (0x31, 0x11, BODY_4.to_vec(), PeerVersion(3)),
        (0x22, 0x11, BODY_4.to_vec(), PeerCommand(2)),
        (0x2f, 0x11, BODY_4.to_vec(), PeerCommand(15)),
        // Datagrams, no transport, families without a number.
        (0x21, 0x12, BODY_4.to_vec(), PeerFamily(0x12)),
        (0x21, 0x22, body(36), PeerFamily(0x22)),
        (0x21, 0x32, body(216), PeerFamily(0x32)),
        (0x21, 0x10, BODY_4.to_vec(), PeerFamily(0x10)),
        (0x21, 0x01, BODY_4.to_vec(), PeerFamily(0x01)),
        (0x21, 0x41, BODY_4.to_vec(), PeerFamily(0x41)),
        (0x21, 0x11, body(11), PeerLength { have: 27 }),
        (0x21, 0x21, body(35), PeerLength { have: 51 }),
        (0x21, 0x31, body(215), PeerLength { have: 231 }),
        (0x21, 0x11, body(521), PeerLength { have: 537 }),
        (0x20, 0x00, body(0xffff), PeerLength { have: 65_551 }),
        (0x21, 0x11, [&BODY_4[..], &[4]].concat(), PeerFields),
        (0x21, 0x11, [&BODY_4[..], &[4, 0]].concat(), PeerFields),
        (0x21, 0x11, [&BODY_4[..], &[4, 0, 1]].concat(), PeerFields),
        (
            0x21,
            0x11,
            [&BODY_4[..], &[4, 0, 1, 9, 9]].concat(),
            PeerFields,
        ),
    ] {
        let bytes = block(command, family, &body);
        assert_eq!(read(&bytes), Err(error), "{command:#x} {family:#x}");
        assert_eq!(error.reason(), Reason::BadHandshake);
    }
}

#[test]
fn wrong_block_is_refused_before_its_body_is_there() {
    let bytes = block(0x21, 0x11, &[0; 521]);
    let (head, _) = bytes.split_at(HEAD_LEN);
    assert_eq!(read(head), Err(ProxyError::PeerLength { have: 537 }));
    assert_eq!(read(&head[..HEAD_LEN - 1]), Ok(Beginning::Part));
}

#[test]
fn what_is_no_header_is_told_at_its_first_other_byte() {
    for (bytes, beginning) in [
        ("", Beginning::Unclear),
        ("P", Beginning::Unclear),
        ("PROXY", Beginning::Unclear),
        ("PROXY ", Beginning::Part),
        ("PROXYT", Beginning::Other),
        ("proxy ", Beginning::Other),
        ("\r\n", Beginning::Unclear),
        ("\r\n\x02", Beginning::Other),
        ("\r\n\r\n\0\r\nQUIT", Beginning::Unclear),
        ("\r\n\r\n\0\r\nQUIT\n", Beginning::Part),
        ("\r\n\r\n\0\r\nQUIT\r", Beginning::Other),
        ("\0", Beginning::Other),
        ("\x001", Beginning::Other),
    ] {
        let text: String = bytes.escape_debug().collect();
        assert_eq!(read(bytes.as_bytes()), Ok(beginning), "{text}");
    }
}
