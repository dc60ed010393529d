//! Stacks are as large as what runs on them can need.

use super::ensure;
use crate::build::{CORES, LOADER};
use crate::error::Result;
use crate::stack::stacks;
use crate::test::Case;
use crate::test::lab::Lab;

pub const CASES: &[Case] = &[Case {
    name: "stacks: bounds",
    asserts: "no path through the machine code of loader, cores and components takes more of its stack than there is",
    run: bounds,
}];

fn bounds(lab: &Lab) -> Result<()> {
    let components = lab.system.component.iter().flat_map(|component| component.programs());
    let components = components.map(|policy| policy.module);
    let names: Vec<String> = [LOADER].into_iter().chain(CORES).map(str::to_owned).chain(components).collect();
    let mut found = 0;
    for name in &names {
        for stack in stacks(&lab.system, name, lab.program(name)?)? {
            found += 1;
            ensure(stack.used <= stack.bytes, || {
                let path: Vec<String> = stack.path.iter().map(|(bytes, name)| format!("{bytes:>8} {name}")).collect();
                format!(
                    "{}: the stack of {} has {} bytes, and {} may be used:\n{}",
                    stack.program,
                    stack.of,
                    stack.bytes,
                    stack.used,
                    path.join("\n")
                )
            })?;
        }
    }
    // One of the loader, four of each core, and one of each component at least.
    let least = 1 + 4 * CORES.len() + lab.system.component.len();
    ensure(found >= least, || format!("{found} stacks, there are {least} at least"))
}
