//! Leases: temporary claims on received bytes.
//!
//! Here: what the shard core asks of a piece of receive memory. Not here: where that memory comes
//! from; `ring::buffers` hands out leases on the kernel's provided buffers, the simulator on heap.
//!
//! Invariant: two leases never cover the same byte; dropping a lease returns its bytes to their
//! owner, on whichever thread it happens.

/// Exclusive claim on one contiguous range of received bytes.
///
/// A lease is only ever made smaller ([`Lease::advance`], [`Lease::split_to`]), so ranges stay
/// disjoint by construction.
pub trait Lease: core::fmt::Debug + Send + Sized {
    /// Returns the bytes of the range.
    fn bytes(&self) -> &[u8];

    /// Returns the bytes of the range for rewriting in place.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Gives up the first `count` bytes.
    ///
    /// # Panics
    /// When `count` exceeds the length: a bug of the caller, never reachable from peer input.
    fn advance(&mut self, count: usize);

    /// Splits off the first `count` bytes as a lease of their own; `self` keeps the rest.
    ///
    /// # Panics
    /// When `count` exceeds the length: a bug of the caller, never reachable from peer input.
    fn split_to(&mut self, count: usize) -> Self;

    /// Returns the length of the range in bytes.
    fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Returns whether the range has no bytes left.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
