//! A small HTTP/1.1 server (RFC 9110, RFC 9112) on Ilwaco.
//!
//! What a client sends is judged in [`request`] and [`condition`], and bodies in chunks in [`http_chunks`], what it gets is chosen in [`answer`] and written in
//! [`response`]; all are pure and tested on the host. [`connection`] ties them to a stream, [`server`] accepts them. [`files`] are those of the
//! VM's disk or of the program itself, where there are any.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod answer;
pub mod condition;
pub mod connection;
pub mod date;
pub mod document;
pub mod entry;
pub mod files;
pub mod kind;
pub mod page;
pub mod path;
pub mod request;
pub mod response;
pub mod server;
pub mod site;
pub mod status;
pub mod target;
pub mod text;

pub use server::{serve, serve_with};
