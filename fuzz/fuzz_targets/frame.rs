#![no_main]
//! A stream of frames: every header decodes and encodes to itself, or is refused with a reason.

use libfuzzer_sys::fuzz_target;
use ringway_proto::frame::{HEADER_LEN, Header, rewrite_stream_id};
use ringway_proto::reason::Reason;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Some((head, behind)) = rest.split_first_chunk::<HEADER_LEN>() {
        let header = match Header::decode(head) {
            Ok(header) => header,
            Err(error) => {
                assert_eq!(error.reason(), Reason::ProtocolError);
                return;
            }
        };
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

        let payload = header.payload_bytes() as usize;
        rest = &behind[payload.min(behind.len())..];
    }
});
