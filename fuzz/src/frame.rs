//! A stream of frames: every header decodes and encodes to itself, or is refused with a reason.
//!
//! Here: which headers decode is told from the document alone (version 0, kinds 0 to 3, four flags), and
//! compared with the decoder. Not here: what a session does with a frame (`peer_session`, `shard_core`).
//!
//! Source: docs/protocol.md, the section on frames.

use ringway_proto::frame::{Flags, FrameError, HEADER_LEN, Header, rewrite_stream_id};
use ringway_proto::reason::Reason;

/// Takes a stream of frames.
///
/// # Panics
///
/// When the decoder takes what the document does not define, refuses what it does, or loses a bit.
pub fn run(bytes: &[u8]) {
    let mut rest = bytes;
    while let Some((head, behind)) = rest.split_first_chunk::<HEADER_LEN>() {
        let [version, kind, flags_1, flags_0, ..] = *head;
        let bits = u16::from_be_bytes([flags_1, flags_0]);
        assert_eq!(Flags::from_bits(bits).is_some(), bits <= 15);
        let header = match Header::decode(head) {
            Ok(header) => header,
            Err(error) => {
                assert_eq!(error.reason(), Reason::ProtocolError);
                let expected = match (version, kind) {
                    (1.., _) => FrameError::PeerVersion(version),
                    (0, 4..) => FrameError::PeerKind(kind),
                    (0, 0..=3) => FrameError::PeerFlags(bits),
                };
                assert_eq!(error, expected, "the first wrong field is named");
                assert!(version > 0 || kind > 3 || bits > 15, "refused: {head:?}");
                return;
            }
        };
        assert!(version == 0 && kind <= 3 && bits <= 15, "taken: {head:?}");
        assert_eq!(header.encode(), *head);

        let other = header.stream_id.wrapping_add(0x0102_0304);
        let mut rewritten = *head;
        rewrite_stream_id(&mut rewritten, other);
        assert_eq!(
            Header::decode(&rewritten),
            Ok(Header {
                stream_id: other,
                ..header
            })
        );

        // Only data carries a payload; a length of another kind is a number.
        let payload = header.payload_bytes();
        assert_eq!(payload, if kind == 0 { header.length } else { 0 });
        rest = &behind[(payload as usize).min(behind.len())..];
    }
}
