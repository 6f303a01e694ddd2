//! What a hostile peer seals: objects of its dialect that are right but for one thing.
//!
//! Here: the plain objects. Not here: how they are sealed and sent (`hostile`).

use ringway_proto::dialect::peer::Identity;
use ringway_proto::dialect::{Dialect, RequestHash};
use ringway_proto::dmsg;
use ringway_proto::dmsg::key::{SIGNATURE_LEN, SecretKey};
use ringway_proto::dmsg::open::{PeerAnnounce, StreamRequest, StreamResponse};
use ringway_proto::key::{Address, PublicKey};
use ringway_proto::kk::KkInitiator;
use ringway_proto::open::{OpenRequest, OpenResponse};

use super::Wrong;

/// A byte of a request that is another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Damage {
    /// Where; taken modulo the length behind a signature in front.
    pub(crate) at: u16,
    /// What it is changed by.
    pub(crate) xor: u8,
    /// Whether the signature is of the request as it is now, where it stands in front.
    pub(crate) is_signed: bool,
}

/// Returns a request; nothing when the destination's key is of the other dialect or no point.
pub(super) fn request(
    identity: &Identity,
    to: Address,
    unix_ns: u64,
    wrong: Wrong,
) -> Option<Vec<u8>> {
    let source = match wrong {
        Wrong::Source => to.key,
        _ => identity.public(),
    };
    let source = Address::new(source, PORT);
    let is_old = matches!(wrong, Wrong::Time);
    let mut plain = match identity {
        Identity::Dmsg(own) => {
            let (_, noise) = dmsg::kk::KkInitiator::new(own, &to.key, [8; 32]).ok()?;
            let request = StreamRequest {
                timestamp_ns: if is_old { 0 } else { signed(unix_ns) },
                source,
                destination: to,
                wants_ip: false,
                wants_geo: false,
                noise: &noise,
            };
            request.encode(own.secret()).ok()?
        }
        Identity::Native(secret) => {
            let (_, noise) = KkInitiator::new(secret, &to.key, [8; 32]).ok()?;
            let request = OpenRequest {
                forwarded: matches!(wrong, Wrong::Forwarded),
                timestamp_ns: if is_old { 1 } else { unix_ns },
                source,
                destination: to,
                noise: &noise,
            };
            let plain = request.encode(secret);
            plain.expect("a request with a KK message encodes")
        }
    };
    match wrong {
        Wrong::Signature => plain[20] ^= 1,
        Wrong::Truncated => plain.truncate(90),
        Wrong::Forwarded | Wrong::Nothing | Wrong::Source | Wrong::Time => {}
    }
    Some(plain)
}

/// Returns a request with a damage. Its source port stays, by which honest peers tell their opens.
pub(super) fn damaged(
    identity: &Identity,
    to: Address,
    unix_ns: u64,
    damage: Damage,
) -> Option<Vec<u8>> {
    let mut plain = request(identity, to, unix_ns, Wrong::Nothing)?;
    let front = match identity {
        Identity::Dmsg(_) => SIGNATURE_LEN,
        Identity::Native(_) => 0,
    };
    let at = front + usize::from(damage.at) % (plain.len() - front);
    plain[at] ^= damage.xor;
    if damage.is_signed
        && let Identity::Dmsg(own) = identity
    {
        resign(&mut plain, own.secret());
    }
    let head = identity.dialect().decode_request(&plain);
    let is_other_port = head.is_ok_and(|head| head.source.port != PORT);
    (!is_other_port).then_some(plain)
}

/// Returns a question for the own address; nothing in a dialect that has none.
pub(super) fn address_request(
    identity: &Identity,
    of: PublicKey,
    unix_ns: u64,
    wants_geo: bool,
) -> Option<Vec<u8>> {
    let Identity::Dmsg(own) = identity else {
        return None;
    };
    let request = StreamRequest {
        timestamp_ns: signed(unix_ns),
        source: Address::new(own.public(), PORT),
        destination: Address::new(of, 1),
        wants_ip: true,
        wants_geo,
        noise: &[],
    };
    request.encode(own.secret()).ok()
}

/// Returns the word of a server that it is one; nothing in a dialect that has none.
pub(super) fn announcement(identity: &Identity, unix_ns: u64) -> Option<Vec<u8>> {
    let Identity::Dmsg(own) = identity else {
        return None;
    };
    let announcement = PeerAnnounce {
        timestamp_ns: signed(unix_ns),
        source: own.public(),
    };
    announcement.encode(own.secret()).ok()
}

/// Returns an answer.
pub(super) fn response(
    identity: &Identity,
    reason_code: u16,
    hash: RequestHash,
    is_signed: bool,
) -> Vec<u8> {
    let plain = match identity {
        Identity::Dmsg(own) => {
            let response = match reason_code {
                0 => StreamResponse::accept(hash, &[4; 49]),
                code => StreamResponse::refuse(hash, code),
            };
            response.encode(own.secret()).map_err(|_| ())
        }
        Identity::Native(secret) => {
            let response = OpenResponse {
                reason_code,
                request_hash: hash,
                noise: &[],
            };
            response.encode(secret).map_err(|_| ())
        }
    };
    let mut plain = plain.expect("a response with a short Noise message encodes");
    if !is_signed {
        let signature = match identity.dialect() {
            Dialect::Dmsg => plain.first_chunk_mut::<64>(),
            _ => plain.last_chunk_mut::<64>(),
        };
        if let Some(signature) = signature {
            *signature = [0; 64];
        }
    }
    plain
}

fn resign(plain: &mut [u8], secret: &SecretKey) {
    if let Some((signature, gob)) = plain.split_first_chunk_mut::<SIGNATURE_LEN>() {
        *signature = *secret.sign(gob).as_bytes();
    }
}

/// Until the year 2262.
fn signed(unix_ns: u64) -> i64 {
    i64::try_from(unix_ns).unwrap_or(i64::MAX)
}

/// The source port of its requests: none that an honest peer of a run uses.
const PORT: u16 = 60_000;
