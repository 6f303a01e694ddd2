//! Memory of the process as a whole: which of it takes huge pages, and free heap given back to the host.
//!
//! Here: the calls that concern all of it. Not here: receive memory, which asks for huge pages (`buffers`).
//!
//! Where the host gives huge pages to everybody (`transparent_hugepage/enabled` is `always`), each heap that
//! a thread touches begins with 2 MiB: a relay at rest has 25.0 MiB of RSS instead of 8.1, and a socket that
//! never finishes its handshake costs 1.7 KB instead of 0.4. The allocator is built without huge pages of
//! its own, which on older kernels takes them from receive memory too; the CPU a byte is the same.
//! Source: prctl(2), `PR_SET_THP_DISABLE` with `PR_THP_DISABLE_EXCEPT_ADVISED` (6.18).

#![expect(
    unsafe_code,
    reason = "calls without a safe wrapper; docs/internals/unsafe.md"
)]

use std::io;

/// Takes huge pages from all memory of the process but that which asks for them, as receive memory does.
///
/// Call it before the memory is touched: what is there already stays as it is.
///
/// # Errors
/// What the kernel says; `EINVAL` before Linux 6.18, which changes nothing and harms nothing.
pub fn huge_pages_only_where_asked() -> io::Result<()> {
    // SAFETY: the call takes four numbers and touches no memory of the process.
    let result = unsafe { libc::prctl(PR_SET_THP_DISABLE, ON, EXCEPT_ADVISED, UNUSED, UNUSED) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives free memory of the calling thread's heap back to the host, if mimalloc is the allocator; with
/// another one it does nothing.
///
/// Without it the pages of 20,000 sessions that have left stay with the process: the allocator looks at what
/// is free when it is asked for memory, and a relay that has become idle asks for none.
/// Measured: docs/benchmarks.md, "Many sessions".
pub(crate) fn release_heap() {
    // SAFETY: the call takes no memory of ours and may be made at any time from any thread.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// Source: `linux/prctl.h`.
const PR_SET_THP_DISABLE: i32 = 41;
const ON: libc::c_ulong = 1;
/// `PR_THP_DISABLE_EXCEPT_ADVISED`.
const EXCEPT_ADVISED: libc::c_ulong = 2;
const UNUSED: libc::c_ulong = 0;

#[cfg(test)]
mod tests {
    use super::*;

    const PR_GET_THP_DISABLE: i32 = 42;

    #[test]
    fn heap_in_use_stays() {
        let kept: Vec<Vec<u8>> = (0..100).map(|byte| vec![byte; 10_000]).collect();
        release_heap();
        assert!(
            kept.iter()
                .zip(0..)
                .all(|(bytes, byte)| bytes[..] == vec![byte; 10_000])
        );
    }

    #[test]
    fn kernel_takes_the_setting_or_does_not_know_it() {
        match huge_pages_only_where_asked() {
            Ok(()) => {
                // SAFETY: as above.
                let set =
                    unsafe { libc::prctl(PR_GET_THP_DISABLE, UNUSED, UNUSED, UNUSED, UNUSED) };
                assert_eq!(set, 3, "disabled, except where advised");
            }
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}"),
        }
    }
}
