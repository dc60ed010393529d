//! A VM that controls the machine, and the long boot arguments that it and the operator can give.

use super::ensure;
use crate::build::build_bins;
use crate::error::Result;
use crate::manifest::model::System;
use crate::test::Case;
use crate::test::lab::{Boot, Lab};
use std::time::Duration;

pub const CASES: &[Case] = &[
    Case {
        name: "control: a VM",
        asserts: "a VM lists components and VMs by its control ring, creates VMs with long boot arguments and destroys them, ends, and the next one of its image does the same",
        run: a_vm,
    },
    Case {
        name: "control: not allowed",
        asserts: "the same program in an image without the right to it has no control ring",
        run: not_allowed,
    },
];

/// How long the guest may take for all that it does.
const ALL: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(60);

/// `system` with the image `control-vm`, which controls the machine or not.
fn with_image(system: &mut System, control: bool) {
    let like = system.image.iter().find(|image| image.name == "udp-echo").cloned();
    if let Some(mut image) = like {
        image.name = "control-vm".to_owned();
        (image.control, image.ports, image.ready) = (control, Vec::new(), None);
        image.args = "times=3 pad=900".to_owned();
        system.image.push(image);
    }
}

fn boot(lab: &Lab, control: bool) -> Result<Boot<'_>> {
    let mut boot =
        lab.boot("vms=control-vm,httpd net=10.0.2.16/24,gw=10.0.2.2").system(|system| with_image(system, control));
    for (name, path) in build_bins(&["control-vm".to_owned()])? {
        boot = boot.program(&name, path);
    }
    Ok(boot)
}

fn a_vm(lab: &Lab) -> Result<()> {
    let running = boot(lab, true)?.start()?;
    running.wait_for("control-vm: component netmux start 1", ALL)?;
    running.wait_for("control-vm: vm1.1 of image 0 in state ", ALL)?;
    for generation in 1..=3 {
        running.wait_for(&format!("control-vm: created vm2.{generation} of httpd"), ALL)?;
        running.wait_for(&format!("control-vm: vm2.{generation} runs with "), ALL)?;
        running.wait_for(&format!("core: vm2.{generation} ended: destroyed"), ALL)?;
    }
    running.wait_for("guest: vm0.1: control-vm: done", ALL)?;
    running.wait_for("core: vm0.1 ended: exited (detail 0x0", ALL)?;
    // The VMs that it had created served: they had an address of their own before all the rest.
    running.wait_for("vm2.1: httpd: serving http://10.0.2.18/", Duration::ZERO)?;
    running.wait_for_monitor()?;
    // The operator's lines may be as long.
    let mark = running.mark();
    let created = running.monitor(&format!("create control-vm times=1 p={}", "y".repeat(890)))?;
    ensure(created.iter().any(|line| line.contains("image=control-vm")), || format!("{created:?}"))?;
    running.wait_for_since(mark, "control-vm: created vm", SOON)?;
    running.wait_for_since(mark, "control-vm: done", ALL)?;
    let answer = running.monitor(&format!("create httpd {}", "y".repeat(1020)));
    let refused = answer.err().map(|error| error.to_string()).unwrap_or_default();
    ensure(refused.contains("of 1024; shorten them"), || format!("what is too long was answered with {refused:?}"))?;
    running.power_off()
}

fn not_allowed(lab: &Lab) -> Result<()> {
    let running = boot(lab, false)?.start()?;
    running.wait_for("vm0.1: control-vm: this VM does not control the machine", ALL)?;
    running.wait_for("core: vm0.1 ended: exited (detail 0x2", ALL)?;
    running.power_off()
}
