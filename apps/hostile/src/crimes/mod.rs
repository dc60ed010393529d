//! The crimes themselves, one file for each family.

mod disk;
mod entries;
mod exceptions;
mod floods;
mod frames;
mod hypercalls;
mod instructions;
mod leaks;
mod memory;
mod mistakes;
mod nic;
mod rings;

use crate::catch::{Act, Caught};

/// How a crime is committed.
#[derive(Clone, Copy)]
pub enum Deed {
    /// Assembly that is to fault, or to come back; with its argument.
    Act(Act, fn() -> u64),
    /// A program that arranges for a fault.
    Fault(fn() -> Option<Caught>),
    /// A program that looks itself whether all is as it should be.
    Check(fn() -> Result<(), Escape>),
    /// A program that does something wrong without meaning to; it does not come back.
    Mistake(fn()),
    /// A program that never ends.
    Forever(fn() -> !),
}

/// Something that must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escape {
    /// What it is.
    pub what: &'static str,
    /// A number that helps to find out why.
    pub value: u64,
}

impl Escape {
    /// An error with this text.
    pub fn because<T>(what: &'static str, value: u64) -> Result<T, Escape> {
        Err(Escape { what, value })
    }

    /// Fails unless `holds`.
    pub fn unless(holds: bool, what: &'static str, value: u64) -> Result<(), Escape> {
        if holds { Ok(()) } else { Self::because(what, value) }
    }

    /// Fails when there was a fault.
    pub fn unless_quiet(caught: Option<Caught>, what: &'static str) -> Result<(), Escape> {
        match caught {
            None => Ok(()),
            Some(caught) => Self::because(what, u64::from(caught.vector)),
        }
    }
}

/// How the crime of this name is committed.
pub fn deed(name: &str) -> Option<Deed> {
    instructions::deed(name)
        .or_else(|| exceptions::deed(name))
        .or_else(|| memory::deed(name))
        .or_else(|| hypercalls::deed(name))
        .or_else(|| entries::deed(name))
        .or_else(|| rings::deed(name))
        .or_else(|| disk::deed(name))
        .or_else(|| frames::deed(name))
        .or_else(|| leaks::deed(name))
        .or_else(|| mistakes::deed(name))
        .or_else(|| floods::deed(name))
}

/// Assembly by name: `"name" => function: "instruction", …;`. Each gets a `ret` at its end, and its argument in RDI.
macro_rules! acts {
    ($($name:literal => $function:ident: $($line:literal),+;)*) => {
        $(
            #[unsafe(naked)]
            unsafe extern "sysv64" fn $function(_: u64) {
                core::arch::naked_asm!($($line,)+ "ret")
            }
        )*

        /// The assembly of this name.
        #[allow(dead_code)] // Some families name it themselves.
        fn act(name: &str) -> Option<crate::catch::Act> {
            Some(match name {
                $($name => $function,)*
                _ => return None,
            })
        }
    };
}
use acts;

/// No argument.
fn nothing() -> u64 {
    0
}

/// A page of the crime's own as argument.
fn a_page() -> u64 {
    crate::machine::scratch(0)
}
