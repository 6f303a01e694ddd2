//! Who may write and delete what.
//!
//! Here: pure judgement of one request, given what stands and the time. Not here: HTTP, stores, rates.
//!
//! Entries are public, so whoever reads one has a text that its party has signed. For writing that is of no
//! use: a later entry needs a greater sequence. To delete one, clients of the Go implementation send the
//! entry back as they read it, and so could anybody. So an entry that is not newer than the one that stands
//! deletes it only from the address that it was written from; from anywhere else it takes one that is newer,
//! which only the party can sign.
//! Source: docs/dmsg.md, the section on the discovery.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ringway_proto::dmsg::entry::answer::{Answer, COMMUNITY, OFFICIAL};
use ringway_proto::dmsg::entry::{Entry, EntryError, SERVER_TIME};
use ringway_proto::key::PublicKey;

use super::record::{Moment, Record};

/// What an operator has decided.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Servers that are official by their keys.
    pub(crate) official: BTreeSet<PublicKey>,
    /// What a server says to be official. Empty when there is no such word.
    pub(crate) passphrase: String,
    /// Whether servers may listen on loopback.
    pub(crate) takes_loopback: bool,
    /// How long a client's entry stands; for ever when none.
    pub(crate) client_time: Option<Duration>,
}

/// A request to write or delete an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// The entry's text.
    pub(crate) body: &'a [u8],
    /// Where it comes from.
    pub(crate) source: IpAddr,
    /// When it came.
    pub(crate) now: Moment,
}

/// An entry that may be written, if what stands allows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// As it would stand.
    pub(crate) record: Record,
    /// Whether the operator vouches for the server: it is taken however many there are.
    pub(crate) is_vouched: bool,
}

impl Rules {
    /// Judges an entry by itself. `is_brief` asks for a short life, as clients before 2022 did.
    ///
    /// # Errors
    ///
    /// The answer that refuses it.
    pub(crate) fn admit(&self, request: Request<'_>, is_brief: bool) -> Result<Admitted, Answer> {
        let Request { body, source, now } = request;
        let mut entry = Entry::decode(body)?;
        if entry.is_on_loopback() && !self.takes_loopback {
            return Err(Answer::Loopback);
        }
        entry.validate()?;
        entry.validate_age(now.ns())?;
        entry.verify()?;
        let is_vouched = entry.server.is_some() && self.is_vouched(&entry);
        let is_official = is_vouched || !self.has_officials();
        if let Some(server) = &mut entry.server {
            // A passphrase stands there until here: it must not be shown to anybody.
            server.server_type = match is_official {
                true => OFFICIAL.to_owned(),
                false => COMMUNITY.to_owned(),
            };
        }
        let time = match (&entry.server, is_brief) {
            (Some(_), _) => Some(SERVER_TIME),
            (None, true) => Some(BRIEF_TIME),
            (None, false) => self.client_time,
        };
        let expires = time.map(|time| now.after(time));
        let record = Record::new(entry, Some(source), expires);
        Ok(Admitted { record, is_vouched })
    }

    /// Judges whether an entry may take the place of what stands; returns the answer that says it did.
    ///
    /// # Errors
    ///
    /// The answer that refuses it.
    pub(crate) fn follow(record: &Record, before: Option<&Record>) -> Result<Answer, Answer> {
        match before {
            None => Ok(Answer::Written),
            Some(before) => {
                record.entry().validate_after(before.entry())?;
                Ok(Answer::Iterated)
            }
        }
    }

    /// Reads the entry with which somebody asks to delete one, and checks what needs no look into the store.
    ///
    /// # Errors
    ///
    /// The answer that refuses it.
    pub(crate) fn read_deletion(request: Request<'_>) -> Result<Entry, Answer> {
        let entry = Entry::decode(request.body)?;
        entry.validate()?;
        entry.validate_age(request.now.ns())?;
        Ok(entry)
    }

    /// Judges whether what stands may be deleted with this entry.
    ///
    /// # Errors
    ///
    /// The answer that refuses it.
    pub(crate) fn delete(
        entry: &Entry,
        stands: Option<&Record>,
        source: IpAddr,
    ) -> Result<(), Answer> {
        let Some(stands) = stands else {
            return Ok(entry.verify()?);
        };
        // What stands was verified when it was written, though a server's type has changed since.
        let is_what_stands = entry == stands.entry();
        if !is_what_stands {
            entry.verify()?;
        }
        match entry.validate_after(stands.entry()) {
            Ok(()) => Ok(()),
            Err(EntryError::PeerSequence { have, before }) if have == before => {
                match stands.source().is_none_or(|writer| writer == source) {
                    true => Ok(()),
                    false => Err(Answer::Unauthorized),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether some servers are official and others are not.
    fn has_officials(&self) -> bool {
        !self.official.is_empty() || !self.passphrase.is_empty()
    }

    fn is_vouched(&self, entry: &Entry) -> bool {
        let word = entry.server.as_ref().map(|server| &*server.server_type);
        let has_word = !self.passphrase.is_empty()
            && word.is_some_and(|word| is_same(word.as_bytes(), self.passphrase.as_bytes()));
        has_word || self.official.contains(&entry.key)
    }
}

/// Compares without saying by its time where two texts differ.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b));
    a.len() == b.len() && differences == 0
}

/// How long an entry stands that asks for a short life.
const BRIEF_TIME: Duration = Duration::from_secs(180);

#[cfg(test)]
mod tests;
