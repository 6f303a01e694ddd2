//! X25519: from secrets to what two sides share.
//!
//! Here: a secret made ready for use, by the portable implementation or by assembly. Not here: which keys
//! meet which (`noise`), the map from signing keys (`key`).
//!
//! A relay's handshake is four multiplications on the curve and little else, so the relay and the generator
//! turn on the feature `aws-lc`: a multiplication then takes 40 us in place of 95 (Linux 6.18, a busy AMD
//! EPYC). Without the feature the crate is `no_std` and all Rust. Both give the same bytes.
//! Source: RFC 7748 section 5.

use core::fmt;

use curve25519_dalek::montgomery::MontgomeryPoint;
use zeroize::Zeroizing;

#[cfg(feature = "aws-lc")]
use aws_lc_rs::agreement as assembly;

/// A secret that is ready for use: its public key is computed once.
pub(crate) struct Secret {
    bytes: Zeroizing<[u8; 32]>,
    public: [u8; 32],
    /// Absent where assembly is not to be had.
    #[cfg(feature = "aws-lc")]
    key: Option<assembly::PrivateKey>,
}

impl Secret {
    /// Makes a secret ready.
    pub(crate) fn new(bytes: &[u8; 32]) -> Self {
        #[cfg(feature = "aws-lc")]
        if let Some((key, public)) = load(bytes) {
            return Self {
                bytes: Zeroizing::new(*bytes),
                public,
                key: Some(key),
            };
        }
        Self::portable(bytes)
    }

    /// Makes a secret ready for the portable implementation.
    fn portable(bytes: &[u8; 32]) -> Self {
        Self {
            bytes: Zeroizing::new(*bytes),
            public: MontgomeryPoint::mul_base_clamped(*bytes).to_bytes(),
            #[cfg(feature = "aws-lc")]
            key: None,
        }
    }

    /// Returns the secret's bytes.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Returns the public key.
    pub(crate) const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Returns what this secret and the owner of `public` share; nothing when anyone could know it, since
    /// `public` is of small order.
    pub(crate) fn agree(&self, public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        #[cfg(feature = "aws-lc")]
        if let Some(key) = &self.key {
            let public = assembly::UnparsedPublicKey::new(&assembly::X25519, public);
            // The one failure there is: a result of all zeros.
            return assembly::agree(key, public, (), |shared| {
                let shared = shared.first_chunk::<32>().ok_or(())?;
                Ok(Zeroizing::new(*shared))
            })
            .ok();
        }
        let point = MontgomeryPoint(*public).mul_clamped(*self.bytes);
        let shared = Zeroizing::new(point.to_bytes());
        (*shared != [0; 32]).then_some(shared)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

/// Returns a secret as the assembly takes it, and its public key.
#[cfg(feature = "aws-lc")]
fn load(bytes: &[u8; 32]) -> Option<(assembly::PrivateKey, [u8; 32])> {
    let key = assembly::PrivateKey::from_private_key(&assembly::X25519, bytes).ok()?;
    let public = key.compute_public_key().ok()?;
    let public = *public.as_ref().first_chunk::<32>()?;
    Some((key, public))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> [u8; 32] {
        let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
        core::array::from_fn(byte)
    }

    /// Iterates as RFC 7748 section 5.2 does: the secret becomes the point, the result the secret.
    fn iterate(make: impl Fn(&[u8; 32]) -> Secret, times: u32) -> [u8; 32] {
        let mut secret = [0; 32];
        secret[0] = 9;
        let mut point = secret;
        for _ in 0..times {
            let result = *make(&secret).agree(&point).unwrap();
            (point, secret) = (secret, result);
        }
        secret
    }

    #[test]
    fn iterations_of_the_rfc_come_out_as_it_says() {
        let once = hex("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
        let often = hex("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
        for make in [Secret::new, Secret::portable] {
            assert_eq!(iterate(make, 1), once);
            assert_eq!(iterate(make, 1_000), often);
        }
    }

    #[test]
    fn points_of_small_order_share_nothing() {
        let order_8 = hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
        let mut one = [0; 32];
        one[0] = 1;
        for make in [Secret::new, Secret::portable] {
            for point in [[0; 32], one, order_8] {
                assert!(make(&[9; 32]).agree(&point).is_none());
            }
        }
    }

    #[test]
    #[cfg(feature = "aws-lc")]
    fn the_assembly_is_used_where_it_was_asked_for() {
        assert!(Secret::new(&[7; 32]).key.is_some());
    }

    proptest! {
        #[test]
        fn both_implementations_agree(secret: [u8; 32], public: [u8; 32]) {
            let (fast, portable) = (Secret::new(&secret), Secret::portable(&secret));
            prop_assert_eq!(fast.public(), portable.public());
            prop_assert_eq!(fast.bytes(), &secret);
            let shared = [&fast, &portable].map(|it| it.agree(&public).map(|it| *it));
            prop_assert_eq!(shared[0], shared[1]);
        }

        #[test]
        fn two_sides_agree(a: [u8; 32], b: [u8; 32]) {
            let (a, b) = (Secret::new(&a), Secret::portable(&b));
            let (one, other) = (a.agree(b.public()), b.agree(a.public()));
            prop_assert_eq!(one.map(|it| *it), other.map(|it| *it));
        }
    }
}
