//! The objects that open a stream, and the handshake in them, in either dialect.
//!
//! Here: requests, answers, keys of streams. Not here: sealing them for the session, frames, what becomes of
//! a stream (`open`).
//!
//! Invariant: what is made here is what a peer would make, but for the text of a [`stand_in`].

use ringway_proto::dialect::{Dialect, RequestHash};
use ringway_proto::dmsg;
use ringway_proto::dmsg::open::{StreamRequest, StreamResponse};
use ringway_proto::key::{Address, PublicKey};
use ringway_proto::kk::{KkInitiator, RecordKeys, kk_respond};
use ringway_proto::limits::EPHEMERAL_PORT_MIN;
use ringway_proto::open::{OpenRequest, OpenResponse};
use ringway_proto::reason::Reason;

use super::party::Party;
use super::setup::{random, unix_time_ns};

/// A stream handshake that waits for message 2.
#[derive(Debug)]
pub(super) enum Kk {
    Native(KkInitiator),
    Dmsg(dmsg::kk::KkInitiator),
}

impl Kk {
    /// Takes message 2; returns the stream's keys.
    pub(super) fn finish(self, message: &[u8]) -> Result<RecordKeys, &'static str> {
        match self {
            Self::Native(kk) => kk.finish(message),
            Self::Dmsg(kk) => kk.finish(message),
        }
        .map_err(|_| "open: handshake")
    }
}

impl Party {
    /// Begins a stream handshake with a peer: returns it with message 1.
    pub(super) fn kk(&self, remote: &PublicKey) -> Result<(Kk, Vec<u8>), &'static str> {
        let random = random()?;
        let begun = match self {
            Self::Native(secret) => KkInitiator::new(secret, remote, random)
                .map(|(kk, message)| (Kk::Native(kk), message)),
            Self::Dmsg(identity) => dmsg::kk::KkInitiator::new(identity, remote, random)
                .map(|(kk, message)| (Kk::Dmsg(kk), message)),
        };
        begun.map_err(|_| "open: stream handshake")
    }

    /// Returns a signed request of this peer, whose public key is `own`.
    pub(super) fn request(
        &self,
        own: PublicKey,
        destination: Address,
        noise: &[u8],
    ) -> Result<Vec<u8>, &'static str> {
        let source = Address::new(own, EPHEMERAL_PORT_MIN);
        let timestamp_ns = unix_time_ns();
        let wrong = "open: encoding";
        match self {
            Self::Native(secret) => {
                let request = OpenRequest {
                    forwarded: false,
                    timestamp_ns,
                    source,
                    destination,
                    noise,
                };
                request.encode(secret).map_err(|_| wrong)
            }
            Self::Dmsg(identity) => {
                let request = StreamRequest {
                    timestamp_ns: i64::try_from(timestamp_ns).unwrap_or(i64::MAX),
                    source,
                    destination,
                    wants_ip: false,
                    wants_geo: false,
                    noise,
                };
                request.encode(identity.secret()).map_err(|_| wrong)
            }
        }
    }

    /// Returns the signed answer that accepts a request.
    pub(super) fn accept(&self, hash: RequestHash, noise: &[u8]) -> Result<Vec<u8>, &'static str> {
        let wrong = "open: encoding";
        match self {
            Self::Native(secret) => {
                let response = OpenResponse {
                    reason_code: Reason::Accepted.code(),
                    request_hash: hash,
                    noise,
                };
                response.encode(secret).map_err(|_| wrong)
            }
            Self::Dmsg(identity) => StreamResponse::accept(hash, noise)
                .encode(identity.secret())
                .map_err(|_| wrong),
        }
    }

    /// Returns the answer to a request with the stream handshake in it, and the keys of the stream. The
    /// request is verified.
    pub(super) fn answer(
        &self,
        request: &[u8],
        hash: RequestHash,
    ) -> Result<(Vec<u8>, RecordKeys), &'static str> {
        verify_request(self.dialect(), request)?;
        let malformed = "protocol: request";
        let answered = match self {
            Self::Native(secret) => {
                let request = OpenRequest::decode(request).map_err(|_| malformed)?;
                kk_respond(secret, &request.source.key, request.noise, random()?)
            }
            Self::Dmsg(identity) => {
                let request = StreamRequest::decode(request).map_err(|_| malformed)?;
                dmsg::kk::kk_respond(identity, &request.source.key, request.noise, random()?)
            }
        };
        let (noise, keys) = answered.map_err(|_| "open: stream handshake")?;
        Ok((self.accept(hash, &noise)?, keys))
    }
}

/// Verifies that a request is signed by its source.
pub(super) fn verify_request(dialect: Dialect, request: &[u8]) -> Result<(), &'static str> {
    let verified = dialect.verify_request(request);
    verified.map_err(|_| "open: the request's signature")
}

/// Returns the keys of the stream that `kk` began and `author` has accepted with `response`, whose signature
/// is verified.
pub(super) fn finish(
    kk: Kk,
    response: &[u8],
    author: &PublicKey,
) -> Result<RecordKeys, &'static str> {
    let (unsigned, malformed) = ("open: signature", "protocol: response");
    match kk {
        Kk::Native(_) => {
            OpenResponse::verify(response, author).map_err(|_| unsigned)?;
            let response = OpenResponse::decode(response).map_err(|_| malformed)?;
            kk.finish(response.noise)
        }
        Kk::Dmsg(_) => {
            StreamResponse::verify(response, author).map_err(|_| unsigned)?;
            let response = StreamResponse::decode(response).map_err(|_| malformed)?;
            kk.finish(response.noise)
        }
    }
}

/// Returns a text of the size of a stream handshake message.
pub(super) fn stand_in(dialect: Dialect) -> Result<Vec<u8>, &'static str> {
    let mut text = vec![0; dialect.key_len() + TAG_LEN];
    getrandom::fill(&mut text).map_err(|_| "no randomness")?;
    Ok(text)
}

/// Bytes of a tag, which is all there is to an empty payload.
const TAG_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_open_between_two_peers_of_each_dialect() {
        for dialect in [Dialect::Native, Dialect::Dmsg] {
            let opener = Party::new(dialect).unwrap();
            let taker = Party::new(dialect).unwrap();
            let (own, to) = (opener.public(), Address::new(taker.public(), 80));
            let (kk, noise) = opener.kk(&to.key).unwrap();
            let request = opener.request(own, to, &noise).unwrap();
            let head = dialect.decode_request(&request).unwrap();
            assert_eq!((head.source.key, head.destination), (own, to));
            let hash = dialect.request_hash(&request);
            let (response, there) = taker.answer(&request, hash).unwrap();
            let here = finish(kk, &response, &to.key).unwrap();
            assert_eq!((here.seal, here.open), (there.open, there.seal));
        }
    }

    #[test]
    fn an_answer_of_somebody_else_is_no_answer() {
        for dialect in [Dialect::Native, Dialect::Dmsg] {
            let opener = Party::new(dialect).unwrap();
            let taker = Party::new(dialect).unwrap();
            let other = Party::new(dialect).unwrap();
            let to = Address::new(taker.public(), 80);
            let (kk, noise) = opener.kk(&to.key).unwrap();
            let request = opener.request(opener.public(), to, &noise).unwrap();
            let hash = dialect.request_hash(&request);
            let response = other.accept(hash, &stand_in(dialect).unwrap()).unwrap();
            let error = finish(kk, &response, &to.key).unwrap_err();
            assert_eq!(error, "open: signature");
            // The keys of the request are for somebody else.
            let error = other.answer(&request, hash).unwrap_err();
            assert_eq!(error, "open: stream handshake");
            let mut changed = request.clone();
            changed[0] ^= 1;
            let error = taker.answer(&changed, hash).unwrap_err();
            assert_eq!(error, "open: the request's signature");
        }
    }

    #[test]
    fn a_stand_in_is_as_long_as_what_it_stands_for() {
        for dialect in [Dialect::Native, Dialect::Dmsg] {
            let (opener, taker) = (Party::new(dialect).unwrap(), Party::new(dialect).unwrap());
            let (_, noise) = opener.kk(&taker.public()).unwrap();
            assert_eq!(stand_in(dialect).unwrap().len(), noise.len());
        }
    }
}
