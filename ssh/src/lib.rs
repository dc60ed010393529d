//! An SSH server (RFC 4251 to 4254) without I/O of its own: bytes in, bytes out, events. It knows one algorithm of each kind, whose cryptography is that of
//! others: `curve25519-sha256`, `ssh-ed25519`, `chacha20-poly1305@openssh.com`, with OpenSSH's strict key exchange; logins with Ed25519 keys; sessions with and
//! without a terminal. `docs/adr/0059-an-ssh-server-of-our-own.md` says why.
//!
//! Whatever a client says is checked before it is used. What is kept of it is bounded: a packet of [`packet::PACKET`] bytes at most, of eight channels
//! what they were granted ([`channel::WINDOW`]), and answers of [`connection::WAITING`] bytes before more is read.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod auth;
pub mod channel;
#[cfg(feature = "client")]
pub mod client;
pub mod connection;
mod end;
mod kex;
mod number;
pub mod packet;
pub mod requests;
mod serving;
#[cfg(test)]
mod tests;
mod wire;

pub use channel::{Size, Terminal, Wanted};
pub use connection::{Connection, Event};
pub use ed25519_dalek::SigningKey;
pub use end::End;
pub use number::reason;
pub use serving::{Gone, Stream};
