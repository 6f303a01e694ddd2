//! The one source of chance of a run.
//!
//! Here: a small generator (xoshiro256++, seeded by splitmix64; Blackman and Vigna 2018). Not here:
//! what is drawn with it. Not for keys of real sessions.
//!
//! Invariant: the same seed gives the same numbers on every machine.

/// Generator of a run's random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Rng([u64; 4]);

impl Rng {
    /// Returns the generator of `seed`.
    #[must_use]
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self([(); 4].map(|()| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(state)
        }))
    }

    /// Returns the next 64 bits.
    pub(crate) fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.0;
        let out = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c2, d2) = (c ^ a, d ^ b);
        self.0 = [a ^ d2, b ^ c2, c2 ^ (b << 17), d2.rotate_left(45)];
        out
    }

    /// Returns a number below `end`; 0 when `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        if end == 0 {
            return 0;
        }
        let wide = u128::from(self.next_u64()) * u128::from(end);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// Returns a number of `min..=max`.
    pub(crate) fn range(&mut self, min: u64, max: u64) -> u64 {
        min + self.below(max.saturating_sub(min) + 1)
    }

    /// Returns a number of `min..=max`, small ones about as likely as large ones.
    pub(crate) fn skewed(&mut self, min: u64, max: u64) -> u64 {
        let bits = 64 - max.saturating_sub(min).leading_zeros();
        let top = self.below(u64::from(bits) + 1);
        let bound = (1_u64 << top.min(63)).min(max.saturating_sub(min) + 1);
        min + self.below(bound)
    }

    /// Returns an index below `len`; 0 when `len` is 0.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// Returns a size of `min..=max`.
    pub(crate) fn size(&mut self, min: usize, max: usize) -> usize {
        min + self.index(max.saturating_sub(min) + 1)
    }

    /// Returns true `percent` times in a hundred.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Returns one of the values.
    pub(crate) fn pick<T: Copy>(&mut self, values: &[T], otherwise: T) -> T {
        values
            .get(self.index(values.len()))
            .copied()
            .unwrap_or(otherwise)
    }

    /// Returns 32 bytes.
    pub(crate) fn bytes_32(&mut self) -> [u8; 32] {
        let mut out = [0; 32];
        for part in out.chunks_mut(8) {
            part.copy_from_slice(&self.next_u64().to_be_bytes());
        }
        out
    }
}

/// Spreads the bits of a number (splitmix64's finisher).
#[must_use]
pub(crate) const fn mix(number: u64) -> u64 {
    let a = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ (b >> 31)
}
