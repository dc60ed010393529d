//! A small HTTP/1.1 server (RFC 9110, RFC 9112) on Ilwaco.
//!
//! What a client sends is judged in [`request`], what it gets is written in [`response`]; both are pure and tested on the
//! host. [`server`] ties them to connections, with a limit for everything that a client can make large or slow.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod date;
pub mod document;
pub mod request;
pub mod response;
pub mod server;
pub mod status;

pub use server::serve;
