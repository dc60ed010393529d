//! The boot options that the core acts on.

pub use abi::boot::{Net, Options, SelfTest};
