//! The boot options that the core acts on.

#[cfg(feature = "selftest")]
pub use abi::boot::SelfTest;
pub use abi::boot::{Net, Options};
