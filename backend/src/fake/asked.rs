//! What the fake CPU was asked to do against side channels, and what happened between.

use crate::Barriers;

/// One crossing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The guest in a slot was entered, with these barriers before.
    Entry(u32, Barriers),
    /// It exited, with these barriers behind.
    Exit(u32, Barriers),
    /// These barriers were carried out while no guest ran.
    Now(Barriers),
    /// A component of this rank went on. The board says so.
    Component(usize),
}
