//! Which memory of the process takes huge pages.
//!
//! Here: the one call that leaves them to memory that asks for them. Not here: the asking (`buffers`).
//!
//! Where the host gives huge pages to everybody (`transparent_hugepage/enabled` is `always`), each heap that
//! a thread touches begins with 2 MiB: a relay at rest has 25.0 MiB of RSS instead of 8.1, and a socket that
//! never finishes its handshake costs 1.7 KB instead of 0.4. The allocator is built without huge pages of
//! its own, which on older kernels takes them from receive memory too; the CPU a byte is the same.
//! Source: prctl(2), `PR_SET_THP_DISABLE` with `PR_THP_DISABLE_EXCEPT_ADVISED` (6.18).

#![expect(
    unsafe_code,
    reason = "a system call without a safe wrapper; docs/internals/unsafe.md"
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
