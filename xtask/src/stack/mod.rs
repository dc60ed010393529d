//! Static bounds for the stacks of loader, cores and components, from the machine code that runs.
//!
//! Each function is walked over, instruction by instruction ([`frame`]); what it and all that it calls take follows from that ([`bound`]).
//! What is not understood fails rather than be left out. Calls through pointers may go to whoever has its address taken, a few of
//! them on each other at most: that number, and how deep the functions go that call themselves, are what the bounds take on trust.

mod bound;
mod frame;
mod program;

use crate::build::{CORES, LOADER};
use crate::error::{Context, Result};
use crate::manifest::model::{Component, System};
use bound::Bounds;
use program::Program;
use std::path::Path;

/// Bytes that the processor pushes at an exception, its alignment included (SDM vol. 3, 6.14.2).
const EXCEPTION: u64 = 64;

/// A stack: what it is for, how large it is, and how much of it is used at most, in bytes.
#[derive(Debug)]
pub struct Stack {
    pub program: String,
    pub of: &'static str,
    pub bytes: u64,
    pub used: u64,
    /// Where it is deepest: what each function takes until it calls the next.
    pub path: Vec<(u64, String)>,
}

fn runs(component: &Component, name: &str) -> bool {
    component.programs().into_iter().any(|policy| policy.module == name)
}

/// The stacks of a program of this name.
pub fn stacks(system: &System, name: &str, path: &Path) -> Result<Vec<Stack>> {
    let program = Program::read(path)?;
    stacks_of(system, name, &program).context(|| format!("the stacks of {name}"))
}

fn stacks_of(system: &System, name: &str, program: &Program) -> Result<Vec<Stack>> {
    let value = |symbol: &str| program.value(symbol);
    // What for, the function that runs on it, what is on it before that, and how large it is.
    let mut wanted = Vec::new();
    if name == LOADER {
        wanted.push(("boot", value("boot_main")?, 8, value("__stack_top")? - value("__stack_bottom")?));
    } else if CORES.contains(&name) {
        wanted.push(("the core", value("core_entry")?, 0, value("__stack_top")? - value("__stack_bottom")?));
        let bytes = value("trap_exception_stack_bytes")?;
        for (of, function) in
            [("NMIs", "trap_nmi"), ("machine checks", "trap_machine_check"), ("double faults", "trap_stubs")]
        {
            wanted.push((of, value(function)?, EXCEPTION, bytes));
        }
    } else if let Some(component) = system.component.iter().find(|component| runs(component, name)) {
        wanted.push(("the component", value("_start")?, 0, component.stack.0));
    }
    let roots: Vec<u64> = wanted.iter().map(|&(_, root, ..)| root).collect();
    let bounds = Bounds::of(program, &roots)?;
    let stack = |(of, root, before, bytes)| Stack {
        program: name.to_owned(),
        of,
        bytes,
        used: before + bounds.most(root),
        path: bounds.path(root),
    };
    Ok(wanted.into_iter().map(stack).collect())
}
