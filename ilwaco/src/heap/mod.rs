//! The heap: all memory behind the image.

#[cfg(any(target_os = "none", test))]
mod first_fit;
#[cfg(target_os = "none")]
mod global;
mod promised;

/// Bytes of the largest allocation among those that are secured together.
pub(crate) const LARGEST: usize = 9 << 10;

#[cfg(target_os = "none")]
pub use global::heap_usage;
#[cfg(target_os = "none")]
pub(crate) use global::{free_pages, init, secure};
pub(crate) use promised::{promise, promised};

/// True for the words with which `alloc` gives up.
#[cfg(any(target_os = "none", test))]
pub(crate) fn is_exhaustion(message: &impl core::fmt::Display) -> bool {
    /// What is still to be found of the words.
    struct Words(&'static str);

    impl core::fmt::Write for Words {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            let len = text.len().min(self.0.len());
            match self.0.strip_prefix(&text[..len]) {
                Some(rest) => self.0 = rest,
                None => return Err(core::fmt::Error),
            }
            Ok(())
        }
    }

    let mut words = Words("memory allocation of ");
    core::fmt::write(&mut words, format_args!("{message}")).is_ok() && words.0.is_empty()
}

/// True when the machine has memory for so many bytes more.
#[cfg(not(target_os = "none"))]
pub(crate) fn secure(block: usize, rest: usize) -> bool {
    crate::platform::has_memory(block.saturating_add(rest))
}

/// Bytes of the heap that are allocated, and bytes that it can have. On the host nobody counts.
#[cfg(not(target_os = "none"))]
pub fn heap_usage() -> (usize, usize) {
    (0, 0)
}

#[cfg(test)]
mod tests {
    use super::is_exhaustion;

    #[test]
    fn what_alloc_says_when_there_is_no_memory_is_known() {
        assert!(is_exhaustion(&format_args!("memory allocation of {} bytes failed", 16)));
        assert!(is_exhaustion(&"memory allocation of 1 bytes failed"));
        for other in ["memory", "", "index out of bounds", "memory allocations are", "capacity overflow"] {
            assert!(!is_exhaustion(&other), "{other}");
        }
    }
}
