//! Entries of a dmsg discovery: whatever text comes in is an entry within its bounds, or is refused with a
//! reason and an answer.
//!
//! Here: what was read encodes to a text that reads the same and is not longer than the bounds allow; no text
//! is signed by a party that has not signed it; a signature stays valid when the text is written anew. Not
//! here: what a discovery does with an entry (`src/dmsg`).

use ringway_proto::dmsg::entry::answer::Answer;
use ringway_proto::dmsg::entry::{DELEGATED_MAX, ENTRY_LEN_MAX, Entry, EntryError};
use ringway_proto::dmsg::key::SecretKey;
use ringway_proto::reason::Reason;

/// Takes the text of an entry, or of an answer.
///
/// # Panics
///
/// When a text has two meanings, a bound does not hold, or somebody's signature is found that is none.
pub fn run(bytes: &[u8]) {
    if let Some(answer) = Answer::decode(bytes) {
        assert_eq!(Answer::decode(&answer.encode()), Some(answer));
    }
    let mut entry = match Entry::decode(bytes) {
        Ok(entry) => entry,
        Err(error) => return refused(error, bytes.len()),
    };
    let text = entry.encode();
    assert_eq!(Entry::decode(&text).as_ref(), Ok(&entry), "one form");
    assert!(entry.delegated_servers().len() <= DELEGATED_MAX);
    for error in [entry.validate(), entry.validate_age(0), entry.verify()] {
        if let Err(error) = error {
            assert!((400..500).contains(&Answer::from(error).status()));
        }
    }
    assert!(
        entry.validate_after(&entry).is_err(),
        "nothing follows itself"
    );
    let Ok(secret) = SecretKey::from_bytes([7; 32]) else {
        return;
    };
    entry.sign(&secret);
    let read = Entry::decode(&entry.encode()).map(|read| read.verify());
    // Signing makes the text longer, by a key and a signature at most.
    assert!(matches!(
        read,
        Ok(Ok(())) | Err(EntryError::PeerLength { .. })
    ));
}

fn refused(error: EntryError, len: usize) {
    let is_long = len > ENTRY_LEN_MAX;
    assert_eq!(matches!(error, EntryError::PeerLength { .. }), is_long);
    assert_eq!(error.reason(), Reason::ProtocolError, "{error}");
    assert!((400..500).contains(&Answer::from(error).status()));
}
