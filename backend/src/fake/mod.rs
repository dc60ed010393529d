//! A CPU on the host, for tests of the core: guests are scripts, and memory is a block of the host's.
//!
//! What a real CPU would do in silence when the core is wrong panics here: a translation that should have been flushed, a
//! processor that runs without having been set up or after its release, a control structure whose frame somebody else uses.

mod asked;
mod cpu;
mod format;
mod ram;
mod step;
mod vcpu;
mod wires;

pub use asked::Asked;
pub use cpu::{FakeBackend, FakeError};
pub use format::FakeFormat;
pub use ram::Ram;
pub use step::Step;
pub use vcpu::FakeVcpu;
pub use wires::Wires;
