//! A machine of a lab cluster: no disk, no CD-ROM drive, its NIC boots.

use super::{ensure, pooled};
use crate::error::Result;
use crate::test::Case;
use crate::test::lab::{BOOT, Boot, Lab};

pub const CASES: &[Case] = &[
    Case {
        name: "qemu: over the network",
        asserts: "a machine without disks boots what `pxe` makes from a TFTP server, and three web servers answer through the NIC that it booted from",
        run: with_bios,
    },
    Case { name: "qemu: over the network: uefi", asserts: "the same with UEFI", run: with_uefi },
];

fn with_bios(lab: &Lab) -> Result<()> {
    serves(lab.boot("vms=httpd*3").over_the_network())
}

fn with_uefi(lab: &Lab) -> Result<()> {
    serves(lab.boot("vms=httpd*3").over_the_network().uefi())
}

fn serves(boot: Boot<'_>) -> Result<()> {
    let mut running = boot.start()?;
    let audit = running.wait_for("W^X: ", 2 * BOOT)?;
    ensure(audit.contains("W^X: 0 of ") && !audit.contains("alias"), || format!("the audit says: {audit}"))?;
    running.wait_for_services(BOOT)?;
    for vm in 0..3 {
        pooled::counted(vm, &running.get(vm, "/status.json")?)?;
    }
    running.must_not_say(0, "ERROR")?;
    running.power_off()
}
