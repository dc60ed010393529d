//! Reception: from the NIC's interrupt to the guest's handler.
//!
//! Bochs gives its NIC one frame each millisecond, so batches do not come by themselves. A component that is more important
//! than the demultiplexer holds the CPU while frames pile up, and says when it let go and how long the interrupt had held it
//! up; the guest says when it had the frames, and how many.

use super::mechanism::{component, instructions, monitor, parse};
use super::{Bench, Entry, Figure, Repeats};
use crate::build::build_bins;
use crate::error::{Result, fail};
use crate::machine::vm_mac;
use crate::net::{FIRST_VM, HOST, HOST_MAC};
use crate::test::lab::BOOT;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub const ENTRY: Entry = Entry {
    name: "packet_rx",
    measures: "a received packet, from the NIC's interrupt to the guest's handler",
    // Which frames share a batch depends on the host's timing.
    repeats: Repeats::Within(0.05),
    run,
};

/// The batch that is asked for, and how far from it a batch may be to count.
const BATCH: u64 = 32;
const SLACK: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(180);

fn run(bench: &Bench) -> Result<Vec<Figure>> {
    bench.only_bochs()?;
    let lab = bench.lab()?;
    let burst = component(&monitor(&lab.system)?, "bench-burst", 0);
    let programs = build_bins(&["bench-burst".to_owned()])?;
    let mut boot = lab.boot("vms=bench").deterministic().system(|system| {
        for component in &mut system.component {
            component.priority += 1;
        }
        system.component.push(burst.clone());
        for image in system.image.iter_mut().filter(|image| image.name == "bench") {
            image.args = "bench=packet_rx".to_owned();
        }
    });
    for (name, path) in programs {
        boot = boot.program(&name, path);
    }
    let running = boot.start()?;
    running.wait_for("bench: packet_rx ready", BOOT)?;
    let frame = frame();
    let stop = AtomicBool::new(false);
    let lines = std::thread::scope(|scope| -> Result<Vec<String>> {
        let net = running.net()?;
        let stop = &stop;
        scope.spawn(move || {
            let end = Instant::now() + PATIENCE;
            while !stop.load(Ordering::Relaxed) && Instant::now() < end {
                net.inject(&frame);
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        let done = running.wait_for("bench: packet_rx done", PATIENCE);
        stop.store(true, Ordering::Relaxed);
        done?;
        running.wait_for_lines(1, "bench: packet_rx ", PATIENCE)
    })?;
    let mut costs = costs(&lines)?;
    costs.sort_unstable();
    let Some(&median) = costs.get(costs.len() / 2) else {
        fail!("no batch of about {BATCH} packets came through: {}", lines.join("\n"));
    };
    // What differs from run to run does not belong to the conditions.
    let conditions = format!(
        "Bochs, one CPU, TSC counts instructions; 60-byte UDP frames, batches of {BATCH} ± {SLACK} that piled up in the NIC; \
         interrupt, demultiplexing, copy to the VM's ring, switch to the VM; median of the batches"
    );
    Ok(vec![instructions("packet_rx", median, conditions)])
}

/// Instructions per packet of each batch of the right size: the demultiplexer was let go at `released`, the guest had the
/// frames at `handler`, and the interrupt had come before.
fn costs(lines: &[String]) -> Result<Vec<u64>> {
    let mut releases = Vec::new();
    let mut batches = Vec::new();
    for line in lines {
        if line.contains(" released=") {
            releases.push((parse(line, "released")?, parse(line, "interrupt")?));
        } else if line.contains(" handler=") {
            batches.push((parse(line, "handler")?, parse(line, "batch")?));
        }
    }
    let mut costs = Vec::new();
    for (released, interrupt) in releases {
        let first = batches.iter().filter(|(handler, _)| *handler >= released).min_by_key(|(handler, _)| *handler);
        if let Some(&(handler, batch)) = first
            && batch.abs_diff(BATCH) <= SLACK
        {
            costs.push((handler - released + interrupt) / batch);
        }
    }
    Ok(costs)
}

/// A UDP packet to the first VM, as short as a frame can be.
fn frame() -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&vm_mac(0));
    frame.extend_from_slice(&HOST_MAC);
    frame.extend_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend_from_slice(&HOST.octets());
    frame.extend_from_slice(&FIRST_VM.octets());
    frame.extend_from_slice(&[0, 9, 0, 9, 0, 26, 0, 0]);
    frame.resize(60, 0);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_belong_to_the_release_before_them() {
        let lines = [
            "bench: packet_rx handler=90 batch=1",
            "bench: packet_rx handler=3300 batch=32",
            "bench: packet_rx released=100 interrupt=0",
            "bench: packet_rx handler=9000 batch=5",
            "bench: packet_rx released=8000 interrupt=64",
            "bench: packet_rx handler=24000 batch=32",
            "bench: packet_rx released=20000 interrupt=64",
        ];
        assert_eq!(costs(&lines.map(str::to_owned)).unwrap(), [100, 127]);
    }

    #[test]
    fn the_frame_is_one() {
        let frame = frame();
        assert_eq!(
            (frame.len(), &frame[12..14], frame[23], &frame[30..34]),
            (60, &[8, 0][..], 17, &[10, 0, 2, 16][..])
        );
    }
}
