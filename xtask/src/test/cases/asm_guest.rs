//! The guest in plain assembly.

use super::ensure;
use crate::error::Result;
use crate::test::Case;
use crate::test::lab::{BOOT, Lab};

pub const CASES: &[Case] = &[Case {
    name: "asm-guest",
    asserts: "a guest in plain assembly finds the virtual architecture as documented, and ends with code 42",
    run: asm_guest,
}];

fn asm_guest(lab: &Lab) -> Result<()> {
    let running = lab.boot("vms=asm-guest").start()?;
    let line = running.wait_for("checks passed", BOOT)?;
    ensure(line.contains("asm-guest: all "), || format!("it said: {line}"))?;
    let end = running.wait_for("vm0.1 ended: ", BOOT)?;
    ensure(end.contains("42") || end.contains("0x2a"), || format!("it did not end with code 42: {end}"))
}
