//! How the allocator gives memory back.

/// Lets large buffers go back to the system when they are freed, whatever was freed before.
///
/// glibc raises the size from which on it does so to that of each large buffer that is freed, up to 32 MiB. From then on
/// buffers of some MiB come from the heaps of the threads that fill them, and leave holes there: a million rows of pgbench
/// took 62 to 71 MB at the peak, and take 40 MB like this, no slower (measured). To be called before there are other threads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "mallopt is a function of C")]
pub fn return_large_buffers() {
    /// What glibc begins with.
    const BYTES: libc::c_int = 128 * 1024;
    // SAFETY: it sets a number of the allocator, under the allocator's own lock. Where it fails, all stays as it is.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, BYTES);
    }
}

/// There is nothing to set.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub const fn return_large_buffers() {}
