//! Unpredictable random numbers from the kernel, for seeds, salts and tokens.

/// A random number.
///
/// # Panics
/// The kernel has no random numbers. Every kernel with io_uring has.
#[must_use]
pub fn number() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: the buffer is live and its length is passed.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    assert_eq!(count, 8, "the kernel has random numbers");
    u64::from_ne_bytes(bytes)
}
