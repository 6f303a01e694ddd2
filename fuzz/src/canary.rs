//! A target that is wrong on purpose: it must fail, or the others prove nothing.
//!
//! Here: a reader of frames that claims what is not so, namely that no window update follows a data frame
//! with FIN. An input that shows it needs two whole headers in this order, which chance alone does not
//! make: a run that finds it has coverage feedback, notices a panic and reports it. Not here: anything
//! about the relay.

use ringway_proto::frame::{Flags, FrameKind, HEADER_LEN, Header};

/// Takes a stream of frames.
///
/// # Panics
///
/// On a window update right behind a data frame with FIN.
pub fn run(bytes: &[u8]) {
    let mut rest = bytes;
    let mut has_finished = false;
    while let Some((head, behind)) = rest.split_first_chunk::<HEADER_LEN>() {
        let Ok(header) = Header::decode(head) else {
            return;
        };
        assert!(
            !(has_finished && header.kind == FrameKind::WindowUpdate),
            "the canary: a window update behind a FIN"
        );
        has_finished = header.kind == FrameKind::Data && header.flags.contains(Flags::FIN);
        let payload = header.payload_bytes() as usize;
        rest = &behind[payload.min(behind.len())..];
    }
}
