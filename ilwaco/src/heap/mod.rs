//! The heap: all memory behind the image.

#[cfg(any(target_os = "none", test))]
mod first_fit;
#[cfg(target_os = "none")]
mod global;

#[cfg(target_os = "none")]
pub use global::heap_usage;
#[cfg(target_os = "none")]
pub(crate) use global::{free_pages, init};

/// Bytes of the heap that are allocated, and bytes that it can have. On the host nobody counts.
#[cfg(not(target_os = "none"))]
pub fn heap_usage() -> (usize, usize) {
    (0, 0)
}
