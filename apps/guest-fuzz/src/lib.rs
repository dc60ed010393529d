//! What a guest does that does what comes into its head, drawn from a seed: the machine is fuzzed from inside.
//!
//! [`corpus`] makes the instructions. A guest cannot make code at run time, so they are put into its image, in the place that
//! [`MARK`] marks, before it boots. [`act`] draws what it does, one [`act::Act`] a step, and [`counts::Counts`] counts them. Both give the same
//! for the same seed, on the host as in the guest; the program (`src/bin/guest_fuzz`) only carries it out.
#![no_std]
#![deny(unsafe_code)]

pub mod act;
pub mod avoided;
pub mod corpus;
pub mod counts;
mod noise;

#[cfg(test)]
extern crate std;

pub use noise::Noise;

/// Bytes of instructions in the image.
pub const CORPUS_BYTES: usize = 256 << 10;
/// What the place for them begins with until they are put there.
pub const MARK: [u8; 32] = *b"Foraker: random instructions go ";
