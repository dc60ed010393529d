//! NICs on QEMU: virtio-net with each kind of interrupt, an e1000 whose driver dies, and one without a driver.

use super::ensure;
use super::recovery::{kill_each, killed_under_load, servers, under_load as loaded};
use crate::error::Result;
use crate::test::Case;
use crate::test::lab::{BOOT, Lab};
use std::time::Duration;

pub const CASES: &[Case] = &[
    Case {
        name: "nic: virtio",
        asserts: "eight servers answer through virtio-net with MSI-X, and again each time that netmux was killed",
        run: virtio,
    },
    Case {
        name: "nic: virtio by INTx",
        asserts: "the same through a virtio-net that speaks virtio 1 only and has no messages",
        run: virtio_intx,
    },
    Case {
        name: "nic: virtio under load",
        asserts: "netmux is killed while it drives a busy virtio-net: no VM is lost, requests succeed again",
        run: under_load,
    },
    Case {
        name: "nic: e1000 under load",
        asserts: "a netmux behind one that was killed goes on with the rings in the NIC, every fourth resets it, and requests succeed again",
        run: e1000,
    },
    Case {
        name: "nic: unknown",
        asserts: "a NIC without a driver is named beside the known ones, and VMs run without it",
        run: unknown,
    },
];

/// Web servers in these tests.
const VMS: usize = 8;

fn virtio(lab: &Lab) -> Result<()> {
    answers_and_recovers(lab, "virtio-net-pci", "MSI-X", "virtio-net, transitional")
}

fn virtio_intx(lab: &Lab) -> Result<()> {
    answers_and_recovers(lab, "virtio-net-pci,vectors=0,disable-legacy=on", "INTx", "virtio-net")
}

/// Boots with this NIC and expects this way of interrupts and this driver.
fn answers_and_recovers(lab: &Lab, nic: &'static str, way: &str, driver: &str) -> Result<()> {
    let mut running = lab.boot(&format!("vms=httpd*{VMS}")).qemu_with(nic).start()?;
    let device = running.wait_for("netmux: PCI ", BOOT)?;
    ensure(device.ends_with(&format!(", {way}")), || format!("expected {way}: {device}"))?;
    running.wait_for_services(BOOT)?;
    let started = running.wait_for("netmux: virtio-net", BOOT)?;
    ensure(started.contains(&format!("{driver} mac=52:54:00:12:34:56 link=up")), || format!("it said: {started}"))?;
    // Many segments in both directions, more than there are descriptors.
    transfer(&running)?;
    running.wait_for_monitor()?;
    for _ in 0..3 {
        let mark = running.mark();
        running.type_line("kill netmux")?;
        running.wait_for_since(mark, "component netmux restarted", Duration::from_secs(20))?;
        running.wait_for_services(BOOT)?;
        transfer(&running)?;
        running.wait_for_monitor()?;
    }
    running.must_not_say(0, "ended:")?;
    running.must_not_say(0, "ERROR")?;
    running.power_off()
}

fn under_load(lab: &Lab) -> Result<()> {
    killed_under_load(servers(lab).qemu_with("virtio-net-pci"), &["netmux"; 5])
}

fn e1000(lab: &Lab) -> Result<()> {
    let mut running = servers(lab).qemu_with("e1000").start()?;
    running.wait_for_services(BOOT)?;
    running.wait_for_monitor()?;
    loaded(&running, |served| kill_each(&running, &["netmux"; 4], served))?;
    running.must_not_say(0, "ended:")?;
    // The incarnations 2, 3 and 5.
    let goes_on = running.count_since(0, "goes on with the rings that its predecessor has left in the NIC");
    ensure(goes_on == 3, || format!("{goes_on} of four successors went on with the rings in the NIC"))?;
    running.power_off()
}

fn transfer(running: &crate::test::lab::Running) -> Result<()> {
    for i in 0..VMS {
        let answer = running.get(i, "/100k")?;
        ensure(answer.status == 200 && answer.body.len() == 102_400, || {
            format!("/100k of server {i}: status {}, {} bytes", answer.status, answer.body.len())
        })?;
    }
    Ok(())
}

fn unknown(lab: &Lab) -> Result<()> {
    let running = lab.boot("vms=httpd").qemu_with("rtl8139").start()?;
    let line = running.wait_for("has no driver here", BOOT)?;
    for word in ["10ec:8139", "8086:100e", "1af4:1041", "1af4:1000"] {
        ensure(line.contains(word), || format!("{word} is not named: {line}"))?;
    }
    running.wait_for("httpd: serving", BOOT)?;
    running.must_not_say(0, "FATAL")?;
    running.power_off()
}
